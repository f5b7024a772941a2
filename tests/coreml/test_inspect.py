"""``inspect model`` on images, classifiers, pipelines and palettes that coremltools writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb  # noqa: N813
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder, flexible_shape_utils
from coremltools.proto import FeatureTypes_pb2, Model_pb2

from asrbuild.coreml.availability import MINIMUM_OS, NEWER_OPERATIONS, layer_version
from asrbuild.coreml.inspect import inspect_model
from tests.command import output

R = np.random.default_rng(0)
W = R.standard_normal((64, 32)).astype(np.float32)


def program(target: ct.target, **options: Any) -> ct.models.MLModel:
    @mb.program(input_specs=[mb.TensorSpec((1, 32))], opset_version=target)
    def made(x):
        return mb.softmax(x=mb.linear(x=x, weight=W, name="dense"), axis=-1, name="y")

    return ct.convert(
        made,
        source="milinternal",
        convert_to="mlprogram",
        minimum_deployment_target=target,
        skip_model_load=True,
        **options,
    )


def neural_network(inputs: list[Any], **options: Any) -> NeuralNetworkBuilder:
    builder = NeuralNetworkBuilder(
        inputs, [("y", datatypes.Array(4))], disable_rank5_shape_mapping=True, **options
    )
    builder.add_activation("a", "RELU", "x", "y")
    return builder


def saved(spec: Any, folder: Path) -> Path:
    path = folder / "m.mlmodel"
    path.write_bytes(spec.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("target", "bits", "versions"),
    [(ct.target.iOS16, 4, 7), (ct.target.iOS18, 4, 9), (ct.target.iOS18, 3, 9)],
)
def test_the_bits_of_a_palette_are_shown(target, bits, versions, tmp_path):
    from coremltools.optimize import coreml as optimize

    config = optimize.OpPalettizerConfig(mode="uniform", nbits=bits, weight_threshold=0)
    if bits == 3:
        config = optimize.OpPalettizerConfig(
            mode="uniform",
            nbits=bits,
            weight_threshold=0,
            granularity="per_grouped_channel",
            group_size=16,
        )
    model = optimize.palettize_weights(
        program(target), optimize.OptimizationConfig(global_config=config)
    )
    path = tmp_path / "m.mlpackage"
    model.save(str(path))
    summary = inspect_model(path)
    assert summary.compression == {f"palette of {bits} bits": 1}
    assert summary.specification_version == versions
    assert "constexpr_lut_to_dense" in summary.functions[0].ops
    if target == ct.target.iOS16:
        assert summary.minimum_os_reasons == ("constexpr_lut_to_dense",)
    else:
        assert summary.minimum_os_reasons == (f"uint{bits} weights",)
    assert f"1 x palette of {bits} bits" in output("inspect", "model", path)


@pytest.mark.parametrize(
    ("target", "dtype", "bits"), [(ct.target.iOS16, "int8", 8), (ct.target.iOS18, "int4", 4)]
)
def test_the_bits_of_linear_quantisation_are_shown(target, dtype, bits, tmp_path):
    from coremltools.optimize import coreml as optimize

    config = optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype=dtype, weight_threshold=0
    )
    model = optimize.linear_quantize_weights(
        program(target), optimize.OptimizationConfig(global_config=config)
    )
    model.save(str(tmp_path / "m.mlpackage"))
    assert inspect_model(tmp_path / "m.mlpackage").compression == {f"linear of {bits} bits": 1}


def test_the_palette_of_a_neural_network_is_shown(tmp_path):
    inputs = [("x", datatypes.Array(8))]
    builder = NeuralNetworkBuilder(
        inputs, [("y", datatypes.Array(4))], disable_rank5_shape_mapping=True
    )
    packed = np.zeros(8 * 4 * 6 // 8, np.uint8).tobytes()
    builder.add_inner_product(
        "d",
        packed,
        None,
        8,
        4,
        False,
        "x",
        "y",
        is_quantized_weight=True,
        quantization_type="lut",
        nbits=6,
        quant_lut=np.arange(64, dtype=np.float32),
    )
    summary = inspect_model(saved(builder.spec, tmp_path))
    assert summary.compression == {"palette of 6 bits": 1}


def test_images_have_their_sizes_and_colours(tmp_path):
    @mb.program(input_specs=[mb.TensorSpec((1, 3, 20, 30)), mb.TensorSpec((1, 1, 8, 9))])
    def made(photo, mask):
        return mb.relu(x=photo, name="y"), mb.relu(x=mask, name="z")

    model = ct.convert(
        made,
        source="milinternal",
        convert_to="neuralnetwork",
        skip_model_load=True,
        inputs=[
            ct.ImageType("photo", shape=(1, 3, 20, 30), color_layout=ct.colorlayout.BGR),
            ct.ImageType("mask", shape=(1, 1, 8, 9), color_layout=ct.colorlayout.GRAYSCALE),
        ],
    )
    spec = model.get_spec()
    flexible_shape_utils.add_enumerated_image_sizes(
        spec, "photo", [flexible_shape_utils.NeuralNetworkImageSize(40, 60)]
    )
    path = saved(spec, tmp_path)
    photo, mask = inspect_model(path).functions[0].inputs
    assert (photo.dtype, photo.shape_text) == ("image BGR", "(40|20, 60|30)")
    assert (mask.dtype, mask.shape_text) == ("image grayscale", "(8, 9)")
    assert "image BGR" in output("inspect", "model", path)


def test_an_optional_input_is_shown_with_its_default(tmp_path):
    builder = neural_network([("x", datatypes.Array(4)), ("gain", datatypes.Array(1))])
    spec = builder.spec
    gain = spec.description.input[1].type
    gain.isOptional = True
    gain.multiArrayType.doubleDefaultValue = 0.5
    path = saved(spec, tmp_path)
    x, gain = inspect_model(path).functions[0].inputs
    assert (x.optional, x.optional_value) == (False, None)
    assert (gain.optional, gain.optional_value) == (True, 0.5)
    assert "optional, 0.5 if absent" in output("inspect", "model", path)


def test_the_labels_of_classifiers_are_shown(tmp_path):
    labels = [f"word {number}" for number in range(64)]
    model = program(ct.target.iOS16, classifier_config=ct.ClassifierConfig(labels))
    path = tmp_path / "m.mlpackage"
    model.save(str(path))
    summary = inspect_model(path)
    assert summary.labels == tuple(labels)
    assert {feature.dtype for feature in summary.functions[0].outputs} == {
        "string",
        "dictionary of string",
    }
    assert "64 classes: 'word 0' 'word 1'" in output("inspect", "model", path)


def sound_pipeline() -> Model_pb2.Model:
    """Sound preprocessing, then a classifier of numbers: the layout of Create ML's sound models."""
    classifier = Model_pb2.Model(specificationVersion=4)
    network = neural_network([("x", datatypes.Array(4))]).spec
    classifier.description.CopyFrom(network.description)
    classifier.neuralNetworkClassifier.layers.MergeFrom(network.neuralNetwork.layers)
    classifier.neuralNetworkClassifier.int64ClassLabels.vector.extend([3, 5, 8, 13])
    whole = Model_pb2.Model(specificationVersion=4)
    pipeline = whole.pipelineClassifier.pipeline
    first = pipeline.models.add(specificationVersion=4)
    first.soundAnalysisPreprocessing.vggish.SetInParent()
    for described in (whole.description, first.description):
        feature = described.input.add(name="samples")
        feature.type.multiArrayType.shape.append(15600)
        feature.type.multiArrayType.dataType = FeatureTypes_pb2.ArrayFeatureType.FLOAT32
    pipeline.models.add().CopyFrom(classifier)
    pipeline.names.extend(["sound", "network"])
    whole.description.output.add(name="label").type.int64Type.SetInParent()
    return whole


def test_a_pipeline_shows_its_parts(tmp_path):
    path = saved(sound_pipeline(), tmp_path)
    summary = inspect_model(path)
    assert [part.path for part in summary.parts] == ["sound", "network"]
    assert [part.kind for part in summary.parts] == [
        "soundAnalysisPreprocessing",
        "neuralNetworkClassifier",
    ]
    assert summary.labels == summary.parts[1].labels == ("3", "5", "8", "13")
    assert summary.parts[1].functions[0].ops == {"activation": 1}
    assert summary.functions[0].outputs[0].dtype == "int64"
    text = output("inspect", "model", path)
    assert "Part 1 of 2" in text
    assert "network: neuralNetworkClassifier" in text


def test_the_layer_that_sets_the_minimum_system_is_named(tmp_path):
    builder = NeuralNetworkBuilder(
        [("x", datatypes.Array(4))], [("y", datatypes.Array(4))], disable_rank5_shape_mapping=True
    )
    builder.add_cumsum("c", ["x"], "y", axis=0)
    builder.spec.specificationVersion = 5
    summary = inspect_model(saved(builder.spec, tmp_path))
    assert summary.minimum_os_reasons == ("cumSum",)
    builder.spec.specificationVersion = 7
    assert inspect_model(saved(builder.spec, tmp_path)).minimum_os_reasons == ()


def test_versions_are_numbered_as_apple_numbers_them():
    assert MINIMUM_OS[2] == "iOS 11.2, macOS 10.13.2"
    assert MINIMUM_OS[3] == "iOS 12, macOS 10.14"
    assert {layer_version(kind) for kind in ("innerProduct", "gru")} == {1}
    assert layer_version("resizeBilinear") == 3
    assert layer_version("loop") == 4
    assert layer_version("convolution3d") == 5


def test_the_table_of_newer_operations_is_coremltools():
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    first = {
        name: min(version.value for version in versions)
        for name, versions in SSAOpRegistry.core_ops.items()
    }
    newer = {name: version for name, version in first.items() if version > ct.target.iOS15.value}
    # coremltools writes coreml_update_state, of its own dialect, as write_state.
    ours = {
        name: version
        for name, version in NEWER_OPERATIONS.items()
        if name not in ("write_state", "coreml_update_state")
    }
    assert ours == newer
