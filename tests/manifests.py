"""A manifest with a value for every key, which tests change."""

from __future__ import annotations

import hashlib
from typing import Any

from asrbuild.artifact.manifest import SCHEMA_VERSION


def fixed(name: str, size: int) -> dict[str, Any]:
    return {"name": name, "min": size, "default": size, "max": size, "enumerated": None}


def tensor(name: str, dtype: str, shape: list[dict[str, Any]], meaning: str) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape, "meaning": meaning, "fill": "as told"}


STEPS = {"name": "steps", "min": 1, "default": 16, "max": None, "enumerated": None}


SIZES = {"name": "steps", "min": 16, "default": 16, "max": 64, "enumerated": [16, 32, 64]}


INPUTS = [
    tensor("input_node", "float32", [fixed("batch", 1), STEPS, fixed("window", 19)], "features"),
    tensor("input_lengths", "int32", [fixed("batch", 1)], "step_count"),
]


OUTPUTS = [tensor("logits", "float32", [SIZES, fixed("class", 29)], "probabilities")]


STREAMING = {
    "mode": "whole",
    "steps_per_chunk": None,
    "hop_ms": 20.0,
    "chunk_ms": None,
    "lookahead_ms": 180.0,
    "latency_ms": None,
    "tail": "zero_pad_and_trim",
}


def metric(output: str, value: float, threshold: float, comparison: str = "<=") -> dict[str, Any]:
    passed = value <= threshold if comparison == "<=" else value >= threshold
    name = "max_abs_error" if comparison == "<=" else "argmax_agreement"
    return {
        "input": "sample",
        "output": output,
        "name": name,
        "value": value,
        "comparison": comparison,
        "threshold": threshold,
        "passed": passed,
    }


CONTENT = {"model.mlmodel": bytes(4_100_000), "alphabet.txt": bytes(329), "reference.wav": b""}


MANIFEST: dict[str, Any] = {
    "schema_version": SCHEMA_VERSION,
    "artifact_id": "demo-dynamic/1.0.0+0123456789ab",
    "name": "demo-dynamic",
    "version": "1.0.0+0123456789ab",
    "description": "A small [model] of English.",
    "author": "someone",
    "license": "CC0-1.0",
    "languages": ["en"],
    "files": [
        {
            "path": path,
            "role": role,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        for (path, content), role in zip(
            CONTENT.items(), ("package", "alphabet", "reference_audio"), strict=True
        )
    ],
    "audio": {"sample_rate": 16000, "channels": 1, "sample_type": "int16", "sample_scale": 2**-15},
    "features": {
        "kind": "mfcc",
        "window_ms": 32.0,
        "step_ms": 20.0,
        "window_samples": 512,
        "step_samples": 320,
        "window_function": "periodic_hann",
        "fft_size": 512,
        "spectrum": "magnitude",
        "mel_bands": 40,
        "lower_hz": 20.0,
        "upper_hz": 8000.0,
        "coefficients": 26,
        "log_floor": 1e-12,
        "context_frames": 9,
        "edge_padding": "zeros",
        "reference": {
            "audio": "reference.wav",
            "audio_sha256": "ef" * 32,
            "samples": 16000,
            "total_frames": 49,
            "first_frame": 0,
            "frames": [[0.5] * 26],
            "tolerance": 1e-3,
        },
    },
    "model": {
        "format": "neuralnetwork",
        "package": "model.mlmodel",
        "spec_version": 5,
        "minimum_os": {"iOS": "14", "macOS": "11"},
        "compute_precision": "fp32",
        "recommended_compute_units": "ALL",
        "lstm": "loop",
        "default_function": "main",
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "functions": [
            {"name": "main", "inputs": INPUTS, "outputs": OUTPUTS, "streaming": STREAMING}
        ],
    },
    "state": [
        {
            "input": "previous_state_c",
            "output": "new_state_c",
            "kind": "explicit",
            "shape": [1, 64],
            "initial": "zeros",
            "reset": "per_utterance",
            "valid": "always",
        }
    ],
    "streaming": STREAMING,
    "decoder": {
        "type": "beam",
        "alphabet": ["a"] * 28,
        "alphabet_file": "alphabet.txt",
        "utf8": False,
        "blank_index": 28,
        "beam_width": 500,
        "cutoff_prob": 1.0,
        "cutoff_top_n": 40,
        "scorer": None,
        "hot_words": {"core": 7.5},
        "tuned": None,
    },
    "verification": {
        "executed": True,
        "core_ml_executed": False,
        "reference": "TensorFlow 2.21.0",
        "executions": [{"executor": "asrbuild", "version": "0.1.0", "platform": "Linux"}],
        "inputs": [{"name": "sample", "steps": 636, "sha256": "12" * 32}],
        "metrics": [
            metric("logits", 1e-6, 1e-3),
            metric("logits", 5e-4, 1e-3),
            metric("logits", 1.0, 0.999, ">="),
        ],
        "transcripts": [
            {
                "input": "sample",
                "expected": "core a b",
                "reference": "core a b",
                "package": "core a b",
                "match": True,
            }
        ],
        "evaluation": None,
        "passed": True,
    },
    "provenance": {
        "created": "2024-05-01T10:00:00+00:00",
        "platform": "Linux x86_64, Python 3.11",
        "git": {"commit": "deadbeef", "dirty": True},
        "recipe": {"n_steps": 16, "model": {}},
        "overrides": ["model=dynamic"],
        "parents": [],
        "sources": [{"role": "checkpoint", "name": "best_dev-1", "sha256": "34" * 32}],
        "tools": {"coremltools": "9.0"},
    },
}
