"""Writes the page of ops and how they are tested: ``python -m tests.coreml.executor.page``."""

from __future__ import annotations

from asrbuild.coreml.executor import supported_ops
from tests.coreml.executor.tested import INFERENCE, kept_ops
from tests.paths import ROOT

PAGE = ROOT / "docs" / "executor-ops.md"
#: Ops and layers that coremltools knows and the executor does not run, and why.
NOT_RUN = {
    "_const_symbolic": "stands for a size while a program is converted; it is in no package",
    "conv_quantized": "becomes a `convolution` layer with quantized weights; it is in no package",
    "custom": "its code is in the app",
}
_PACKAGES = """
## Packages

| kind | what runs |
|---|---|
| ML program | every function, by name; states are kept between calls, set and read |
| neural network | arrays of their own rank, or padded to five axes as before iOS 13 |
| classifier, regressor | as the above; a classifier gives its label and every label's probability |
| pipeline | of all of these, values passed on by name |

Inputs and outputs are arrays. Several inputs with enumerated shapes are taken where the shapes
match by index, as Core ML does. Not run: images, sound and text as inputs, trees and other models
that are not networks, which have no place in a speech model; custom layers, whose code is in the
app; weights of 8 bits that are multiplied with inputs quantized at run time, whose rounding the
format leaves open; and random values, where there is more than one to draw: Core ML's generator is
not published.

coremltools' own tests run on the executor, too: [what they find](executor-peer.md).
"""
_TITLES = {"mlprogram": "ML programs (MIL ops)", "neuralnetwork": "Neural networks (layers)"}


def render() -> str:
    """The table as a Markdown page."""
    lines = [
        "# Ops the executor runs",
        "",
        "Each is built with coremltools' own builders, saved, read back, run, and compared with",
        "TensorFlow or numpy written another way. *Tested* is what the tests in",
        "`tests/coreml/executor` ran, as they noted it: the element types of inputs and results,",
        f"the deployment targets, and `{INFERENCE}` where coremltools' own value of the op was a",
        "second reference.",
        "Written by `python -m tests.coreml.executor.page`; a test keeps it true.",
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
