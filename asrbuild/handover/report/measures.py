"""The gates of a proof as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable

from asrbuild.artifact.manifest import Metric
from asrbuild.proof.gates import worst

MEASURES = {
    "argmax_agreement": "argmax agreement",
    "kl_divergence": "KL divergence (nats)",
    "max_abs_error": "largest error",
    "psnr_db": "PSNR (dB)",
}
SIGNS = {"<=": "\N{LESS-THAN OR EQUAL TO}", ">=": "\N{GREATER-THAN OR EQUAL TO}"}


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
                "name": MEASURES[name],
                "value": f"{nearest.value:.4g}",
                "input": nearest.input,
                "gate": f"{SIGNS[nearest.comparison]} {nearest.threshold:.4g}",
                "verdict": f"{failed} FAILED" if failed else f"{len(group)} passed",
            }
        )
    return rows
