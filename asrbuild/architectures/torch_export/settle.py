"""Reads a PyTorch file, and completes the keys of ``source.config``.

Roles, rows, context and labels are as for an ONNX model: see
:mod:`asrbuild.architectures.onnx.settle`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.architecture import Found
from asrbuild.architectures.onnx.section import SECTION, OnnxConfig
from asrbuild.architectures.onnx.settle import (
    Settled,
    checked_section,
    facts_found,
    measured_section,
    model_file,
    with_labels,
)
from asrbuild.architectures.torch_export import WORKER
from asrbuild.base.digest import file_digest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import TORCH

if TYPE_CHECKING:
    from asrbuild.architectures.onnx.graph import Graph

_CODE = ("architectures/torch_export/settle.py", "architectures/torch_export/program.py")


def settle(recipe: Any, cache_root: Path, keep: bool) -> Found:
    """Describes the program, assigns a role to every tensor, and measures omitted values.

    Raises:
        AsrbuildError: the file is missing or not a program, or a role is unknown.
    """
    config = checked_section(recipe)
    for key in ("pin", "cut"):
        if getattr(config, key):
            raise AsrbuildError(
                f"{SECTION}.{key} is set, and a PyTorch file is converted whole",
                key=f"{SECTION}.{key}",
                fix="export the part that is needed, or export to ONNX and use source=onnx",
            )
    file = program_file(recipe)
    found = settled(file, config, cache_root, keep)
    return with_labels(config, found, file, {"graph": file}, {})


def program_file(recipe: Any) -> Path:
    """The file of the program.

    Raises:
        AsrbuildError: the file is missing, or is not a PyTorch file.
    """
    return model_file(recipe, TORCH, "model.pt2")


def settled(file: Path, config: OnnxConfig, cache_root: Path, keep: bool) -> Settled:
    """The facts about a program, from the cache if they were found before."""
    digests = {"graph": file_digest(file, cache_root)}
    return facts_found(partial(_find, file, config), _CODE, digests, config, cache_root, keep)


def _find(file: Path, config: OnnxConfig) -> Settled:
    """Describes the program and measures it."""
    from asrbuild.architectures.measure import measure

    graph = ports_of(described(file))
    stated = {name: one for name, one in config.inputs.items() if "axes" in one}
    for tensor in graph.inputs:
        if tensor.shape is None and tensor.name not in stated:
            raise AsrbuildError(
                f"TorchScript states no shape of its input {tensor.name}",
                key=f"{SECTION}.inputs.{tensor.name}",
                fix=f"set +{SECTION}.inputs.{tensor.name}={{meaning: features, axes: "
                "[1, steps, 80]}, as the model takes it",
            )
    ask = ["--model", str(file)]
    return measured_section(graph, config, lambda q: measure(WORKER, "PyTorch", ask, q))


def ports_of(description: Mapping[str, Any]) -> Graph:
    """The inputs and outputs of a program."""
    from asrbuild.architectures.onnx.graph import Graph, Tensor

    inputs = tuple(
        Tensor(name, dtype, None if sizes is None else tuple(sizes))
        for name, dtype, sizes in description["inputs"]
    )
    ends = tuple(Tensor(name, "float32", None) for name in description["outputs"])
    return Graph((), {}, inputs, ends)


def described(file: Path) -> dict[str, Any]:
    """The worker's description of the program."""
    import numpy as np

    from asrbuild.architectures import original

    with tempfile.TemporaryDirectory(prefix="asrbuild-describe-") as folder:
        cases, out = Path(folder, "cases.npz"), Path(folder, "out.npz")
        original.save_cases(cases, {})
        ask = ("--cases", str(cases), "--model", str(file), "--describe", "yes")
        with np.load(original.start(WORKER, "PyTorch", out, *ask).wait()) as stored:
            answer: dict[str, Any] = json.loads(str(stored["answer"]))
    return answer
