"""Compressed weights: the executor's results compared with coremltools' decompression."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from asrbuild.architectures.deepspeech.from_weights import convert_weights
from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml import compress, executor
from asrbuild.coreml.compression import Layers
from asrbuild.coreml.request import ConversionRequest, FixedSteps, RangeSteps
from asrbuild.coreml.speedups.importing import import_coremltools
from tests.coreml.dataflow import op_counts, read_spec
from tests.paths import ROOT

ct = import_coremltools()

#: Odd, so that indices and masks of a weight do not end with a byte.
HIDDEN = 33
WEIGHTS = random_weights(HIDDEN, seed=3)
LAYERS = ("layer_1", "layer_2", "layer_3", "lstm", "layer_5", "layer_6")
MIXED = {
    "layer_1": "int8",
    "layer_2": "palettize_4",
    "layer_3": "palettize_6",
    "lstm": "palettize_4",
    "layer_6": "prune",
}


def every(method: str) -> dict[str, str]:
    return dict.fromkeys(LAYERS, method)


STATIC = ConversionRequest(steps=FixedSteps(4), sparsity=0.3)
REQUESTS = {
    **{
        f"{method}-{target}": replace(STATIC, compress=every(method), deployment_target=target)
        for method in ("int8", "palettize_6", "palettize_4", "prune")
        for target in ("iOS17", "iOS18")
    },
    "mixed": replace(STATIC, compress=MIXED),
    "loop": replace(STATIC, compress=MIXED, lstm="loop", deployment_target="iOS16"),
    "single": replace(STATIC, compress=MIXED, precision="fp32", deployment_target="iOS16"),
    "range": replace(STATIC, compress=MIXED, lstm="loop", steps=RangeSteps(1, 4, 20)),
}
#: Operations that expand weights, before iOS 18 and from it on.
EXPAND = {
    "int8": ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"),
    "palettize_6": ("constexpr_lut_to_dense", "constexpr_lut_to_dense"),
    "palettize_4": ("constexpr_lut_to_dense", "constexpr_lut_to_dense"),
    "prune": ("constexpr_sparse_to_dense", "constexpr_sparse_to_dense"),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("compressed")
    made: dict[str, Path] = {}

    def build(name: str, request: ConversionRequest | None = None) -> Path:
        if name not in made:
            made[name] = folder / f"{name}.mlpackage"
            convert_weights(WEIGHTS, request or REQUESTS[name], made[name])
        return made[name]

    return build


def run(package: Path, function: str | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return executor.load(package, function=function).predict(
        {
            "input_node": rng.standard_normal((1, 4, 19, 26), np.float32),
            "input_lengths": np.array([3], np.int32),
            "previous_state_c": rng.standard_normal((1, HIDDEN), np.float32),
            "previous_state_h": rng.uniform(-1, 1, (1, HIDDEN)).astype(np.float32),
        }
    )


def decompressed(package: Path) -> Any:
    """The package with weights that coremltools has decompressed."""
    model = ct.models.MLModel(str(package), skip_model_load=True)
    return ct.optimize.coreml.decompress_weights(model)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_executor_agrees_with_coremltools_decompression(package, name, tmp_path):
    plain = tmp_path / "plain.mlpackage"
    decompressed(package(name)).save(str(plain))
    assert not [op for op in op_counts(plain) if op.startswith("constexpr_")]
    expected, found = run(plain), run(package(name))
    for output, values in expected.items():
        np.testing.assert_array_equal(found[output], values)
        assert np.isfinite(values).all()


@pytest.mark.parametrize("target", ["iOS17", "iOS18"])
@pytest.mark.parametrize("method", EXPAND)
def test_weights_are_stored_as_asked(package, method, target):
    counts = op_counts(package(f"{method}-{target}"))
    # Five dense layers, and the two matrices of the lstm.
    assert counts[EXPAND[method][target == "iOS18"]] == 7


def weights_in(model: Any) -> dict[str, np.ndarray]:
    """Operation and input -> weight matrix of a program that coremltools has decompressed."""
    found = {}
    for operation in model._mil_program.functions["main"].operations:
        for name in ("weight", "weight_ih", "weight_hh"):
            given = operation.inputs.get(name)
            if given is not None:
                found[f"{operation.name}.{name}"] = np.asarray(given.val)
    return found


def stored(method: str, package) -> list[tuple[np.ndarray, np.ndarray]]:
    """(exact, stored) values of each weight matrix, float64; both by coremltools."""
    freezing = replace(REQUESTS[f"{method}-iOS17"], compress={"lstm": "prune"}, sparsity=1e-9)
    exact = weights_in(decompressed(package("exact", freezing)))
    coarse = weights_in(decompressed(package(f"{method}-iOS17")))
    assert exact.keys() == coarse.keys()
    assert len(exact) == 7
    return [(exact[n].astype(np.float64), coarse[n].astype(np.float64)) for n in exact]


def test_the_error_of_int8_is_half_a_step_at_most(package):
    for exact, coarse in stored("int8", package):
        step = np.abs(exact).max(axis=1, keepdims=True) / 127
        # The scale itself is stored in fp16.
        assert (np.abs(exact - coarse) <= step * 0.5 + np.abs(exact) * 2**-10).all()
        assert np.abs(exact - coarse).max() > 0


@pytest.mark.parametrize(("method", "bits"), [("palettize_6", 6), ("palettize_4", 4)])
def test_a_palette_has_two_to_the_power_of_its_bits_values(package, method, bits):
    for exact, coarse in stored(method, package):
        values = np.unique(coarse)
        assert len(values) == 2**bits
        nearest = np.abs(exact[..., None] - values).min(axis=-1)
        assert (np.abs(exact - coarse) <= nearest + 2**-10).all()


def test_pruning_zeroes_the_smallest_and_keeps_the_rest(package):
    for exact, coarse in stored("prune", package):
        kept = coarse != 0
        np.testing.assert_array_equal(coarse[kept], exact[kept])
        assert (~kept).mean() == pytest.approx(0.3, abs=0.01)
        assert np.abs(exact[~kept]).max() <= np.abs(exact[kept]).min()


weights = hnp.arrays(
    np.float16, st.integers(1, 60), elements=st.floats(-4, 4, width=16, allow_nan=False)
)


@settings(max_examples=60)
@given(weights, st.sampled_from([1, 2, 4, 6]), st.sampled_from([np.float16, np.float32]))
def test_each_palette_is_a_local_optimum(values, bits, dtype):
    table, indices = compress.palette(values.astype(dtype), bits)
    assert table.shape == (2**bits,)
    assert table.dtype == dtype
    assert indices.dtype == np.uint8

    def error(palette: np.ndarray) -> float:
        return float((np.abs(values.astype(float)[:, None] - palette).min(axis=1) ** 2).sum())

    wide = table.astype(float)
    ours = float(((values.astype(float) - wide[indices]) ** 2).sum())
    assert ours == pytest.approx(error(wide[: max(indices) + 1]), abs=2e-4 * len(values))
    # Lloyd's algorithm, started from the quantiles, must not find a better palette.
    guess = np.quantile(values.astype(float), np.linspace(0, 1, 2**bits))
    for _ in range(20):
        nearest = np.abs(values.astype(float)[:, None] - guess).argmin(axis=1)
        for at in range(len(guess)):
            if (nearest == at).any():
                guess[at] = values[nearest == at].astype(float).mean()
    assert ours <= error(guess) + 2e-4 * len(values)


@settings(max_examples=60)
@given(weights, st.floats(0.01, 0.99))
def test_pruning_takes_the_smallest_fraction(values, fraction):
    limit = compress.smallest(values, fraction)
    wanted = int(values.size * fraction)
    assert (np.abs(values) < limit).sum() <= max(wanted - 1, 0)
    assert wanted == 0 or (np.abs(values) <= limit).sum() >= wanted


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_coremltools_own_pruning_does_nothing_to_a_large_half_precision_weight():
    """The reason for ``smallest``: if this test fails, coremltools is fixed and it may go."""
    from coremltools.optimize.coreml._quantization_passes import prune_weights

    large = np.random.default_rng(0).standard_normal((257, 256)).astype(np.float16)
    half = prune_weights.compress_by_magnitude(large, 0.5)
    assert half.nonzero_data.size == np.count_nonzero(large)
    single = prune_weights.compress_by_magnitude(large.astype(np.float32), 0.5)
    assert single.nonzero_data.size == pytest.approx(large.size / 2, rel=0.01)
    assert (np.abs(large) <= compress.smallest(large, 0.5)).mean() == pytest.approx(0.5, abs=0.01)


def size(package: Path) -> int:
    return next(package.rglob("weight.bin")).stat().st_size


def test_functions_share_their_compressed_weights(package, tmp_path):
    alone = replace(REQUESTS["mixed"], deployment_target="iOS18")
    both = replace(alone, functions={"chunk": FixedSteps(4), "whole": RangeSteps(1, 4, 20)})
    two = tmp_path / "two.mlpackage"
    convert_weights(WEIGHTS, both, two)
    one = package("mixed18", alone)
    assert size(two) <= size(one) + 2048
    for function in both.functions:
        for output, values in run(one).items():
            np.testing.assert_array_equal(run(two, function)[output], values)


def test_the_state_freezes_past_the_end_with_coarse_weights(package):
    """One real step in a chunk of four leaves the state that a chunk of one leaves."""
    for method in ("int8", "palettize_4", "prune"):
        request = replace(REQUESTS[f"{method}-iOS17"], steps=FixedSteps(1))
        one = executor.load(package(f"{method}-one", request))
        four = executor.load(package(f"{method}-iOS17"))
        given = {
            "input_node": np.random.default_rng(2).standard_normal((1, 4, 19, 26), np.float32),
            "input_lengths": np.array([1], np.int32),
            "previous_state_c": np.full((1, HIDDEN), 0.5, np.float32),
            "previous_state_h": np.full((1, HIDDEN), -0.5, np.float32),
        }
        padded = four.predict(given)
        exact = one.predict(given | {"input_node": given["input_node"][:, :1]})
        for state in ("new_state_c", "new_state_h"):
            np.testing.assert_array_equal(padded[state], exact[state])


def test_a_weight_that_coremltools_leaves_is_an_error():
    from coremltools.converters.mil import Builder as mb  # noqa: N813

    weight = np.ones((8, 4), np.float32)
    weight[0, 0] = np.inf

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=ct.target.iOS17)
    def program(x):
        return mb.linear(x=x, weight=weight, name="layer_1_BiasAdd")

    with pytest.raises(AsrbuildError, match="left the weights of layer_1 as they were") as caught:
        compress.compress_program(
            ct, program, replace(STATIC, compress={"layer_1": "int8"}), Layers(("layer_1",))
        )
    assert caught.value.key == "coreml.compress_layers.layer_1"
    with pytest.raises(AsrbuildError, match="no weights of layer_2, lstm to compress"):
        compress.compress_program(
            ct,
            program,
            replace(STATIC, compress={"layer_2": "int8", "lstm": "int8"}),
            Layers(("layer_1",)),
        )


def _without(name: str) -> Callable[[Any], object]:
    def remove(operation: Any) -> None:
        given = operation.attributes if name in operation.attributes else operation.inputs
        del given[name]

    return remove


def _of_rows(count: int) -> Callable[[Any], object]:
    def reshape(operation: Any) -> None:
        shape = operation.attributes["shape"].immediateValue.tensor
        sizes = np.array([count, 494], np.uint32)
        if shape.WhichOneof("value") == "bytes":
            shape.bytes.values = sizes.tobytes()
        else:
            getattr(shape, shape.WhichOneof("value")).values[:] = sizes.tolist()

    return reshape


DAMAGE = {
    "palettize_4-iOS17": [
        _without("lut"),
        _without("indices"),
        _without("shape"),
        _of_rows(1000),
        _of_rows(2**31),
        _of_rows(3),
    ],
    "prune-iOS17": [_without("mask"), _of_rows(1000), _of_rows(3)],
    "int8-iOS17": [_without("scale"), _without("axis")],
    "palettize_4-iOS18": [_without("lut"), _without("indices")],
    "prune-iOS18": [_without("mask"), _without("nonzero_data")],
    "int8-iOS18": [_without("scale"), _without("data")],
}


@pytest.mark.parametrize("name", DAMAGE)
def test_parts_that_do_not_fit_are_one_clear_error(package, name, tmp_path):
    for number, damage in enumerate(DAMAGE[name]):
        damaged = tmp_path / f"{number}.mlpackage"
        shutil.copytree(package(name), damaged)
        spec = read_spec(damaged)
        (function,) = spec.mlProgram.functions.values()
        operations = function.block_specializations[function.opset].operations
        damage(next(op for op in operations if op.type.startswith("constexpr_")))
        (damaged / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString())
        with pytest.raises(AsrbuildError, match=r"^damaged weights: the parts of layer_1_weights"):
            run(damaged)


SCRIPT = """
import sys
from pathlib import Path
from asrbuild.architectures.deepspeech.from_graph import convert_graph
from asrbuild.architectures.deepspeech.export import write_frozen_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from tests.coreml.test_compress import HIDDEN, REQUESTS, WEIGHTS
folder = Path(sys.argv[1])
flags = ExportFlags(n_hidden=HIDDEN, n_steps=-1)
write_frozen_graph(WEIGHTS, flags, list("abcdefghijklmnopqrstuvwxyz' "), folder / "graph.pb")
convert_graph(folder / "graph.pb", REQUESTS["loop"], folder / "graph.mlpackage")
"""


def test_the_front_end_for_graphs_compresses_the_same(package, tmp_path):
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        check=True,
        cwd=ROOT,
    )
    converted = tmp_path / "graph.mlpackage"
    ours, theirs = (op_counts(p) for p in (package("loop"), converted))
    expanding = {op: count for op, count in ours.items() if op.startswith("constexpr_")}
    assert expanding == {op: n for op, n in theirs.items() if op.startswith("constexpr_")}
    assert sum(expanding.values()) == 5
    for output, values in run(converted).items():
        np.testing.assert_allclose(run(package("loop"))[output], values, atol=2e-3)
