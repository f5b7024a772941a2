import ASRCore
import Foundation

/// Compiled models, kept below Application Support: one for each package and build of the system.
///
/// Core ML compiles into a temporary folder, takes up to minutes for a large model, and gives another
/// result after an update of the system.
package struct CompiledModels: Sendable {
    private let folder: URL
    private let build: String

    /// - Parameters:
    ///   - folder: where they are kept; nil: `ASRKit/compiled` in Application Support.
    ///   - build: of the system.
    package init(
        folder: URL? = nil, build: String = ProcessInfo.processInfo.operatingSystemVersionString
    ) throws {
        if let folder = folder {
            self.folder = folder
        } else {
            let support = try FileManager.default.url(
                for: .applicationSupportDirectory, in: .userDomainMask, appropriateFor: nil, create: true
            )
            self.folder = support.appendingPathComponent("ASRKit/compiled", isDirectory: true)
        }
        self.build = String(SHA256.hex(build.utf8).prefix(16))
    }

    /// The compiled model of a package, loaded, and its place.
    ///
    /// A kept one that does not load, as after a damage, is compiled once more.
    package func loaded<Model>(
        _ package: URL, of manifest: ASRManifest,
        compile: (URL) async throws -> URL, load: (URL) async throws -> Model
    ) async throws -> (place: URL, model: Model) {
        var compiles = 0
        func place() async throws -> URL {
            try await url(for: package, of: manifest) {
                compiles += 1
                return try await compile($0)
            }
        }
        let kept = try await place()
        do {
            return (kept, try await load(kept))
        } catch {
            guard compiles == 0, !(error is CancellationError) else { throw error }
            try? FileManager.default.removeItem(at: kept)
            let new = try await place()
            return (new, try await load(new))
        }
    }

    /// The compiled model of a package: a kept one, or a new one, which is then kept.
    ///
    /// Models of other builds of the system are removed, and of other packages of this artifact those
    /// that were not used for 30 days.
    package func url(
        for package: URL, of manifest: ASRManifest, compile: (URL) async throws -> URL
    ) async throws -> URL {
        let files = FileManager.default
        let own = folder.appendingPathComponent(manifest.name, isDirectory: true)
        let kept = own.appendingPathComponent("\(manifest.packageDigest)-\(build).mlmodelc")
        if !files.fileExists(atPath: kept.path) {
            let made = try await compile(package)
            try files.createDirectory(at: own, withIntermediateDirectories: true)
            do { try files.moveItem(at: made, to: kept) } catch {
                // Another load was faster.
                guard files.fileExists(atPath: kept.path) else { throw error }
                try? files.removeItem(at: made)
            }
        }
        try? files.setAttributes([.modificationDate: Date()], ofItemAtPath: kept.path)
        tidy(own, but: kept)
        return kept
    }

    private func tidy(_ own: URL, but kept: URL) {
        let files = FileManager.default
        for name in (try? files.contentsOfDirectory(atPath: own.path)) ?? [] {
            let url = own.appendingPathComponent(name)
            guard name.hasSuffix(".mlmodelc"), name != kept.lastPathComponent else { continue }
            let date = try? files.attributesOfItem(atPath: url.path)[.modificationDate] as? Date
            let unused = date.map { Date().timeIntervalSince($0) > 30 * 24 * 3600 } ?? false
            if unused || !name.hasSuffix("-\(build).mlmodelc") { try? files.removeItem(at: url) }
        }
    }
}
