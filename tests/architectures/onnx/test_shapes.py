"""Ops on shapes, parts and indices, against onnxruntime, for fixed axes and axes of any size."""

from __future__ import annotations

import numpy as np
import pytest

from tests.architectures.onnx.arrays import floats, integers, truths
from tests.architectures.onnx.harness import case, check

X = floats(2, 3, 4)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def test_reshapes_and_orders() -> None:
    check(
        [
            case("Reshape", X, ints(3, 8), known=(1,)),
            case("Reshape", X, ints(0, -1), known=(1,)),
            case("Reshape", X, ints(-1), known=(1,)),
            case("Reshape", truths(2, 6), ints(3, 4), known=(1,)),
            case("Reshape", X, ints(0, 0, 2, 2), known=(1,), open={0: [0]}),
            case("Reshape", X, ints(0, -1, 2), known=(1,), open={0: [0, 1]}),
            case("Flatten", X),
            case("Flatten", X, axis=0),
            case("Flatten", X, axis=2, open={0: [0]}),
            case("Flatten", X, axis=-1),
            case("Transpose", X),
            case("Transpose", X, perm=[1, 0, 2], open={0: [1]}),
            case("Transpose", truths(2, 3)),
            case("Squeeze", floats(1, 3, 1)),
            case("Squeeze", floats(1, 3, 1), ints(-1), known=(1,)),
            case("Squeeze", floats(1, 1), open={}),
            case("Unsqueeze", X, ints(0, 4), known=(1,)),
            case("Unsqueeze", integers(3), ints(-1), known=(1,)),
            case("Unsqueeze", truths(3), ints(0), known=(1,)),
            case("Expand", floats(3, 1), ints(2, 3, 4), known=(1,)),
            case("Expand", floats(3, 4), ints(1, 1), known=(1,)),
            case("Expand", truths(1, 4), ints(3, 1), known=(1,)),
            case("Tile", X, ints(1, 2, 3), known=(1,)),
            case("Tile", X, ints(1, 1, 1), known=(1,)),
            case("DepthToSpace", floats(2, 8, 2, 3), blocksize=2),
            case("DepthToSpace", floats(2, 8, 2, 3), blocksize=2, mode="CRD"),
            case("SpaceToDepth", floats(2, 2, 4, 6), blocksize=2),
            case("Range", np.array(2), np.array(11), np.array(3)),
            case("Dropout", X),
        ]
    )


def test_parts() -> None:
    end = np.iinfo(np.int64).max
    check(
        [
            case("Concat", X, floats(2, 1, 4), axis=1),
            case("Concat", X, floats(2, 3, 1), axis=-1, known=(1,), open={0: [1]}),
            case("Concat", truths(2), truths(3), axis=0),
            case("Concat", X, axis=0),
            case("Split", floats(6, 2), outputs=3, num_outputs=3),
            case("Split", floats(7, 2), outputs=3, num_outputs=3),
            case("Split", floats(2, 6), ints(1, 2, 3), outputs=3, axis=1, known=(1,)),
            case("Split", floats(2, 6), outputs=2, num_outputs=2, axis=-1, open={0: [0]}),
            case("Slice", X, ints(1), ints(3), ints(1), known=(1, 2, 3)),
            case(
                "Slice", X, ints(0, -2), ints(1, end), ints(0, 2), known=(1, 2, 3), open={0: [0, 2]}
            ),
            case("Slice", X, ints(0), ints(-1), ints(1), known=(1, 2, 3), open={0: [1]}),
            case("Slice", X, ints(-100), ints(100), ints(2), known=(1, 2, 3)),
            case("Slice", X, ints(0, 0), ints(2, 9), ints(1, 2), ints(1, 2), known=(1, 2, 3, 4)),
            case("Slice", X, ints(-1), ints(-end), ints(2), ints(-1), known=(1, 2, 3, 4)),
            case("Slice", X, ints(3), ints(0), ints(2), ints(-2), known=(1, 2, 3, 4)),
            case("Slice", X, ints(1), ints(3), ints(1), known=(3,)),
            case("Slice", X, ints(1, 0), ints(100, 2)),
            case("Slice", truths(4), ints(1), ints(3), known=(1, 2)),
        ]
    )


def test_padding() -> None:
    wide = floats(1, 2, 5)
    check(
        [
            case("Pad", wide, ints(0, 0, 1, 0, 0, 2), known=(1,)),
            case("Pad", wide, ints(0, 1, 0, 0, 1, 0), np.float32(7), known=(1, 2), open={0: [2]}),
            case("Pad", wide, ints(0, 0, -1, 0, 0, 2), known=(1,)),
            case("Pad", wide, ints(0, 0, 2, 0, 0, 1), known=(1,), mode="reflect"),
            case("Pad", floats(2, 5), ints(0, 2, 0, 1), known=(1,), mode="reflect"),
            case("Pad", floats(5), ints(2, 1), known=(1,), mode="reflect"),
            case("Pad", floats(4, 3, 2), ints(2, 1, 0, 1, 0, 1), known=(1,), mode="edge"),
            case("Pad", integers(2, 3), ints(1, 0, 0, 1), known=(1,)),
            case("Pad", wide, ints(1, 2), None, ints(2), known=(1, 3)),
            case("Pad", wide, ints(0, 0, 0, 0, 0, 0), known=(1,)),
        ]
    )


def test_indices() -> None:
    x = floats(4, 5)
    rows = np.array([[0, 2], [3, 1]])
    check(
        [
            case("Gather", x, rows),
            case("Gather", x, ints(-1, 0), axis=1, known=(1,)),
            case("Gather", x, ints(-1, 0, -4), open={0: [0]}),
            case("Gather", x, np.array(-1), known=(1,), open={0: [0]}),
            case("Gather", truths(4), ints(1, 2), known=(1,)),
            case("Gather", x, rows, known=(0,)),
            case("GatherElements", x, rows, axis=0),
            case("GatherElements", x, -1 - rows, axis=1),
            case("GatherND", x, rows),
            case("ScatterElements", x, rows, floats(2, 2), axis=1, known=(1,)),
            case("ScatterElements", x, rows, floats(2, 2), axis=0, reduction="add", known=(1,)),
            case("ScatterElements", floats(2, 5), -rows, floats(2, 2), axis=1),
            case("ScatterND", x, np.array([[1], [3]]), floats(2, 5)),
            case("ScatterND", x, rows, floats(2), reduction="add"),
            case("OneHot", ints(0, 2, -1), ints(4), np.float32([0, 1]), known=(1, 2)),
            case("OneHot", ints(0, 2), ints(3), np.array([2, 5]), known=(1, 2), axis=0),
            case("TopK", x, ints(3), outputs=2, known=(1,)),
            case("TopK", x, ints(2), outputs=2, known=(1,), axis=0, largest=0),
        ]
    )


def test_triangles_keep_infinities() -> None:
    x = floats(2, 4, 5)
    check(
        [
            case("Trilu", floats(4, 4) if k == 9 else x, np.array(k), known=(1,), upper=upper)
            for k in (0, -2, 2, 9)
            for upper in (0, 1)
        ]
        + [
            case("Trilu", np.full((3, 3), -np.inf, np.float32), np.array(1), known=(1,), upper=1),
            case("Trilu", truths(3, 3), np.array(-1), known=(1,), upper=0),
        ]
    )


@pytest.mark.parametrize("opset", [9, 12])
def test_older_op_sets_have_attributes_for_inputs(opset: int) -> None:
    cases = [
        case("Squeeze", floats(1, 3, 1), axes=[0]),
        case("Unsqueeze", X, axes=[1]),
        case("Split", floats(2, 6), outputs=2, axis=1, split=[2, 4]),
        case("Split", floats(2, 6), outputs=2, axis=1),
        case("ReduceSum", X, axes=[1], keepdims=0),
    ]
    if opset < 10:
        cases += [
            case("Slice", X, starts=[1], ends=[3], axes=[1]),
            case("Pad", X, pads=[0, 0, 1, 0, 0, 2], value=3.0),
            case("TopK", X, outputs=2, k=2) if opset < 10 else case("Relu", X),
        ]
        cases = [one for one in cases if one.op != "TopK"]
    check(cases, opset=opset)


def test_reductions() -> None:
    positive = np.abs(X) + 0.1
    cases = []
    for op in ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]:
        cases += [
            case(f"Reduce{op}", positive),
            case(f"Reduce{op}", positive, ints(-1), known=(1,), keepdims=0, open={0: [0, 2]}),
            case(f"Reduce{op}", positive, ints(0, 2), known=(1,)),
        ]
    cases += [
        case("ReduceSum", integers(2, 3), ints(0), known=(1,)),
        case("ReduceMax", integers(2, 3), ints(1), known=(1,), keepdims=0),
        case("ReduceSum", X, noop_with_empty_axes=1),
        case("ArgMax", X, axis=-1),
        case("ArgMax", X, axis=1, keepdims=0),
        case("ArgMin", X, axis=0),
    ]
    check(cases)
