/// A value with a place in an order.
protocol Ranked {
    /// Whether it comes before the other one.
    func precedes(_ other: Self) -> Bool
}

/// Sorting and selecting as the C++ library of GCC does it.
///
/// ds-ctcdecoder 0.9.3 sorts and cuts its hypotheses with `std::sort`, `std::nth_element` and
/// `std::partial_sort`. Which of several equal ones stays is then a matter of their steps: median of
/// three, Hoare's partition, insertion sort below 16 elements, heap sort where it goes too deep.
enum Ordering<Element: Ranked> {
    /// The first `count` elements are the first ones of the order, themselves in no order.
    static func select(_ items: inout [Element], _ count: Int) {
        items.withUnsafeMutableBufferPointer { items in
            guard count < items.count else { return }
            var low = 0
            var high = items.count
            var depth = 2 * log2(high - low)
            while high - low > 3 {
                if depth == 0 {
                    heapSelect(items, low, count + 1, high)
                    items.swapAt(low, count)
                    return
                }
                depth -= 1
                let cut = partition(items, low, high)
                if cut <= count { low = cut } else { high = cut }
            }
            insertionSort(items, low, high)
        }
    }

    /// The first `count` elements are the first ones of the order, in order.
    static func sortFirst(_ items: inout [Element], _ count: Int) {
        items.withUnsafeMutableBufferPointer { items in
            heapSelect(items, 0, count, items.count)
            sortHeap(items, 0, count)
        }
    }

    /// Sorts all.
    static func sort(_ items: inout [Element]) {
        items.withUnsafeMutableBufferPointer { items in
            guard items.count > 1 else { return }
            sortCoarsely(items, 0, items.count, 2 * log2(items.count))
            let few = min(16, items.count)
            insertionSort(items, 0, few)
            for at in few..<items.count { insert(items, at) }
        }
    }

    private typealias Items = UnsafeMutableBufferPointer<Element>

    private static func log2(_ count: Int) -> Int { Int.bitWidth - 1 - count.leadingZeroBitCount }

    private static func sortCoarsely(_ items: Items, _ low: Int, _ end: Int, _ most: Int) {
        var high = end
        var depth = most
        while high - low > 16 {
            if depth == 0 {
                heapSelect(items, low, high, high)
                sortHeap(items, low, high)
                return
            }
            depth -= 1
            let cut = partition(items, low, high)
            sortCoarsely(items, cut, high, depth)
            high = cut
        }
    }

    /// Parts the elements around the median of three of them; returns where the second part begins.
    private static func partition(_ items: Items, _ low: Int, _ high: Int) -> Int {
        let (a, b, c) = (low + 1, low + (high - low) / 2, high - 1)
        let median: Int
        if items[a].precedes(items[b]) {
            median = items[b].precedes(items[c]) ? b : items[a].precedes(items[c]) ? c : a
        } else {
            median = items[a].precedes(items[c]) ? a : items[b].precedes(items[c]) ? c : b
        }
        items.swapAt(low, median)
        let pivot = items[low]
        var (left, right) = (low + 1, high)
        while true {
            while items[left].precedes(pivot) { left += 1 }
            right -= 1
            while pivot.precedes(items[right]) { right -= 1 }
            if left >= right { return left }
            items.swapAt(left, right)
            left += 1
        }
    }

    private static func insertionSort(_ items: Items, _ low: Int, _ high: Int) {
        guard low < high else { return }
        for at in low + 1..<max(high, low + 1) {
            let item = items[at]
            if item.precedes(items[low]) {
                var place = at
                while place > low {
                    items[place] = items[place - 1]
                    place -= 1
                }
                items[low] = item
            } else {
                insert(items, at)
            }
        }
    }

    /// Moves an element forward past those that come after it; one before it does not.
    private static func insert(_ items: Items, _ at: Int) {
        let item = items[at]
        var place = at
        while item.precedes(items[place - 1]) {
            items[place] = items[place - 1]
            place -= 1
        }
        items[place] = item
    }

    /// A heap of the first elements of the order in `low..<middle`, the last of them on top.
    private static func heapSelect(_ items: Items, _ low: Int, _ middle: Int, _ high: Int) {
        let count = middle - low
        if count >= 2 {
            for at in stride(from: (count - 2) / 2, through: 0, by: -1) {
                sink(items, low, at, count, items[low + at])
            }
        }
        for at in middle..<max(high, middle) where items[at].precedes(items[low]) {
            let item = items[at]
            items[at] = items[low]
            sink(items, low, 0, count, item)
        }
    }

    private static func sortHeap(_ items: Items, _ low: Int, _ high: Int) {
        var last = high
        while last - low > 1 {
            last -= 1
            let item = items[last]
            items[last] = items[low]
            sink(items, low, 0, last - low, item)
        }
    }

    /// Puts an element into a heap whose place `hole` is free: down to the bottom, then up.
    private static func sink(_ items: Items, _ low: Int, _ hole: Int, _ count: Int, _ item: Element) {
        var at = hole
        var child = at
        while child < (count - 1) / 2 {
            child = 2 * (child + 1)
            if items[low + child].precedes(items[low + child - 1]) { child -= 1 }
            items[low + at] = items[low + child]
            at = child
        }
        if count & 1 == 0, child == (count - 2) / 2 {
            child = 2 * (child + 1)
            items[low + at] = items[low + child - 1]
            at = child - 1
        }
        var parent = (at - 1) / 2
        while at > hole, items[low + parent].precedes(item) {
            items[low + at] = items[low + parent]
            at = parent
            parent = (at - 1) / 2
        }
        items[low + at] = item
    }
}
