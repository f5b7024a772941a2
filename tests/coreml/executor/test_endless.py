"""Loops that never end are told from those that do; what goes on is broken off at once."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrbuild.base import interrupts, threads
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli import main as cli
from asrbuild.coreml.executor import endless, load
from asrbuild.coreml.executor.model import StateCell
from asrbuild.coreml.executor.package import read_spec
from tests.coreml.executor.harness import Function, ct, mb, run, run_function, types
from tests.coreml.executor.test_damaged import change, copy_of, packages, predict, refused

__all__ = ["packages"]


def one(number: int) -> np.ndarray:
    return np.array([number], np.int32)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 8), min_size=9, max_size=9), st.integers(0, 8), st.integers(0, 8))
def test_a_loop_is_refused_just_where_it_never_ends(table: list[int], at: int, end: int) -> None:
    """``x = table[x]`` until ``x`` is ``end``, with a counter and a sum that decide nothing."""

    def build(v):
        return mb.while_loop(
            _cond=lambda x, n, total: mb.not_equal(x=x, y=v["end"]),
            _body=lambda x, n, total: (
                mb.gather(x=v["table"], indices=x), mb.add(x=n, y=1), mb.add(x=total, y=x)
            ),
            loop_vars=(v["at"], v["zero"], v["zero"]),
        )  # fmt: skip

    path = [at]
    while path[-1] != end and len(path) < 12:
        path.append(table[path[-1]])
    values = {"table": np.array(table, np.int32), "at": one(at), "end": one(end), "zero": one(0)}
    if path[-1] == end:
        found = run(build, values)
        assert [value.item() for value in found] == [end, len(path) - 1, sum(path[:-1])]
    else:
        with pytest.raises(AsrbuildError, match=r"op .*while_loop\) never ends: in round") as error:
            run(build, values)
        assert error.value.fix


def test_a_branch_and_a_loop_inside_may_decide() -> None:
    """``x`` goes down by one at a time, in an inner loop or a branch, and stays at zero."""

    def build(v):
        def less(x):
            return mb.cond(
                pred=mb.squeeze(x=mb.greater(x=x, y=v["zero"]), axes=[0]),
                _true_fn=lambda: mb.sub(x=x, y=1),
                _false_fn=lambda: mb.identity(x=x),
            )

        def body(x, same):
            below = mb.while_loop(
                _cond=lambda y, turn: mb.less(x=turn, y=2),
                _body=lambda y, turn: (less(y), mb.add(x=turn, y=1)),
                loop_vars=(x, v["zero"]),
            )
            return below[0], mb.identity(x=same)

        return mb.while_loop(
            _cond=lambda x, same: mb.not_equal(x=x, y=v["end"]),
            _body=body,
            loop_vars=(v["start"], v["zero"]),
        )

    values = {"zero": one(0), "start": one(8)}
    assert run(build, values | {"end": one(2)})[0] == 2
    with pytest.raises(AsrbuildError, match="never ends: in round"):
        run(build, values | {"end": one(3)})


def test_a_state_may_decide() -> None:
    """What the loop carries stays the same, and yet it ends."""
    state = mb.state_tensor_placeholder(shape=(1,), dtype=types.fp16)
    inputs = {"n": mb.placeholder(shape=(1,), dtype=types.int32), "memory": state}
    with Function(inputs, opset_version=ct.target.iOS18) as function:
        memory = function.inputs["memory"]

        def body(n):
            more = mb.add(x=mb.read_state(input=memory), y=np.float16(1))
            mb.coreml_update_state(state=memory, value=more)
            return (mb.identity(x=n),)

        n = mb.while_loop(
            _cond=lambda n: mb.less(x=mb.read_state(input=memory), y=np.array([5], np.float16)),
            _body=body,
            loop_vars=(function.inputs["n"],),
        )
        function.set_outputs([mb.identity(x=n)])
    cell = StateCell(np.zeros((1,), np.float16))
    assert run_function(function, {"n": one(3), "memory": cell}, "iOS18") == [3]
    assert cell.value == 5


def _blocks(spec: Any) -> Any:
    """The loop's condition and body."""
    main = spec.mlProgram.functions["main"]
    operations = main.block_specializations[main.opset].operations
    return next(op.blocks for op in operations if op.type == "while_loop")


def _repeats_its_counter(spec: Any) -> None:
    _, body = _blocks(spec)
    body.outputs[0] = body.inputs[0].name


def _always_goes_on(spec: Any) -> None:
    condition, _ = _blocks(spec)
    [less] = [op for op in condition.operations if op.type == "less"]
    less.type = "less_equal"
    less.inputs["y"].CopyFrom(less.inputs["x"])


def _loop_layer(spec: Any) -> Any:
    return next(
        layer.loop for layer in spec.neuralNetwork.layers if layer.WhichOneof("layer") == "loop"
    )


def _adds_nothing(spec: Any) -> None:
    for layer in _loop_layer(spec).bodyNetwork.layers:
        if layer.WhichOneof("layer") == "add":
            layer.add.alpha = 0


def _adds_nothing_for_ages(spec: Any) -> None:
    _adds_nothing(spec)
    _loop_layer(spec).maxLoopIterations = (1 << 64) - 1


def _asks_nothing(spec: Any) -> None:
    _loop_layer(spec).conditionVar = ""


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("loop.mlpackage", _repeats_its_counter, r"op while_loop \(while_loop\) never ends"),
        # This one leaves the recording's last step behind.
        ("loop.mlpackage", _always_goes_on, r"x_now\S* \(gather\) failed: index 3 is out of"),
        ("loop.mlmodel", _adds_nothing, r"layer while_loop \(loop\) never ends"),
        ("loop.mlmodel", _adds_nothing_for_ages, r"layer while_loop \(loop\) never ends"),
        ("loop.mlmodel", _asks_nothing, r"layer while_loop \(loop\) never ends"),
    ],
)
def test_a_damaged_package(
    packages, tmp_path: Path, name: str, damage: Callable[[Any], None], message: str
) -> None:
    assert predict(load(packages[name]))
    package = copy_of(packages[name], tmp_path)
    change(package, damage)
    refused(package, message)


def test_a_loop_with_a_limit_of_its_own_may_repeat_itself(packages, tmp_path: Path) -> None:
    package = copy_of(packages["loop.mlmodel"], tmp_path)
    whole = predict(load(package))

    def limit(spec: Any) -> None:
        loop = _loop_layer(spec)
        loop.maxLoopIterations = 3  # as many as there are steps
        loop.conditionVar = ""

    change(package, limit)
    found = predict(load(package))
    for output, value in whole.items():
        np.testing.assert_array_equal(found[output], value)


@pytest.fixture
def counting(tmp_path: Path) -> Path:
    """A package that counts to the largest number: it ends, but nobody can wait for it."""

    @mb.program(
        input_specs=[mb.TensorSpec(shape=(1,), dtype=types.int32)], opset_version=ct.target.iOS16
    )
    def program(start):
        return mb.while_loop(
            _cond=lambda i: mb.less(x=i, y=np.array([2**31 - 1], np.int32)),
            _body=lambda i: (mb.add(x=i, y=1),),
            loop_vars=(start,),
            name="counting",
        )

    converted = ct.convert(program, minimum_deployment_target=ct.target.iOS16, skip_model_load=True)
    converted.save(str(tmp_path / "counting.mlpackage"))
    return tmp_path / "counting.mlpackage"


@pytest.fixture
def press_when_looping() -> Iterator[Callable[[], None]]:
    """Ctrl-C as soon as any thread is in a loop's round, and never after the test."""
    over = threading.Event()
    pressing: list[threading.Thread] = []

    def looping() -> bool:
        for frame in sys._current_frames().values():
            while frame is not None:
                if frame.f_code.co_name == "check" and frame.f_code.co_filename == endless.__file__:
                    return True
                frame = frame.f_back  # type: ignore[assignment]
        return False

    def press() -> None:
        while not over.is_set():
            if looping():
                os.kill(os.getpid(), signal.SIGINT)
                return

    def begin() -> None:
        pressing.append(threading.Thread(target=press))
        pressing[-1].start()

    yield begin
    over.set()
    for thread in pressing:
        thread.join()


WHERE = r"function main, op counting\S* \(while_loop\), round \d+"


def test_ctrl_c_ends_a_command_and_says_where(
    counting: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    press_when_looping: Callable[[], None],
) -> None:
    np.save(tmp_path / "start.npy", one(0))
    feature = read_spec(counting).description.input[0].name
    given = f"{feature}={tmp_path / 'start.npy'}"
    monkeypatch.setattr(sys, "argv", ["asrbuild", "run", str(counting), "--input", given])
    press_when_looping()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    pattern = rf"error: interrupted in {WHERE}; nothing half-made was kept\n"
    assert re.fullmatch(pattern, capsys.readouterr().err)


def test_ctrl_c_ends_a_loop_in_a_thread_beside(
    counting: Path, press_when_looping: Callable[[], None]
) -> None:
    model = load(counting)
    name = next(iter(model.inputs))

    def beside() -> None:
        with interrupts.remembered(), threads.pool(1) as thread:
            waiting = thread.submit(model.predict, {name: one(0)})
            press_when_looping()
            waiting.result()

    with pytest.raises(KeyboardInterrupt):
        beside()
    assert re.fullmatch(WHERE, interrupts.place())
    # It was that loop's end, and is none of the next one's.
    interrupts.check()
