/// Everything that an app uses: `import ASRKit`. The tests of a model on the device are apart, in
/// `ASRConformance`.
@_exported import ASRAudio
@_exported import ASRCore
@_exported import ASRCoreML
@_exported import ASRSession
