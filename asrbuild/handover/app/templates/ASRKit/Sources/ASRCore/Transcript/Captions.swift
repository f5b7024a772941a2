import Foundation

/// Captions of a transcript: its words in cues, as SubRip or WebVTT files.
public struct ASRCaptions: Equatable, Sendable {
    /// Text that is shown for a time, in seconds.
    public struct Cue: Equatable, Sendable {
        /// One or two lines.
        public let lines: [String]
        /// The time at which it appears.
        public let start: Double
        /// The time at which it disappears.
        public let end: Double
    }

    /// The cues in order; no two of them overlap.
    public let cues: [Cue]

    /// Puts words into cues: a new one begins after a pause, after so many seconds, and when the
    /// lines are full.
    ///
    /// - Parameters:
    ///   - pause: seconds between two words that part cues.
    ///   - longest: seconds that a cue lasts.
    ///   - width: characters in a line, of which a cue has two; a longer word has a line of its own.
    public init(_ words: [ASRWord], pause: Double = 1, longest: Double = 6, width: Int = 42) {
        var cues: [Cue] = []
        var lines: [String] = []
        var (start, end) = (0.0, 0.0)
        func close() {
            guard !lines.isEmpty else { return }
            cues.append(Cue(lines: lines, start: start, end: end))
            lines = []
        }
        for word in words {
            if let line = lines.last {
                let fits = line.count + 1 + word.text.count <= width
                let full = !fits && lines.count == 2
                if word.start - end > pause || word.end - start > longest || full {
                    close()
                } else {
                    if fits { lines.removeLast() }
                    lines.append(fits ? line + " " + word.text : word.text)
                    end = max(word.end, end)
                    continue
                }
            }
            lines = [word.text]
            // A word that begins before the one before ended does not make cues overlap.
            start = max(word.start, end)
            end = max(word.end, start + 0.02)
        }
        close()
        self.cues = cues
    }

    /// A SubRip file (`.srt`); empty without words.
    public var srt: String {
        cues.enumerated().map { number, cue in
            let times = "\(Self.time(cue.start, ",")) --> \(Self.time(cue.end, ","))"
            return "\(number + 1)\n\(times)\n\(cue.lines.joined(separator: "\n"))\n"
        }.joined(separator: "\n")
    }

    /// A WebVTT file (`.vtt`), as https://www.w3.org/TR/webvtt1/ describes it.
    public var vtt: String {
        let texts = cues.map { cue in
            let text = cue.lines.joined(separator: "\n").replacingOccurrences(of: "&", with: "&amp;")
                .replacingOccurrences(of: "<", with: "&lt;").replacingOccurrences(of: ">", with: "&gt;")
            return "\n\(Self.time(cue.start, ".")) --> \(Self.time(cue.end, "."))\n\(text)\n"
        }
        return "WEBVTT\n" + texts.joined()
    }

    /// Hours, minutes, seconds and milliseconds: `00:01:02,345`.
    private static func time(_ seconds: Double, _ point: String) -> String {
        let all = Int((max(seconds, 0) * 1000).rounded())
        func digits(_ number: Int, _ width: Int) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, width - text.count)) + text
        }
        let (hours, minutes, rest) = (all / 3_600_000, all / 60_000 % 60, all % 60_000)
        return "\(digits(hours, 2)):\(digits(minutes, 2)):\(digits(rest / 1000, 2))"
            + "\(point)\(digits(rest % 1000, 3))"
    }
}
