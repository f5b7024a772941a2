// The part of AVFoundation's interface that ASRKit uses, with the availability that Apple's documentation
// states: only to be type-checked against, for Apple's targets. Nothing here records.
import Foundation

public typealias AVAudioFrameCount = UInt32
public typealias AVAudioFramePosition = Int64
public typealias AVAudioChannelCount = UInt32
public typealias AVAudioNodeBus = Int
@available(macOS 10.11, iOS 9, *)
public typealias AVAudioNodeTapBlock = @Sendable (AVAudioPCMBuffer, AVAudioTime) -> Void

@available(macOS 10.10, iOS 8, *)
open class AVAudioFormat: @unchecked Sendable {
    init() {}
    public var sampleRate: Double { 0 }
    public var channelCount: AVAudioChannelCount { 0 }
}

@available(macOS 10.10, iOS 8, *) open class AVAudioTime {}

@available(macOS 10.10, iOS 8, *)
open class AVAudioBuffer {
    init() {}
    public var format: AVAudioFormat { AVAudioFormat() }
}

@available(macOS 10.10, iOS 8, *)
open class AVAudioPCMBuffer: AVAudioBuffer {
    public init?(pcmFormat format: AVAudioFormat, frameCapacity: AVAudioFrameCount) { super.init() }
    public var frameLength: AVAudioFrameCount { get { 0 } set {} }
    public var stride: Int { 1 }
    public var floatChannelData: UnsafePointer<UnsafeMutablePointer<Float>>? { nil }
}

@available(macOS 10.10, iOS 8, *)
open class AVAudioNode {
    init() {}
    public func outputFormat(forBus bus: AVAudioNodeBus) -> AVAudioFormat { AVAudioFormat() }
    public func installTap(
        onBus bus: AVAudioNodeBus, bufferSize: AVAudioFrameCount, format: AVAudioFormat?,
        block tapBlock: @escaping AVAudioNodeTapBlock
    ) {}
    public func removeTap(onBus bus: AVAudioNodeBus) {}
}

@available(macOS 10.10, iOS 8, *) open class AVAudioIONode: AVAudioNode {}
@available(macOS 10.10, iOS 8, *) open class AVAudioInputNode: AVAudioIONode {}

@available(macOS 10.10, iOS 8, *)
open class AVAudioEngine {
    public init() {}
    public var inputNode: AVAudioInputNode { AVAudioInputNode() }
    public func prepare() {}
    public func start() throws {}
    public func stop() {}
}

@available(macOS 10.10, iOS 8, *)
extension NSNotification.Name {
    public static var AVAudioEngineConfigurationChange: NSNotification.Name { .init() }
}

@available(macOS 10.10, iOS 8, *)
open class AVAudioFile {
    public init(forReading fileURL: URL) throws {}
    public var processingFormat: AVAudioFormat { AVAudioFormat() }
    public var length: AVAudioFramePosition { 0 }
    public var framePosition: AVAudioFramePosition { get { 0 } set {} }
    public func read(into buffer: AVAudioPCMBuffer) throws {}
}

@available(macOS 10.7, iOS 4, *)
public struct AVMediaType: Hashable, Sendable {
    public static let audio = AVMediaType()
}

@available(macOS 10.7, iOS 4, *)
open class AVCaptureDevice {
    init() {}
    @available(macOS 10.14, iOS 7, *)
    public class func requestAccess(for mediaType: AVMediaType) async -> Bool { false }
}

@available(macOS 14, iOS 17, *)
open class AVAudioApplication {
    init() {}
    public class func requestRecordPermission() async -> Bool { false }
}

@available(iOS 3, *)
@available(macOS, unavailable)
open class AVAudioSession {
    init() {}
    public struct Category: Hashable, Sendable {
        public static let record = Category()
    }
    public struct Mode: Hashable, Sendable {
        public static let measurement = Mode()
    }
    public struct CategoryOptions: OptionSet, Sendable {
        public let rawValue: UInt
        public init(rawValue: UInt) { self.rawValue = rawValue }
        public static let duckOthers = CategoryOptions(rawValue: 2)
    }
    public struct SetActiveOptions: OptionSet, Sendable {
        public let rawValue: UInt
        public init(rawValue: UInt) { self.rawValue = rawValue }
        public static let notifyOthersOnDeactivation = SetActiveOptions(rawValue: 1)
    }
    public enum InterruptionType: UInt, Sendable { case began = 1, ended = 0 }
    public struct InterruptionOptions: OptionSet, Sendable {
        public let rawValue: UInt
        public init(rawValue: UInt) { self.rawValue = rawValue }
        public static let shouldResume = InterruptionOptions(rawValue: 1)
    }
    public class func sharedInstance() -> AVAudioSession { AVAudioSession() }
    @available(iOS 10, *)
    public func setCategory(
        _ category: Category, mode: Mode, options: CategoryOptions = []
    ) throws {}
    @available(iOS 6, *)
    public func setActive(_ active: Bool, options: SetActiveOptions = []) throws {}
    @available(iOS, introduced: 7, deprecated: 17)
    public func requestRecordPermission(_ response: @escaping (Bool) -> Void) {}
    @available(iOS 6, *)
    public static var interruptionNotification: NSNotification.Name { .init() }
    @available(iOS 6, *)
    public static var mediaServicesWereResetNotification: NSNotification.Name { .init() }
}

@available(iOS 6, *) @available(macOS, unavailable)
public let AVAudioSessionInterruptionTypeKey = ""
@available(iOS 6, *) @available(macOS, unavailable)
public let AVAudioSessionInterruptionOptionKey = ""
