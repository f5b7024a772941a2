#if canImport(AVFoundation) && !os(watchOS)
import ASRCore
@preconcurrency import AVFoundation
import Foundation

/// A recording in any format that the system reads: M4A, MP3, FLAC, CAF, WAV, ...
///
/// `ASRWaveFile` reads WAV on every system, without AVFoundation.
public struct ASRAudioFile: Sendable {
    /// The address of the file.
    public let url: URL

    /// A file that is opened when its pieces are asked for.
    public init(contentsOf url: URL) {
        self.url = url
    }

    /// The file in pieces at the rate of a model.
    ///
    /// - Parameter seconds: how long a piece is.
    public func pieces(at rate: Int, seconds: Double = 1) -> ASRPieces {
        ASRPieces(at: rate) { [url] in
            let file = try AVAudioFile(forReading: url)
            let format = file.processingFormat
            let size = AVAudioFrameCount(max(1, seconds * format.sampleRate))
            guard let buffer = AVAudioPCMBuffer(pcmFormat: format, frameCapacity: size) else {
                throw ASRError.badAudio("samples of a format without floats")
            }
            return {
                guard file.framePosition < file.length else { return nil }
                try file.read(into: buffer)
                guard buffer.frameLength > 0 else { return nil }
                return (buffer.channels, Int(format.sampleRate))
            }
        }
    }
}

extension AVAudioPCMBuffer {
    /// A copy of the samples of each channel; none of a buffer without floats.
    var channels: [[Float]] {
        guard let data = floatChannelData else { return [] }
        let (count, apart) = (Int(frameLength), stride)
        return (0..<Int(format.channelCount)).map { channel in
            (0..<count).map { data[channel][$0 * apart] }
        }
    }
}
#endif
