"""The inner values of an ONNX model in one call, in the order of its nodes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.architecture import Landmark, Original
from asrbuild.architectures.onnx.reading import read_graph
from asrbuild.base.array import Array

if TYPE_CHECKING:
    from asrbuild.architectures.original import OriginalRun


def values_of_call(
    original: Original,
    config: Any,
    call: Mapping[str, Array],
    start: Callable[..., OriginalRun],
) -> list[Landmark]:
    """A landmark for every float tensor, with its name, and its op and node.

    Args:
        call: name -> value of every input of the package.
        start: the architecture's function that starts onnxruntime.
    """
    from asrbuild.architectures.original import read_results, save_cases

    with tempfile.TemporaryDirectory(prefix="asrbuild-values-") as folder:
        cases, out = Path(folder, "cases.npz"), Path(folder, "out.npz")
        save_cases(cases, {f"call/00000/{name}": value for name, value in call.items()})
        results = read_results(start(original, config, cases, out, "--every", "yes").wait())
    values = results["call/00000"].outputs
    return [
        Landmark(tensor, f"{node.op} {node.name}", values[tensor])
        for node in read_graph(original.file).nodes
        for tensor in node.outputs
        if tensor in values
    ]
