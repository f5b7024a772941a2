"""Lowering of ops, refusals by name, and properties of shapes, loops and states."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.converters.mil.mil import get_new_symbol
from hypothesis import given, settings, strategies as st

from asrbuild.coreai import asset
from asrbuild.coreai.handover import NoLoweringError
from asrbuild.coreml.executor import load
from asrbuild.coreml.request import ConversionRequest
from tests.coreai import opinions
from tests.coreai.conftest import convert_demo
from tests.coreml.executor.harness import Function, ct, floats, mb, run_function, types
from tests.coreml.executor.networks import converted
from tests.marks import needs_core_ai

pytestmark = needs_core_ai
Tensors = dict[str, Any]


def test_at_least_sixty_ops_have_a_lowering() -> None:
    """Apple's runtime also runs the programs of the executor's conformance tests."""
    ops = asset.ask(Path("ops"), "ops")[0]["ops"]
    assert len(ops) >= 120
    assert {"conv", "gru", "lstm", "layer_norm", "matmul", "gelu", "while_loop"} <= set(ops)


def test_ops_without_a_lowering_are_named_before_anything_is_built(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        small = mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=2)
        return mb.crop(x=small, crop_height=[0, 1], crop_width=[0, 1])

    package = converted(build, {"x": floats((1, 1, 4, 4))}, tmp_path / "p.mlpackage")
    with pytest.raises(NoLoweringError) as caught:
        asset.lower(package, tmp_path / "made.aimodel")
    assert caught.value.ops == ("crop", "upsample_nearest_neighbor")
    assert caught.value.file == str(package)
    assert "witness=off" in str(caught.value.fix)
    assert not (tmp_path / "made.aimodel").exists()


def test_a_form_of_an_op_without_a_lowering_is_named(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        indices = mb.cast(x=mb.reshape(x=x, shape=[4]), dtype="int32")
        return mb.scatter(
            data=mb.reshape(x=x, shape=[4]),
            indices=indices,
            updates=np.ones(4, np.float32),
            mode="add",
        )

    package = converted(build, {"x": floats((1, 4))}, tmp_path / "p.mlpackage")
    with pytest.raises(NoLoweringError, match="scatter with mode add and indices that may repeat"):
        asset.lower(package, tmp_path / "made.aimodel")


def test_a_neural_network_is_named(tmp_path: Path) -> None:
    package = tmp_path / "p.mlmodel"
    convert_demo(ConversionRequest(format="neuralnetwork", precision="fp32"), package)
    with pytest.raises(NoLoweringError, match="this package is a neuralNetwork") as caught:
        asset.lower(package, tmp_path / "made.aimodel")
    assert "coreml.format=mlprogram" in str(caught.value.fix)


class Both:
    """A function in asrbuild's executor and in Apple's runtime."""

    def __init__(self, inputs: Mapping[str, Any], build: Callable[..., Any], folder: Path) -> None:
        placeholders = {
            name: mb.placeholder(shape=shape, dtype=dtype)
            for name, (shape, dtype) in inputs.items()
        }
        with Function(placeholders, opset_version=ct.target.iOS17) as function:
            built = build(**function.inputs)
            function.set_outputs(list(built) if isinstance(built, tuple) else [built])
        self.function, self.folder = function, folder
        self.asset = folder / "both.aimodel"
        self.ready = False

    def agree(self, values: Tensors) -> None:
        with opinions.recording() as recorded:
            run_function(self.function, values, "iOS17")
            (case,) = recorded.cases
            recorded.weights.flush()
            if not self.ready:
                text = json.dumps({"functions": [case.function]})
                (recorded.folder / "program.json").write_text(text, encoding="utf-8")
                asset.ask(
                    self.folder,
                    "lower",
                    handover=str(recorded.folder),
                    asset=str(self.asset),
                    metadata=asset.AssetMetadata().written(),
                    wide=False,
                    keep_all=False,
                )
                asset.ask(self.folder, "open", asset=str(self.asset))
                self.ready = True
        _, results = asset.ask(
            self.folder, "run", case.given, asset=str(self.asset), function="case_0", states=[]
        )
        for name, wanted in zip(case.function["block"]["given"], case.outputs, strict=True):
            np.testing.assert_allclose(results[name], wanted, rtol=1e-5, atol=1e-5, err_msg=name)


@settings(max_examples=12)
@given(st.data())
def test_dynamic_axes_agree_in_both_runtimes(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    both = _once(tmp_path_factory, "axes", _dynamic)
    rows, columns = (data.draw(st.integers(1, 9)) for _ in range(2))
    both.agree({"x": floats((rows, columns, 4)), "y": floats((columns, 4), seed=1)})


def _dynamic(folder: Path) -> Both:
    rows, columns = get_new_symbol(), get_new_symbol()

    def build(x: Any, y: Any) -> Any:
        """Sizes that are known only at run time, through the ops that lose them."""
        total = mb.add(x=x, y=y)
        scores = mb.softmax(x=mb.matmul(x=total, y=y, transpose_y=True), axis=-1)
        mixed = mb.layer_norm(x=mb.matmul(x=scores, y=y), axes=[-1], epsilon=1e-5)
        count = mb.slice_by_index(x=mb.shape(x=x), begin=[0], end=[1], squeeze_mask=[True])
        steps = mb.cast(x=mb.range_1d(start=0, end=count, step=1), dtype="fp32")
        flat = mb.reduce_mean(x=mixed, axes=[1, 2])
        joined = mb.concat(values=[mixed, x], axis=1)
        padded = mb.pad(x=joined, pad=[1, 0, 0, 0], mode="constant", constant_val=1.5)
        return (
            mb.mul(x=flat, y=steps),
            padded,
            mb.slice_by_index(
                x=joined,
                begin=[0, 1, 0],
                end=[0, 0, 2],
                begin_mask=[True, False, False],
                end_mask=[True, True, False],
            ),
        )

    inputs = {"x": ((rows, columns, 4), types.fp32), "y": ((columns, 4), types.fp32)}
    return Both(inputs, build, folder)


@settings(max_examples=12)
@given(st.integers(0, 12), st.integers(0, 2**16))
def test_loops_agree_in_both_runtimes(
    tmp_path_factory: pytest.TempPathFactory, rounds: int, seed: int
) -> None:
    both = _once(tmp_path_factory, "loops", _loop)
    both.agree(
        {
            "n": np.array([rounds], np.int32),
            "a": floats((2, 3), seed=seed % 97),
            "b": floats((2, 3), seed=seed % 89 + 1),
        }
    )


def _loop(folder: Path) -> Both:
    def build(n: Any, a: Any, b: Any) -> Any:
        """Swaps, sums and writes into a list: the operations of a recurrent network, and more."""

        def body(i: Any, x: Any, y: Any, rows: Any) -> Any:
            mixed = mb.tanh(x=mb.add(x=mb.mul(x=x, y=0.5), y=y))
            at = mb.mod(x=i, y=np.array([4], np.int32))
            row = mb.expand_dims(x=mixed, axes=[0])
            return (
                mb.add(x=i, y=1),
                y,
                mixed,
                mb.scatter(data=rows, indices=at, updates=row, axis=0, mode="update"),
            )

        zeros = np.zeros((4, 2, 3), np.float32)
        return tuple(
            mb.while_loop(
                _cond=lambda i, x, y, rows: mb.less(x=i, y=n),
                _body=body,
                loop_vars=(np.array([0], np.int32), a, b, zeros),
            )
        )

    shapes = {"n": ((1,), types.int32), "a": ((2, 3), types.fp32), "b": ((2, 3), types.fp32)}
    return Both(shapes, build, folder)


_made: dict[str, Both] = {}


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Both]) -> Both:
    """Builds a function once for all examples of a test."""
    if name not in _made:
        _made[name] = make(factory.mktemp(name))
    return _made[name]


@settings(max_examples=8)
@given(st.lists(st.sampled_from([1, 2, 4, 16]), min_size=1, max_size=5))
def test_states_carry_streams_over_calls_of_any_size(
    form: Callable[[str], Path], lengths: list[int]
) -> None:
    """A stateful package in calls of any length gives the outputs of one call over all steps."""
    ours = load(form("half_range"))
    apples = _stream(form)
    steps = sum(lengths)
    features = floats((1, steps, 19, 26))
    rest = {"previous_state_c": np.zeros((1, 256)), "previous_state_h": np.zeros((1, 256))}
    whole = ours.predict(
        {"input_node": features, "input_lengths": np.array([steps], np.int32)}
        | {name: value.astype(np.float32) for name, value in rest.items()}
    )
    state, rows, start = apples.make_state(), [], 0
    for length in lengths:
        part = features[:, start : start + length]
        start += length
        given = {"input_node": part, "input_lengths": np.array([length], np.int32)}
        rows.append(apples.predict(given, state)["logits"])
    # The executor rounds to half precision, and Apple's runtime computes in single.
    np.testing.assert_allclose(np.concatenate(rows), whole["logits"], rtol=0, atol=1e-2)


_streams: list[asset.CoreAIModel] = []


def _stream(form: Callable[[str], Path]) -> asset.CoreAIModel:
    if not _streams:
        made = form("half_stateful_range").with_suffix(".aimodel")
        asset.lower(form("half_stateful_range"), made, wide=True)
        _streams.append(asset.load(made))
    return _streams[0]
