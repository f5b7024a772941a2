"""Compressed constants against coremltools' own decompression, and blobs of every width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.coreml.executor.literals import unpack_bits
from tests.coreml.executor.harness import close, floats, integers, mb, run, types

FLOATS = (np.float32, np.float16)


def check_constant(op: str, target: str, **parameters) -> None:
    """Adds the constant to an input, so that the program has one."""
    made = []

    def build(v):
        outputs = getattr(mb, op)(**parameters)
        outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
        if not made:
            values = outputs[0].op.materialized_val_inference()
            made.extend(values if isinstance(values, tuple) else [values])
        return outputs

    results = run(build, {}, target)
    for got, want in zip(results, made, strict=True):
        close(got, want, rtol=2e-3 if np.asarray(got).dtype == np.float16 else None)


def test_cast() -> None:
    for target in ("iOS16", "iOS18"):
        check_constant(
            "constexpr_cast", target, source_val=floats((40, 5), np.float16), output_dtype="fp32"
        )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("source", [np.int8, np.uint8])
def test_affine(source: type, dtype: type) -> None:
    low = 0 if source is np.uint8 else -100
    data = integers((3, 40), low, 100, source)
    check_constant(
        "constexpr_affine_dequantize",
        "iOS16",
        quantized_data=data,
        axis=0,
        zero_point=source(3),
        scale=dtype(0.25),
    )
    check_constant(
        "constexpr_affine_dequantize",
        "iOS16",
        quantized_data=data,
        axis=-2,
        zero_point=np.array([1, 2, 3], source),
        scale=np.array([0.5, 0.1, 2], dtype),
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_packed_palettes(bits: int) -> None:
    shape = (3, 7)
    indices = integers(shape, 0, 2**bits, np.uint8).reshape(-1)
    stream = "".join(format(i, f"0{bits}b")[::-1] for i in indices)
    stream += "0" * (-len(stream) % 8)
    packed = [int(stream[at : at + 8][::-1], 2) for at in range(0, len(stream), 8)]
    check_constant(
        "constexpr_lut_to_dense",
        "iOS16",
        indices=np.array(packed, np.uint8),
        lut=floats((2**bits,)),
        shape=np.array(shape, np.uint32),
    )


def test_packed_masks() -> None:
    mask = integers((5, 5), 0, 2).astype(bool)
    packed = np.packbits(mask.reshape(-1), bitorder="little")
    check_constant(
        "constexpr_sparse_to_dense",
        "iOS16",
        mask=packed,
        nonzero_data=floats((int(mask.sum()),)),
        shape=np.array([5, 5], np.uint32),
    )


def narrow(values: np.ndarray, name: str) -> np.ndarray:
    return values.astype(types.nptype_from_builtin(types.string_to_builtin(name)))


@pytest.mark.parametrize("name", ["int4", "uint4", "int8", "uint8"])
@pytest.mark.parametrize("blocks", [(1, 1), (4, 1), (2, 5), (4, 20)])
def test_blockwise(name: str, blocks: tuple[int, int]) -> None:
    low = -8 if name.startswith("i") else 0
    data = narrow(integers((4, 20), low, low + 16), name)
    scale = floats(blocks, np.float16, 0.1, 1)
    check_constant("constexpr_blockwise_shift_scale", "iOS18", data=data, scale=scale)
    offset = narrow(integers(blocks, low, low + 16), name)
    check_constant(
        "constexpr_blockwise_shift_scale", "iOS18", data=data, scale=scale, offset=offset
    )


@pytest.mark.parametrize("name", ["uint1", "uint2", "uint3", "uint4", "uint6", "uint8"])
def test_palettes_by_block(name: str) -> None:
    entries = 2 ** int(name.removeprefix("uint"))
    indices = narrow(integers((4, 6), 0, entries), name)
    for tables in ((1, 1), (2, 1), (2, 3)):
        lut = floats((*tables, entries, 1), np.float16)
        check_constant("constexpr_lut_to_dense", "iOS18", indices=indices, lut=lut)
    for axis in (0, 1):
        vectors = floats((1, 1, entries, 3))
        check_constant(
            "constexpr_lut_to_dense",
            "iOS18",
            indices=indices,
            lut=vectors,
            vector_axis=np.int32(axis),
        )


def test_sparse_forms() -> None:
    mask = narrow(integers((4, 6), 0, 2), "uint1")
    count = int((np.asarray(mask) != 0).sum())
    check_constant("constexpr_sparse_to_dense", "iOS18", nonzero_data=floats((count,)), mask=mask)
    check_constant(
        "constexpr_sparse_blockwise_shift_scale",
        "iOS18",
        data_mask=mask,
        nonzero_data=narrow(integers((count,), -8, 8), "int4"),
        scale=floats((4, 1), np.float16, 0.1, 1),
    )
    check_constant(
        "constexpr_lut_to_sparse",
        "iOS18",
        indices_mask=mask,
        indices_nonzero_data=narrow(integers((count,), 0, 4), "uint2"),
        lut=floats((1, 1, 4, 1), np.float16),
    )
    check_constant(
        "constexpr_lut_to_sparse",
        "iOS18",
        indices_mask=mask,
        indices_nonzero_data=narrow(integers((count,), 0, 4), "uint2"),
        lut=floats((1, 1, 4, 2), np.float16),
        vector_axis=np.int32(0),
    )


def test_compressed_constants_may_be_nested() -> None:
    def build(v):
        sparse = mb.constexpr_lut_to_sparse(
            indices_mask=narrow(np.array([[1, 0, 1]]), "uint1"),
            indices_nonzero_data=narrow(np.array([1, 0]), "uint1"),
            lut=np.array([2.0, 3.0], np.float16).reshape(1, 1, 2, 1),
        )
        dense = mb.constexpr_sparse_to_dense(nonzero_data=sparse[1], mask=sparse[0])
        return mb.add(x=v["x"], y=dense)

    (got,) = run(build, {"x": np.ones((1, 3), np.float16)}, "iOS18")
    np.testing.assert_array_equal(got, [[4, 1, 3]])


@settings(max_examples=50)
@given(st.integers(1, 8), st.lists(st.integers(0, 255), min_size=1, max_size=20), st.booleans())
def test_bits_are_unpacked_from_the_least_significant(
    bits: int, values: list[int], signed: bool
) -> None:
    values = [value % 2**bits for value in values]
    number = sum(value << (bits * at) for at, value in enumerate(values))
    packed = np.frombuffer(number.to_bytes(-(-bits * len(values) // 8), "little"), np.uint8)
    expected = [v - 2**bits if signed and v >= 2 ** (bits - 1) else v for v in values]
    assert unpack_bits(packed, bits, len(values), signed=signed).tolist() == expected
