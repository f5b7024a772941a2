import SwiftUI

/// The app: one window with a text and a button.
@main
struct DictationApp: App {
    @StateObject private var dictation = Dictation()

    var body: some Scene {
        WindowGroup {
            DictationView(dictation: dictation)
        }
    }
}
