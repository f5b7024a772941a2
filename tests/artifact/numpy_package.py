"""A package without Core ML: the DeepSpeech network in numpy, with strict checks of inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from asrbuild.architectures.deepspeech.network import AcousticWeights
from asrbuild.artifact.manifest import (
    Audio,
    Axis,
    Decoder,
    Features,
    Function,
    Manifest,
    Model,
    Provenance,
    ReferenceVector,
    State,
    Streaming,
    Tensor,
)
from asrbuild.proof.verdict import unproven

HIDDEN = 24
LABELS = [*" abcdefghijklmnopqrstuvwxyz'"]


def fixed(name: str, size: int) -> Axis:
    return Axis(name=name, min=size, default=size, max=size, enumerated=None)


def enumerated(sizes: list[int]) -> Axis:
    return Axis(name="steps", min=min(sizes), default=sizes[0], max=max(sizes), enumerated=sizes)


def ranged(low: int, high: int | None) -> Axis:
    return Axis(name="steps", min=low, default=low, max=high, enumerated=None)


def windows_of(steps: int) -> np.ndarray:
    """Random model input (steps, 19, 26), the same for the same number of steps."""
    return np.random.default_rng(steps).standard_normal((steps, 19, 26)).astype(np.float32)


def network(weights: AcousticWeights, windows: np.ndarray, c: np.ndarray, h: np.ndarray):
    """(steps, 19, 26) and states (1, H) to probabilities (steps, 29) and the states after."""
    w = weights.named()
    relu = lambda x, name: np.clip(x @ w[f"{name}/weights"] + w[f"{name}/bias"], 0, 20)  # noqa: E731
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    x = windows.reshape(len(windows), -1)
    for name in ("layer_1", "layer_2", "layer_3"):
        x = relu(x, name)
    outputs: list[np.ndarray] = []
    for row in x:
        gates = np.concatenate([row[None], h], axis=1) @ weights.lstm_kernel + weights.lstm_bias
        i, g, f, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h[0])
    hidden = relu(np.array(outputs).reshape(-1, h.shape[1]), "layer_5")
    logits = hidden @ w["layer_6/weights"] + w["layer_6/bias"]
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True), c, h


class NumpyPackage:
    """Takes exactly the inputs of its manifest; rows past ``input_lengths`` are garbage."""

    def __init__(self, manifest: Manifest, weights: AcousticWeights) -> None:
        self.manifest = manifest
        self.weights = weights
        self.calls: list[tuple[int, int]] = []

    def make_state(self) -> dict[str, np.ndarray]:
        return {p.input: np.zeros(p.shape, np.float32) for p in self.manifest.state}

    def predict(self, data: Mapping[str, np.ndarray], state: Any = None) -> dict[str, np.ndarray]:
        assert set(data) == {tensor.name for tensor in self.manifest.model.inputs}
        windows, axis = data["input_node"], self.manifest.model.inputs[0].shape[1]
        size, real = windows.shape[1], int(data["input_lengths"][0])
        assert windows.shape == (1, size, 19, 26)
        assert windows.dtype == np.float32
        assert data["input_lengths"].dtype == self.manifest.model.inputs[1].dtype
        assert 1 <= real <= size
        assert axis.min <= size <= (axis.max or size)
        assert axis.enumerated is None or size in axis.enumerated
        assert not windows[0, real:].any(), "the tail must be zeros"
        self.calls.append((size, real))
        kind = self.manifest.state[0].kind
        held = state if kind == "stateful" else data
        names = [pair.input for pair in self.manifest.state]
        rows, c, h = network(self.weights, windows[0, :real], held[names[0]], held[names[1]])
        if kind == "stateful":
            state.update({names[0]: c, names[1]: h})
        garbage = np.full((size - real, 29), np.nan, np.float32)
        out = {"logits": np.concatenate([rows, garbage])[:, None, :].astype(np.float32)}
        return out if kind == "stateful" else {**out, "new_state_c": c, "new_state_h": h}


def make_manifest(
    steps: Axis,
    mode: str = "chunked",
    chunk: int | None = 16,
    *,
    state: str = "explicit",
    decoder: str = "greedy",
    hidden: int = HIDDEN,
    lengths: str = "int32",
    **changed: object,
) -> Manifest:
    """A manifest whose package has the given step axis; ``changed`` replaces whole sections."""
    width = [fixed("one", 1), fixed("hidden", hidden)]
    kept = state == "stateful"
    pairs = [
        (f"state_{n}",) * 2 if kept else (f"previous_state_{n}", f"new_state_{n}") for n in "ch"
    ]
    inputs = [
        Tensor(
            name="input_node",
            dtype="float32",
            meaning="features",
            fill="zeros",
            shape=[fixed("batch", 1), steps, fixed("window", 19), fixed("coefficients", 26)],
        ),
        Tensor(
            name="input_lengths",
            dtype=lengths,
            meaning="step_count",
            fill="real steps",
            shape=[fixed("batch", 1)],
        ),
    ]
    outputs = [
        Tensor(
            name="logits",
            dtype="float32",
            meaning="probabilities",
            fill="",
            shape=[steps, fixed("batch", 1), fixed("classes", 29)],
        )
    ]
    if state == "explicit":
        inputs += [
            Tensor(name=a, dtype="float32", meaning="state", fill="zeros", shape=width)
            for a, _ in pairs
        ]
        outputs += [
            Tensor(name=b, dtype="float32", meaning="state", fill="", shape=width) for _, b in pairs
        ]
    streaming = Streaming(
        mode=mode,
        steps_per_chunk=chunk,
        hop_ms=20.0,
        chunk_ms=None,
        lookahead_ms=180.0,
        latency_ms=None,
        tail="zero_pad_and_trim",
    )
    main = Function(name="main", inputs=inputs, outputs=outputs, streaming=streaming)
    sections: dict[str, object] = {
        "schema_version": "1.0",
        "artifact_id": "test@1",
        "name": "test",
        "version": "1",
        "description": "",
        "author": "",
        "license": "",
        "languages": ["en"],
        "files": [],
        "audio": Audio(sample_rate=16_000, channels=1, sample_type="int16", sample_scale=1 / 32768),
        "features": Features(
            kind="mfcc",
            window_ms=32.0,
            step_ms=20.0,
            window_samples=512,
            step_samples=320,
            window_function="periodic_hann",
            fft_size=512,
            spectrum="magnitude",
            mel_bands=40,
            lower_hz=20.0,
            upper_hz=8000.0,
            coefficients=26,
            log_floor=1e-12,
            context_frames=9,
            edge_padding="zeros",
            reference=ReferenceVector(
                audio="reference.wav",
                audio_sha256="",
                samples=0,
                total_frames=0,
                first_frame=0,
                frames=[],
                tolerance=1e-3,
            ),
        ),
        "model": Model(
            format="mlprogram",
            package="test.mlpackage",
            spec_version=8,
            minimum_os={"iOS": "17"},
            compute_precision="fp32",
            recommended_compute_units="ALL",
            lstm="native",
            default_function="main",
            inputs=inputs,
            outputs=outputs,
            functions=[main],
        ),
        "state": [
            State(
                input=a,
                output=b,
                kind=state,
                shape=[1, hidden],
                initial="zeros",
                reset="per_utterance",
                valid="always",
            )
            for a, b in pairs
        ],
        "streaming": streaming,
        "decoder": Decoder(
            type=decoder,
            alphabet=LABELS,
            alphabet_file="alphabet.txt",
            utf8=False,
            blank_index=28,
            beam_width=50,
            cutoff_prob=1.0,
            cutoff_top_n=40,
            scorer=None,
            hot_words={},
            tuned=None,
        ),
        "verification": unproven(""),
        "provenance": Provenance(
            created="",
            platform="",
            git=None,
            recipe={},
            overrides=[],
            sources=[],
            tools={},
            parents=[],
        ),
    }
    return Manifest(**(sections | changed))
