"""Speed-ups change no byte: packages that are converted with and without them are equal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from asrbuild.coreml.speedups import SWITCH, enabled

#: Converts both formats in a separate process, with lower thresholds of the speed-ups.
CONVERT = """
import sys
from pathlib import Path
from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.coreml.request import ConversionRequest, FixedSteps
from asrbuild.coreml.speedups import placeholders

folder, weights = Path(sys.argv[2]), random_weights(32)
placeholders.MIN_ELEMENTS = 100
if sys.argv[1] == "mil":
    from asrbuild.architectures.deepspeech.from_weights import convert_weights as convert

    source = weights
else:
    from asrbuild.architectures.deepspeech.export import write_frozen_graph
    from asrbuild.architectures.deepspeech.flags import ExportFlags
    from asrbuild.architectures.deepspeech.from_graph import convert_here as convert

    source = folder / "output_graph.pb"
    labels = [*" abcdefghijklmnopqrstuvwxyz'"]
    write_frozen_graph(weights, ExportFlags(n_steps=4, n_hidden=32), labels, source)
for form, precision, lstm, name in (
    ("mlprogram", "fp16", "loop", "model.mlpackage"),
    ("mlprogram", "fp16", "native", "native.mlpackage"),
    ("neuralnetwork", "fp32", "loop", "model.mlmodel"),
):
    if lstm == "native" and sys.argv[1] != "mil":
        continue
    outputs = ("logits", "new_state_c", "new_state_h")
    request = ConversionRequest(
        form, precision, lstm=lstm, steps=FixedSteps(4), outputs=outputs
    )
    convert(source, request, folder / name)
"""


def converted(folder: Path, frontend: str) -> dict[str, bytes]:
    """The files of both packages, by their path."""
    folder.mkdir()
    command = [sys.executable, "-c", CONVERT, frontend, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("frontend", ["mil", "tensorflow"])
def test_packages_are_the_same_bytes_without_speedups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frontend: str
) -> None:
    fast = converted(tmp_path / "fast", frontend)
    monkeypatch.setenv(SWITCH, "1")
    slow = converted(tmp_path / "slow", frontend)
    assert {"model.mlmodel", "model.mlpackage/Manifest.json"} <= set(fast)
    assert slow == fast


@pytest.mark.parametrize(
    ("value", "off"),
    [("", []), ("0", []), ("1", ["session", "products"]), ("products,other", ["products"])],
)
def test_the_switch_turns_chosen_speedups_off(
    monkeypatch: pytest.MonkeyPatch, value: str, off: list[str]
) -> None:
    monkeypatch.setenv(SWITCH, value)
    assert [name for name in ("session", "products") if not enabled(name)] == off
