/// The version of this package, by Semantic Versioning 2.0.0 (https://semver.org).
public enum ASRKitVersion: Sendable {
    /// `MAJOR.MINOR.PATCH`; a public symbol goes only with a new major version.
    public static let current = "1.2.0"
}
