#if canImport(AVFoundation) && !os(tvOS) && !os(watchOS)
import ASRCore
@preconcurrency import AVFoundation
import Foundation

/// The microphone, as pieces of one channel at the rate of a model.
///
/// It asks for permission, sets up the audio session, converts the input's format, follows changes of
/// the input (headphones), and stops and resumes with interruptions (calls). An app states why it
/// listens as `NSMicrophoneUsageDescription`; one in macOS's sandbox has the entitlement
/// `com.apple.security.device.audio-input`.
public struct ASRMicrophone: Sendable {
    /// Whether the microphone sets and activates the app's audio session; false: the app does.
    public var managesSession = true

    /// Pieces that wait for a recognizer that is slower than speech: about half a minute.
    private static let mostPieces = 350

    /// The system's input.
    public init() {}

    /// Asks the user for permission, once; later calls return the answer.
    public static func requestPermission() async -> Bool {
        #if os(macOS)
        return await AVCaptureDevice.requestAccess(for: .audio)
        #else
        if #available(iOS 17, macOS 14, *) {
            return await AVAudioApplication.requestRecordPermission()
        }
        return await withCheckedContinuation { continuation in
            AVAudioSession.sharedInstance().requestRecordPermission { granted in
                continuation.resume(returning: granted)
            }
        }
        #endif
    }

    /// The samples from now on. Leaving the loop, or cancelling its task, stops the microphone.
    ///
    /// The pieces end with `ASRError.microphone` where there is no permission or no input, and where a
    /// recognizer is half a minute behind: no piece is dropped silently.
    public func pieces(at rate: Int) -> AsyncThrowingStream<[Float], any Error> {
        let manages = managesSession
        return AsyncThrowingStream(bufferingPolicy: .bufferingOldest(Self.mostPieces)) { continuation in
            do {
                let capture = try Capture(rate, managesSession: manages, continuation)
                continuation.onTermination = { _ in capture.react(to: .end) }
                Task {
                    guard await Self.requestPermission() else {
                        continuation.finish(throwing: ASRError.microphone("no permission"))
                        return
                    }
                    capture.react(to: .begin)
                }
            } catch {
                continuation.finish(throwing: error)
            }
        }
    }
}

/// One recording. Unchecked: everything that changes is used on `queue` alone.
private final class Capture: @unchecked Sendable {
    private let queue = DispatchQueue(label: "ASRMicrophone")
    private let continuation: AsyncThrowingStream<[Float], any Error>.Continuation
    private let managesSession: Bool
    private var converter: ASRSoundConverter
    private var state = CaptureState()
    private var engine = AVAudioEngine()
    private var observers: [any NSObjectProtocol] = []

    init(
        _ rate: Int, managesSession: Bool,
        _ continuation: AsyncThrowingStream<[Float], any Error>.Continuation
    ) throws {
        self.managesSession = managesSession
        self.continuation = continuation
        converter = try ASRSoundConverter(to: rate)
    }

    /// Does what an event asks for; an error ends the recording.
    func react(to event: CaptureState.Event) {
        queue.async { [self] in
            do {
                for action in state.react(to: event) { try perform(action) }
            } catch {
                continuation.finish(throwing: error)
            }
        }
    }

    private func perform(_ action: CaptureState.Action) throws {
        switch action {
        case .activate: try activate()
        case .start: try start()
        case .stop: stop()
        case .renew:
            stop()
            engine = AVAudioEngine()
            forget()
        case .deactivate: deactivate()
        case .finish: continuation.finish()
        }
    }

    private func start() throws {
        if observers.isEmpty { observe() }
        let input = engine.inputNode
        let format = input.outputFormat(forBus: 0)
        guard format.sampleRate > 0, format.channelCount > 0 else {
            throw ASRError.microphone("no input")
        }
        input.removeTap(onBus: 0)
        input.installTap(onBus: 0, bufferSize: 4096, format: format) { [weak self] buffer, _ in
            // The engine uses the buffer again: it is copied here.
            let (channels, rate) = (buffer.channels, Int(buffer.format.sampleRate))
            guard let self else { return }
            queue.async { self.take(channels, rate) }
        }
        engine.prepare()
        try engine.start()
    }

    private func stop() {
        engine.inputNode.removeTap(onBus: 0)
        engine.stop()
    }

    private func take(_ channels: [[Float]], _ rate: Int) {
        do {
            let made = try converter.push(channels, rate: rate)
            guard !made.isEmpty else { return }
            if case .dropped = continuation.yield(made) {
                throw ASRError.microphone("the recognizer is slower than speech")
            }
        } catch {
            continuation.finish(throwing: error)
        }
    }

    private func observe() {
        on(.AVAudioEngineConfigurationChange, of: engine) { _ in .inputChanged }
        #if !os(macOS)
        let session = AVAudioSession.sharedInstance()
        on(AVAudioSession.mediaServicesWereResetNotification, of: session) { _ in .servicesReset }
        on(AVAudioSession.interruptionNotification, of: session) { notification in
            let type = notification.userInfo?[AVAudioSessionInterruptionTypeKey] as? UInt
            guard type.flatMap(AVAudioSession.InterruptionType.init(rawValue:)) == .ended else {
                return .interrupted
            }
            let options = notification.userInfo?[AVAudioSessionInterruptionOptionKey] as? UInt ?? 0
            let resumes = AVAudioSession.InterruptionOptions(rawValue: options).contains(.shouldResume)
            return .interruptionEnded(resumes: resumes)
        }
        #endif
    }

    private func on(
        _ name: Notification.Name, of object: AnyObject,
        _ event: @escaping @Sendable (Notification) -> CaptureState.Event
    ) {
        let observer = NotificationCenter.default.addObserver(
            forName: name, object: object, queue: nil
        ) { [weak self] notification in self?.react(to: event(notification)) }
        observers.append(observer)
    }

    private func forget() {
        for observer in observers { NotificationCenter.default.removeObserver(observer) }
        observers = []
    }

    private func activate() throws {
        #if !os(macOS)
        guard managesSession else { return }
        let session = AVAudioSession.sharedInstance()
        // As Apple's sample code for speech recognition does.
        try session.setCategory(.record, mode: .measurement, options: .duckOthers)
        try session.setActive(true, options: .notifyOthersOnDeactivation)
        #endif
    }

    private func deactivate() {
        forget()
        #if !os(macOS)
        guard managesSession else { return }
        // Another user of the session keeps it active: that is no error of this recording.
        try? AVAudioSession.sharedInstance().setActive(false, options: .notifyOthersOnDeactivation)
        #endif
    }
}
#endif
