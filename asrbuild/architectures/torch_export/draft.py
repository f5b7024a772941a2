"""Drafts a recipe for a PyTorch file."""

from __future__ import annotations

from pathlib import Path

from asrbuild.architectures.onnx.draft import written
from asrbuild.architectures.onnx.section import OnnxConfig
from asrbuild.architectures.torch_export.settle import described, ports_of, settled

_SHAPELESS = "TorchScript states no shapes: {meaning: features, axes: [1, steps, 80]}, for instance"


def draft(file: Path, cache_root: Path) -> str:
    """The text of a config file for a program of torch.export, or TorchScript.

    TorchScript has no shapes, so its inputs are blanks.

    Raises:
        AsrbuildError: the file is of another kind, or has an unsupported layer.
    """
    graph = ports_of(described(file))
    find = lambda config: settled(file, config, cache_root, keep=False)  # noqa: E731
    shapeless = any(tensor.shape is None for tensor in graph.inputs)
    remarks = [_SHAPELESS] if shapeless else []
    return written("torch_export", file, graph, OnnxConfig(), find, remarks)
