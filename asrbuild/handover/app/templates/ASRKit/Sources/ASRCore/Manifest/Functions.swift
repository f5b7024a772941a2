extension ASRManifest {
    /// The manifest with another function of the package selected.
    ///
    /// Functions share weights and states; each has its own sizes of calls.
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
