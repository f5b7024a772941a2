"""Both front ends against ``ct.convert``: the same dataflow, the same constants, up to names.

All of them are also run by the executor and compared with TensorFlow.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.conversion_job import encoded_request
from asrbuild.architectures.deepspeech.export import write_frozen_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.architectures.deepspeech.from_graph import convert_graph
from asrbuild.architectures.deepspeech.from_weights import convert_weights
from asrbuild.architectures.deepspeech.network import AcousticWeights, random_weights
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml import executor
from asrbuild.coreml.request import (
    ConversionRequest,
    EnumeratedSteps,
    FixedSteps,
    RangeSteps,
    package_suffix,
)
from tests.coreml.dataflow import network_dataflow, op_counts, program_dataflow, read_spec
from tests.coreml.packages import package_for_each

HIDDEN = 32
LABELS = [*" abcdefghijklmnopqrstuvwxyz'"]
#: Model kind -> the graph it is exported as, and its steps.
KINDS = {
    "static": ("static", FixedSteps(16)),
    "dynamic": ("open", RangeSteps(1, 16, 64)),
    "dynamic_to_static": ("open", FixedSteps(16)),
    "enumerated": ("open", EnumeratedSteps((8, 16, 33), 16)),
}
TARGETS = (
    ("mlprogram", "fp32", "iOS15"),
    ("mlprogram", "fp16", "iOS17"),
    ("neuralnetwork", "fp32", "iOS17"),
)
#: fp32 mlprograms differ from fp16 ones in types only, so two kinds of them are enough.
EXTRA = (
    ("static", TARGETS[0]),
    ("dynamic", TARGETS[0]),
    ("static", ("mlprogram", "fp16", "iOS15")),
    ("dynamic", ("mlprogram", "fp16", "iOS18")),
    ("dynamic", ("neuralnetwork", "fp16", "iOS17")),
)
CELLS = [(kind, target) for kind in KINDS for target in TARGETS[1:]] + list(EXTRA)
#: The same for the TensorFlow front end, which is slower to test.
GRAPH_CELLS = [
    ("static", TARGETS[0]),
    ("dynamic", TARGETS[1]),
    ("dynamic", TARGETS[2]),
    ("dynamic_to_static", TARGETS[1]),
    ("enumerated", TARGETS[2]),
]
#: The dataflow of the loop is compared for every cell, so a few outputs are enough.
OUTPUT_CELLS = [(kind, target, "native") for kind, target in CELLS]
OUTPUT_CELLS += [("dynamic", target, "loop") for target in TARGETS]
#: Refusals of the TensorFlow front end: name -> graph, changes to the request, message, key.
REFUSED = {
    "no_such_output": (
        "open",
        {"outputs": ("logits", "probs")},
        "the graph has no node probs",
        "coreml.outputs",
    ),
    "other_steps": (
        "static",
        {"steps": FixedSteps(32)},
        "the graph is static at 16 steps, asked 32",
        "n_steps",
    ),
    "flexible_on_static": (
        "static",
        {"steps": RangeSteps(1, 16, 64)},
        "the graph is static at 16 steps, asked a flexible number",
        "n_steps",
    ),
    "native": (
        "open",
        {"lstm": "native"},
        "coreml.frontend=tensorflow gives an LSTM as coremltools' loop",
        "coreml.lstm",
    ),
    "truncated": ("truncated", {}, "not a frozen graph, or a truncated one", None),
}
#: fp16: half precision has 11 bits, and the cell adds up 64 steps.
TOLERANCE = {"fp32": 5e-6, "fp16": 2e-2}
#: (steps, input_lengths): nothing, one step, short tails, full.
LENGTHS = ((16, 0), (16, 1), (16, 9), (16, 16), (8, 3), (33, 33), (33, 17))


Build = Callable[[ConversionRequest], Path]


@dataclass(frozen=True)
class Oracle:
    """The folder of plain packages, and TensorFlow's outputs for every case."""

    folder: Path
    weights: AcousticWeights
    cases: dict[str, dict[str, np.ndarray]]
    results: dict[str, dict[str, np.ndarray]]

    def package(self, maker: str, kind: str, target: tuple[str, str, str]) -> Path:
        return self.folder / (name_of(maker, kind, target) + package_suffix(target[0]))


def request_of(kind: str, target: tuple[str, str, str]) -> ConversionRequest:
    form, precision, system = target
    return ConversionRequest(
        format=form,
        precision=precision,
        deployment_target=system,
        steps=KINDS[kind][1],
        lstm="loop",
    )


def name_of(maker: str, kind: str, target: tuple[str, str, str]) -> str:
    return "-".join((maker, kind, *target))


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    folder = tmp_path_factory.mktemp("oracle")
    weights = random_weights(HIDDEN, seed=3)
    for name, steps in (("static", 16), ("open", -1)):
        flags = ExportFlags(n_steps=steps, n_hidden=HIDDEN)
        write_frozen_graph(weights, flags, LABELS, folder / f"{name}.pb")
    cases = {f"{steps}-{length}": case(steps, length) for steps, length in LENGTHS}
    np.savez(
        folder / "cases.npz",
        **{f"{name}/{key}": array for name, one in cases.items() for key, array in one.items()},
    )
    job = [
        {
            "do": "run",
            "graph": str(folder / "open.pb"),
            "cases": str(folder / "cases.npz"),
            "out": str(folder / "results.npz"),
        }
    ]
    for kind, target in CELLS:
        request = encoded_request(request_of(kind, target)) | {"hidden": HIDDEN}
        for maker in ("plain", "ours") if (kind, target) in GRAPH_CELLS else ("plain",):
            out = folder / (name_of(maker, kind, target) + package_suffix(target[0]))
            graph = folder / f"{KINDS[kind][0]}.pb"
            job.append({"do": maker, "graph": str(graph), "request": request, "out": str(out)})
    whole = (folder / "open.pb").read_bytes()
    (folder / "truncated.pb").write_bytes(whole[: len(whole) // 2])
    for name, (graph, changes, _, _) in REFUSED.items():
        request = encoded_request(replace(request_of("dynamic", TARGETS[1]), **changes))
        out = folder / f"refused_{name}.mlpackage.json"
        path = folder / f"{graph}.pb"
        job.append({"do": "refused", "graph": str(path), "request": request, "out": str(out)})
    (folder / "job.json").write_text(json.dumps(job))
    script = Path(__file__).with_name("plain_conversion.py")
    ran = subprocess.run(
        [sys.executable, str(script), str(folder / "job.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    loaded = np.load(folder / "results.npz")
    results: dict[str, dict[str, np.ndarray]] = {}
    for name in loaded.files:
        one, output = name.split("/")
        results.setdefault(one, {})[output] = loaded[name]
    return Oracle(folder, weights, cases, results)


@pytest.fixture(scope="module")
def built(oracle: Oracle) -> Build:
    return package_for_each(oracle.folder, oracle.weights)


def case(steps: int, length: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(100 * steps + length)
    state = rng.standard_normal((2, 1, HIDDEN)).astype(np.float32) * np.float32(0.5)
    return {
        "input_node": rng.standard_normal((1, steps, 19, 26)).astype(np.float32),
        "input_lengths": np.array([length], np.int32),
        "previous_state_c": state[0],
        "previous_state_h": state[1],
    }


def dataflow(path: Path):
    return program_dataflow(path) if path.is_dir() else network_dataflow(path)


def description(path: Path) -> tuple[list[bytes], list[bytes], int]:
    """Inputs, outputs with their types and shapes, and the specification version."""
    spec = read_spec(path)
    fields = (spec.description.input, spec.description.output)
    inputs, outputs = (
        sorted(item.SerializeToString(deterministic=True) for item in field) for field in fields
    )
    return inputs, outputs, spec.specificationVersion


@pytest.mark.parametrize(("kind", "target"), CELLS)
def test_the_builder_equals_plain_conversion(
    oracle: Oracle, built: Build, kind: str, target: tuple[str, str, str]
) -> None:
    ours = built(request_of(kind, target))
    plain = oracle.package("plain", kind, target)
    assert dataflow(ours) == dataflow(plain)
    assert description(ours) == description(plain)


@pytest.mark.parametrize(("kind", "target"), GRAPH_CELLS)
def test_stand_ins_leave_no_trace(oracle: Oracle, kind: str, target: tuple[str, str, str]) -> None:
    ours, plain = (oracle.package(maker, kind, target) for maker in ("ours", "plain"))
    assert dataflow(ours) == dataflow(plain)
    assert description(ours) == description(plain)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_of_the_tensorflow_front_end(oracle: Oracle, name: str) -> None:
    _, _, message, key = REFUSED[name]
    error = json.loads((oracle.folder / f"refused_{name}.mlpackage.json").read_text())
    assert error["message"] == message
    assert error["key"] == key
    assert error["written"] == []
    if name == "no_such_output":
        assert "new_state_c" in error["fix"]


def test_convert_graph_runs_in_a_process_of_its_own(oracle: Oracle, tmp_path: Path) -> None:
    request = request_of("dynamic", TARGETS[1])
    graph = oracle.folder / "open.pb"
    convert_graph(graph, request, tmp_path / "m.mlpackage")
    assert dataflow(tmp_path / "m.mlpackage") == dataflow(
        oracle.package("plain", "dynamic", TARGETS[1])
    )
    with pytest.raises(AsrbuildError, match="no such TensorFlow graph") as caught:
        convert_graph(tmp_path / "none.pb", request, tmp_path / "n.mlpackage")
    assert caught.value.file == str(tmp_path / "none.pb")
    for impossible in ({"state": "stateful"}, {"functions": {"a": FixedSteps(4)}}):
        wrong = replace(request, deployment_target="iOS18", **impossible)
        with pytest.raises(AsrbuildError, match="frontend tensorflow"):
            convert_graph(graph, wrong, tmp_path / "n.mlpackage")
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.mlpackage"]


def change_weight(weights: AcousticWeights) -> AcousticWeights:
    layer_2 = weights.layer_2_weights.copy()
    layer_2[3, 5] += 1
    return replace(weights, layer_2_weights=layer_2)


def swap_gates(weights: AcousticWeights) -> AcousticWeights:
    gates = np.split(weights.lstm_kernel, 4, axis=1)
    return replace(weights, lstm_kernel=np.concatenate([gates[i] for i in (0, 2, 1, 3)], axis=1))


def swap_layers(weights: AcousticWeights) -> AcousticWeights:
    return replace(
        weights, layer_2_weights=weights.layer_3_weights, layer_3_weights=weights.layer_2_weights
    )


@pytest.mark.parametrize("damage", [change_weight, swap_gates, swap_layers])
@pytest.mark.parametrize("target", TARGETS)
def test_the_comparison_finds_damage(
    oracle: Oracle,
    damage: Callable[[AcousticWeights], AcousticWeights],
    target: tuple[str, str, str],
    tmp_path: Path,
) -> None:
    ours = tmp_path / f"damaged{package_suffix(target[0])}"
    convert_weights(damage(oracle.weights), request_of("static", target), ours)
    assert dataflow(ours) != dataflow(oracle.package("plain", "static", target))


@pytest.mark.parametrize(("kind", "target", "lstm"), OUTPUT_CELLS)
def test_outputs_and_state_are_tensorflows_for_every_length(
    oracle: Oracle, built: Build, kind: str, target: tuple[str, str, str], lstm: str
) -> None:
    request = replace(request_of(kind, target), lstm=lstm)
    model = executor.load(built(request))
    ran = 0
    for name, inputs in oracle.cases.items():
        if isinstance(request.steps, FixedSteps) and inputs["input_node"].shape[1] != 16:
            continue
        ran += 1
        found = model.predict(inputs)
        for output, expected in oracle.results[name].items():
            assert found[output].shape == expected.shape
            np.testing.assert_allclose(
                found[output],
                expected,
                rtol=0,
                atol=TOLERANCE[request.precision],
                err_msg=f"{name} {output}",
            )
    assert ran >= 4


def test_dynamic_to_static_has_no_dynamic_operation_left(oracle: Oracle, built: Build) -> None:
    dynamic = {"shape", "range_1d", "fill", "getShape", "rangeDynamic", "fillDynamic"}
    for target in TARGETS:
        for lstm in ("native", "loop"):
            for kind, expected in (("dynamic", True), ("dynamic_to_static", False)):
                request = replace(request_of(kind, target), lstm=lstm)
                found = dynamic & op_counts(built(request)).keys()
                assert bool(found) is expected, (kind, target, lstm)
    package = oracle.package("ours", "dynamic_to_static", TARGETS[1])
    assert not dynamic & op_counts(package).keys()
