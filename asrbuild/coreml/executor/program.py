"""Compiles an ML program's function into a list of steps over numbered slots, and runs it.

Names are resolved once: a value is in a slot, a step reads and writes slots. A slot is cleared at
its last use, so only live values are in memory, and an op that updates a tensor (``scatter`` into
the list that a loop carries) can write in place if it has the only reference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor.literals import DTYPES, Blobs, read_value
from asrbuild.coreml.executor.products import shared
from asrbuild.coreml.executor.recording import Site, watched
from asrbuild.coreml.executor.registry import MIL_OPS, NOT_HERE, REQUIRED, MilOp
from asrbuild.coreml.halves import converted

Env = list[Any]
Step = Callable[[Env], None]
_F16 = np.dtype(np.float16)
_F32 = np.dtype(np.float32)
_WIDENED_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class CompiledBlock:
    """The steps of a block, the slots of its results, and the places of steps for errors."""

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    places: tuple[str, ...]

    def run(self, env: Env) -> None:
        """Runs the steps on ``env``, the values by slot."""
        step_number = 0
        try:
            for step_number, step in enumerate(self.steps):  # noqa: B007 - used in the handler
                step(env)
        except AsrbuildError:
            raise
        except Exception as error:
            raise AsrbuildError(
                f"{self.places[step_number]} failed: {error}",
                fix="the inputs' values may be out of range for this op; if not, report the model",
            ) from error


@dataclass(frozen=True)
class CompiledFunction:
    """A function ready to run: a template of slots with the constants, and the steps."""

    inputs: dict[str, int]
    outputs: dict[str, int]
    block: CompiledBlock
    template: tuple[Any, ...]

    def run(self, values: dict[str, Any]) -> dict[str, Any]:
        """Runs the function on input name -> array or state cell; returns output name -> array."""
        env = list(self.template)
        for name, slot in self.inputs.items():
            env[slot] = values[name]
        with np.errstate(all="ignore"):
            self.block.run(env)
        return {name: env[slot] for name, slot in self.outputs.items()}


@dataclass
class Compiler:
    """Compiles one function of a program.

    ``constants`` maps a constant's slot to its value; ``dtypes`` a slot to its declared type.
    """

    blobs: Blobs
    function_name: str
    opset: str
    template: list[Any] = field(default_factory=list)
    constants: dict[int, Any] = field(default_factory=dict)
    dtypes: dict[int, np.dtype[Any]] = field(default_factory=dict)
    _widened: dict[int, int] = field(default_factory=dict)
    _scopes: list[dict[str, int]] = field(default_factory=lambda: [{}])
    _path: list[str] = field(default_factory=list)

    # Slots and names.

    def new_slot(self, value: Any = None) -> int:
        """A new slot, with an initial value."""
        self.template.append(value)
        return len(self.template) - 1

    def declare(self, named_type: Any) -> int:
        """A new slot for a ``NamedValueType``, visible under its name from here on."""
        slot = self.new_slot()
        self._scopes[-1][named_type.name] = slot
        self.declare_as(slot, named_type.type)
        return slot

    def declare_as(self, slot: int, value_type: Any) -> None:
        """Records the element type of a slot."""
        dtype = tensor_dtype(value_type)
        if dtype is not None:
            self.dtypes[slot] = dtype

    def add_constant(self, value: Any) -> int:
        """A new slot with a constant."""
        slot = self.new_slot(value)
        self.constants[slot] = value
        if isinstance(value, np.ndarray | np.generic):
            self.dtypes[slot] = value.dtype
        return slot

    def define_constant(self, named_type: Any, value: Any) -> None:
        """Makes a constant visible under the name of a ``NamedValueType``."""
        self._scopes[-1][named_type.name] = self.add_constant(value)

    def show(self, slots: Mapping[str, int]) -> None:
        """Makes slots visible under these names."""
        self._scopes[-1].update(slots)

    def lookup(self, name: str) -> int | None:
        """The slot of a name in the current scope; None if there is none."""
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return None

    def find(self, name: str) -> int:
        """The slot of a name in the current scope; raises if there is none."""
        slot = self.lookup(name)
        if slot is not None:
            return slot
        raise AsrbuildError(
            f"{self.place()} reads {name}, which nothing before it produces",
            fix="the program is damaged: build the package again",
        )

    def widened(self, slot: int) -> int:
        """The slot of a float16 constant's float32 copy, made once."""
        if slot not in self._widened:
            half = self.constants[slot]
            products = shared()
            wide = products.widened(half, self._widen) if products else self._widen(half)
            self._widened[slot] = self.add_constant(wide)
        return self._widened[slot]

    def _widen(self, half: Array) -> Array:
        """A float32 copy, made in pieces so that never all of the mapped source is in memory."""
        wide = np.empty(half.shape, _F32)
        source, target = half.reshape(-1), wide.reshape(-1)
        for start in range(0, source.size, _WIDENED_AT_ONCE):
            piece = slice(start, start + _WIDENED_AT_ONCE)
            target[piece] = converted(source[piece], _F32)
            self.blobs.release()
        return wide

    # Operations.

    def path(self, operation: Any = None) -> str:
        """Enclosing blocks and the op's own name: ``while_loop body > gates``."""
        own = [] if operation is None else [operation_name(operation)]
        return " > ".join([*self._path, *own])

    def place(self, operation: Any = None) -> str:
        """The function and path of an operation, for messages."""
        return f"function {self.function_name}, op {self.path(operation)}"

    def arguments(self, operation: Any) -> dict[str, int | list[int]]:
        """Input name -> slot, or list of slots for an input that takes several values."""
        found: dict[str, int | list[int]] = {}
        for name, argument in operation.inputs.items():
            slots = [
                self.find(binding.name)
                if binding.WhichOneof("binding") == "name"
                else self.add_constant(read_value(binding.value, self.blobs))
                for binding in argument.arguments
            ]
            found[name] = slots[0] if len(slots) == 1 else slots
        return found

    def block(
        self,
        block: Any,
        label: str | None = None,
        inputs: dict[str, int] | None = None,
        *,
        owns_inputs: bool = True,
    ) -> CompiledBlock:
        """Compiles a block in a scope of its own, ``inputs`` (name -> slot) visible in it.

        A block that owns the slots of its inputs clears them at their last use.
        """
        self._scopes.append(dict(inputs or {}))
        if label is not None:
            self._path.append(label)
        drafts = [draft for op in block.operations if (draft := self._draft(op)) is not None]
        outputs = tuple(self.find(name) for name in block.outputs)
        if label is not None:
            self._path.pop()
        self._scopes.pop()
        owned = set((inputs or {}).values()) if owns_inputs else set()
        return _finish(drafts, outputs, owned)

    def _draft(self, operation: Any) -> Draft | None:
        op = MIL_OPS.get(operation.type)
        if op is None:
            raise AsrbuildError(
                f"the executor has no op {operation.type} ({self.place(operation)})",
                fix=NOT_HERE,
            )
        try:
            draft = op.run(self, operation) if op.structural else self._draft_call(op, operation)
        except AsrbuildError:
            raise
        except Exception as error:
            place = f"{self.place(operation)} ({operation.type})"
            raise inconsistent(place, error) from error
        if draft is not None:
            draft.place = f"{self.place(operation)} ({operation.type})"
        return draft

    def _draft_call(self, op: MilOp, operation: Any) -> Draft:
        given = self.arguments(operation)
        known = {name for name, _ in op.parameters}
        unknown = sorted(set(given) - known)
        if unknown:
            raise AsrbuildError(
                f"{self.place(operation)} ({op.name}) has inputs the executor does not know: "
                f"{', '.join(unknown)}",
                fix=NOT_HERE,
            )
        slots: list[int | list[int]] = []
        for name, default in op.parameters:
            if name in given:
                slots.append(given[name])
            elif default is REQUIRED:
                raise AsrbuildError(
                    f"{self.place(operation)} ({op.name}) lacks its input {name}",
                    fix="the program is damaged: build the package again",
                )
            else:
                slots.append(self.add_constant(default))
        outputs = [self.declare(output) for output in operation.outputs]
        declared = slots
        run, slots = self._with_precision(op, slots, outputs)
        run = watched(run, lambda: self._site(op, operation, declared))
        owned = None
        if op.owns is not None:
            owned = [name for name, _ in op.parameters].index(op.owns)
        return Draft(run, slots, outputs, owned=owned)

    def _site(self, op: MilOp, operation: Any, slots: list[int | list[int]]) -> Site:
        listed = [slot if isinstance(slot, list) else [slot] for slot in slots]
        return Site(
            self.path(operation),
            op.name,
            tuple(name for name, _ in op.parameters),
            tuple(
                [self.dtypes.get(s) for s in slot]
                if isinstance(slot, list)
                else self.dtypes.get(slot)
                for slot in slots
            ),
            tuple(all(s in self.constants for s in each) for each in listed),
        )

    def _with_precision(
        self, op: MilOp, slots: list[int | list[int]], outputs: list[int]
    ) -> tuple[Callable[..., Any], list[int | list[int]]]:
        """Wraps an arithmetic op: widen float16 inputs, round each output to its declared type.

        Float16 constants are widened once, when the program is compiled.
        """
        if not op.arithmetic and not op.wide_constants:
            return op.run, slots
        flat = [s for slot in slots for s in (slot if isinstance(slot, list) else [slot])]
        half = {slot for slot in flat if self.dtypes.get(slot) == _F16}
        ready = {slot: self.widened(slot) for slot in half if slot in self.constants}
        widen = {slot for slot in half if slot not in self.constants and op.arithmetic}
        wanted = tuple(self.dtypes.get(slot) for slot in outputs)
        if not widen and not half and all(dtype != _F16 for dtype in wanted):
            return _typed(op.run, wanted), slots
        slots = [
            [ready.get(s, s) for s in slot] if isinstance(slot, list) else ready.get(slot, slot)
            for slot in slots
        ]
        positions = tuple(
            n for n, slot in enumerate(slots) if not isinstance(slot, list) and slot in widen
        )
        lists = tuple(
            n for n, slot in enumerate(slots) if isinstance(slot, list) and widen & set(slot)
        )
        run = _typed(op.run, wanted)
        return (_widening(run, positions, lists) if positions or lists else run), slots


@dataclass
class Draft:
    """A step before its dying slots are known.

    ``reads`` are the slots that it reads, in order. A structural op has ``build`` instead of
    ``run``, which makes the step from the dying slots; its ``reads`` lists all slots that it
    touches.
    """

    run: Callable[..., Any] | None
    reads: list[int | list[int]]
    writes: list[int]
    owned: int | None = None
    build: Callable[[frozenset[int]], Step] | None = None
    place: str = ""

    def flat_reads(self) -> set[int]:
        """The slots in ``reads``, including those in lists."""
        return {s for r in self.reads for s in (r if isinstance(r, list) else [r])}


def inconsistent(place: str, error: Exception) -> AsrbuildError:
    """The error for an op or layer with an inconsistent description."""
    return AsrbuildError(
        f"{place} is inconsistent: {error or type(error).__name__}",
        fix="the package is damaged: build it again, or copy it again from a good copy",
    )


def tensor_dtype(value_type: Any) -> np.dtype[Any] | None:
    """The element type of a tensor, or of a state's tensor; None for lists and strings."""
    kind = value_type.WhichOneof("type")
    if kind == "stateType":
        return tensor_dtype(value_type.stateType.wrappedType)
    return DTYPES.get(value_type.tensorType.dataType) if kind == "tensorType" else None


def operation_name(operation: Any) -> str:
    """The op's own name, or its first output's."""
    if "name" in operation.attributes:
        names = operation.attributes["name"].immediateValue.tensor.strings.values
        if names:
            return names[0]
    return operation.outputs[0].name if operation.outputs else operation.type


def _finish(drafts: Sequence[Draft], outputs: tuple[int, ...], owned: set[int]) -> CompiledBlock:
    """Makes the steps of drafts, which clear the values of this block that nothing reads later."""
    made = set(owned)
    for draft in drafts:
        made.update(draft.writes)
    last_use: dict[int, int] = {}
    for number, draft in enumerate(drafts):
        for slot in draft.flat_reads() | set(draft.writes):
            last_use[slot] = number
    dying: list[set[int]] = [set() for _ in drafts]
    for slot in made - set(outputs):
        if slot in last_use:
            dying[last_use[slot]].add(slot)
    steps = tuple(
        make_step(draft, frozenset(dead)) for draft, dead in zip(drafts, dying, strict=True)
    )
    return CompiledBlock(steps, outputs, tuple(draft.place for draft in drafts))


def make_step(draft: Draft, dead: frozenset[int]) -> Step:
    """The step of a draft, which clears the slots that die with it."""
    if draft.build is not None:
        return draft.build(dead)
    if draft.owned is not None:
        return _owning_step(draft, dead)
    run, clear, writes = draft.run, tuple(dead), tuple(draft.writes)
    assert run is not None
    if any(isinstance(slot, list) for slot in draft.reads):
        return _listing_step(run, tuple(draft.reads), writes, clear)
    reads: tuple[int, ...] = tuple(draft.reads)  # type: ignore[arg-type]
    if len(writes) != 1:

        def step_all(env: Env) -> None:
            results = run(*[env[slot] for slot in reads])
            for slot, result in zip(writes, results, strict=True):
                env[slot] = result
            for slot in clear:
                env[slot] = None

        return step_all
    (write,) = writes

    def step(env: Env) -> None:
        env[write] = run(*[env[slot] for slot in reads])
        for slot in clear:
            env[slot] = None

    return step


def _listing_step(
    run: Callable[..., Any],
    reads: tuple[int | list[int], ...],
    writes: tuple[int, ...],
    clear: tuple[int, ...],
) -> Step:
    """The step of an op with an input of several values, like ``concat``."""

    def step(env: Env) -> None:
        result = run(
            *[[env[s] for s in slot] if isinstance(slot, list) else env[slot] for slot in reads]
        )
        results = [result] if len(writes) == 1 else result
        for slot, value in zip(writes, results, strict=True):
            env[slot] = value
        for slot in clear:
            env[slot] = None

    return step


def _references(value: Any) -> int:
    return sys.getrefcount(value)


def _count_sole_owner() -> int:
    value = np.empty(1)
    return _references(value)


#: The value of ``_references`` for an array with one local variable as its only reference.
_SOLE_OWNER = _count_sole_owner()


def _owning_step(draft: Draft, dead: frozenset[int]) -> Step:
    """The step of an op that overwrites an input: in place if it is not shared, else in a copy."""
    run, owned = draft.run, draft.owned
    assert run is not None
    assert owned is not None
    source = draft.reads[owned]
    assert isinstance(source, int)
    others = [slot for n, slot in enumerate(draft.reads) if n != owned]
    dies = source in dead and source not in others
    clear = tuple(dead)
    (write,) = draft.writes

    def step(env: Env) -> None:
        value = env[source]
        if dies:
            env[source] = None
        # A view keeps a reference to its array, so an array with one reference has no views.
        if not (
            dies
            and _references(value) == _SOLE_OWNER
            and value.base is None
            and value.flags.writeable
        ):
            value = np.array(value)
        arguments = [env[slot] for slot in others]  # type: ignore[index]
        arguments.insert(owned, value)
        env[write] = run(*arguments)
        for slot in clear:
            env[slot] = None

    return step


def _widening(
    run: Callable[..., Any], positions: tuple[int, ...], lists: tuple[int, ...]
) -> Callable[..., Any]:
    def widened(*arguments: Any) -> Any:
        values = list(arguments)
        for position in positions:
            values[position] = converted(values[position], _F32)
        for position in lists:
            values[position] = [converted(v, _F32) for v in values[position]]
        return run(*values)

    return widened


def _typed(run: Callable[..., Any], wanted: tuple[np.dtype[Any] | None, ...]) -> Callable[..., Any]:
    if len(wanted) != 1:

        def run_typed_all(*arguments: Any) -> Any:
            results = run(*arguments)
            return [
                result if dtype is None else converted(result, dtype)
                for result, dtype in zip(results, wanted, strict=True)
            ]

        return run_typed_all
    (dtype,) = wanted

    def run_typed(*arguments: Any) -> Any:
        result = run(*arguments)
        return result if result.dtype is dtype or dtype is None else converted(result, dtype)

    return run_typed
