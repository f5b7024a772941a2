"""Loops, conditions, states and constants; a value is not overwritten before its last use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.coreml.executor import program as compiled
from asrbuild.coreml.executor.model import StateCell
from asrbuild.coreml.executor.registry import MIL_OPS
from tests.coreml.executor.harness import (
    Function,
    ct,
    floats,
    mb,
    run,
    run_function,
    types,
)


def test_while_loop_counts() -> None:
    def build(v):
        return mb.while_loop(
            _cond=lambda i, total: mb.less(x=i, y=v["end"]),
            _body=lambda i, total: (mb.add(x=i, y=1), mb.add(x=total, y=mb.square(x=i))),
            loop_vars=(v["start"], v["zero"]),
        )

    for start, end in ((0, 5), (3, 4), (4, 4), (9, 2)):
        numbers = [np.array([n], np.int32) for n in (start, end, 0)]
        count, total = run(build, dict(zip(("start", "end", "zero"), numbers, strict=True)))
        assert count == max(start, end)
        assert total == sum(n * n for n in range(start, end))


def test_while_loop_swaps_its_values() -> None:
    def build(v):
        _, a, b = mb.while_loop(
            _cond=lambda i, a, b: mb.less(x=i, y=3),
            _body=lambda i, a, b: (mb.add(x=i, y=1), mb.identity(x=b), mb.identity(x=a)),
            loop_vars=(v["i"], v["a"], v["b"]),
        )
        return a, b

    a, b = run(build, {"i": np.array([0], np.int32), "a": floats((2,)), "b": floats((2,), seed=1)})
    np.testing.assert_array_equal(a, floats((2,), seed=1))
    np.testing.assert_array_equal(b, floats((2,)))


def running_list(rows: int, *, keep_old: bool, dtype=np.float32):
    """A loop that writes row ``i + 1`` from row ``i``, and may read the previous list."""

    def build(v):
        def body(i, ls, seen):
            row = mb.gather(x=ls, indices=i, axis=0)
            update = mb.add(x=row, y=v["step"])
            following = mb.add(x=i, y=1)
            written = mb.scatter(data=ls, indices=following, updates=update, axis=0, mode="add")
            # The previous list must not contain the write.
            old = mb.reduce_sum(x=ls, axes=[0], keep_dims=True) if keep_old else update
            return following, written, mb.add(x=seen, y=old)

        return mb.while_loop(
            _cond=lambda i, ls, seen: mb.less(x=i, y=rows - 1),
            _body=body,
            loop_vars=(v["i"], v["ls"], v["seen"]),
        )

    return build


@settings(max_examples=15)
@given(st.integers(2, 7), st.booleans(), st.sampled_from([np.float32, np.float16]))
def test_a_loop_writes_in_place_only_unshared_lists(rows, keep_old, dtype) -> None:
    ls = np.zeros((rows, 1, 2), dtype)
    ls[0] = [[1, 2]]
    step = np.array([[[1, -1]]], dtype)
    expected, seen = ls.copy(), np.zeros((1, 1, 2), dtype)
    for i in range(rows - 1):
        old = expected.sum(0, keepdims=True)
        expected[i + 1] = expected[i] + step[0]
        seen = seen + (old if keep_old else expected[i + 1][None])
    values = {"i": np.array([0], np.int32), "ls": ls, "seen": np.zeros((1, 1, 2), dtype)}
    _, written, total = run(running_list(rows, keep_old=keep_old), {**values, "step": step})
    np.testing.assert_array_equal(written, expected)
    np.testing.assert_array_equal(total, seen)


def test_a_long_loop_does_not_copy_its_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy at each step would make the time quadratic in a recording's length."""
    copies = []
    real = np.array
    monkeypatch.setattr(
        compiled.np, "array", lambda *args, **kwargs: copies.append(1) or real(*args, **kwargs)
    )
    rows = 50
    values = {
        "i": real([0], np.int32),
        "ls": np.zeros((rows, 1, 2), np.float32),
        "seen": np.zeros((1, 1, 2), np.float32),
        "step": np.ones((1, 1, 2), np.float32),
    }
    function = _function(running_list(rows, keep_old=False), values)
    run_step = compiled.make_step
    inside = []

    def counted(draft, dead):
        step = run_step(draft, dead)
        if draft.owned is None:
            return step

        def watched(env):
            before = len(copies)
            step(env)
            inside.append(len(copies) - before)

        return watched

    monkeypatch.setattr(compiled, "make_step", counted)
    run_function(function, values)
    assert len(inside) == 2 * (rows - 1)  # the harness runs every program twice
    assert sum(inside) == 2  # the first step of each run, whose list is the caller's


def half_precision_loop(v):
    """A float16 loop in coremltools' form: float32 lists, cast at both ends of the body."""

    def body(i, ls):
        half = mb.cast(x=ls, dtype="fp16")
        row = mb.gather(x=half, indices=i, axis=0)
        following = mb.add(x=i, y=1)
        written = mb.scatter(
            data=half, indices=following, updates=mb.tanh(x=row), axis=0, mode="add"
        )
        return following, mb.cast(x=written, dtype="fp32")

    return mb.while_loop(
        _cond=lambda i, ls: mb.less(x=i, y=v["last"]), _body=body, loop_vars=(v["i"], v["ls"])
    )


def half_precision_values(rows: int, last: int) -> dict[str, np.ndarray]:
    ls = np.zeros((rows, 1, 3), np.float32)
    ls[0] = [[0.1, -0.7, 1.3]]
    return {"i": np.array([0], np.int32), "ls": ls, "last": np.array([last], np.int32)}


def test_float16_loops_carry_float16_with_the_same_bits() -> None:
    rows = 6
    for last in (rows - 1, 0):
        values = half_precision_values(rows, last)
        _, written = run(half_precision_loop, values)
        expected = values["ls"].copy()
        for i in range(last):
            expected = expected.astype(np.float16)
            expected[i + 1] = np.tanh(expected[i].astype(np.float64)).astype(np.float16)
            expected = expected.astype(np.float32)
        # A loop without rounds returns its inputs unrounded.
        np.testing.assert_array_equal(written, expected)


def test_float16_loops_do_not_cast_their_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    cast = MIL_OPS["cast"]
    sizes = []
    counting = replace(cast, run=lambda x, dtype: sizes.append(np.size(x)) or cast.run(x, dtype))
    monkeypatch.setitem(MIL_OPS, "cast", counting)
    run(half_precision_loop, half_precision_values(50, 49))
    assert sizes == []


@pytest.mark.parametrize("flag", [True, False])
def test_a_condition_chooses_a_branch(flag: bool) -> None:
    def build(v):
        doubled = mb.mul(x=v["x"], y=2.0)
        return mb.cond(
            pred=mb.squeeze(x=v["flag"], axes=[0]),
            _true_fn=lambda: (mb.add(x=doubled, y=1.0), mb.identity(x=v["x"])),
            _false_fn=lambda: (mb.sub(x=doubled, y=1.0), mb.identity(x=doubled)),
        )

    x = floats((3,))
    first, second = run(build, {"x": x, "flag": np.array([flag])})
    np.testing.assert_allclose(first, 2 * x + (1 if flag else -1), rtol=1e-6)
    np.testing.assert_array_equal(second, x if flag else 2 * x)


def test_loops_may_be_nested() -> None:
    def build(v):
        def outer(i, total):
            def inner(j, t):
                return mb.add(x=j, y=1), mb.add(x=t, y=mb.mul(x=i, y=j))

            _, t = mb.while_loop(
                _cond=lambda j, t: mb.less(x=j, y=i), _body=inner, loop_vars=(v["zero"], total)
            )
            return mb.add(x=i, y=1), t

        return mb.while_loop(
            _cond=lambda i, t: mb.less(x=i, y=4), _body=outer, loop_vars=(v["i"], v["zero"])
        )

    zero = np.array([0], np.int32)
    _, total = run(build, {"i": zero, "zero": zero.copy()})
    assert total == sum(i * j for i in range(4) for j in range(i))


def test_states_are_read_and_written() -> None:
    shape = (1, 2)
    inputs = {
        "x": mb.placeholder(shape=shape, dtype=types.fp16),
        "memory": mb.state_tensor_placeholder(shape=shape, dtype=types.fp16),
    }
    with Function(inputs, opset_version=ct.target.iOS18) as function:
        before = mb.read_state(input=function.inputs["memory"])
        total = mb.add(x=before, y=function.inputs["x"])
        after = mb.coreml_update_state(state=function.inputs["memory"], value=total)
        function.set_outputs([mb.identity(x=before), mb.mul(x=after, y=np.float16(2))])
    cell = StateCell(np.zeros(shape, np.float16))
    x = np.array([[1, 2]], np.float16)
    before_value, doubled = run_function(function, {"x": x, "memory": cell}, "iOS18")
    # The harness runs a program twice; the second run's results are not returned.
    np.testing.assert_array_equal(before_value, [[0, 0]])
    np.testing.assert_array_equal(doubled, [[2, 4]])
    np.testing.assert_array_equal(cell.value, [[2, 4]])


def _function(build, values):
    placeholders = {
        name: mb.placeholder(shape=array.shape, dtype=types.numpy_type_to_builtin_type(array.dtype))
        for name, array in values.items()
    }
    with Function(placeholders, opset_version=ct.target.iOS15) as function:
        function.set_outputs(list(build(function.inputs)))
    return function
