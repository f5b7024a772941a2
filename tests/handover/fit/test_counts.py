"""Exact counts, compared with products of ones, closed formulas and runs of the executor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from asrbuild.coreml.executor import load
from asrbuild.coreml.executor.recording import Site, watched, watching
from asrbuild.coreml.executor.registry import MIL_OPS
from asrbuild.handover.fit.counts import _declared, _executed, call_sizes, count
from asrbuild.handover.fit.operations import Operation, read_functions, walk
from asrbuild.handover.fit.products import Shapes, multiply_adds
from tests.handover.fit.conftest import HIDDEN

small = st.integers(1, 5)


def products_of(op: str, **arrays: Any) -> int:
    """Multiply-adds by the formula, of the shapes that the executor's op gives."""
    result = np.asarray(MIL_OPS[op].run(**arrays))
    shapes = {
        name: [np.shape(v) for v in (value if isinstance(value, list) else [value])]
        for name, value in arrays.items()
    }
    operation = Operation("op", op, {}, ())
    found = multiply_adds(operation, Shapes(shapes, (result.shape,)))
    # Each product of ones adds 1 to the sum of all results, so the sum counts products.
    assert found == int(result.sum())
    return int(result.sum())


@given(small, small, small, small)
def test_products_of_matrices_are_counted(n: int, m: int, i: int, o: int) -> None:
    ones = np.ones
    assert products_of("linear", x=ones((n, m, i)), weight=ones((o, i))) == n * m * i * o
    products_of("matmul", x=ones((n, m, i)), y=ones((n, i, o)))


@given(small, small, st.integers(1, 3), st.integers(1, 3), st.integers(3, 6), small)
def test_convolutions_are_counted(
    n: int, channels: int, groups: int, kernel: int, size: int, out: int
) -> None:
    x = np.ones((n, channels * groups, size, size))
    weight = np.ones((out * groups, channels, kernel, kernel))
    products_of("conv", x=x, weight=weight, groups=groups)
    turned = np.ones((channels * groups, out, kernel, kernel))
    products_of("conv_transpose", x=x, weight=turned, groups=groups)


@given(small, small, small, small, small)
def test_attention_is_counted(batch: int, rows: int, columns: int, inner: int, width: int) -> None:
    shapes = {
        "query": [(batch, rows, inner)],
        "key": [(batch, columns, inner)],
        "value": [(batch, columns, width)],
    }
    operation = Operation("op", "scaled_dot_product_attention", {}, ())
    found = multiply_adds(operation, Shapes(shapes, ((batch, rows, width),)))
    assert found == batch * rows * columns * inner + batch * rows * columns * width


def deepspeech(steps: int, freeze: bool) -> int:
    """Multiply-adds of the network: dense layers, and four gates of input and hidden products.

    ``freeze``: with the input column that freezes the cell past the end.
    """
    dense = 494 * HIDDEN + 3 * HIDDEN * HIDDEN + HIDDEN * 29
    return steps * (dense + 4 * HIDDEN * (2 * HIDDEN + freeze))


@pytest.mark.parametrize("steps", [1, 2, 5, 33])
def test_a_networks_figures_are_closed_formulas(forms, steps: int) -> None:
    for name in ("range", "network"):
        package = forms[name].package
        (function,) = read_functions(package).values()
        found = count(package, function, steps)
        assert found.ran
        assert found.multiply_adds == deepspeech(steps, freeze=True)
        lstm = next(each for each in found.operations if "lstm" in each.kind.lower())
        item = 2 if name == "range" else 4
        hidden = 4 * HIDDEN * HIDDEN
        assert lstm.weight_reads - lstm.weight_bytes == (steps - 1) * hidden * item
        features = steps * 19 * 26 * 4
        states = 4 * HIDDEN * 4
        assert found.io_bytes == features + states + steps * 29 * 4 + 4


def test_a_fixed_package_is_counted_without_running_it(forms) -> None:
    for name, own_matmul in (("fixed", 0), ("stateful", 0), ("unrolled", 6 * HIDDEN)):
        package = forms[name].package
        (function,) = read_functions(package).values()
        found = count(package, function)
        assert not found.ran
        # The unrolled form picks its last state with a product of 6 rows.
        assert found.multiply_adds == deepspeech(5, freeze=True) + own_matmul
        assert found.state_bytes == (2 * 2 * HIDDEN * 2 if name == "stateful" else 0)


def test_declared_shapes_are_those_that_the_executor_runs(forms) -> None:
    for name in ("fixed", "unrolled"):
        package = forms[name].package
        (function,) = read_functions(package).values()
        declared, ran = _declared(function), _executed(package, function, call_sizes(function))
        assert declared is not None
        for operation in walk(function.operations):
            if operation.path in ran:
                (once,) = ran[operation.path]
                assert once.results == declared[operation.path][0].results, operation.path
                given = declared[operation.path][0].operands
                for argument, value in operation.operands.items():
                    if not value[0].constant:
                        assert once.operands[argument] == given[argument]


def test_a_loop_is_counted_by_its_rounds(forms) -> None:
    package = forms["loop"].package
    (function,) = read_functions(package).values()
    found = count(package, function)
    gates = next(each for each in found.operations if each.path == "while_loop body > gates")
    assert gates.calls == 5
    assert gates.multiply_adds == 5 * 4 * HIDDEN * 2 * HIDDEN
    assert gates.weight_reads == 5 * gates.weight_bytes
    assert found.multiply_adds == deepspeech(5, freeze=False)


def test_live_tensors_are_those_that_exist_at_once(forms) -> None:
    package = forms["fixed"].package
    (function,) = read_functions(package).values()
    found = count(package, function)
    # Inputs, and the features in fp16 before and after the transposition.
    inputs = 5 * 494 * 4 + 4 + 2 * HIDDEN * 4
    assert found.live_bytes == inputs + 2 * 5 * 494 * 2
    padded = {padding.name: (padding.size, padding.padded) for padding in found.padding}
    assert padded["input_node"] == (26, 32)
    assert padded["logits"] == (29, 32)


def test_watching_a_package_does_not_change_its_bits(forms) -> None:
    package = forms["fixed"].package
    seen: list[str] = []

    def watch(site: Site) -> Any:
        return lambda operands, result: seen.append(site.path)

    plain = load(package)
    with watching(watch):
        shown = load(package)
    rng = np.random.default_rng(0)
    data = {
        name: rng.standard_normal(feature.shape.shape).astype(feature.dtype)
        for name, feature in plain.inputs.items()
    } | {"input_lengths": np.array([3], np.int32)}
    for name, value in plain.predict(data).items():
        assert value.tobytes() == shown.predict(data)[name].tobytes()
    assert "lstm" in seen


def test_unwatched_packages_have_no_wrappers() -> None:
    def run(x: int) -> int:
        return x

    assert watched(run, lambda: pytest.fail("not asked")) is run
