"""Whole networks, as coremltools writes them: by ``ct.convert`` and by ``NeuralNetworkBuilder``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor import load
from tests.coreml.executor.harness import ct, floats, mb
from tests.coreml.executor.layers import same
from tests.coreml.executor.networks import FRAMES, WEIGHT, WORDS, Build, converted
from tests.coreml.executor.plain import lstm_steps, over_batch, processed, volume, weights


def network(build: Build, **arrays: np.ndarray) -> list[np.ndarray]:
    """The outputs of a MIL program as a neural network, in the order of its description."""
    with tempfile.TemporaryDirectory() as directory:
        model = load(converted(build, arrays, Path(directory) / "network.mlmodel"))
        return list(model.predict(arrays).values())


def test_a_bidirectional_lstm() -> None:
    x, h, c = floats((6, 1, 5)), floats((1, 6)), floats((1, 6), seed=1)
    ahead, back = weights(3, 5), weights(3, 5, seed=7)

    def build(x: Any, h: Any, c: Any) -> Any:
        return mb.lstm(
            x=x,
            initial_h=h,
            initial_c=c,
            weight_ih=ahead[0],
            weight_hh=ahead[1],
            bias=ahead[2],
            weight_ih_back=back[0],
            weight_hh_back=back[1],
            bias_back=back[2],
            direction="bidirectional",
            output_sequence=True,
        )

    f = over_batch(x, h[:, :3], c[:, :3], *ahead)
    b = over_batch(x, h[:, 3:], c[:, 3:], *back, reverse=True)
    expected = [np.concatenate(pair, -1) for pair in zip(f, b, strict=True)]
    same(network(build, x=x, h=h, c=c), *expected)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_recurrent_layers(direction: str) -> None:
    """Each layer runs with initial states that are constants, then with states that are inputs."""
    x, h = floats((5, 1, 3)), floats((1, 2))
    w_x, w_h, b = floats((6, 3), seed=1), floats((6, 2), seed=2), floats((6,), seed=3)
    simple = [floats(shape, low=-0.6, high=0.6, seed=4) for shape in ((2, 2), (2, 2), (2,))]
    lstm = weights(2, 2, seed=8)
    zero = np.zeros((1, 2), np.float32)

    def build(x: Any, h: Any) -> Any:
        given = {"direction": direction, "output_sequence": True}
        x, _ = mb.gru(x=x, initial_h=h, weight_ih=w_x, weight_hh=w_h, bias=b, **given)
        x, _ = mb.rnn(
            x=x,
            initial_h=zero,
            weight_ih=simple[0],
            weight_hh=simple[1],
            bias=simple[2],
            activation="linear",
            **given,
        )
        return mb.lstm(
            x=x,
            initial_h=zero,
            initial_c=h,
            weight_ih=lstm[0],
            weight_hh=lstm[1],
            bias=lstm[2],
            activation="linear",
            **given,
        )

    rows, state = processed(x[:, 0].astype(float), direction), h[0].astype(float)
    outputs = []
    for row in rows:
        (r_x, o_x, z_x), (r_h, _, z_h) = (np.split(w @ v, 3) for w, v in ((w_x, row), (w_h, state)))
        r_b, o_b, z_b = np.split(b, 3)
        r, z = (1 / (1 + np.exp(-v)) for v in (r_x + r_h + r_b, z_x + z_h + z_b))
        state = (1 - z) * np.tanh(o_x + w_h[2:4] @ (r * state) + o_b) + z * state
        outputs.append(state)
    second, state = [], np.zeros(2)
    for row in processed(np.array(outputs), direction):
        state = simple[0] @ row + simple[1] @ state + simple[2]
        second.append(state)
    third, last = lstm_steps(
        processed(np.array(second), direction),
        [0, 0],
        h[0],
        *lstm,
        acts=("sigmoid", "tanh", "linear"),
    )
    same(network(build, x=x, h=h), third[:, None], third[-1:], last[None], atol=2e-5)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_with_constant_weights(transposed: bool) -> None:
    x = floats((2, 3, 4) if transposed else (2, 4, 3))
    weight = floats((5, 3) if transposed else (3, 5), seed=1)

    def build(x: Any) -> Any:
        return mb.matmul(x=x, y=weight, transpose_x=transposed, transpose_y=transposed)

    wide = x.astype(float).swapaxes(1, 2) if transposed else x.astype(float)
    same(network(build, x=x), wide @ (weight.T if transposed else weight))


def test_normalizations() -> None:
    x = floats((1, 4, 6, 8))
    gamma, beta = floats((4,), low=0.5, high=1.5, seed=1), floats((4,), seed=2)

    def build(x: Any) -> Any:
        x = mb.instance_norm(x=x, gamma=gamma, beta=beta, epsilon=1e-3)
        x = mb.l2_norm(x=x, epsilon=1e-3)
        x = mb.local_response_norm(x=x, size=3, alpha=2.0, beta=0.5, k=0.5)
        x = mb.reshape(x=x, shape=(4, 6, 8))
        return mb.layer_norm(x=x, axes=[-1], epsilon=1e-4)

    wide = x.astype(float)
    spread = np.sqrt(wide.var((2, 3), keepdims=True) + 1e-3)
    wide = (wide - wide.mean((2, 3), keepdims=True)) / spread * gamma.reshape(4, 1, 1)
    wide += beta.reshape(4, 1, 1)
    wide /= np.sqrt((wide**2).sum() + 1e-3)
    near = np.stack([(wide[:, max(0, c - 1) : c + 2] ** 2).sum(1) for c in range(4)], 1)
    wide = (wide / (0.5 + 2 / 3 * near) ** 0.5)[0]
    spread = np.sqrt(wide.var(-1, keepdims=True) + 1e-4)
    same(network(build, x=x), (wide - wide.mean(-1, keepdims=True)) / spread, atol=2e-5)


def test_a_logarithm_adds_its_epsilon() -> None:
    x = floats((2, 3), low=0, high=2)
    same(network(lambda x: mb.log(x=x, epsilon=0.5), x=x), np.log(x.astype(float) + 0.5))


def test_ops_that_move_values() -> None:
    x = floats((1, 4, 6, 8))

    def build(x: Any) -> Any:
        x = mb.depth_to_space(x=x, block_size=2)  # (1, 1, 12, 16)
        x = mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=1)
        x = mb.crop(x=x, crop_height=[4, 2], crop_width=[0, 8])  # (1, 1, 18, 8)
        x = mb.reverse_sequence(x=x, lengths=[5], seq_axis=2, batch_axis=0)
        return mb.sliding_windows(x=x, axis=2, size=4, stride=3)

    deep = np.empty((1, 1, 12, 16))
    for channel in range(4):
        deep[0, 0, channel // 2 :: 2, channel % 2 :: 2] = x[0, channel]
    rows = deep.repeat(2, axis=2)[:, :, 4:22, :8]
    rows = np.concatenate([rows[:, :, 4::-1], rows[:, :, 5:]], axis=2)
    same(network(build, x=x), np.stack([rows[:, :, s : s + 4] for s in range(0, 15, 3)], 2))


def test_ops_on_volumes() -> None:
    x, weight = floats((1, 2, 5, 5, 5)), floats((3, 2, 2, 2, 2), seed=1)

    def build(x: Any) -> Any:
        x = mb.conv(x=x, weight=weight)
        return mb.max_pool(x=x, kernel_sizes=[2, 2, 2], strides=[2, 2, 2], pad_type="valid")

    made = volume(x, weight, (1, 1, 1)).reshape(1, 3, 2, 2, 2, 2, 2, 2)
    same(network(build, x=x), made.max((3, 5, 7)), atol=5e-6)


@pytest.mark.parametrize("name", ["words.mlmodel", "words.mlpackage", "numbers.mlpackage"])
def test_a_classifier_gives_label_and_probabilities(name: str, labelled: dict[str, Path]) -> None:
    model = load(labelled[name])
    found = model.predict({"frames": FRAMES})
    powers = np.exp(FRAMES[0].astype(float) @ WEIGHT.T)
    labels = [7, 11, -1] if name.startswith("numbers") else WORDS
    best = labels[int(np.argmax(powers))]
    (probabilities,) = (value for value in found.values() if isinstance(value, dict))
    assert found["classLabel"] == best
    assert type(found["classLabel"]) is type(best)
    assert list(probabilities) == labels
    np.testing.assert_allclose(list(probabilities.values()), powers / powers.sum(), rtol=1e-5)
    assert {feature.kind for feature in model.outputs.values()} == {"label", "probabilities"}


def test_a_classifier_with_too_few_labels_is_refused(
    labelled: dict[str, Path], tmp_path: Path
) -> None:
    spec = ct.utils.load_spec(str(labelled["words.mlmodel"]))
    del spec.neuralNetworkClassifier.stringClassLabels.vector[2]
    ct.utils.save_spec(spec, str(tmp_path / "short.mlmodel"))
    with pytest.raises(AsrbuildError, match="3 probabilities for 2 labels"):
        load(tmp_path / "short.mlmodel").predict({"frames": FRAMES})


@pytest.mark.parametrize("suffix", [".mlmodel", ".mlpackage"])
def test_a_pipeline_passes_values_on_by_name(
    suffix: str, labelled: dict[str, Path], tmp_path: Path
) -> None:
    """``make_pipeline`` writes the weights of both parts into one folder."""
    first = converted(
        lambda sound: mb.mul(x=sound, y=np.float32(2), name="frames"),
        {"sound": FRAMES},
        tmp_path / f"first{suffix}",
    )
    second = labelled[f"words{suffix}"]
    parts = [ct.models.MLModel(str(path), skip_model_load=True) for path in (first, second)]
    ct.utils.make_pipeline(*parts).save(str(tmp_path / "both.mlpackage"))
    path = tmp_path / "both.mlpackage"
    if suffix == ".mlmodel":
        path = tmp_path / "both.mlmodel"
        ct.utils.save_spec(ct.utils.load_spec(str(tmp_path / "both.mlpackage")), str(path))
    model = load(path)
    found = model.predict({"sound": FRAMES / 2})
    assert found["classLabel"] == load(second).predict({"frames": FRAMES})["classLabel"]
    with pytest.raises(AsrbuildError, match="only an ML program has functions"):
        load(path, "main")


def test_a_part_that_is_not_a_network_is_named(labelled: dict[str, Path], tmp_path: Path) -> None:
    spec = ct.utils.load_spec(str(labelled["words.mlmodel"]))
    whole = type(spec)(specificationVersion=4)
    whole.description.CopyFrom(spec.description)
    part = whole.pipelineClassifier.pipeline.models.add()
    part.soundAnalysisPreprocessing.vggish.SetInParent()
    whole.pipelineClassifier.pipeline.models.add().CopyFrom(spec)
    ct.utils.save_spec(whole, str(tmp_path / "sound.mlmodel"))
    with pytest.raises(AsrbuildError, match=r"part 1 of 2: .* this is a soundAnalysisPreproc"):
        load(tmp_path / "sound.mlmodel")


def padded_network(
    tmp_path: Path,
    add: Callable[[Any], None],
    shape: tuple[int, ...],
    output: tuple[int, ...] | None,
) -> Path:
    """A network for systems before iOS 13, whose arrays have five axes inside."""
    datatypes = ct.models.datatypes
    builder = ct.models.neural_network.NeuralNetworkBuilder(
        [("x", datatypes.Array(*shape))], [("y", datatypes.Array(*output) if output else None)]
    )
    add(builder)
    path = tmp_path / "padded.mlmodel"
    ct.utils.save_spec(builder.spec, str(path))
    return path


def test_a_network_with_five_axes_inside_runs(tmp_path: Path) -> None:
    x, weight = floats((2, 5, 6)), floats((3, 2, 2, 2), seed=1)
    dense = floats((4, 60), seed=2)

    def add(builder: Any) -> None:
        builder.add_convolution(
            "conv",
            2,
            3,
            2,
            2,
            1,
            1,
            "valid",
            1,
            weight.transpose(2, 3, 1, 0),
            None,
            False,
            input_name="x",
            output_name="c",
        )
        builder.add_flatten("flat", 0, "c", "f")
        builder.add_inner_product("dense", dense, None, 60, 4, False, "f", "y")

    model = load(padded_network(tmp_path, add, x.shape, (4,)))
    made = np.empty((3, 4, 5))
    for o, i, j in np.ndindex(3, 4, 5):
        made[o, i, j] = np.sum(x[:, i : i + 2, j : j + 2].astype(float) * weight[o])
    expected = dense.astype(float) @ made.reshape(-1)
    same([model.predict({"x": x})["y"].astype(np.float32)], expected, atol=2e-5)
    # A sequence and a batch axis may precede the others; then the output keeps all five.
    both = model.predict({"x": np.stack([x, 2 * x])[:, None]})["y"].astype(np.float32)
    same([both], np.stack([expected, 2 * expected])[:, None, :, None, None], atol=4e-5)
    with pytest.raises(AsrbuildError, match="or a sequence and a batch axis before it"):
        model.predict({"x": x[0]})


def test_a_sequence_through_five_axes(tmp_path: Path) -> None:
    x, w_x, w_h = floats((6, 1, 3)), floats((2, 3), seed=1), floats((2, 2), seed=2)

    def add(builder: Any) -> None:
        builder.add_simple_rnn("rnn", w_h, w_x, None, 2, 3, "TANH", ["x"], ["y", "h"], True)

    model = load(padded_network(tmp_path, add, (3,), None))
    state, expected = np.zeros(2), []
    for row in x[:, 0]:
        state = np.tanh(w_x @ row + w_h @ state)
        expected.append(state)
    same(
        [model.predict({"x": x})["y"].astype(np.float32)],
        np.array(expected)[:, None, :, None, None],
    )


def test_impossible_arrays_of_five_axes_are_refused(tmp_path: Path) -> None:
    newer = padded_network(tmp_path, lambda b: b.add_sin("sine", "x", "y"), (3,), (3,))
    with pytest.raises(AsrbuildError, match=r"layer sine \(sin\) is a layer of iOS 13 or later"):
        load(newer)
    spec = ct.utils.load_spec(
        str(padded_network(tmp_path, lambda b: b.add_activation("r", "RELU", "x", "y"), (3,), (3,)))
    )
    spec.description.input[0].type.multiArrayType.shape.append(3)
    ct.utils.save_spec(spec, str(tmp_path / "two.mlmodel"))
    with pytest.raises(AsrbuildError, match=r"knows one axis \(C\) or three"):
        load(tmp_path / "two.mlmodel")


def test_enumerated_shapes_of_two_inputs_match_by_index(tmp_path: Path) -> None:
    """Source: "Flexible Input Shapes" in the coremltools guide."""
    target = ct.target.iOS18
    rows, columns = ((1, 2, 4), (1, 3, 4)), ((1, 5, 4), (1, 7, 4))
    names = ct.converters.mil.mil.get_new_symbol
    specs = [mb.TensorSpec((1, names(), 4)), mb.TensorSpec((1, names(), 4))]
    program = mb.program(input_specs=specs, opset_version=target)(
        lambda x, y: mb.concat(values=[x, y], axis=1)
    )
    inputs = [
        ct.TensorType(name, ct.EnumeratedShapes(shapes, default=shapes[0]))
        for name, shapes in (("x", rows), ("y", columns))
    ]
    path = tmp_path / "two.mlpackage"
    ct.convert(
        program,
        source="milinternal",
        inputs=inputs,
        skip_model_load=True,
        minimum_deployment_target=target,
    ).save(str(path))
    model = load(path)
    for x, y in zip(rows, columns, strict=True):
        found = model.predict({"x": np.zeros(x), "y": np.ones(y)})
        assert [value.shape for value in found.values()] == [(1, x[1] + y[1], 4)]
    with pytest.raises(AsrbuildError, match="does not take these shapes together") as caught:
        model.predict({"x": np.zeros(rows[1]), "y": np.ones(columns[0])})
    assert "x (1, 2, 4), y (1, 5, 4) or x (1, 3, 4), y (1, 7, 4)" in caught.value.fix
