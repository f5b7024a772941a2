// swift-tools-version:6.0
import PackageDescription

let package = Package(
    name: "ASRKit",
    // The oldest systems of the code. An artifact's own minimum is checked when its model is loaded.
    platforms: [.iOS("15.0"), .macOS("12.0")],
    products: [
        .library(name: "ASRKit", targets: ["ASRKit"]),
        .library(name: "ASRDelivery", targets: ["ASRDelivery"]),
        .library(name: "ASRConformance", targets: ["ASRConformance"]),
        .executable(name: "asrkit", targets: ["ASRCommand"]),
    ],
    targets: [
        .target(name: "ASRCore"),
        .target(name: "ASRSession", dependencies: ["ASRCore"]),
        .target(name: "ASRCoreML", dependencies: ["ASRCore"]),
        .target(name: "ASRAudio", dependencies: ["ASRCore"]),
        .target(name: "ASRDelivery", dependencies: ["ASRCore"]),
        .target(name: "ASRKit", dependencies: ["ASRCore", "ASRSession", "ASRCoreML", "ASRAudio"]),
        .target(name: "ASRConformance", dependencies: ["ASRCore", "ASRSession", "ASRCoreML"]),
        // Not named asrkit: a file system that ignores case takes that for ASRKit.
        .executableTarget(name: "ASRCommand", dependencies: ["ASRKit", "ASRDelivery", "ASRConformance"]),
        .testTarget(name: "ASRKitTests", dependencies: ["ASRKit", "ASRDelivery", "ASRConformance"]),
    ]
)
