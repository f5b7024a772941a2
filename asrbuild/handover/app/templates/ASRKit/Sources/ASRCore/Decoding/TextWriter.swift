/// The text of labels, one after another, without spelling those before again.
struct TextWriter: Sendable {
    private var spelled = ""
    /// The bytes after it: the last character may not be whole yet.
    private var open: [UInt8] = []
    private var isPieces = false
    private var isEmpty = true
    /// The space that begins the text was left out.
    private var isTrimmed = false

    /// Adds what a class prints.
    mutating func append(_ token: Int, _ tokens: ASRTokens) {
        guard let printed = tokens.printed[token] else { return }
        if tokens.isParted, !isEmpty { spelled += " " }
        isEmpty = false
        isPieces = tokens.kind == .pieces
        for byte in printed {
            // Only a byte 10xxxxxx continues a character: any other one begins the next.
            if byte & 0b1100_0000 != 0b1000_0000 { spell() }
            open.append(byte)
        }
        if tokens.kind != .bytes, !isPieces { spell() }
    }

    /// The text so far; bytes that are no character become the replacement character.
    var text: String {
        var whole = self
        whole.spell()
        return whole.spelled
    }

    private mutating func spell() {
        guard !open.isEmpty else { return }
        let text = String(decoding: open, as: UTF8.self)
        open.removeAll(keepingCapacity: true)
        if isPieces {
            // The mark of a word's beginning is a space, and none begins the text.
            for scalar in text.unicodeScalars {
                let spaced = scalar == "\u{2581}" ? " " : scalar
                if spaced == " ", spelled.isEmpty, !isTrimmed {
                    isTrimmed = true
                } else {
                    spelled.unicodeScalars.append(spaced)
                }
            }
        } else {
            spelled += text
        }
    }
}
