"""Changes to data and code of the app kit, which its tests must find.

``benchmarks/app_kit`` makes them in turn. One build has all changes of code: a variable of the
environment has the number of the active one, so that nothing is compiled twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Change = Callable[[Path], object]
#: A module of the kit: whether a change is active.
SEED = """import Foundation

package enum Seed {
    private static let number: Int? =
        ProcessInfo.processInfo.environment["ASRKIT_SEED"].flatMap { Int($0) }

    @inline(__always)
    package static func on(_ number: Int) -> Bool { number == Seed.number }
}
"""


@dataclass(frozen=True)
class Data:
    """A change to a file of the artifact."""

    name: str
    change: Change


@dataclass(frozen=True)
class Code:
    """A change to a source of the kit.

    ``text`` occurs once; its parts in «guillemets» are replaced, each by one of ``wrong``.
    A part is an expression, or whole statements.
    """

    file: str
    text: str
    wrong: tuple[str, ...]
    #: The tests for it: the cases of the decoders, or those on an artifact.
    decoding: bool = False

    @property
    def name(self) -> str:
        return f"{Path(self.file).stem}: {' '.join(self.text.split())[:70]} -> {self.wrong[0][:40]}"

    def seeded(self, source: str, number: int) -> str:
        """The source with the change, active if ``Seed.on(number)``."""
        plain = self.text.replace("«", "").replace("»", "")
        assert source.count(plain) == 1, f"{self.file} has {plain!r} {source.count(plain)} times"
        made, rest = "", self.text
        for wrong in self.wrong:
            before, _, rest = rest.partition("«")
            right, _, rest = rest.partition("»")
            if _statement(right):
                made += f"{before}if Seed.on({number}) {{ {wrong} }} else {{ {right} }}"
            else:
                made += f"{before}(Seed.on({number}) ? {wrong} : {right})"
        return source.replace(plain, made + rest)


def _statement(text: str) -> bool:
    """Whether the part of a source is whole statements."""
    return bool(re.match(r"(\w[\w.]* (\+|-)?= |if |await |end\(\)|try |acoustic\.|append\()", text))


def manifest(path: str, value: Any) -> Data:
    """Changes a value of ``manifest.json`` by its path; a function gets the present one."""

    def change(artifact: Path) -> None:
        file = artifact / "manifest.json"
        whole = json.loads(file.read_text())
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        at: Any = whole
        for part in way:
            at = at[part]
        at[last] = value(at[last]) if callable(value) else value
        file.write_text(json.dumps(whole))

    return Data(f"manifest {path}", change)


def array(name: str, change: Callable[[np.ndarray], object], recording: str = "reference") -> Data:
    """Changes values of an array of a recording."""

    def run(artifact: Path) -> None:
        file = artifact / "conformance" / recording / f"{name}.npy"
        values = np.load(file)
        change(values)
        np.save(file, values)

    return Data(f"{recording}/{name}.npy", run)


def book(name: str, change: Callable[[Any], object]) -> Data:
    """A change to ``steps.json``."""

    def run(artifact: Path) -> None:
        file = artifact / "conformance" / "steps.json"
        whole = json.loads(file.read_text())
        change(whole)
        file.write_text(json.dumps(whole))

    return Data(f"steps.json {name}", run)


def add(value: float, at: Any = 0) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[at] += value

    return change


def swap(first: int, second: int) -> Callable[[list[str]], list[str]]:
    def change(labels: list[str]) -> list[str]:
        labels[first], labels[second] = labels[second], labels[first]
        return labels

    return change


def flip(artifact: Path) -> None:
    file = artifact / "conformance" / "reference" / "audio.wav"
    raw = bytearray(file.read_bytes())
    raw[10_000] ^= 0x40
    file.write_bytes(raw)


def weight(artifact: Path) -> None:
    (file,) = artifact.rglob("weight.bin")
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 0x80
    raw[len(raw) // 3] ^= 0x80
    file.write_bytes(raw)


DATA = (
    manifest("features.mel_bands", 41),
    manifest("features.lower_hz", 20.5),
    manifest("features.upper_hz", 7000.0),
    manifest("features.coefficients", 25),
    manifest("features.log_floor", 1e-10),
    manifest("features.context_frames", 8),
    manifest("features.step_samples", 321),
    manifest("features.window_samples", 511),
    manifest("features.fft_size", 1024),
    manifest("features.step_ms", 21.0),
    manifest("audio.sample_rate", 8000),
    manifest("audio.sample_scale", 1.0),
    manifest("audio.channels", 2),
    manifest("decoder.blank_index", 27),
    manifest("decoder.alphabet", swap(5, 20)),
    manifest("decoder.alphabet", swap(1, 2)),
    manifest("decoder.utf8", True),
    manifest("streaming.steps_per_chunk", 15),
    manifest("streaming.mode", "whole"),
    manifest("model.inputs.0.name", "other"),
    manifest("model.inputs.0.dtype", "int32"),
    manifest("model.inputs.0.shape.2.default", 18),
    manifest("model.package", "other.mlpackage"),
    manifest("model.functions.0.name", "other"),
    manifest("state.0.input", lambda name: name + "_"),
    manifest("state.0.shape", lambda shape: [*shape[:-1], shape[-1] + 1]),
    manifest("schema_version", "3.0"),
    manifest("weather", 1),
    array("mfcc", add(0.01, (3, 4))),
    array("windows", add(0.01, (3, 4, 5))),
    array("probabilities", add(0.3, (7, 3))),
    array("probabilities", add(0.05, (50, 28))),
    array("new_state_c", add(0.5, (1, 0, 3))),
    array("new_state_h", add(0.5, (2, 0, 3))),
    array("previous_state_c", add(0.5, (1, 0, 3))),
    array("mfcc", add(0.01, (0, 0)), "silence"),
    array("mfcc", add(0.01, (1, 2)), "full_scale"),
    Data("a bit of the sound", flip),
    Data("two bits of the weights", weight),
    book("a word 20 ms late", lambda b: b["recordings"][0]["words"][1].update(start_s=9.0)),
    book("a word's confidence", lambda b: b["recordings"][0]["words"][0].update(confidence=0.5)),
    book("another text", lambda b: b["recordings"][0].update(text="hello")),
    book("a call less", lambda b: b["recordings"][0]["calls"].pop()),
    book("a call's size", lambda b: b["recordings"][0]["calls"][0].update(size=17)),
)
CORE, SESSION = "ASRCore/", "ASRSession/"
STREAM, SHAPE = CORE + "Model/Streaming.swift", CORE + "Model/CallShape.swift"
ARTIFACT = CORE + "Manifest/Artifact.swift"
VARIANTS, READING = CORE + "Manifest/Variants.swift", CORE + "Manifest/ManifestReading.swift"
TRANSCRIBER, RECOGNIZER = SESSION + "Transcriber.swift", SESSION + "Recognizer.swift"
REPORT = "ASRConformance/ConformanceReport.swift"
SEARCH, SCORER = CORE + "Decoding/PrefixSearch.swift", CORE + "Decoding/Scorer/"
LANGUAGE = SCORER + "LanguageScore.swift"
FRAMES, TREE = CORE + "Features/FeatureStream.swift", CORE + "Decoding/PrefixTree.swift"
CAPTIONS, WAVE = CORE + "Transcript/Captions.swift", CORE + "Sound/WaveFile.swift"
RESAMPLER, SPEECH = CORE + "Sound/Resampler.swift", CORE + "Sound/SpeechDetector.swift"


def code(file: str, text: str, *wrong: str) -> Code:
    return Code(file, text, wrong)


def decoding(file: str, text: str, *wrong: str) -> Code:
    return Code(file, text, wrong, decoding=True)


#: Changes to packages with a manifest 2.0: the detector of voice, and the network with context.
DATA_2 = (
    manifest("context.left_steps", lambda steps: steps + 1),
    manifest("rows.steps", lambda steps: steps + 1),
    manifest("rows.add", lambda add: add - 1),
    # Not features.step_ms: times are those of rows, and steps those of the settings.
    manifest("features.settings.stride", lambda samples: 2 * samples),
    manifest("rows.row_ms", lambda ms: 2 * ms),
    manifest("decoder.kind", "characters"),
    manifest("decoder.alphabet", swap(0, 1)),
    array("probabilities", add(0.3, (3, 1))),
    book("a call's first row", lambda b: b["recordings"][0]["calls"][1].update(first_row=0)),
    book("a call's rows", lambda b: b["recordings"][0]["calls"][0].update(rows=0)),
    book("another text", lambda b: b["recordings"][0].update(text="hello")),
)
CODE = (
    code(STREAM, "«taken += request.passed»", "taken += request.steps + 1"),
    code(STREAM, "«state = answer.state»", ""),
    code(STREAM, "«model = answer.model»", ""),
    code(STREAM, "lost = «kept != nil»", "false"),
    code(STREAM, "guard «kept == nil», let other", "true"),
    code(STREAM, "guard «!lost» else", "true"),
    code(STREAM, "guard «values.allSatisfy(\\.isFinite)» else", "true"),
    code(STREAM, "guard «found.values.count == count» else", "true"),
    code(STREAM, "«size <= axis.max ?? Int.max»", "true"),
    code(STREAM, "«count > size || (count == size && !whole)»", "count >= size"),
    code(STREAM, "values += [Float](repeating: «0», count: (size - steps)", "1"),
    code(STREAM, "values: [Float](repeating: «Float(steps)», count: count)", "Float(size)"),
    code(
        STREAM,
        "values: decoded.stand(given, count))[«request.keep»]",
        "0..<request.keep.count",
    ),
    code(STREAM, "«passed += request.passed»", ""),
    code(STREAM, "<= «Self.mostBytes» else", "Int.max"),
    # Manifests 2.0: rows, context, ranges, states and layouts.
    code(STREAM, "(begin, end) = («left», left)", "0"),
    code(STREAM, "waiting.append(Self.silence(«left», width", "left - 1"),
    code(STREAM, "passed: «max(0, known - left)»,", "known"),
    code(STREAM, "seen: trimmed ? 0 : «min(left, known)»", "0"),
    code(STREAM, "let known = size - «rows.ahead(right)»", "right"),
    code(STREAM, "let range = [«Float(begin)», Float(min(end, size))]", "0"),
    code(STREAM, "«end = max(0, end - request.passed)»", ""),
    code(STREAM, "let rows = try kept.probabilities(from: «decoded.meaning»)", ".probabilities"),
    code(SHAPE, "max(0, («count + add») / steps)", "count"),
    code(SHAPE, "return «most.map { min($0, found) } ?? found»", "found"),
    code(SHAPE, "names.contains($0.name) } ?? «otherwise»", "otherwise + 1"),
    code(SHAPE, "let start = («first * inner + second») * after", "second * outer + first"),
    code(SHAPE, "var classes: Int { «max(width, 2)» }", "width"),
    code(CORE + "Decoding/ClassOutputs.swift", "[Float(one), «Float(1 - one)»]", "Float(one)"),
    code(
        CORE + "Decoding/ClassOutputs.swift",
        "exp(min(«$0 - top», 80))",
        "$0",
    ),
    code(TRANSCRIBER, "«ending = true»", ""),
    code(
        TRANSCRIBER,
        "«await begin()»\n        defer { «end()» }\n        try acoustic",
        "",
        "",
    ),
    code(TRANSCRIBER, "«acoustic.failed()»", ""),
    code(
        TRANSCRIBER,
        "let end = min(start + «settings.sampleRate», samples.count)",
        "settings.sampleRate - 1",
    ),
    code(TRANSCRIBER, "progress?(«Double(end)» / Double(samples.count))", "Double(start)"),
    code(TRANSCRIBER, "if «queue.isEmpty» { busy = false }", "true"),
    code(RECOGNIZER, "guard «text == last» else", "text != last"),
    code(RECOGNIZER, "«try Task.checkCancellation()»", ""),
    code(RECOGNIZER, "«if loading == task { loading = nil }»", ""),
    code(RECOGNIZER, "«over = true»\n                throw error", ""),
    code(CORE + "Features/Samples.swift", "* «32768»)", "32767"),
    code(CORE + "Features/Samples.swift", "guard «sample.isFinite» else", "true"),
    code(
        CORE + "Features/Samples.swift", ".rounded(«.toNearestOrEven»)", ".toNearestOrAwayFromZero"
    ),
    code(VARIANTS, "«!loads(on: system)» else { return }", "false"),
    code(VARIANTS, "? «.cpuOnly» : model.recomm", "model.recommendedComputeUnits"),
    code(
        VARIANTS,
        "«!padded(numbers).lexicographicallyPrecedes(padded(other.numbers))»",
        "padded(other.numbers).lexicographicallyPrecedes(padded(numbers))",
    ),
    code(READING, "«given[1] > own[1]»", "true"),
    code(READING, "given[1] > «own[1]»", "given[1]"),
    code(READING, "«$0[0] == given[0]»", "$0[0] <= given[0]"),
    code(CORE + "Manifest/StrictCoding.swift", "guard «container.contains(key)» else", "true"),
    code(
        CORE + "Manifest/ModelInterface.swift",
        'try expectSame("states", «file.states», Set(kept))',
        "Set(kept)",
    ),
    code(CORE + "Manifest/ModelInterface.swift", "if «!input.shape.isEmpty» {", "false"),
    code(
        ARTIFACT,
        '«!parts.contains(where: { ["", ".", ".."].contains($0) })»',
        "true",
    ),
    code(ARTIFACT, "for url in «[compiled, package]»", "[package, compiled]"),
    code(CORE + "SHA256.swift", "let zeros = «(119 - Int(count % 64)) % 64»", "64"),
    code("ASRCoreML/CompiledModels.swift", "if «unused» || !name.hasSuffix", "false"),
    code("ASRCoreML/CompiledModels.swift", "(«manifest.packageDigest»)-", '""'),
    code(
        "ASRCoreML/CoreMLModel.swift",
        "configuration.functionName = «manifest.model.defaultFunction»",
        "nil",
    ),
    code("ASRCoreML/CoreMLModel.swift", "map { «Int32($0)» }", "Int32($0) + 1"),
    code(REPORT, "value >= limit : «value <= limit»", "true"),
    code(REPORT, "if «wanted[best] >= (wanted.max() ?? 0) * (1 - tie)» {", "true"),
    code(REPORT, "«largestError(found[call], wanted) / peak»", "0"),
    code("ASRConformance/Evidence.swift", "(type) \\(«payload.count») ", "payload.count + 1"),
    code("ASRConformance/Evidence.swift", ".rounded(«.up»))) - 1", ".down"),
    code(RESAMPLER, "waiting = [Float](repeating: 0, count: «half - 1»)", "half"),
    code(RESAMPLER, "return sinc * «bessel(beta * (1 - place * place).squareRoot()) / whole»", "1"),
    code(RESAMPLER, "«(2 * taken * parts + step) / (2 * step)»", "taken * parts / step"),
    code(RESAMPLER, "let phase = exact ? «part» : Int(place)", "(parts - part) % parts"),
    code(SPEECH, "«energy += Double(output * output)»", "energy += Double(abs(output))"),
    code(SPEECH, "quiet = isLoud ? «0» : quiet + 1", "quiet"),
    decoding(
        SEARCH,
        "return «node.endsBlank > Self.impossible ? log + node.endsBlank : Self.impossible»",
        "log + node.score",
    ),
    decoding(SEARCH, "«repeated = log + node.endsLabel»", "repeated = log + node.score"),
    decoding(SEARCH, "return «log(exp(x - most) + exp(y - most)) + most»", "most"),
    decoding(SEARCH, "index + 1 >= «settings.cutoffTop»", "settings.cutoffTop + 1"),
    decoding(SEARCH, "let count = min(places.count, «settings.width»)", "settings.width + 1"),
    decoding(SEARCH, "score == other.score ? «label < other.label» : score", "label > other.label"),
    decoding(
        SEARCH,
        "score += language.ending(«grammar(beam[index], language)»)",
        "Grammar(probability: 0, boost: 0)",
    ),
    decoding(SEARCH, "if last > place, «endsLabel < endsBlank» { moved", "false"),
    decoding(LANGUAGE, "return Float(Double(score + more) + «beta»)", "0"),
    decoding(LANGUAGE, "«boost += hotWords[word] ?? 0»", ""),
    decoding(LANGUAGE, "beginning: «words.count < scorer.order»,", "false"),
    decoding(LANGUAGE, "Double(Float(«0.4342944819»))", "1"),
    decoding(
        LANGUAGE,
        "while let last = next, found.count < «scorer.order» {",
        "scorer.order - 1",
    ),
    decoding(SCORER + "WordTrie.swift", "«isFinal(state) ? 0 : state»", "state"),
    # Made after the tests for all changes above, to measure those tests.
    code(CAPTIONS, "start = «max(word.start, end)»", "word.start"),
    code(CAPTIONS, "let full = !fits && lines.count == «2»", "3"),
    code(CAPTIONS, "Int(«(max(seconds, 0) * 1000).rounded()»)", "(max(seconds, 0) * 1000)"),
    code(WAVE, "endsEarly: «!unfinished && declared > there»", "declared > there"),
    code(WAVE, "at = body + size + «size % 2»", "0"),
    code(WAVE, "abs($0) <= «16»", "32768"),
    code(CORE + "Sound/Capture.swift", "$0 + $1[index] } / «share»", "1"),
    code(CORE + "Decoding/TextWriter.swift", "if «byte & 0b1100_0000 != 0b1000_0000» {", "true"),
    code(FRAMES, "waiting[«1...edge»].reversed()", "0...edge - 1"),
    code(FRAMES, "(square / Double(«count - 1»))", "count"),
    code(FRAMES, "(max($0, loudest - «8») + 4)", "80"),
    code(CORE + "Features/FrontEnd.swift", "pow($0, «0.85»)", "1"),
    decoding(TREE, "nodes[Int(child)].previous = «node.previous»", "-1"),
    decoding(TREE, "if «node.firstChild == node.lastChild» { passBy(at) }", "true"),
)
