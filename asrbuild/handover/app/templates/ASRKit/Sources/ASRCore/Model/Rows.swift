/// Rows of equal width, one after another: frames, context windows, probabilities.
public struct ASRRows: Equatable, Sendable {
    /// Values of a row.
    public let width: Int
    /// All values, row after row.
    public private(set) var values: [Float]

    /// Rows of so many values.
    public init(width: Int, values: [Float] = []) {
        precondition(width > 0 && values.count % width == 0, "values must fill whole rows")
        self.width = width
        self.values = values
    }

    /// The number of rows.
    public var count: Int { values.count / width }

    /// One row.
    public subscript(row: Int) -> ArraySlice<Float> {
        values[row * width..<(row + 1) * width]
    }

    /// Some rows.
    public subscript(rows: Range<Int>) -> ASRRows {
        ASRRows(width: width, values: Array(values[rows.lowerBound * width..<rows.upperBound * width]))
    }

    /// Adds a row.
    public mutating func append(_ row: [Float]) {
        precondition(row.count == width, "a row has \(width) values")
        values += row
    }

    /// Adds rows of the same width.
    public mutating func append(_ other: ASRRows) {
        precondition(other.width == width, "rows have \(width) values")
        values += other.values
    }

    /// Removes so many rows at the beginning.
    public mutating func removeFirst(_ rows: Int) {
        values.removeFirst(rows * width)
    }
}
