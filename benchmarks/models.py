"""Models of other architectures: conversion, memory, size, error, and the executor's speed.

    uv run --group dev benchmarks/models.py [--only hama,quartznet] [--rounds 20]
    uv run --group dev benchmarks/models.py --build hama

Real models come from wheels of the package index, the others have random weights: small ones, and
the recurrent and attention layers of models that people ship (``*_large``). Each runs in a process
of its own, with one thread, and times are of the processor. A ratio is the executor's shortest time
over onnxruntime's, and should be at most 8; a conversion should take at most 400 MB for a model
under 100 MB. A step of a small recurrent layer is a dozen calls of numpy on a few numbers, 4
microseconds, where onnxruntime has one loop of C++: such a layer is near 8, and from 256 units on
the products of a step dominate.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.base.array import Array

ROOT = Path(__file__).parents[1]
KALDI, NEMO = ({"features": {"kind": kind}} for kind in ("fbank_kaldi", "log_mel_nemo"))
#: Model -> its section of the recipe, and the steps of a call.
MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "hama": ({}, 64_000),
    "basic_pitch": ({}, 43_844),
    "quartznet": (NEMO, 400),
    "conformer": (KALDI, 400),
    "bigru": (KALDI, 400),
    "wav2vec2": ({}, 16_000),
    "streaming_lstm": (KALDI, 16),
    "streaming_conformer": (KALDI, 16),
    "bigru_large": (KALDI, 400),
    "conformer_large": (KALDI, 400),
    "wav2vec2_large": ({}, 64_000),
    "streaming_lstm_large": (KALDI, 16),
    "streaming_conformer_large": (KALDI, 16),
}
#: Units of a layer of the models that are large.
LARGE = {
    "bigru": 512,
    "conformer": 256,
    "wav2vec2": 512,
    "streaming_lstm": 640,
    "streaming_conformer": 256,
}
MOST_RATIO, MOST_MEGABYTES = 8.0, 400
#: Of a cold build of hama, without the witness.
MOST_SECONDS = 15.0


def model_file(name: str, folder: Path) -> Path:
    """The ONNX file of a model, fetched or made."""
    if name == "hama":
        from tests.wheels import fetched

        return fetched() / "hama" / "assets" / "asr_waveform_fp16.onnx"
    if name == "basic_pitch":
        from tests.wheels import fetched

        return fetched() / "basic_pitch" / "saved_models" / "icassp_2022" / "nmp.onnx"
    from tests.architectures.onnx import models

    small = name.removesuffix("_large")
    units = (LARGE[small],) if small != name else ()
    made: Path = getattr(models, small)(folder / f"{name}.onnx", *units)
    return made


def measure(name: str, rounds: int, folder: Path) -> dict[str, float]:
    """One model's row, in this process."""
    from asrbuild.architectures.onnx.convert import convert_graph
    from asrbuild.architectures.onnx.section import OnnxConfig, port_name, read_section
    from asrbuild.architectures.onnx.settle import settled
    from asrbuild.coreml.executor import load
    from asrbuild.coreml.request import ConversionRequest, FixedSteps
    from asrbuild.coreml.speedups.importing import import_coremltools

    section, steps = MODELS[name]
    file = model_file(name, folder)
    config = read_section(settled(file, OnnxConfig(**section), folder, keep=False).config)
    import_coremltools()
    request = ConversionRequest(
        precision="fp32", deployment_target="iOS18", steps=FixedSteps(steps)
    )
    package = folder / f"{name}.mlpackage"
    begin = time.process_time()
    convert_graph(file, config, request, package)
    seconds = time.process_time() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rng = np.random.default_rng(0)
    feeds = {}
    for given, own in config.inputs.items():
        shape = [steps if isinstance(size, str) else size for size in own["axes"]]
        whole = own["meaning"] == "step_count"
        value = np.full(shape, steps) if whole else 0.1 * rng.standard_normal(shape)
        feeds[given] = value.astype(np.int64 if whole else np.float32)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options)
    loaded = load(package)
    plain = {
        port_name(given): value.astype(np.int32 if value.dtype.kind == "i" else np.float32)
        for given, value in feeds.items()
    }
    decoded = next(iter(config.outputs))
    wanted, theirs = timed(lambda: session.run([decoded], feeds)[0], rounds)
    got, ours = timed(lambda: loaded.predict(plain)[port_name(decoded)], rounds)
    return {
        "convert_s": seconds,
        "memory_mb": memory,
        "error": float(np.abs(got - wanted).max()),
        "model_mb": file.stat().st_size / 1e6,
        "onnxruntime_ms": theirs,
        "executor_ms": ours,
        "package_mb": sum(p.stat().st_size for p in package.rglob("*") if p.is_file()) / 1e6,
    }


def cold_build(name: str, folder: Path) -> bool:
    """Prints the times of a build with the whole proof and an empty cache; False: it is too slow.

    The draft of the recipe is written before, as a user does.
    """
    from tests.architectures.recipes import write_recipe

    write_recipe(name, folder / "recipes")
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [
            *(sys.executable, "-m", "asrbuild.cli.main", "--config-dir", "recipes"),
            *(f"source={name}", "coreml.precision=fp32", "verify.witness=off"),
        ],
        cwd=folder,
        env=os.environ
        | {"ASRBUILD_ARTIFACTS": "a", "ASRBUILD_CACHE": "c", "OPENBLAS_NUM_THREADS": "1"},
        check=True,
    )
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name}: {seconds:.1f} s, {used:.1f} s of processor; at most {MOST_SECONDS:g} s")
    return seconds <= MOST_SECONDS


def timed(run: Callable[[], Array], rounds: int) -> tuple[Array, float]:
    """The result, and the least processor time of a run after the first, in ms."""
    result, times = run(), []
    for _ in range(rounds):
        begin = time.process_time()
        run()
        times.append(1000 * (time.process_time() - begin))
    return result, min(times)


def main() -> int:
    description, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--build", help="time a cold, proven build of hama or quartznet instead")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        if chosen.one:
            print(json.dumps(measure(chosen.one, chosen.rounds, Path(folder))))
            return 0
        if chosen.build:
            return int(not cold_build(chosen.build, Path(folder)))
    print(
        f"{'model':>26}{'s':>8}{'MB':>8}{'onnx MB':>8}{'ours MB':>8}{'error':>10}{'ort ms':>9}"
        f"{'ours ms':>9}{'ratio':>7}"
    )
    missed = False
    for name in chosen.only.split(","):
        done = subprocess.run(
            [sys.executable, __file__, "--one", name, "--rounds", str(chosen.rounds)],
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        row = json.loads(done.stdout.splitlines()[-1])
        ratio = row["executor_ms"] / row["onnxruntime_ms"]
        missed |= ratio > MOST_RATIO or row["memory_mb"] > MOST_MEGABYTES
        print(
            f"{name:>26}{row['convert_s']:>8.1f}{row['memory_mb']:>8.0f}{row['model_mb']:>8.2f}"
            f"{row['package_mb']:>8.2f}{row['error']:>10.1e}{row['onnxruntime_ms']:>9.2f}"
            f"{row['executor_ms']:>9.2f}{ratio:>7.1f}",
            flush=True,
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
