"""Packages with a front end inside: layouts, counts, calls, precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.architectures.front_end.feed import features_of_calls
from asrbuild.architectures.front_end.signature import in_package
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml import executor
from asrbuild.coreml.compression import Layers
from asrbuild.coreml.convert import write_model
from asrbuild.coreml.mixed import FRONT_END, NONE, Mixed
from asrbuild.coreml.request import ConversionRequest, RangeSteps
from asrbuild.coreml.signature import ROWS, STEPS, Axis, Context, Port, Rows, Signature, StatePair
from asrbuild.speech.features.kinds import LogMelWhisper, Settings, compute, make_settings
from tests.speech.features.signals import signals

BANDS = 80
BATCH, WIDE, STEP = Axis("batch", 1), Axis("band", BANDS), Axis(STEPS)
LENGTH = Port("length", (BATCH,), "step_count", "", "int32")
LOGITS = Port("logits", (BATCH, Axis(ROWS), WIDE), "logits", "")
COUNT = Port("count", (BATCH,), "row_count", "", "int32")


def _network(*axes: Axis) -> Signature:
    return Signature((Port("features", axes, "features", ""), LENGTH), (LOGITS, COUNT))


def _body(network: Signature):
    """The network: half of each feature, (1, steps, bands), and the count of steps."""
    from asrbuild.architectures.front_end.spectra import mb

    port = network.features

    def body(_: int | None, inputs: Any) -> dict[str, Any]:
        found = inputs["features"]
        if len(port.axes) == 4:
            found = mb.squeeze(x=found, axes=[port.axes.index(Axis("channel", 1))])
        if port.axes.index(WIDE) < port.axes.index(STEP):
            found = mb.transpose(x=found, perm=[0, 2, 1])
        half = 0.5 * np.eye(BANDS, dtype=np.float32)
        logits = mb.linear(x=found, weight=half, bias=np.zeros(BANDS, np.float32), name="halved")
        return {"logits": logits, "count": mb.identity(x=inputs["length"])}

    return body


def _package(
    tmp_path: Path, network: Signature, settings: Settings, half: Mixed | None = None
) -> executor.model.Model:
    from asrbuild.architectures.front_end.program import with_front_end

    path = tmp_path / "network.mlpackage"
    write_model(
        with_front_end(_body(network), network, settings),
        in_package(network, settings),
        ConversionRequest(
            precision="fp16" if half else "fp32", steps=RangeSteps(800, 16_000, 96_000)
        ),
        path,
        Layers(),
        half,
    )
    return executor.load(path)


@pytest.mark.parametrize(
    "axes",
    [(BATCH, STEP, WIDE), (BATCH, WIDE, STEP), (BATCH, Axis("channel", 1), WIDE, STEP)],
    ids=["steps first", "bands first", "an image"],
)
@pytest.mark.parametrize("kind", ["fbank_kaldi", "log_mel_whisper"])
def test_a_network_gets_its_features_in_its_own_layout(
    kind: str, axes: tuple[Axis, ...], tmp_path: Path
) -> None:
    settings, network = make_settings(kind), _network(*axes)
    package = _package(tmp_path, network, settings)
    speech = signals()["speech"][:16_123]
    real = 12_345
    found = package.predict({"samples": speech[None], "length": np.array([real], np.int32)})
    expected = compute(speech, settings)
    np.testing.assert_allclose(found["logits"][0], expected / 2, atol=1e-3)
    assert found["count"].tolist() == [settings.steps(real)]
    assert in_package(network, settings).rows.of(len(speech)) == len(expected)
    # The original is fed with the package's features.
    calls = {"a/00000/samples": speech[None], "a/00000/length": np.array([real], np.int64)}
    fed = features_of_calls(calls, network, settings)
    assert fed["a/00000/length"].tolist() == [settings.steps(real)]
    order = [network.features.axes.index(axis) for axis in (STEP, WIDE)]
    laid = fed["a/00000/features"]
    assert laid.shape == tuple(len(expected) if axis == STEP else axis.size for axis in axes)
    np.testing.assert_array_equal(np.squeeze(laid.transpose(*order, *_rest(order, axes))), expected)


def _rest(order: list[int], axes: tuple[Axis, ...]) -> list[int]:
    return [at for at in range(len(axes)) if at not in order]


def test_rows_and_context_count_samples() -> None:
    network = replace(
        _network(BATCH, STEP, WIDE), rows=Rows(3, -1), context=Context(False, 6, 3, "neutral")
    )
    settings = make_settings("fbank_kaldi")
    found = in_package(network, settings)
    assert (found.time, found.context.left, found.context.right) == ("samples", 960, 480)
    for samples in (399, 400, 5_000, 5_001, 16_000):
        assert found.rows.of(samples) == network.rows.of(settings.steps(samples))


def test_features_of_the_whole_recording_cannot_stream() -> None:
    carried = replace(_network(BATCH, STEP, WIDE), states=(StatePair("h", "new_h", "h"),))
    with pytest.raises(AsrbuildError, match="look at the whole recording") as caught:
        in_package(carried, LogMelWhisper())
    assert caught.value.key == "features.place"


@pytest.mark.parametrize("fp32", [FRONT_END, NONE, ("front_end_log", "halved")])
def test_float32_is_needed_up_to_the_logarithm(fp32: Any, tmp_path: Path) -> None:
    """Half precision loses quiet sounds, even if only some of these operations have it."""
    settings, network = make_settings("log_mel_whisper"), _network(BATCH, STEP, WIDE)
    half = Mixed(fp32)
    package = _package(tmp_path, network, settings, half)
    half.check()
    quiet = signals()["quiet"][:16_000]
    given = {"samples": quiet[None], "length": np.array([len(quiet)], np.int32)}
    found = np.abs(package.predict(given)["logits"][0] - compute(quiet, settings) / 2).max()
    assert found < 2e-3 if fp32 == FRONT_END else found > 0.05
    missing = Mixed(["no_such_op"])
    with pytest.raises(AsrbuildError, match="the program has no operation no_such_op"):
        missing.check()
