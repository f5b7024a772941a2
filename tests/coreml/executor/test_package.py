"""Packages on disk: damaged ones, the protobuf definitions, and ``asrbuild run``."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.from_weights import convert_weights
from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml import protobufs as coremlproto
from asrbuild.coreml.executor import coreml_backend, load
from asrbuild.coreml.executor.package import read_spec
from asrbuild.coreml.executor.registry import NOT_HERE
from asrbuild.coreml.executor.signature import Feature, Fixed, check_array
from asrbuild.coreml.request import ConversionRequest, FixedSteps
from tests import command
from tests.coreml.executor.recipes import case
from tests.coreml.packages import package_of

HIDDEN, STEPS = 16, 4
WEIGHTS = random_weights(HIDDEN)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("packages")
    made = {}
    for form in ("mlprogram", "neuralnetwork"):
        request = ConversionRequest(format=form, precision="fp32", steps=FixedSteps(STEPS))
        made[form] = package_of(directory, WEIGHTS, request)
    return made


@pytest.fixture
def program(packages: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the ML program that a test may damage."""
    return Path(shutil.copytree(packages["mlprogram"], tmp_path / "model.mlpackage"))


def inputs() -> dict[str, np.ndarray]:
    windows, c, h = case(HIDDEN, STEPS)
    length = np.array([STEPS], np.int32)
    return {
        "input_node": windows,
        "input_lengths": length,
        "previous_state_c": c,
        "previous_state_h": h,
    }


def weight_file(package: Path) -> Path:
    return package / "Data/com.apple.CoreML/weights/weight.bin"


def spec_file(package: Path) -> Path:
    return package / "Data/com.apple.CoreML/model.mlmodel"


def rewrite(package: Path, change) -> None:
    spec = read_spec(package)
    change(spec)
    spec_file(package).write_bytes(spec.SerializeToString())


def main_block(spec):
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def refused(path: Path, message: str) -> None:
    with pytest.raises(AsrbuildError, match=message) as caught:
        load(path).predict(inputs())
    assert caught.value.fix


def test_files_that_are_not_packages_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "absent.mlpackage", "no such Core ML package")
    (tmp_path / "empty.mlpackage").mkdir()
    refused(
        tmp_path / "empty.mlpackage",
        "a folder .*, not a Core ML package",
    )
    text = tmp_path / "text.mlmodel"
    text.write_text("this is no model, whatever it is called")
    refused(text, "this is a text .its name ends in .mlmodel.?, not a Core ML package")
    (tmp_path / "zero.mlmodel").write_bytes(b"")
    refused(tmp_path / "zero.mlmodel", "this is an empty file .0 bytes., not a Core ML package")


def test_a_manifest_with_a_wrong_path_is_refused(program: Path) -> None:
    manifest = json.loads((program / "Manifest.json").read_text())
    entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
    for path in ("com.apple.CoreML/absent.mlmodel", "../../outside.mlmodel"):
        entry["path"] = path
        (program / "Manifest.json").write_text(json.dumps(manifest))
        refused(program, "which is not in it")


def test_damaged_weights_are_refused(program: Path) -> None:
    whole = weight_file(program).read_bytes()
    for size in (len(whole) // 2, len(whole) - 1):
        weight_file(program).write_bytes(whole[:size])
        refused(program, rf"damaged weights: (no blob record fits|.* the file at {size})")
    # The first record stands behind the 64-byte header: sentinel, type, size, offset.
    for at, value, message in (
        (64, b"\0\0\0\0", "no blob record"),
        (68, b"\x01", "has type 1"),
        (72, struct.pack("<Q", 12), "12 bytes"),
    ):
        damaged = bytearray(whole)
        damaged[at : at + len(value)] = value
        weight_file(program).write_bytes(damaged)
        refused(program, message)
    weight_file(program).unlink()
    refused(program, "weights cannot be read")


def test_a_flipped_bit_in_the_weights_changes_the_result(program: Path) -> None:
    before = load(program).predict(inputs())["logits"]
    whole = bytearray(weight_file(program).read_bytes())
    whole[-5] ^= 0x40
    weight_file(program).write_bytes(whole)
    assert not np.array_equal(load(program).predict(inputs())["logits"], before)


def test_weights_outside_of_the_package_are_refused(program: Path) -> None:
    outside = program.parent / "weight.bin"
    shutil.copy(weight_file(program), outside)

    def change(spec) -> None:
        for operation in main_block(spec).operations:
            value = operation.attributes["val"] if operation.type == "const" else None
            if value is not None and value.WhichOneof("value") == "blobFileValue":
                value.blobFileValue.fileName = "@model_path/../../../weight.bin"

    rewrite(program, change)
    refused(program, "outside its package")


def test_an_unknown_op_is_named_with_its_place_and_a_fix(program: Path) -> None:
    def change(spec) -> None:
        next(op for op in main_block(spec).operations if op.type == "relu").type = "relu_squared"

    rewrite(program, change)
    with pytest.raises(AsrbuildError, match=r"no op relu_squared \(function main, op ") as caught:
        load(program)
    assert caught.value.fix == NOT_HERE


def test_inconsistent_programs_are_refused(packages: dict[str, Path], tmp_path: Path) -> None:
    def relu(spec):
        return next(op for op in main_block(spec).operations if op.type == "relu")

    def rename(spec) -> None:
        relu(spec).inputs["x"].arguments[0].name = "nobody"

    def drop(spec) -> None:
        del relu(spec).inputs["x"]

    def add(spec) -> None:
        relu(spec).inputs["slope"].CopyFrom(relu(spec).inputs["x"])

    for number, (change, message) in enumerate(
        ((rename, "reads nobody"), (drop, "lacks its input x"), (add, "does not know: slope"))
    ):
        copy = Path(shutil.copytree(packages["mlprogram"], tmp_path / f"{number}.mlpackage"))
        rewrite(copy, change)
        refused(copy, message)


def test_a_network_with_padded_ranks_is_refused(packages, tmp_path: Path) -> None:
    spec = read_spec(packages["neuralnetwork"])
    spec.neuralNetwork.arrayInputShapeMapping = 0
    path = tmp_path / "old.mlmodel"
    path.write_bytes(spec.SerializeToString())
    refused(path, "pads arrays to five axes; the format knows one axis")


def test_an_optional_input_takes_its_default(packages, tmp_path: Path) -> None:
    spec = read_spec(packages["neuralnetwork"])
    state = next(i for i in spec.description.input if i.name == "previous_state_c")
    state.type.isOptional = True
    state.type.multiArrayType.floatDefaultValue = 0.25
    path = tmp_path / "optional.mlmodel"
    path.write_bytes(spec.SerializeToString())
    given = inputs()
    given["previous_state_c"] = np.full((1, HIDDEN), 0.25, np.float32)
    want = load(path).predict(given)
    del given["previous_state_c"]
    for name, array in load(path).predict(given).items():
        np.testing.assert_array_equal(array, want[name])


def test_a_network_has_no_functions(packages: dict[str, Path]) -> None:
    with pytest.raises(AsrbuildError, match="only an ML program has functions"):
        load(packages["neuralnetwork"], "main")


def test_a_truncated_network_is_refused(packages, tmp_path: Path) -> None:
    whole = packages["neuralnetwork"].read_bytes()
    path = tmp_path / "cut.mlmodel"
    for size in (10, 1000, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:size])
        refused(path, "not a Core ML model, or a damaged one")


def test_weights_are_mapped_not_copied(packages: dict[str, Path]) -> None:
    model = load(packages["mlprogram"])
    constants = [v for v in model._program.template if isinstance(v, np.ndarray) and v.size > 200]
    assert constants
    for constant in constants:
        assert not constant.flags.owndata
        assert not constant.flags.writeable


PROTO_ORDERS = {
    "ours first": """
import sys
from asrbuild.coreml import protobufs as coremlproto
from asrbuild.coreml import executor
model = executor.load(sys.argv[1])
assert "coremltools" not in sys.modules and "tensorflow" not in sys.modules
from asrbuild.coreml.speedups.importing import import_coremltools
ct = import_coremltools()
spec = ct.proto.Model_pb2.Model()
spec.ParseFromString(coremlproto.model().Model(specificationVersion=7).SerializeToString())
assert spec.specificationVersion == 7
executor.load(sys.argv[1])
""",
    "coremltools first": """
import sys
from asrbuild.coreml.speedups.importing import import_coremltools
ct = import_coremltools()
from asrbuild.coreml import protobufs as coremlproto
from asrbuild.coreml import executor
assert coremlproto.model() is sys.modules["coremltools.proto.Model_pb2"]
executor.load(sys.argv[1])
""",
}


@pytest.mark.parametrize("order", PROTO_ORDERS)
def test_protobufs_load_in_a_process_with_coremltools(
    packages: dict[str, Path], order: str
) -> None:
    command = [sys.executable, "-c", PROTO_ORDERS[order], str(packages["mlprogram"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_read_spec_keeps_a_networks_weights(packages: dict[str, Path]) -> None:
    spec = read_spec(packages["neuralnetwork"])
    assert spec.SerializeToString() == packages["neuralnetwork"].read_bytes()
    assert coremlproto.load("Model_pb2").Model is type(spec)


@pytest.mark.skipif(sys.platform == "darwin", reason="says what happens where there is no Core ML")
def test_core_ml_requires_macos(packages: dict[str, Path]) -> None:
    with pytest.raises(AsrbuildError, match="Core ML runs on macOS only"):
        coreml_backend.load(packages["mlprogram"])


@pytest.mark.macos
@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on macOS only")
@pytest.mark.parametrize("form", ["mlprogram", "neuralnetwork"])
def test_core_ml_agrees_with_the_executor(packages: dict[str, Path], form: str) -> None:
    ours, theirs = load(packages[form]), coreml_backend.load(packages[form])
    want, got = ours.predict(inputs()), theirs.predict(inputs())
    for name in want:
        np.testing.assert_allclose(got[name], want[name], atol=1e-4)


@pytest.fixture
def arrays(tmp_path: Path) -> list[str]:
    options = []
    for name, array in inputs().items():
        np.save(tmp_path / f"{name}.npy", array)
        options += ["--input", f"{name}={tmp_path / name}.npy"]
    return options


def test_run_prints_and_writes(packages, arrays, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written = command.values("run", packages["mlprogram"], *arrays, "--output", out)
    rows = {row["name"]: row for row in written["outputs"]}
    want = load(packages["mlprogram"]).predict(inputs())
    assert set(rows) == set(want)
    for name, array in want.items():
        np.testing.assert_array_equal(np.load(out / f"{name}.npy"), array)
        assert rows[name]["shape"] == list(array.shape)
        assert rows[name]["max"] == pytest.approx(float(array.max()))
    assert "(4, 1, 29)" in command.output("run", packages["neuralnetwork"], *arrays)


def test_run_continues_from_written_states(tmp_path: Path) -> None:
    package = tmp_path / "stateful.mlpackage"
    request = ConversionRequest(
        steps=FixedSteps(STEPS), state="stateful", deployment_target="iOS18"
    )
    convert_weights(WEIGHTS, request, package)
    given = {name: inputs()[name] for name in ("input_node", "input_lengths")}
    options: list[object] = []
    for name, array in given.items():
        np.save(tmp_path / f"{name}.npy", array)
        options += ["--input", f"{name}={tmp_path / name}.npy"]
    out = tmp_path / "out"
    first = command.values("run", package, *options, "--output", out)
    assert [row["name"] for row in first["outputs"]] == [
        "logits",
        "state_c",
        "state_h",
    ]
    for name in ("state_c", "state_h"):
        options += ["--input", f"{name}={out / name}.npy"]
    command.output("run", package, *options, "--output", out)
    model = load(package)
    state = model.make_state()
    model.predict(given, state)
    want = model.predict(given, state) | {name: state.read(name) for name in state.names}
    for name, array in want.items():
        np.testing.assert_array_equal(np.load(out / f"{name}.npy"), array)


def test_arrays_of_any_layout_give_the_same_bits(packages: dict[str, Path]) -> None:
    """The executor takes lists, other number types and strides, as ``MLModel.predict`` does."""
    for path in packages.values():
        model = load(path)
        want = model.predict(inputs())
        whole = inputs()["input_node"]
        wide = np.zeros((1, STEPS, 19, 52), np.float32)
        wide[..., ::2] = whole
        for node in (
            wide[..., ::2],
            np.asfortranarray(whole),
            whole[:, ::-1][:, ::-1],
            whole.tolist(),
            whole.astype(np.float64),
            whole.astype(">f4"),
        ):
            given = inputs() | {"input_node": node, "input_lengths": [STEPS]}
            for name, array in model.predict(given).items():
                np.testing.assert_array_equal(array, want[name])
                assert array.flags.owndata


def test_a_number_beyond_half_precision_gives_no_warning(recwarn) -> None:
    feature = Feature("x", np.dtype(np.float16), Fixed((1,)))
    assert np.isinf(check_array([1e6], feature, "m")).all()
    assert not recwarn.list


class Unreadable:
    """A stand-in for a tensor whose framework refuses to convert it."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise RuntimeError("call detach first")


@pytest.mark.parametrize("value", [Unreadable(), [[1.0], [2.0, 3.0]], None, "x", 1j])
def test_inputs_that_are_not_arrays_are_refused(packages: dict[str, Path], value: object) -> None:
    for path in packages.values():
        with pytest.raises(AsrbuildError, match="input input_node"):
            load(path).predict(inputs() | {"input_node": value})


def test_a_state_is_checked_as_an_input_is(tmp_path: Path) -> None:
    models = []
    for name, weights in (("own", WEIGHTS), ("other", random_weights(HIDDEN + 4))):
        request = ConversionRequest(
            steps=FixedSteps(STEPS), state="stateful", deployment_target="iOS18"
        )
        convert_weights(weights, request, tmp_path / f"{name}.mlpackage")
        models.append(load(tmp_path / f"{name}.mlpackage"))
    given = {name: inputs()[name] for name in ("input_node", "input_lengths")}
    own, other = models
    state = own.make_state()
    for value, message in (
        (np.zeros((1, HIDDEN + 1)), "has shape"),
        (["x"] * HIDDEN, "has shape"),
        ([["x"] * HIDDEN], "is <U1"),
        (np.zeros((1, HIDDEN), complex), "is complex128"),
    ):
        with pytest.raises(AsrbuildError, match=message):
            state.write("state_c", value)
    mine = np.ones((1, HIDDEN), np.float16)
    state.write("state_c", mine)
    mine[:] = 7
    np.testing.assert_array_equal(state.read("state_c"), np.ones((1, HIDDEN)))
    for wrong in (None, other.make_state(), {"state_c": mine}):
        with pytest.raises(AsrbuildError, match="predict needs this package's state"):
            own.predict(given, wrong)


def test_run_takes_each_input_once(packages, arrays) -> None:
    with pytest.raises(AsrbuildError, match="given twice: input_node"):
        command.run("run", packages["mlprogram"], *arrays, *arrays[:2])


def test_run_without_inputs_shows_the_signature(packages: dict[str, Path]) -> None:
    shown = command.values("run", packages["mlprogram"])
    assert [row["name"] for row in shown["inputs"]] == list(inputs())
    assert shown["inputs"][0]["shape"] == "(1, 4, 19, 26)"
    assert "previous_state_c" in command.output("run", packages["mlprogram"])


def test_run_reports_the_fault_of_an_input(packages, tmp_path: Path) -> None:
    (tmp_path / "bad.npy").write_text("no array")
    for option, message in (
        ("input_node", "is not name=file.npy"),
        (f"input_node={tmp_path / 'absent.npy'}", "no such numpy array"),
        (f"input_node={tmp_path / 'bad.npy'}", "is a text"),
    ):
        with pytest.raises(AsrbuildError, match=message):
            command.run("run", packages["mlprogram"], "--input", option)
