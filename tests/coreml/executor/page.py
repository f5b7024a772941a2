"""Writes the page of ops and how they are tested: ``python -m tests.coreml.executor.page``."""

from __future__ import annotations

from asrbuild.coreml.executor import supported_ops
from tests.coreml.executor.tested import INFERENCE, kept_ops
from tests.paths import ROOT

PAGE = ROOT / "docs" / "executor-ops.md"
#: Ops and layers of coremltools that the executor does not run, with the reason.
NOT_RUN = {
    "_const_symbolic": "a size during conversion; no package has it",
    "conv_quantized": "written as a `convolution` layer with quantized weights; no package has it",
    "custom": "its code is in the app",
}
_PACKAGES = """
## Packages

| kind | what runs |
|---|---|
| ML program | every function, by name; states are kept between calls, set and read |
| neural network | arrays of any rank, or padded to five axes as before iOS 13 |
| classifier, regressor | as above; a classifier gives its label and all probabilities |
| pipeline | of all of these; values are passed on by name |

Inputs and outputs are arrays. Several inputs with enumerated shapes must match by index, as in Core
ML. Not run: images, sound and text as inputs; trees and other models that are not networks, which
speech models do not have; custom layers, whose code is in the app; 8-bit weights multiplied with
inputs quantized at run time, whose rounding the format does not define; and more than one random
value, because Core ML's generator is not published.

coremltools' own tests run on the executor as well: [their results](executor-peer.md).
"""
_TITLES = {"mlprogram": "ML programs (MIL ops)", "neuralnetwork": "Neural networks (layers)"}


def render() -> str:
    """The table as a Markdown page."""
    lines = [
        "# Ops the executor runs",
        "",
        "Tests build each op with coremltools, save and read it, run it, and compare the result",
        "with TensorFlow or with plain Python. *Tested* lists what `tests/coreml/executor`",
        "ran: the element types of inputs and results, the deployment targets, and",
        f"`{INFERENCE}` where coremltools' own value of the op was a second reference.",
        "`python -m tests.coreml.executor.page` writes this page; a test compares it.",
    ]
    lines += _PACKAGES.rstrip().splitlines()
    tested = kept_ops()
    for package_format, title in _TITLES.items():
        chosen = [op for op in supported_ops() if op.format == package_format]
        lines += ["", f"## {title}: {len(chosen)}", "", "| op | family | what it does | tested |"]
        lines += ["|---|---|---|---|"]
        for op in chosen:
            does = op.summary.replace("|", "\\|")
            how = in_words(tested.get(op.name, set()))
            lines.append(f"| `{op.name}` | {op.family} | {does} | {how} |")
    lines += ["", "## Not run", "", "| op or layer | why |", "|---|---|"]
    lines += [f"| `{name}` | {reason} |" for name, reason in NOT_RUN.items()]
    return "\n".join(lines) + "\n"


def in_words(notes: set[str]) -> str:
    """Types, then targets, then the second reference."""
    targets = sorted(note for note in notes if note.startswith("iOS"))
    types = sorted(notes - {*targets, INFERENCE})
    parts = [" ".join(types), " ".join(targets), f"`{INFERENCE}`" if INFERENCE in notes else ""]
    return "; ".join(part for part in parts if part)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8", newline="\n")
