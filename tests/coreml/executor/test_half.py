"""Half precision: an op gives the single-precision result of the same numbers, rounded once.

Single precision is compared with independent references in the other modules. Inputs here are exact
in half precision, so the two differ by that one rounding only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.coreml.executor.harness import floats, integers, mb, run

HALF, SINGLE = np.float16, np.float32
I32 = np.int32
Build = Callable[[dict[str, Any]], Any]


def op(name: str, **constants: Any) -> Build:
    return lambda v: getattr(mb, name)(**v, **constants)


def image(*shape: int) -> dict[str, np.ndarray]:
    return {"x": floats(shape)}


def branches(v: dict[str, Any]) -> Any:
    return mb.cond(
        pred=mb.squeeze(x=v["flag"], axes=[0]),
        _true_fn=lambda: mb.add(x=v["x"], y=v["y"]),
        _false_fn=lambda: mb.mul(x=v["x"], y=v["y"]),
    )


def lists(v: dict[str, Any]) -> Any:
    dtype = "fp16" if v["rows"].dtype.__name__ == "fp16" else "fp32"
    empty = mb.make_list(init_length=3, elem_shape=(2,), dynamic_length=False, dtype=dtype)
    filled = mb.list_scatter(ls=empty, indices=[0, 1, 2], value=v["rows"])
    other = mb.list_write(ls=filled, index=1, value=v["row"])
    return mb.list_read(ls=filled, index=1), mb.list_gather(ls=other, indices=[2, 1])


def like(v: dict[str, Any]) -> Any:
    """A value in the type of ``x``."""
    dtype = HALF if v["x"].dtype.__name__ == "fp16" else SINGLE
    filled = mb.fill(shape=mb.shape(x=v["x"]), value=dtype(0.1))
    return filled, mb.fill_like(ref_tensor=v["x"], value=dtype(0.1))


#: Name -> (target, program, tensors); floats are in half precision when they are made.
PROGRAMS: dict[str, tuple[str, Build, dict[str, Any]]] = {
    "argsort": ("iOS17", op("argsort", axis=-1), image(3, 5)),
    "band_part": ("iOS15", op("band_part", lower=1, upper=0), image(4, 4)),
    "batch_to_space": (
        "iOS15",
        op("batch_to_space", block_shape=[2, 2], crops=[[0, 0], [0, 1]]),
        image(4, 2, 2, 3),
    ),
    "cond": (
        "iOS15",
        branches,
        {"x": floats((3,)), "y": floats((3,), seed=1), "flag": np.array([True])},
    ),
    "depth_to_space": ("iOS15", op("depth_to_space", block_size=2), image(1, 8, 2, 3)),
    "einsum": (
        "iOS15",
        op("einsum", equation="abcd,adce->abce"),
        {"values": [floats((2, 3, 2, 4)), floats((2, 4, 2, 5), seed=1)]},
    ),
    "fill": ("iOS16", like, image(2, 3)),
    "lists": ("iOS15", lists, {"rows": floats((3, 2)), "row": floats((2,), seed=1)}),
    "non_zero": ("iOS15", op("non_zero"), {"x": integers((3, 4), 0, 2).astype(SINGLE)}),
    "pixel_shuffle": ("iOS15", op("pixel_shuffle", upscale_factor=2), image(1, 8, 2, 3)),
    "pixel_unshuffle": (
        "iOS16",
        op("pixel_unshuffle", downscale_factor=np.uint32(2)),
        image(1, 2, 4, 6),
    ),
    "reverse_sequence": (
        "iOS15",
        op("reverse_sequence", seq_axis=1, batch_axis=0),
        {"x": floats((3, 5, 2)), "lengths": np.array([0, 3, 5], I32)},
    ),
    "scaled_dot_product_attention": (
        "iOS18",
        op("scaled_dot_product_attention"),
        {
            "query": floats((2, 3, 4)),
            "key": floats((2, 5, 4), seed=1),
            "value": floats((2, 5, 4), seed=2),
            "attn_mask": floats((2, 3, 5), seed=3),
        },
    ),
    "select": (
        "iOS15",
        op("select"),
        {
            "cond": integers((3, 4), 0, 2).astype(bool),
            "a": floats((3, 4)),
            "b": floats((3, 4), seed=1),
        },
    ),
    "slice_by_index": (
        "iOS15",
        op("slice_by_index", begin=[2, 0], end=[0, 3], stride=[-1, 2]),
        image(3, 4),
    ),
    "slice_by_size": ("iOS15", op("slice_by_size", begin=[1, 0], size=[2, -1]), image(3, 4)),
    "slice_update": (
        "iOS18",
        op("slice_update", begin=[1, 0], end=[3, 2]),
        {"x": floats((3, 4)), "update": floats((2, 2), seed=1)},
    ),
    "sliding_windows": ("iOS15", op("sliding_windows", axis=1, size=3, stride=2), image(2, 7, 3)),
    "space_to_batch": (
        "iOS15",
        op("space_to_batch", block_shape=[2, 2], paddings=[[0, 0], [1, 0]]),
        image(1, 2, 4, 5),
    ),
    "space_to_depth": ("iOS15", op("space_to_depth", block_size=2), image(1, 2, 4, 6)),
    "topk": ("iOS15", op("topk", k=2, axis=-1), image(3, 5)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_half_precision_is_single_precision_rounded_once(name: str) -> None:
    target, build, tensors = PROGRAMS[name]
    half = {key: _as(value, HALF) for key, value in tensors.items()}
    single = {key: _as(_as(value, HALF), SINGLE) for key, value in tensors.items()}
    got, want = run(build, half, target), run(build, single, target)
    assert len(got) == len(want)
    for narrow, wide in zip(got, want, strict=True):
        if narrow.dtype.kind != "f":
            np.testing.assert_array_equal(narrow, wide)
            continue
        assert (narrow.dtype, wide.dtype) == (HALF, SINGLE)
        np.testing.assert_array_equal(narrow, wide.astype(HALF))


@pytest.mark.parametrize(("name", "gates"), [("gru", 3), ("rnn", 1)])
def test_recurrent_ops_round_their_state_at_every_step(name: str, gates: int) -> None:
    rows, hidden = 3 * gates, 3
    constants = {
        "weight_ih": floats((rows, 2), seed=1),
        "weight_hh": floats((rows, hidden), seed=2),
        "bias": floats((rows,), seed=3),
    }
    tensors = {"x": floats((4, 2, 2)), "initial_h": floats((2, hidden))}

    def outputs(dtype: type) -> list[np.ndarray]:
        given = {key: _as(_as(value, HALF), dtype) for key, value in constants.items()}
        build = op(name, **given, output_sequence=True)
        return run(build, {k: _as(_as(v, HALF), dtype) for k, v in tensors.items()}, "iOS17")

    for narrow, wide in zip(outputs(HALF), outputs(SINGLE), strict=True):
        assert (narrow.dtype, wide.dtype) == (HALF, SINGLE)
        np.testing.assert_allclose(narrow, wide, atol=2e-3)
        assert not np.array_equal(narrow, wide)


def _as(value: Any, dtype: type) -> Any:
    if isinstance(value, list):
        return [_as(part, dtype) for part in value]
    return value.astype(dtype) if value.dtype.kind == "f" else value
