/// A sample between -1 and 1 as Int16, rounded and clipped.
package func pcm(_ sample: Float) throws -> Int16 {
    guard sample.isFinite else { throw ASRError.badSamples }
    let scaled = (sample * 32768).rounded(.toNearestOrEven)
    return Int16(min(max(scaled, -32768), 32767))
}
