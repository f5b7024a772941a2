"""Runs the original in PyTorch, in a process of its own: calls, or measurements.

    python -m asrbuild.architectures.torch_export.worker --model M.pt2
        --cases in.npz --out out.npz [--states JSON] [--names JSON] [--question JSON]

With ``--describe yes`` the file is described instead; see :mod:`.program`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from asrbuild.architectures.measure import answer_of
from asrbuild.architectures.original import serve
from asrbuild.architectures.run_calls import run_calls
from asrbuild.architectures.torch_export.program import (
    describe,
    import_torch,
    is_exported,
    load_program,
)
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError


class TorchCalls:
    """The program in PyTorch; see :class:`asrbuild.architectures.run_calls.Session`."""

    def __init__(self, options: argparse.Namespace) -> None:
        program = load_program(options.model)
        self.file = options.model
        described = describe(program, self.file)
        self.inputs = described["inputs"]
        self.outputs = described["outputs"]
        self.module = program
        if is_exported(program):
            # Without the declared bounds of the export: measurements have longer inputs.
            self.module = program.module(check_guards=False)
            self.module._forward_pre_hooks.clear()

    def run(self, feeds: Mapping[str, Array], call: str) -> dict[str, Array]:
        """The outputs of one call by name."""
        import torch

        given = [torch.from_numpy(feeds[name].astype(dtype)) for name, dtype, _ in self.inputs]
        try:
            with torch.no_grad():
                made: Any = self.module(*given)
        except Exception as error:  # torch raises what it likes
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise AsrbuildError(
                f"torch cannot run {call}: {lines[0]}",
                key="source.path",
                file=self.file,
                fix="export the model with an open axis of time, or set n_steps to its size",
            ) from error
        values = made if isinstance(made, (tuple, list)) else [made]
        arrays = [value.numpy() for value in values]
        return dict(zip(self.outputs, arrays, strict=True))


def run(options: argparse.Namespace, cases: Mapping[str, Array]) -> dict[str, Array]:
    """The results of all calls, or the answer to a question."""
    if options.describe:
        described = describe(load_program(options.model), options.model)
        return {"answer": np.array(json.dumps(described))}
    session = TorchCalls(options)
    if options.question:
        return answer_of(session, options.question)
    return run_calls(session, options.states, options.names, cases)


if __name__ == "__main__":
    sys.exit(serve(run, import_torch, "--model", "--states", "--names", "--question", "--describe"))
