"""The table of the ops and layers that the executor runs."""

from __future__ import annotations

from dataclasses import dataclass

from asrbuild.coreml.executor.registry import MIL_OPS, NN_LAYERS


@dataclass(frozen=True)
class SupportedOp:
    """One row of the table: format, name of the op, family and description."""

    format: str
    name: str
    family: str
    summary: str


def supported_ops() -> tuple[SupportedOp, ...]:
    """Every op and layer of the executor, ML programs first, by family and name."""
    import asrbuild.coreml.executor.mil
    import asrbuild.coreml.executor.nn  # noqa: F401 - both register their ops

    rows = [
        _row("mlprogram", op.name, op.run.__module__, op.run.__doc__) for op in MIL_OPS.values()
    ]
    rows += [
        _row("neuralnetwork", layer.name, layer.compile.__module__, layer.compile.__doc__)
        for layer in NN_LAYERS.values()
    ]
    return tuple(sorted(rows, key=lambda row: (row.format, row.family, row.name)))


def _row(package_format: str, name: str, module: str, doc: str | None) -> SupportedOp:
    summary = " ".join((doc or "").split("\n\n")[0].split())
    return SupportedOp(package_format, name, module.rpartition(".")[2], summary)
