/// Rows of a vocabulary of characters as an alphabet's: those that print in order, and behind them the
/// blank with all that print nothing.
struct Folding: Sendable {
    let tokens: ASRTokens
    let classes: Int
    private let printed: [Int]
    private let rest: [Int]

    /// nil where the labels are in that order.
    init?(_ tokens: ASRTokens) throws {
        guard tokens.kind == .characters else { return nil }
        printed = tokens.labels.indices.filter { tokens.printed[$0] != nil }
        rest = tokens.labels.indices.filter { tokens.printed[$0] == nil }
        guard printed != Array(0..<tokens.classes - 1) else { return nil }
        classes = tokens.classes
        self.tokens = try ASRTokens(
            alphabet: printed.map { $0 == tokens.boundary ? " " : tokens.labels[$0] })
    }

    func fold(_ rows: ASRRows) -> ASRRows {
        var made = ASRRows(width: printed.count + 1)
        for row in 0..<rows.count {
            let values = rows[row]
            let start = values.startIndex
            made.append(printed.map { values[start + $0] } + [rest.reduce(0) { $0 + values[start + $1] }])
        }
        return made
    }
}
