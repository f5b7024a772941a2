/// Rows of equal width, one after another: frames, context windows, probabilities.
public struct ASRRows: Equatable, Sendable {
    public let width: Int
    public private(set) var values: [Float]

    public init(width: Int, values: [Float] = []) {
        precondition(width > 0 && values.count % width == 0, "values must fill whole rows")
        self.width = width
        self.values = values
    }

    public var count: Int { values.count / width }

    public subscript(row: Int) -> ArraySlice<Float> {
        values[row * width..<(row + 1) * width]
    }

    public subscript(rows: Range<Int>) -> ASRRows {
        ASRRows(width: width, values: Array(values[rows.lowerBound * width..<rows.upperBound * width]))
    }

    public mutating func append(_ row: [Float]) {
        precondition(row.count == width, "a row has \(width) values")
        values += row
    }

    public mutating func append(_ other: ASRRows) {
        precondition(other.width == width, "rows have \(width) values")
        values += other.values
    }

    public mutating func removeFirst(_ rows: Int) {
        values.removeFirst(rows * width)
    }
}
