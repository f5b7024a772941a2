"""Loops: a limit of rounds refuses endless ones, and Ctrl-C stops one at once."""

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

from asrbuild.base import interrupts, threads
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli import main as cli
from asrbuild.coreml.executor import load, rounds
from asrbuild.coreml.executor.model import StateCell
from asrbuild.coreml.executor.package import read_spec
from tests.coreml.executor.damage import change, copy_of, predict, refused
from tests.coreml.executor.harness import Function, ct, mb, run, run_function, types


def one(number: int) -> np.ndarray:
    return np.array([number], np.int32)


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> int:
    """A limit that a test reaches quickly."""
    monkeypatch.setattr(rounds, "MOST_ROUNDS", 50)
    return rounds.MOST_ROUNDS


def test_a_loop_may_take_as_many_rounds_as_the_limit_and_no_more(few_rounds: int) -> None:
    def build(v):
        return mb.while_loop(
            _cond=lambda n: mb.less(x=n, y=v["end"]),
            _body=lambda n: (mb.add(x=n, y=1),),
            loop_vars=(v["start"],),
        )

    values = {"start": one(0), "end": one(few_rounds)}
    assert run(build, values)[0] == few_rounds
    with pytest.raises(AsrbuildError, match=r"op .*while_loop\) has not ended after 50") as error:
        run(build, values | {"end": one(few_rounds + 1)})
    assert error.value.fix


def test_a_loop_may_end_by_a_state() -> None:
    """The loop ends although its carried values do not change."""
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
    _adds_nothing(spec)
    _loop_layer(spec).conditionVar = ""


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("loop.mlpackage", _repeats_its_counter, r"op while_loop \(while_loop\) has not ended"),
        # This loop omits the recording's last step.
        ("loop.mlpackage", _always_goes_on, r"x_now\S* \(gather\) failed: index 3 is out of"),
        ("loop.mlmodel", _adds_nothing, r"layer while_loop \(loop\) has not ended"),
        ("loop.mlmodel", _adds_nothing_for_ages, r"layer while_loop \(loop\) has not ended"),
        ("loop.mlmodel", _asks_nothing, r"layer while_loop \(loop\) has not ended"),
    ],
)
def test_a_damaged_loop_is_refused(
    packages,
    tmp_path: Path,
    few_rounds: int,
    name: str,
    damage: Callable[[Any], None],
    message: str,
) -> None:
    assert predict(load(packages[name]))
    package = copy_of(packages[name], tmp_path)
    change(package, damage)
    refused(package, message)


def test_a_loop_with_its_own_limit_may_repeat_its_values(packages, tmp_path: Path) -> None:
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
    """A package that counts to the largest number, which takes hours."""

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
    """Sends Ctrl-C as soon as any thread is in a loop's round, but not after the test."""
    over = threading.Event()
    pressing: list[threading.Thread] = []

    def looping() -> bool:
        for frame in sys._current_frames().values():
            while frame is not None:
                if frame.f_code.co_name == "check" and frame.f_code.co_filename == rounds.__file__:
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


def test_ctrl_c_ends_a_command_and_names_the_loop(
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
    pattern = rf"error: interrupted in {WHERE}; nothing incomplete was kept\n"
    assert re.fullmatch(pattern, capsys.readouterr().err)


def test_ctrl_c_ends_a_loop_in_another_thread(
    counting: Path, press_when_looping: Callable[[], None]
) -> None:
    model = load(counting)
    name = next(iter(model.inputs))

    def beside() -> None:
        with interrupts.remembered(), threads.workers(1) as thread:
            waiting = thread.submit(model.predict, {name: one(0)})
            press_when_looping()
            waiting.result()

    with pytest.raises(KeyboardInterrupt):
        beside()
    assert re.fullmatch(WHERE, interrupts.place())
    # The interrupt ended that loop only; it does not affect the next one.
    interrupts.check()
