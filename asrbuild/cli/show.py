"""``asrbuild show``: the manifest of one artifact as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.tables import bare, show as show_table
from asrbuild.cli.options import ArtifactsOption, OpenedArgument

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest, Metric, Streaming, Tensor

TableRows = list[tuple[str, ...]]


def show(
    artifact: OpenedArgument,
    artifacts: ArtifactsOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print manifest.json as it is stored.")
    ] = False,
) -> None:
    """Show what an app needs to run an artifact, and the proof that it matches the original.

    Examples:
        asrbuild show demo-dynamic-mlprogram
    """
    from asrbuild.artifact.layout import MANIFEST
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.ship.opening import opened, opened_as

    note = partial(terminal.say, err=True)
    root = artifacts or artifacts_root()
    with opened(artifact, root, note, description_only=True) as path:
        manifest = read_manifest(path)
        if as_json:
            terminal.say_json(json.loads((path / MANIFEST).read_text(encoding="utf-8")))
            return
    console = terminal.console()
    console.print(terminal.line(manifest.name, "bold"), manifest.version)
    if manifest.description:
        console.print(manifest.description)
    for title, headings, rows in page(manifest):
        table = bare(title, *(headings or ("", "")))
        for row in rows:
            table.add_row(*row)
        console.print()
        show_table(table)
    console.print(f"\n{opened_as(artifact, path)}", soft_wrap=True)


def page(manifest: Manifest) -> Iterator[tuple[str, tuple[str, ...], TableRows]]:
    """Yields the sections in order: title, column headings (none for plain pairs) and rows."""
    m = manifest
    yield "Model", (), _model(m)
    tensor_headings = ("", "name", "type", "shape", "meaning", "fill")
    for function in m.model.functions:
        several = len(m.model.functions) > 1
        use = f"Function {function.name}, for {_feeding(function.streaming)}"
        title = use if several else "Inputs and outputs"
        rows = [_tensor("in", tensor) for tensor in function.inputs]
        yield title, tensor_headings, rows + [_tensor("out", t) for t in function.outputs]
    yield "Audio and features", (), _features(m)
    yield "Running it", (), _running(m)
    yield "Decoding", (), _decoding(m)
    yield "Proof", (), _proof(m)
    metric_headings = ("output", "measure", "worst", "on", "gate", "checks")
    yield "Compared with the original", metric_headings, _metrics(m.verification.metrics)
    if witnesses := _witnesses(m):
        headings = ("output", "measure", "executor", "Core AI", "one against the other", "its gate")
        yield "Two runtimes", headings, witnesses
    transcripts: TableRows = [
        (t.input, t.package, "same" if t.match else f"DIFFERS: {t.reference}")
        for t in m.verification.transcripts
    ]
    yield "Words", ("recording", "transcript", "as the original"), transcripts
    yield "Provenance", (), _provenance(m)
    files: TableRows = [(f.path, f.role, _size(f.bytes), f.sha256[:12]) for f in m.files]
    yield "Files", ("path", "role", "size", "sha256"), files


def _size(count: int) -> str:
    from asrbuild.base.quantities import size_text

    return size_text(count)


def _model(m: Manifest) -> TableRows:
    model = m.model
    systems = ", ".join(f"{name} {version}" for name, version in model.minimum_os.items())
    return [
        ("package", f"{model.package}, {_size(sum(f.bytes for f in m.files))} with its assets"),
        ("format", f"{model.format}, specification {model.spec_version}, runs on {systems} and up"),
        ("precision", f"{model.compute_precision}{f', {model.lstm} LSTM' if model.lstm else ''}"),
        ("compute units", model.recommended_compute_units),
        ("languages", ", ".join(m.languages) or "not stated"),
        ("licence", (m.license or "not stated") + (f", by {m.author}" if m.author else "")),
    ]


def _tensor(direction: str, tensor: Tensor) -> tuple[str, ...]:
    from asrbuild.artifact.interface import shape_text

    return direction, tensor.name, tensor.dtype, shape_text(tensor), tensor.meaning, tensor.fill


def _features(m: Manifest) -> TableRows:
    from asrbuild.artifact import manifest2

    audio, f = m.audio, m.features
    sound = (
        "audio",
        f"{audio.sample_rate} Hz, {audio.channels} channel{'s' if audio.channels > 1 else ''}, "
        f"{audio.sample_type}, times {audio.sample_scale:g}",
    )
    if isinstance(m, manifest2.Manifest):
        return [sound, *_features2(m)]
    return [
        sound,
        (
            "window",
            f"{f.window_ms:g} ms ({f.window_samples} samples) every {f.step_ms:g} ms "
            f"({f.step_samples}), {f.window_function}, FFT of {f.fft_size}",
        ),
        (
            "MFCC",
            f"{f.coefficients} coefficients from {f.mel_bands} bands, {f.lower_hz:g} to "
            f"{f.upper_hz:g} Hz, {f.spectrum} spectrum, logarithm floored at {f.log_floor:g}",
        ),
        ("context", f"{f.context_frames} frames on each side, {f.edge_padding} beyond the edges"),
        (
            "self-test",
            f"{f.reference.audio}, {len(f.reference.frames)} frames from "
            f"{f.reference.first_frame}, within {f.reference.tolerance:g}",
        ),
    ]


def _features2(m: Any) -> TableRows:
    """The front end, rows and context of manifest 2.0."""
    f, rows, context = m.features, m.rows, m.context
    kind = "samples, as the audio" if f.kind == "none" else f"{f.kind} in the {f.place}"
    settings = ", ".join(f"{name} {value}" for name, value in getattr(f, "settings", {}).items())
    read = "steps up to its own" if context.causal else "steps around it"
    return [
        ("features", f"{kind}{f': {settings}' if settings else ''}"),
        ("rows", f"one every {rows.steps} steps ({rows.row_ms:g} ms), {rows.add:+} steps"),
        (
            "context",
            f"a row depends on {read}; {context.left_steps} steps before and {context.right_steps} "
            f"after a chunk; padding {context.padding.replace('_', ' ')}",
        ),
    ]


def _feeding(s: Streaming) -> str:
    if s.mode == "chunked":
        return f"chunks of {s.steps_per_chunk} steps ({s.chunk_ms:g} ms), state carried"
    if s.steps_per_chunk is None:
        return "the whole utterance in one call"
    return f"the whole utterance in one call, or calls of {s.steps_per_chunk} steps"


def _running(m: Manifest) -> TableRows:
    s = m.streaming
    rows: TableRows = [
        ("feeding", _feeding(s)),
        ("step", f"{s.hop_ms:g} ms, {s.lookahead_ms:g} ms look-ahead"),
    ]
    if s.latency_ms is not None:
        rows.append(("latency", f"{s.latency_ms:g} ms"))
    rows.append(("tail", s.tail.replace("_", " ")))
    rows += [
        (
            "state",
            f"{state.input} <- {state.output}, {state.kind}, starts as {state.initial}, "
            f"reset {state.reset.replace('_', ' ')}"
            + (f", valid {state.valid.replace('_', ' ')}" if state.valid else ""),
        )
        for state in m.state
    ]
    return rows


def _decoding(m: Manifest) -> TableRows:
    d = m.decoder
    labels = "UTF-8 bytes" if d.utf8 else f"{len(d.alphabet)} labels"
    rows: TableRows = [("decoder", d.type), ("alphabet", f"{labels}, blank at {d.blank_index}")]
    if d.type != "greedy":
        cut = f"cut off at {d.cutoff_prob:g} or {d.cutoff_top_n}"
        rows.append(("beam", f"{d.beam_width} wide, {cut}"))
    if d.scorer is not None:
        weights = f"alpha {d.scorer.lm_alpha:g}, beta {d.scorer.lm_beta:g}"
        rows.append(("scorer", f"{d.scorer.path}, {weights}"))
    if d.tuned is not None:
        on = f"{d.tuned.data} ({d.tuned.sha256[:12]}), {d.tuned.recordings} recordings"
        rows.append(("tuned on", f"{on}: WER {d.tuned.wer:.1%} after {d.tuned.trials} trials"))
    if d.hot_words:
        rows.append(("hot words", ", ".join(f"{w} {b:+g}" for w, b in d.hot_words.items())))
    return rows


def _proof(m: Manifest) -> TableRows:
    from asrbuild.handover.report.page import evaluation_text
    from asrbuild.handover.report.witness import witness_text

    v = m.verification
    if not v.executed:
        return [("result", "NOT EXECUTED: nothing ran this package")]
    ran = "; ".join(f"{e.executor} {e.version} on {e.platform}" for e in v.executions)
    rows: TableRows = [
        ("result", "passed" if v.passed else "FAILED"),
        ("ran by", ran),
        ("Core ML", "executed it" if v.core_ml_executed else "did not execute it"),
        ("witness", witness_text(m)),
        ("against", v.reference),
    ]
    if v.evaluation is not None:
        rows.append(("word errors", evaluation_text(v.evaluation)))
    return rows


def _metrics(metrics: list[Metric]) -> TableRows:
    """For each measure the input that came nearest to its gate."""
    from asrbuild.handover.report.measures import worst_rows

    keys = ("output", "name", "value", "input", "gate", "verdict")
    return [tuple(row[key] for key in keys) for row in worst_rows(metrics)]


def _witnesses(m: Manifest) -> TableRows:
    """The worst value of each measure in both runtimes, side by side."""
    from asrbuild.handover.report.witness import witness_rows

    keys = ("output", "name", "executor", "witness", "between", "gate")
    return [tuple(row[key] for key in keys) for row in witness_rows(m)]


def _provenance(m: Manifest) -> TableRows:
    p = m.provenance
    rows: TableRows = [("created", f"{p.created} on {p.platform}")]
    if p.git is not None:
        rows.append(("commit", p.git.commit + (", with changes" if p.git.dirty else "")))
    rows.append(("overrides", " ".join(p.overrides) or "none"))
    rows += [("source", f"{s.role}: {s.name} {s.sha256[:12]}") for s in p.sources]
    rows.append(("tools", ", ".join(f"{name} {version}" for name, version in p.tools.items())))
    rows += [("parent", parent) for parent in p.parents]
    rows.append(("recipe", _settings(p.recipe)))
    return rows


def _settings(recipe: dict[str, Any]) -> str:
    """The recipe's top-level values in one line; the manifest has the whole recipe."""
    plain = {k: v for k, v in recipe.items() if isinstance(v, (str, int, float, bool))}
    return ", ".join(f"{key}={value}" for key, value in plain.items()) or "-"
