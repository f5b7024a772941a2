import SwiftUI

/// The text of the utterances, and the button that starts and stops listening.
struct DictationView: View {
    @ObservedObject var dictation: Dictation

    var body: some View {
        VStack(spacing: 24) {
            ScrollView {
                VStack(alignment: .leading, spacing: 12) {
                    ForEach(dictation.utterances, id: \.self) { Text($0) }
                    Text(dictation.partial).foregroundStyle(.secondary)
                }
                .frame(maxWidth: .infinity, alignment: .leading)
            }
            if let problem = dictation.problem {
                Text(problem).foregroundStyle(.red)
            }
            Button(action: dictation.toggle) {
                Label(
                    dictation.listening ? "Stop" : "Listen",
                    systemImage: dictation.listening ? "stop.circle.fill" : "mic.circle.fill"
                )
            }
            .disabled(dictation.version == nil)
            .accessibilityHint("Writes what you say")
            if let fetched = dictation.fetched {
                ProgressView("Looking for a newer model", value: fetched)
            } else {
                Button(action: { Task { await dictation.update() } }) {
                    Label(dictation.version ?? "No model", systemImage: "arrow.triangle.2.circlepath")
                }
                .accessibilityHint("Looks for a newer model")
            }
        }
        .padding()
        .task { await dictation.prepare() }
    }
}
