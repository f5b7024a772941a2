"""``report.md``: what an artifact is, how to run it, its words, and how near it is to TensorFlow.

The same manifest and package give the same text.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from asrbuild.manifest import Axis, Manifest, Metric, Streaming, Transcript
from asrbuild.parity import PROBABILITIES, worst
from asrbuild.quantities import size_text
from asrbuild.speech.rates import count
from asrbuild.words import align

FILE_NAME = "report.md"
_MEASURES = {
    "argmax_agreement": "argmax agreement",
    "kl_divergence": "KL divergence (nats)",
    "max_abs_error": "largest error",
    "psnr_db": "PSNR (dB)",
}


def write_report(artifact: Path, manifest: Manifest) -> None:
    """Writes ``report.md`` into the artifact's directory, where the package is."""
    text = report(manifest, operations_by_kind(artifact / manifest.model.package))
    (artifact / FILE_NAME).write_text(text, encoding="utf-8", newline="\n")


def report(manifest: Manifest, operations: Counter[str]) -> str:
    """The report as Markdown.

    Args:
        operations: how many operations of each kind the package has.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML
    )
    environment.filters |= {"shape": shape_text, "size": size_text, "feeding": feeding_text}
    ran = transcript_rows(manifest.verification.transcripts)
    kinds = sorted(operations.items(), key=lambda item: (-item[1], item[0]))
    text = environment.get_template("report.md.j2").render(
        m=manifest,
        verdict=verdict(manifest),
        systems=", ".join(f"{name} {v}" for name, v in manifest.model.minimum_os.items()),
        transcripts=ran,
        marked=any("**" in row["text"] or "~~" in row["text"] for row in ran),
        worst=worst_rows(manifest.verification.metrics),
        inputs=input_rows(manifest),
        feeding=feeding_text(manifest.streaming),
        operation_count=operations.total(),
        operations=", ".join(f"{count} {kind}" for kind, count in kinds),
    )
    return text.rstrip() + "\n"


def operations_by_kind(package: Path) -> Counter[str]:
    """Operations or layers of each kind, those inside loops and branches included, no constants."""
    from asrbuild.executor.network import inner_networks
    from asrbuild.executor.package import open_package

    spec = open_package(package).spec
    found: Counter[str] = Counter()

    def add_block(block: Any) -> None:
        for operation in block.operations:
            if operation.type != "const":
                found[operation.type] += 1
            for inner in operation.blocks:
                add_block(inner)

    def add_layers(network: Any) -> None:
        for layer in network.layers:
            found[layer.WhichOneof("layer")] += 1
            for inner in inner_networks(layer):
                add_layers(inner)

    if spec.WhichOneof("Type") == "neuralNetwork":
        add_layers(spec.neuralNetwork)
    for function in spec.mlProgram.functions.values():
        add_block(function.block_specializations[function.opset])
    return found


def verdict(manifest: Manifest) -> str:
    """The proof in a sentence or two."""
    proof = manifest.verification
    if not proof.executed:
        return "**Not executed**: nothing has run this package."
    failed = sum(not metric.passed for metric in proof.metrics)
    agree = all(transcript.match for transcript in proof.transcripts)
    gates = f"{len(proof.metrics)} gates on {len(proof.inputs)} inputs"
    said = "says the same words as the TensorFlow graph" if agree else "says other words"
    if proof.passed:
        return f"**Proven**: the package was executed, passed {gates}, and {said}."
    return f"**Not proven**: {failed} of {gates} failed, and the package {said}."


def transcript_rows(transcripts: Iterable[Transcript]) -> list[dict[str, Any]]:
    """Recordings and their words, the wrong ones marked where it is known what was said.

    Ways to run a package that gave the same words share a row.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for t in transcripts:
        key = (t.input.split("@")[0], t.package, t.reference)
        if key in rows:
            rows[key]["inputs"] += f", {t.input}"
            continue
        text, wer = t.package, None
        if t.expected is not None:
            text = marked_words(t.expected, t.package)
            wer = count(t.expected, t.package).words.rate
        rows[key] = {
            "inputs": t.input,
            "text": text or "(nothing)",
            "wer": wer,
            "match": t.match,
            "reference": t.reference or "(nothing)",
        }
    return list(rows.values())


def marked_words(expected: str, found: str) -> str:
    """The words found, in Markdown: ``~~expected~~ **found**`` where they are wrong."""
    parts: list[str] = []
    for missed, heard, right in word_runs(expected, found):
        if right:
            parts.append(heard)
            continue
        parts += [f"~~{missed}~~"] if missed else []
        parts += [f"**{heard}**"] if heard else []
    return " ".join(parts)


def word_runs(expected: str, found: str) -> Iterator[tuple[str, str, bool]]:
    """Runs of right and of wrong words: expected, found, and whether they are equal."""
    for right, run in itertools.groupby(align(expected, found), lambda w: w.kind == "equal"):
        words = list(run)
        missed = " ".join(word.expected for word in words if word.expected)
        yield missed, " ".join(word.found for word in words if word.found), right


def worst_rows(metrics: Iterable[Metric]) -> list[dict[str, str]]:
    """For each gate the input that came nearest to failing it."""
    groups: dict[tuple[str, str], list[Metric]] = {}
    for metric in metrics:
        groups.setdefault((metric.output, metric.name), []).append(metric)
    rows = []
    for (output, name), group in groups.items():
        nearest = worst(group)
        assert nearest is not None
        failed = sum(not metric.passed for metric in group)
        rows.append(
            {
                "output": output,
                "name": _MEASURES[name],
                "value": f"{nearest.value:.4g}",
                "input": nearest.input,
                "gate": f"{nearest.comparison} {nearest.threshold:.4g}",
                "verdict": f"{failed} FAILED" if failed else f"{len(group)} passed",
            }
        )
    return rows


def input_rows(manifest: Manifest) -> list[dict[str, str]]:
    """For each input, every way it was run: the measures of its probabilities."""
    steps = {entry.name: entry.steps for entry in manifest.verification.inputs}
    rows: dict[str, dict[str, str]] = {}
    for metric in manifest.verification.metrics:
        if metric.output == PROBABILITIES:
            name = metric.input.split("@")[0]
            row = rows.setdefault(metric.input, {"name": metric.input, "steps": str(steps[name])})
            row[metric.name] = f"{metric.value:.4g}" + ("" if metric.passed else " **FAILED**")
    return list(rows.values())


def feeding_text(streaming: Streaming) -> str:
    """How an utterance goes into the package, or into one function of it."""
    if streaming.mode == "chunked":
        return (
            f"chunks of {streaming.steps_per_chunk} steps, the state carried from one to the next"
        )
    if streaming.steps_per_chunk is None:
        return "all steps of an utterance in one call"
    return f"all steps in one call, or calls of {streaming.steps_per_chunk} if there are more"


def shape_text(shape: Iterable[Axis]) -> str:
    """Axes by name and size: ``batch 1, steps 1..3000``."""
    return ", ".join(f"{axis.name} {_extent(axis)}" for axis in shape)


def _extent(axis: Axis) -> str:
    if axis.enumerated is not None:
        return " or ".join(map(str, axis.enumerated))
    if axis.min == axis.max:
        return str(axis.min)
    return f"{axis.min}.." + ("" if axis.max is None else str(axis.max))
