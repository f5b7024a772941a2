"""The record of ops that the conformance tests ran.

Every program and network that a test builds notes its ops here, with their types, the deployment
targets and whether coremltools' own ``value_inference`` was a second reference. The notes of each
module of tests are in ``tested.json``, from which the table in docs is written; a module that runs
less than its notes fails (``conftest.py``). To write it again:

    RECORD_TESTED_OPS=1 pytest -n0 tests/coreml/executor && python -m tests.coreml.executor.page
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEPT = Path(__file__).with_name("tested.json")
INFERENCE = "value_inference"
#: Op or layer -> its types, targets and ``INFERENCE``.
Notes = dict[str, set[str]]
_SHORT = {
    "float16": "fp16",
    "float32": "fp32",
    "int32": "i32",
    "int16": "i16",
    "uint16": "u16",
    "int8": "i8",
    "uint8": "u8",
}

_notes: dict[str, set[str]] = defaultdict(set)


def note_function(function: Any, target: str) -> None:
    """Notes the ops of a MIL function, those of inner blocks too."""
    for operation in function.operations:
        _notes[operation.op_type] |= {target, *_types(operation)}
        for block in operation.blocks:
            note_function(block, target)


def note_inference(op: str) -> None:
    """Notes that coremltools' own value of the op was compared with."""
    _notes[op].add(INFERENCE)


def note_network(network: Any) -> None:
    """Notes the layers of a neural network, those of loops and branches too."""
    for layer in network.layers:
        kind = layer.WhichOneof("layer")
        _notes[kind].add("fp32")
        if kind == "loop":
            note_network(layer.loop.conditionNetwork)
            note_network(layer.loop.bodyNetwork)
        if kind == "branch":
            note_network(layer.branch.ifBranch)
            note_network(layer.branch.elseBranch)


def take_notes() -> Notes:
    """Returns the notes since the last call, and clears them."""
    taken = dict(_notes)
    _notes.clear()
    return taken


def read_kept() -> dict[str, Notes]:
    """Test module -> op -> its notes."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    return {module: {op: set(notes) for op, notes in ops.items()} for module, ops in kept.items()}


def keep(module: str, notes: Mapping[str, set[str]]) -> None:
    """Replaces the notes of a module in the file."""
    every = read_kept() | {module: dict(notes)}
    plain = {
        name: {op: sorted(found) for op, found in sorted(ops.items())}
        for name, ops in sorted(every.items())
        if ops
    }
    KEPT.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8", newline="\n")


def kept_ops() -> Notes:
    """Op or layer -> the notes of all modules."""
    found: Notes = {}
    for ops in read_kept().values():
        for op, notes in ops.items():
            found.setdefault(op, set()).update(notes)
    return found


def _types(operation: Any) -> set[str]:
    """Element types of an op's tensors, results included."""
    from coremltools.converters.mil.mil import types

    found = set()
    for variable in (*operation.get_flattened_inputs(), *operation.outputs):
        kind = variable.sym_type
        primitive = kind.get_primitive() if types.is_tensor(kind) else kind
        if types.is_primitive(primitive) and primitive is not types.str:
            name = types.builtin_to_string(primitive)
            found.add(_SHORT.get(name, name))
    return found
