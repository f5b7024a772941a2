"""Loads and describes a PyTorch file, and refuses parts that are not converted.

Only processes that import torch import it. TorchScript has names of inputs but no shapes; a program
of torch.export has both. Outputs have the names output_0, output_1, ... in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import import_extra

#: Layers that coremltools 9 does not convert, or converts only as loops over time.
_RECURRENT = ("gru", "rnn_tanh", "rnn_relu", "quantized_lstm", "quantized_gru")


def import_torch() -> Any:
    """Imports torch, for one thread.

    Raises:
        AsrbuildError: it is not installed.
    """
    use = "a PyTorch file requires the package torch"
    torch = import_extra("torch", "torch", use, "source.path")
    torch.set_num_threads(1)
    return torch


def load_program(file: str) -> Any:
    """Loads the exported program or TorchScript module of a file, for the CPU.

    Raises:
        AsrbuildError: torch is not installed, or does not load the file.
    """
    torch = import_torch()
    # The file's name does not decide its form; each loader refuses files of the other form.
    errors = []
    script: Any = torch.jit  # has no types
    for load in (torch.export.load, lambda path: script.load(path, map_location="cpu").eval()):
        try:
            return load(file)
        except Exception as error:  # torch raises errors of any class
            lines = str(error).strip().splitlines() or [type(error).__name__]
            errors.append(lines[0])
    raise AsrbuildError(
        f"torch loads the file neither as an exported program nor as TorchScript: {errors[-1]}",
        key="source.path",
        file=file,
        fix="write it with torch.export.save or torch.jit.save; a file of weights alone has no "
        "network in it",
    )


def is_exported(program: Any) -> bool:
    """Whether this is a program of torch.export, not TorchScript."""
    return hasattr(program, "graph_signature")


def describe(program: Any, file: str) -> dict[str, Any]:
    """``inputs``: [name, element type, sizes or null], ``outputs``: names.

    Raises:
        AsrbuildError: the program has an unsupported layer or axis.
    """
    if (layer := next(_recurrent(program), None)) is not None:
        raise AsrbuildError(
            f"the network has a recurrent layer ({layer}), which coremltools does not convert from "
            "a PyTorch file",
            key="source.path",
            file=file,
            fix="export it to ONNX, which has such layers as ops: torch.onnx.export(model, inputs, "
            "'model.onnx', dynamo=False), and build that with source=onnx",
        )
    if not is_exported(program):
        graph = program.graph
        names = [value.debugName() for value in graph.inputs()][1:]  # the first is the module
        inputs = [[name.partition(".")[0], "float32", None] for name in names]
        made = program.forward.schema.returns
        kinds = made[0].type.elements() if made[0].type.kind() == "TupleType" else made
        return {"inputs": inputs, "outputs": _named(len(kinds))}
    signature = program.graph_signature
    values = {n.name: n.meta["val"] for n in program.graph.nodes if n.op == "placeholder"}
    inputs = []
    for name in signature.user_inputs:
        value = values[name]
        for axis, size in enumerate(value.shape):
            if not isinstance(size, int):
                _check_open(size, f"axis {axis} of its input {name}", file)
        sizes = [size if isinstance(size, int) else None for size in value.shape]
        inputs.append([name, str(value.dtype).removeprefix("torch."), sizes])
    return {"inputs": inputs, "outputs": _named(len(signature.user_outputs))}


def _check_open(size: Any, where: str, file: str) -> None:
    """Raises for an open axis whose size is an expression of another's.

    Raises:
        AsrbuildError: it names the expression.
    """
    if not size.node.expr.is_Symbol:
        raise AsrbuildError(
            f"the program takes sizes of {size} on {where}; an open axis of a package takes every "
            "size",
            key="source.path",
            file=file,
            fix="pad inside the network and export it with a torch.export.Dim of that axis alone, "
            "or export to ONNX and use source=onnx",
        )


def _named(count: int) -> list[str]:
    return [f"output_{at}" for at in range(count)]


def _recurrent(program: Any) -> Iterator[str]:
    """Yields the recurrent layers that are not converted; TorchScript's LSTM becomes one op."""
    if is_exported(program):
        targets = (str(node.target) for node in program.graph.nodes if node.op == "call_function")
        ops = [target.split(".")[1] for target in targets if target.startswith("aten.")]
        yield from (op for op in ops if op in ("lstm", *_RECURRENT))
    else:
        for node in program.inlined_graph.nodes():
            op = node.kind().partition("::")[2]
            if op in _RECURRENT:
                yield op
