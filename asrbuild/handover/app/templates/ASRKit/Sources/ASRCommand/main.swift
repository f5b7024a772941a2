import ASRKit

print("asrkit \(ASRKitVersion.current)")
