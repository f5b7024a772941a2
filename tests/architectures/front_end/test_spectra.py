"""Front ends as MIL operations in the executor, compared with the numpy features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asrbuild.coreml import executor
from asrbuild.coreml.compression import Layers
from asrbuild.coreml.convert import write_model
from asrbuild.coreml.request import ConversionRequest, RangeSteps
from asrbuild.coreml.signature import STEPS, Axis, Port, Signature
from asrbuild.speech.features.kinds import LogMelNemo, Settings, compute, make_settings
from asrbuild.speech.mfcc import FeatureSettings, context_windows, mfcc
from tests.speech.features.signals import signals

KINDS = {
    "mfcc_tf": FeatureSettings(),
    "fbank_kaldi": make_settings("fbank_kaldi"),
    "log_mel_whisper": make_settings("log_mel_whisper"),
    "log_mel_nemo": make_settings("log_mel_nemo"),
    "log_mel_nemo_raw": LogMelNemo(normalize="none"),
}


def _package(tmp_path: Path, body, outputs: dict[str, int], *more: Port) -> executor.model.Model:
    samples = Port("samples", (Axis("batch", 1), Axis(STEPS)), "samples", "")
    made = tuple(
        Port(name, (Axis("batch", 1), Axis(STEPS), Axis("width", width)), "logits", "")
        for name, width in outputs.items()
    )
    request = ConversionRequest(precision="fp32", steps=RangeSteps(800, 16_000, 480_000))
    path = tmp_path / "front.mlpackage"
    write_model(body, Signature((samples, *more), made), request, path, Layers())
    return executor.load(path)


def _frames(samples: np.ndarray, settings: Settings) -> np.ndarray:
    """Settings without the context of MFCC."""
    if isinstance(settings, FeatureSettings):
        return mfcc(samples, settings)
    return compute(samples, settings)


@pytest.mark.parametrize("kind", KINDS)
def test_features_in_a_package_equal_those_of_an_app(kind: str, tmp_path: Path) -> None:
    from asrbuild.architectures.front_end import spectra

    settings = KINDS[kind]
    package = _package(
        tmp_path,
        lambda _, inputs: {"features": spectra.frames(inputs["samples"], settings)},
        {"features": settings.n_input if kind == "mfcc_tf" else 80},
    )
    for name, samples in signals().items():
        if kind == "log_mel_nemo" and name in ("quiet", "silence"):
            continue  # normalisation divides a nearly constant band by its rounding errors
        found = package.predict({"samples": samples[None]})["features"][0]
        np.testing.assert_allclose(found, _frames(samples, settings), rtol=0, atol=1e-3)


def test_windows_have_zeros_outside_the_recording(tmp_path: Path) -> None:
    from asrbuild.architectures.front_end import spectra

    settings = FeatureSettings()

    def body(_: int | None, inputs) -> dict:
        coefficients = spectra.frames(inputs["samples"], settings)
        windows, rows = spectra.windows(coefficients, settings, inputs["real"])
        return {"windows": windows, "rows": rows}

    real = Port("real", (Axis("bounds", 2),), "step_count", "", "int32")
    package = _package(tmp_path, body, {"windows": 26, "rows": 1}, real)
    speech = signals()["speech"][:4_000]
    edge = settings.n_context * settings.stride
    padded = np.concatenate([np.ones(edge), speech, np.ones(edge + 100)]).astype(np.float32)
    bounds = np.array([edge, edge + len(speech)], np.int32)
    found = package.predict({"samples": padded[None], "real": bounds})
    expected = context_windows(mfcc(speech, settings), settings.n_context)
    assert found["rows"].tolist() == [len(expected)]
    np.testing.assert_allclose(found["windows"][0, : len(expected)], expected, atol=1e-3)
