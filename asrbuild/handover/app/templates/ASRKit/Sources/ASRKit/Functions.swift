extension ASRManifest {
    /// The manifest with another function of the package as the one that runs.
    ///
    /// Functions share weights and the meaning of their state; how each is fed is its own.
    public func selecting(function name: String) throws -> ASRManifest {
        guard let chosen = model.functions.first(where: { $0.name == name }) else {
            throw ASRError.unsupported("the function \(name), which the package does not have")
        }
        var manifest = self
        manifest.model.defaultFunction = chosen.name
        manifest.model.inputs = chosen.inputs
        manifest.model.outputs = chosen.outputs
        manifest.streaming = chosen.streaming
        return manifest
    }
}
