"""The report's part on the second runtime of a proof, the witness."""

from __future__ import annotations

from collections.abc import Iterable

from asrbuild.artifact.manifest import Manifest, Metric, Witness
from asrbuild.coreml.choices import ASSET
from asrbuild.coreml.compression import compression
from asrbuild.handover.report.measures import MEASURES, SIGNS
from asrbuild.proof.gates import worst

_ASSET = (
    "Apple's Core AI runtime ran this asset; no device has. asrbuild's executor ran the Core ML "
    "package that it was made from."
)
RUNTIMES = {"coreai": "Apple's Core AI runtime"}


def witness_text(manifest: Manifest) -> str:
    """Sentences on the witness of the proof, and on what it leaves unproven."""
    witness = manifest.verification.witness
    if manifest.model.format == ASSET:
        return " ".join((_ASSET, *_arithmetic(manifest)))
    if witness is None:
        why = (
            ""
            if manifest.model.format == "mlprogram"
            else f": Core AI has no lowering of a {manifest.model.format} package"
        )
        return f"No second runtime ran this package{why}."
    runtime = RUNTIMES[witness.runtime]
    if witness.missing_ops:
        return (
            f"No second runtime ran this package: {runtime} cannot be given its "
            f"{', '.join(witness.missing_ops)}."
        )
    sentences = (_gates(witness), _inputs(manifest, witness))
    return " ".join((*sentences, *_arithmetic(manifest), *_compressed(manifest)))


def _gates(witness: Witness) -> str:
    failed = sum(not metric.passed for metric in witness.metrics)
    count = len(witness.metrics)
    gates = f"failed {failed} of {count} gates" if failed else f"passed {count} gates"
    return (
        f"{RUNTIMES[witness.runtime]} (coreai-core {witness.version}, {witness.platform}) ran the "
        f"same program and {gates}, against asrbuild's executor and against the original."
    )


def _inputs(manifest: Manifest, witness: Witness) -> str:
    """Which runs of the proof were witnessed."""
    every = dict.fromkeys(metric.input for metric in manifest.verification.metrics)
    ran = {metric.input for metric in witness.metrics}
    missing = [label for label in every if label not in ran]
    if not missing:
        return f"It ran all {len(every)} runs of the proof."
    left_out = ", ".join(missing)
    return f"It ran {len(every) - len(missing)} of the proof's {len(every)} runs, not {left_out}."


def _arithmetic(manifest: Manifest) -> Iterable[str]:
    if manifest.model.compute_precision == "fp16":
        yield (
            "It took the package's fp16 constants and computed in fp32: the graph and the "
            "constants are witnessed; how a device rounds fp16 arithmetic is not."
        )
    else:
        yield "It computed in fp32, as the package does; how a device computes is not witnessed."


def _compressed(manifest: Manifest) -> Iterable[str]:
    if compression(manifest.provenance.recipe.get("coreml", {})):
        yield "It gave the same bits when the package's weights were decompressed before."


def witness_rows(manifest: Manifest) -> list[dict[str, str]]:
    """For each measure the worst value of both runtimes against the original, side by side.

    ``executor`` and ``witness``: against the original; ``between``: of one against the other.
    """
    witness = manifest.verification.witness
    if witness is None or not witness.metrics:
        return []
    rows: list[dict[str, str]] = []
    measured = [(m.output, m.name) for m in witness.metrics if m.compared_with == "original"]
    for key in dict.fromkeys(measured):
        against = {
            other: _worst(m for m in witness.metrics if m.compared_with == other and _of(m, key))
            for other in ("original", "executor")
        }
        own = _worst(m for m in manifest.verification.metrics if _of(m, key))
        rows.append(
            {
                "output": key[0],
                "name": MEASURES[key[1]],
                "executor": own[0],
                "witness": against["original"][0],
                "between": against["executor"][0],
                "gate": against["executor"][1],
            }
        )
    return rows


def _of(metric: Metric, key: tuple[str, str]) -> bool:
    return (metric.output, metric.name) == key


def _worst(metrics: Iterable[Metric]) -> tuple[str, str]:
    """The value nearest to its gate, marked if it failed, and the gate."""
    found = worst(list(metrics))
    if found is None:
        return "", ""
    failed = "" if found.passed else " FAILED"
    return f"{found.value:.4g}{failed}", f"{SIGNS[found.comparison]} {found.threshold:.4g}"
