// swift-tools-version:6.0
import PackageDescription

#if canImport(AppleProductTypes)
// Xcode and Swift Playgrounds make an app for the iPhone and the iPad from this package.
import AppleProductTypes

let products: [Product] = [
    .iOSApplication(
        name: "Dictation", targets: ["Dictation"], bundleIdentifier: "org.example.dictation",
        displayVersion: "1.0", bundleVersion: "1", supportedDeviceFamilies: [.phone, .pad],
        supportedInterfaceOrientations: [.portrait, .landscapeLeft, .landscapeRight],
        capabilities: [
            .microphone(purposeString: "Dictation writes what you say. Nothing leaves the device."),
            .outgoingNetworkConnections(),
        ]
    )
]
#else
// `swift build` on a Mac makes a program, which uses the microphone of the terminal.
let products: [Product] = [.executable(name: "Dictation", targets: ["Dictation"])]
#endif

let package = Package(
    name: "Dictation",
    platforms: [.iOS("15.0"), .macOS("12.0")],
    products: products,
    dependencies: [.package(path: "../ASRKit")],
    targets: [
        .executableTarget(
            name: "Dictation",
            dependencies: [
                .product(name: "ASRKit", package: "ASRKit"), .product(name: "ASRDelivery", package: "ASRKit"),
            ],
            resources: [.copy("Resources"), .copy("PrivacyInfo.xcprivacy")]
        )
    ]
)
