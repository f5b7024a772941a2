// The part of SwiftUI's interface that examples/dictation uses, as Apple's documentation declares it: only to be
// type-checked against. Nothing here draws.
import Combine

public typealias CGFloat = Double

@available(iOS 13, macOS 10.15, *) @MainActor @preconcurrency
public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
}

@available(iOS 13, macOS 10.15, *)
extension Never: View {
    public var body: Never { fatalError() }
}

@available(iOS 13, macOS 10.15, *)
public protocol Primitive: View where Body == Never {}

@available(iOS 13, macOS 10.15, *)
extension Primitive {
    public var body: Never { fatalError() }
}

@available(iOS 13, macOS 10.15, *) public struct EmptyView: Primitive {}
@available(iOS 13, macOS 10.15, *) public struct TupleView<T>: Primitive {}
@available(iOS 13, macOS 10.15, *) public struct ConditionalContent<First: View, Second: View>: Primitive {}
@available(iOS 13, macOS 10.15, *) public struct ModifiedView: Primitive {}
@available(iOS 13, macOS 10.15, *) extension Optional: View where Wrapped: View {
    public var body: Never { fatalError() }
}

@available(iOS 13, macOS 10.15, *) @resultBuilder
public struct ViewBuilder {
    public static func buildExpression<Content: View>(_ content: Content) -> Content { content }
    public static func buildBlock() -> EmptyView { fatalError() }
    public static func buildBlock<Content: View>(_ content: Content) -> Content { content }
    public static func buildBlock<each Content: View>(
        _ content: repeat each Content
    ) -> TupleView<(repeat each Content)> { fatalError() }
    public static func buildIf<Content: View>(_ content: Content?) -> Content? { content }
    public static func buildEither<First: View, Second: View>(
        first: First
    ) -> ConditionalContent<First, Second> { fatalError() }
    public static func buildEither<First: View, Second: View>(
        second: Second
    ) -> ConditionalContent<First, Second> { fatalError() }
}

@available(iOS 14, macOS 11, *) @MainActor @preconcurrency
public protocol Scene {}

@available(iOS 14, macOS 11, *) @resultBuilder
public struct SceneBuilder {
    public static func buildBlock<Content: Scene>(_ content: Content) -> Content { content }
}

@available(iOS 14, macOS 11, *)
public struct WindowGroup<Content: View>: Scene {
    public init(@ViewBuilder content: () -> Content) {}
}

@available(iOS 14, macOS 11, *) @MainActor @preconcurrency
public protocol App {
    associatedtype Body: Scene
    @SceneBuilder var body: Body { get }
    init()
}

@available(iOS 14, macOS 11, *)
extension App {
    public static func main() {}
}

@available(iOS 14, macOS 11, *) @propertyWrapper @MainActor @preconcurrency
public struct StateObject<ObjectType: ObservableObject> {
    public init(wrappedValue thunk: @autoclosure @escaping () -> ObjectType) {}
    public var wrappedValue: ObjectType { fatalError() }
}

@available(iOS 13, macOS 10.15, *) @propertyWrapper @MainActor @preconcurrency
public struct ObservedObject<ObjectType: ObservableObject> {
    public init(wrappedValue: ObjectType) {}
    public var wrappedValue: ObjectType { fatalError() }
}

@available(iOS 13, macOS 10.15, *)
public struct Text: Primitive {
    public init<S: StringProtocol>(_ content: S) {}
}

@available(iOS 13, macOS 10.15, *) public struct Image: Primitive {}

@available(iOS 14, macOS 11, *)
public struct Label<Title: View, Icon: View>: Primitive {}

@available(iOS 14, macOS 11, *)
extension Label where Title == Text, Icon == Image {
    public init<S: StringProtocol>(_ title: S, systemImage name: String) {}
}

@available(iOS 13, macOS 10.15, *)
public struct HorizontalAlignment: Sendable {
    public static let leading = HorizontalAlignment()
    public static let center = HorizontalAlignment()
}

@available(iOS 13, macOS 10.15, *)
public struct Alignment: Sendable {
    public static let leading = Alignment()
    public static let center = Alignment()
}

@available(iOS 13, macOS 10.15, *)
public struct VStack<Content: View>: Primitive {
    public init(
        alignment: HorizontalAlignment = .center, spacing: CGFloat? = nil,
        @ViewBuilder content: () -> Content
    ) {}
}

@available(iOS 13, macOS 10.15, *)
public struct ScrollView<Content: View>: Primitive {
    public init(@ViewBuilder content: () -> Content) {}
}

@available(iOS 13, macOS 10.15, *)
public struct ForEach<Data: RandomAccessCollection, ID: Hashable, Content: View>: Primitive {
    public init(
        _ data: Data, id: KeyPath<Data.Element, ID>,
        @ViewBuilder content: @escaping (Data.Element) -> Content
    ) {}
}

@available(iOS 13, macOS 10.15, *)
public struct Button<Label: View>: Primitive {
    public init(action: @escaping @MainActor () -> Void, @ViewBuilder label: () -> Label) {}
}

@available(iOS 14, macOS 11, *)
public struct ProgressView: Primitive {
    public init<S: StringProtocol, V: BinaryFloatingPoint>(_ title: S, value: V?, total: V = 1.0) {}
}

@available(iOS 13, macOS 10.15, *) public protocol ShapeStyle: Sendable {}
@available(iOS 13, macOS 10.15, *) public struct Color: ShapeStyle {}
@available(iOS 15, macOS 12, *) public struct HierarchicalShapeStyle: ShapeStyle {}

@available(iOS 13, macOS 10.15, *)
extension ShapeStyle where Self == Color {
    public static var red: Color { Color() }
}

@available(iOS 15, macOS 12, *)
extension ShapeStyle where Self == HierarchicalShapeStyle {
    public static var secondary: HierarchicalShapeStyle { HierarchicalShapeStyle() }
}

@available(iOS 13, macOS 10.15, *)
extension View {
    @available(iOS 15, macOS 12, *)
    public func foregroundStyle<S: ShapeStyle>(_ style: S) -> some View { ModifiedView() }
    public func frame(maxWidth: CGFloat? = nil, alignment: Alignment = .center) -> some View { ModifiedView() }
    public func disabled(_ disabled: Bool) -> some View { ModifiedView() }
    @available(iOS 14, macOS 11, *)
    public func accessibilityHint<S: StringProtocol>(_ hint: S) -> some View { ModifiedView() }
    public func padding() -> some View { ModifiedView() }
    @available(iOS 15, macOS 12, *)
    public func task(_ action: @escaping @Sendable @MainActor () async -> Void) -> some View { ModifiedView() }
}
