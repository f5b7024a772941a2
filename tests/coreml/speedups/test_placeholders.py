"""Placeholder weights are replaced exactly, or give an error if a pass changed them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.coreml.speedups import placeholders as standins
from asrbuild.coreml.speedups.placeholders import (
    FIRST,
    REST,
    SECOND,
    StandInLostError,
    StandIns,
    stand_in,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standins, "MIN_ELEMENTS", 9)


def as_converted(number: int, shape: tuple[int, int], transposed: bool, dtype: str) -> np.ndarray:
    """The values that coremltools would store for the stand-in, flat."""
    whole = np.full(shape, REST, np.float32)
    whole[0, :2] = FIRST + number, SECOND
    return (whole.T if transposed else whole).astype(dtype).ravel()


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(3, 9),
    columns=st.integers(3, 9),
    transposed=st.booleans(),
    dtype=st.sampled_from(["<f2", "<f4"]),
    number=st.integers(0, 1),
)
def test_the_real_matrix_replaces_its_stand_in(
    rows: int, columns: int, transposed: bool, dtype: str, number: int
) -> None:
    standins.MIN_ELEMENTS = 9
    rng = np.random.default_rng(rows)
    matrices = tuple(rng.standard_normal((rows, columns)).astype(np.float32) for _ in range(2))
    both = StandIns(matrices, ("a", "b"))
    stored = as_converted(number, (rows, columns), transposed, dtype)
    matrix = matrices[number].T if transposed else matrices[number]
    np.testing.assert_array_equal(both.real(stored), matrix.ravel().astype(dtype))


def test_other_weights_are_unchanged() -> None:
    one = StandIns((np.zeros((3, 4), np.float32),), ("a",))
    rng = np.random.default_rng(0)
    assert one.real(rng.standard_normal(12).astype(np.float32)) is None
    assert one.real(np.array([FIRST, SECOND], np.float32)) is None  # too small
    other = as_converted(1, (3, 4), False, "<f4")  # an unknown tag
    assert one.real(other) is None


@pytest.mark.parametrize("place", [2, 7, 11])
def test_a_changed_stand_in_is_an_error(place: int) -> None:
    one = StandIns((np.zeros((3, 4), np.float32),), ("layer/weights",))
    stored = as_converted(0, (3, 4), False, "<f4")
    stored[place] += 0.25
    with pytest.raises(StandInLostError, match="layer/weights"):
        one.real(stored)


def test_a_padded_or_cut_stand_in_is_an_error() -> None:
    one = StandIns((np.zeros((3, 4), np.float32),), ("layer/weights",))
    with pytest.raises(StandInLostError):
        one.real(as_converted(0, (4, 4), False, "<f4"))


def test_a_missing_stand_in_is_an_error() -> None:
    both = StandIns((np.zeros((3, 4), np.float32),) * 2, ("a", "b"))
    standins.check_all_found(both, {0, 1})
    with pytest.raises(StandInLostError, match="b"):
        standins.check_all_found(both, {0})


class FakeTensor(SimpleNamespace):
    """The part of a ``TensorProto`` that ``stand_in`` uses."""


def node(name: str, array: np.ndarray, op: str = "Const", dtype: int = 1) -> SimpleNamespace:
    dims = [SimpleNamespace(size=size) for size in array.shape]
    tensor = FakeTensor(
        dtype=dtype,
        tensor_shape=SimpleNamespace(dim=dims),
        tensor_content=array.tobytes(),
        float_val=[],
    )
    return SimpleNamespace(name=name, op=op, attr={"value": SimpleNamespace(tensor=tensor)})


def test_only_big_float_matrices_are_replaced() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    nodes = {
        "matrix": node("matrix", matrix),
        "bias": node("bias", np.zeros(100, np.float32)),
        "small": node("small", np.zeros((2, 3), np.float32)),
        "narrow": node("narrow", np.zeros((2, 30), np.float32)),
        "cube": node("cube", np.zeros((3, 3, 3), np.float32)),
        "whole": node("whole", np.zeros((3, 4), np.int32), dtype=3),
        "variable": node("variable", matrix, op="VariableV2"),
    }
    found = stand_in(SimpleNamespace(node=list(nodes.values())))
    assert found.names == ("matrix",)
    np.testing.assert_array_equal(found.matrices[0], matrix)
    replaced = {name for name, one in nodes.items() if one.attr["value"].tensor.float_val}
    assert replaced == {"matrix"}
    assert nodes["matrix"].attr["value"].tensor.float_val == [FIRST, SECOND, REST]
