import ASRDelivery
import ASRKit
import Foundation

extension Command {
    /// An artifact from a remote or out of a bundle file, proven, into a folder.
    static func pull(_ options: Options) async throws {
        guard options.files.count == 1 else { throw Usage("pull takes one artifact or bundle file") }
        guard !options.keys.isEmpty else { throw Usage("pull has no --key to trust") }
        let store = try ASRArtifactStore(
            trusting: options.keys.map { try ASRPublicKey(pem: String(contentsOf: URL(fileURLWithPath: $0), encoding: .utf8)) },
            folder: URL(fileURLWithPath: try options.value("--to"))
        )
        let spec = options.files[0], system = try options.system()
        let pulled: ASRPulled
        if spec.hasSuffix(".asrb") {
            pulled = try await store.unpack(URL(fileURLWithPath: spec), for: system)
        } else {
            let address = try options.value("--remote")
            guard let url = URL(string: address), ["http", "https"].contains(url.scheme) else {
                throw Usage("\(address) is not the address of a web server")
            }
            let remote = ASRRemote(url), parts = spec.split(separator: "@", maxSplits: 1).map(String.init)
            let selector = parts.count > 1 ? parts[1] : "stable"
            // A version ends in a plus and a digest; a channel has none.
            pulled = selector.contains("+")
                ? try await store.pull(parts[0], version: selector, from: remote, for: system)
                : try await store.pull(parts[0], channel: selector, from: remote, for: system, fresh: options.fresh)
        }
        let what = "\(pulled.name) \(pulled.version), signed by \(pulled.signer.label): \(pulled.fetchedBytes) bytes"
        FileHandle.standardError.write(Data("\(what)\n".utf8))
        print(pulled.folder.path)
    }
}

extension Options {
    /// The system of `--os`, such as `iOS17.4`; else this one.
    func system() throws -> ASRSystemVersion {
        guard let text = try? value("--os") else { return .current }
        let name = text.prefix { !$0.isNumber }
        guard ["iOS", "macOS"].contains(name), name.count < text.count else {
            throw Usage("--os is iOS or macOS with a version, not \(text)")
        }
        return ASRSystemVersion(name: String(name), version: String(text.dropFirst(name.count)))
    }
}
