"""Ops with many attributes on random shapes, axes and attributes, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.architectures.onnx.harness import Case, case, check

Make = Callable[[np.random.Generator], Case]


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform(-2, 2, shape).astype(np.float32)


def ints(values: object) -> np.ndarray:
    return np.asarray(values, np.int64)


def sizes(rng: np.random.Generator, rank: int) -> list[int]:
    return [int(size) for size in rng.integers(2, 7, rank)]


def conv(rng: np.random.Generator) -> Case:
    count, groups = int(rng.integers(1, 3)), int(rng.choice([1, 2, 4]))
    kernel = rng.integers(1, 4, count).tolist()
    outputs = groups * int(rng.integers(1, 4))
    weight = floats(rng, outputs, 4 // groups, *kernel)
    attributes = {
        "group": groups,
        "strides": rng.integers(1, 4, count).tolist(),
        "dilations": rng.integers(1, 3, count).tolist(),
        "pads": rng.integers(0, 3, 2 * count).tolist(),
    }
    x = floats(rng, int(rng.integers(1, 3)), 4, *rng.integers(7, 12, count))
    return case("Conv", x, weight, floats(rng, outputs), known=(1, 2), open={0: [2]}, **attributes)


def pool(rng: np.random.Generator) -> Case:
    count = int(rng.integers(1, 3))
    kernel = rng.integers(2, 4, count)
    pads = [int(rng.integers(0, size)) for size in (*kernel, *kernel)]
    op = str(rng.choice(["MaxPool", "AveragePool"]))
    counted = {"count_include_pad": int(rng.integers(0, 2))} if op == "AveragePool" else {}
    return case(
        op,
        floats(rng, 1, 3, *rng.integers(5, 10, count)),
        kernel_shape=kernel.tolist(),
        strides=rng.integers(1, 4, count).tolist(),
        pads=pads,
        **counted,
    )


def slice_(rng: np.random.Generator) -> Case:
    shape = sizes(rng, int(rng.integers(1, 4)))
    axes = sorted(rng.choice(len(shape), int(rng.integers(1, len(shape) + 1)), replace=False))
    starts, ends, steps = [], [], []
    for axis in axes:
        step = int(rng.choice([1, 1, 2, -1, -2]))
        low, high = 0, shape[axis]
        start, end = (low, high) if step > 0 else (high - 1, -high - 1)
        if rng.random() < 0.5:
            start += int(np.sign(step)) * int(rng.integers(0, 2))
        if rng.random() < 0.3 and step > 0:
            end = -1
        starts.append(start)
        ends.append(end)
        steps.append(step)
    given = [ints(starts), ints(ends), ints(axes), ints(steps)]
    return case("Slice", floats(rng, *shape), *given, known=(1, 2, 3, 4))


def pad(rng: np.random.Generator) -> Case:
    rank = int(rng.integers(1, 5))
    mode = str(rng.choice(["constant", "reflect", "edge"]))
    low = -1 if mode == "constant" else 0
    amounts = rng.integers(low, 2, 2 * rank)
    return case(
        "Pad", floats(rng, *(3 + n for n in sizes(rng, rank))), ints(amounts), known=(1,), mode=mode
    )


def reduce(rng: np.random.Generator) -> Case:
    rank = int(rng.integers(1, 5))
    axes = rng.choice(rank, int(rng.integers(1, rank + 1)), replace=False) - rank * int(
        rng.integers(0, 2)
    )
    op = str(rng.choice(["Mean", "Sum", "Max", "Min", "L2", "LogSumExp"]))
    x = floats(rng, *sizes(rng, rank))
    return case(
        f"Reduce{op}", x, ints(axes), known=(1,), keepdims=int(rng.integers(0, 2)), open={0: [0]}
    )


def transpose(rng: np.random.Generator) -> Case:
    rank = int(rng.integers(2, 6))
    return case("Transpose", floats(rng, *sizes(rng, rank)), perm=rng.permutation(rank).tolist())


def gather(rng: np.random.Generator) -> Case:
    rank = int(rng.integers(1, 4))
    shape, axis = sizes(rng, rank), int(rng.integers(-rank, rank))
    picked = rng.integers(-shape[axis], shape[axis], sizes(rng, int(rng.integers(0, 3))))
    return case("Gather", floats(rng, *shape), ints(picked), known=(1,), axis=axis)


def matmul(rng: np.random.Generator) -> Case:
    inner, batch = int(rng.integers(1, 6)), sizes(rng, int(rng.integers(0, 3)))
    left = floats(rng, *batch, int(rng.integers(1, 5)), inner)
    kept = batch if rng.random() < 0.5 else [1] * len(batch)
    right = floats(rng, *kept, inner, int(rng.integers(1, 5)))
    return case("MatMul", left, right, known=(1,) if rng.random() < 0.5 else ())


@pytest.mark.parametrize(
    "make", [conv, pool, slice_, pad, reduce, transpose, gather, matmul], ids=lambda f: f.__name__
)
def test_random_cases_agree(make: Make) -> None:
    rng = np.random.default_rng(17)
    check([make(rng) for _ in range(24)], rtol=1e-4, atol=5e-5)
