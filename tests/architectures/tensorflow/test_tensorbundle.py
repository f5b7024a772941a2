"""asrbuild's checkpoint reader against TensorFlow's, and on damaged files."""

from __future__ import annotations

import shutil
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from asrbuild.architectures.tensorflow.tensorbundle import open_bundle
from asrbuild.base.errors import AsrbuildError

_RNG = np.random.default_rng(0)
ARRAYS = {
    "flags": np.array([True, False, True]),  # three bytes: the following tensors are not aligned
    "floats": _RNG.standard_normal((5, 7)).astype(np.float32),
    "doubles": _RNG.standard_normal(3),
    "halves": _RNG.standard_normal((2, 3)).astype(np.float16),
    "ints": np.arange(-4, 4, dtype=np.int32),
    "longs": np.array([[1 << 40, -(1 << 50)]], np.int64),
    "bytes": np.arange(200, 255, dtype=np.uint8),
    "complex": (_RNG.standard_normal(4) + 1j).astype(np.complex64),
    "scalar": np.float32(2.5),
    "empty": np.zeros((0, 4), np.float32),
}


def save(tf, prefix: Path, arrays: dict, slices: list[str] | None = None) -> Path:
    names = list(arrays)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=slices or [""] * len(names),
        tensors=[tf.constant(arrays[name]) for name in names],
    )
    return prefix


@pytest.fixture(scope="module")
def checkpoint(tf, tmp_path_factory) -> Path:
    return save(tf, tmp_path_factory.mktemp("bundle") / "model-7", ARRAYS)


@pytest.fixture
def copy(checkpoint, tmp_path) -> Path:
    """A checkpoint to damage."""
    for path in checkpoint.parent.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path / checkpoint.name


def same_as_tensorflow(tf, prefix: Path) -> None:
    theirs = tf.train.load_checkpoint(str(prefix))
    ours = open_bundle(prefix)
    shapes = theirs.get_variable_to_shape_map()
    assert ours.names() == sorted(shapes)
    for name, shape in shapes.items():
        expected = theirs.get_tensor(name)
        got = ours.read(name)
        assert ours.shape(name) == tuple(shape)
        assert got.dtype == expected.dtype
        assert got.tobytes() == np.asarray(expected).tobytes(), name
        assert got.flags.aligned
        assert not got.flags.writeable or not got.base


def test_every_type_is_bit_equal(tf, checkpoint):
    same_as_tensorflow(tf, checkpoint)


def test_several_shards_are_read(tf, tmp_path):
    parts = [
        save(tf, tmp_path / "part-a", {"a": ARRAYS["floats"], "b": ARRAYS["ints"]}),
        save(tf, tmp_path / "part-b", {"c": ARRAYS["doubles"]}),
        save(tf, tmp_path / "part-c", {"d": ARRAYS["halves"]}),
    ]
    merged = tmp_path / "merged"
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(part) for part in parts], destination_prefix=str(merged)
    )
    assert len(list(tmp_path.glob("merged.data-*"))) == 3
    same_as_tensorflow(tf, merged)


def test_an_index_of_many_blocks_is_read(tf, tmp_path):
    arrays = {f"scope_{i % 7}/tensor_{i}": np.float32(i) for i in range(15_000)}
    prefix = save(tf, tmp_path / "many", arrays)
    assert prefix.with_suffix(".index").stat().st_size > 256 * 1024  # more than one block
    ours = open_bundle(prefix)
    assert ours.names() == sorted(arrays)
    for i in (0, 7_499, 14_999):
        assert ours.read(f"scope_{i % 7}/tensor_{i}") == i


def test_checkpoints_of_tensorflow_1_are_read(tf, tmp_path, weights):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        for name, value in weights.named().items():
            v1.get_variable(name, initializer=value, use_resource=False)
        session.run(v1.global_variables_initializer())
        prefix = v1.train.Saver().save(session, str(tmp_path / "best_dev"), global_step=10)
    same_as_tensorflow(tf, Path(prefix))


@pytest.mark.parametrize("name", [name for name in ARRAYS if name != "empty"])
def test_flipped_byte_names_its_tensor(copy, name):
    entry = open_bundle(copy).entries[name]
    data = copy.with_name(copy.name + ".data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[entry.offset + entry.size // 2] ^= 0x10
    data.write_bytes(content)
    bundle = open_bundle(copy)
    with pytest.raises(AsrbuildError, match=f"tensor {name} does not match its checksum"):
        bundle.read(name)
    for other in set(ARRAYS) - {name}:
        bundle.read(other)


def test_truncated_data_is_refused(copy):
    data = copy.with_name(copy.name + ".data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-1])
    bundle = open_bundle(copy)
    ends = {name: entry.offset + entry.size for name, entry in bundle.entries.items()}
    last = max(ends, key=lambda name: (ends[name], bundle.entries[name].size))
    with pytest.raises(AsrbuildError, match=f"tensor {last} ends at byte") as error:
        bundle.read(last)
    assert "cut off" in error.value.fix


def test_a_truncated_index_is_refused_at_every_length(copy):
    index = copy.with_name(copy.name + ".index")
    whole = index.read_bytes()
    for size in range(len(whole)):
        index.write_bytes(whole[:size])
        with pytest.raises(AsrbuildError, match="not a whole TensorFlow checkpoint index"):
            open_bundle(copy)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_in_the_index_is_found(checkpoint, copy, data):
    whole = checkpoint.with_name(checkpoint.name + ".index").read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    copy.with_name(copy.name + ".index").write_bytes(flipped)
    try:
        damaged = open_bundle(copy)
    except AsrbuildError:
        return
    # No checksum covers the footer's padding and its unused half, and no reader uses them.
    assert damaged.entries == open_bundle(checkpoint).entries


def test_compressed_blocks_are_refused(copy):
    index = copy.with_name(copy.name + ".index")
    content = bytearray(index.read_bytes())
    # The one data block begins at 0; find its end by its own checksum.
    for size in range(8, len(content) - 53):
        if masked(bytes(content[: size + 1])) == int.from_bytes(
            content[size + 1 : size + 5], "little"
        ):
            break
    content[size] = 1
    content[size + 1 : size + 5] = masked(bytes(content[: size + 1])).to_bytes(4, "little")
    index.write_bytes(content)
    with pytest.raises(AsrbuildError, match="compressed by method 1"):
        open_bundle(copy)


def masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_partitioned_tensor_is_refused(tf, tmp_path):
    arrays = {"whole": np.ones(3, np.float32), "parts": np.ones((5, 4), np.float32)}
    prefix = save(tf, tmp_path / "sliced", arrays, ["", "10 4 0,5:-"])
    bundle = open_bundle(prefix)
    assert bundle.names() == ["parts", "whole"]
    with pytest.raises(AsrbuildError, match="tensor parts is stored in partitions"):
        bundle.read("parts")
    assert bundle.read("whole").sum() == 3


def test_strings_are_refused(tf, tmp_path):
    bundle = open_bundle(save(tf, tmp_path / "text", {"name": np.array([b"x", b"yz"])}))
    with pytest.raises(AsrbuildError, match="tensor name has elements of type string"):
        bundle.read("name")


def test_missing_tensors_and_files_are_refused(copy):
    with pytest.raises(AsrbuildError, match="no tensor nothing") as error:
        open_bundle(copy).read("nothing")
    assert "floats" in error.value.fix
    copy.with_name(copy.name + ".data-00000-of-00001").unlink()
    with pytest.raises(AsrbuildError, match="cannot read the checkpoint"):
        open_bundle(copy)
    with pytest.raises(AsrbuildError, match="cannot read the checkpoint"):
        open_bundle(copy.with_name("model-8"))
