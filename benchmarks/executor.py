"""The executor's speed and memory, compared with TensorFlow.

    python benchmarks/executor.py [--only fp32] [--rounds 3]

Everything runs in this one session, each measurement in a process of its own, TensorFlow before
the packages in every round, on one network with random weights: the graph that the export writes,
and packages of it. One shot is the whole recording at once; chunked is 16 steps at a time with
carried state. A ratio is a median over TensorFlow's median for the same way. Memory is the peak
that loading and one shot add to the process, divided by the package's size on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.choices import Format, LstmForm, Precision

CHUNK = 16
#: (format, precision, LSTM form, one shot at most, chunked at most); limits are those of fp32.
MEASURED: tuple[tuple[Format, Precision, LstmForm, float | None, float | None], ...] = (
    ("mlprogram", "fp32", "native", 0.7, 1.0),
    ("mlprogram", "fp32", "loop", 2.0, 1.3),
    ("mlprogram", "fp16", "native", None, None),
    ("mlprogram", "fp16", "loop", None, None),
    ("neuralnetwork", "fp32", "native", 0.7, 1.0),
    ("neuralnetwork", "fp32", "loop", 2.0, 1.3),
)
MEMORY_LIMIT = 2.5


def chosen(only: str) -> list[tuple[Format, Precision, LstmForm, float | None, float | None]]:
    """The rows of ``MEASURED`` that have all the comma-separated words of ``only``."""
    words = {word for word in only.split(",") if word}
    return [row for row in MEASURED if words <= set(row[:3])]


def build(directory: Path, n_hidden: int, only: str) -> None:
    """Writes the graph and the packages into ``directory``; existing files stay."""
    from asrbuild.architectures.deepspeech.export import write_frozen_graph
    from asrbuild.architectures.deepspeech.flags import ExportFlags
    from asrbuild.architectures.deepspeech.from_weights import convert_weights
    from asrbuild.architectures.deepspeech.network import random_weights
    from asrbuild.coreml.request import ConversionRequest, RangeSteps

    weights = random_weights(n_hidden)
    graph = directory / "output_graph.pb"
    if not graph.exists():
        labels = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]
        write_frozen_graph(weights, ExportFlags(n_steps=-1, n_hidden=n_hidden), labels, graph)
    for form, precision, lstm, _, _ in chosen(only):
        path = package_path(directory, form, precision, lstm)
        if not path.exists():
            request = ConversionRequest(
                format=form,
                precision=precision,
                lstm=lstm,
                deployment_target="iOS17",
                steps=RangeSteps(1, CHUNK, 2000),
            )
            convert_weights(weights, request, path)


def package_path(directory: Path, form: str, precision: str, lstm: str) -> Path:
    from asrbuild.coreml.request import package_suffix

    return directory / f"{form}-{precision}-{lstm}{package_suffix(form)}"


def open_tensorflow(graph: str) -> Callable[[dict[str, Array]], dict[str, Array]]:
    """A session on the frozen graph, like that of DeepSpeech's client."""
    import tensorflow.compat.v1 as tf

    definition = tf.GraphDef.FromString(Path(graph).read_bytes())
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(definition, name="")
    session = tf.Session(graph=imported)
    outputs = {n: f"{n}:0" for n in ("logits", "new_state_c", "new_state_h")}
    return lambda inputs: session.run(outputs, {f"{n}:0": v for n, v in inputs.items()})


def open_package(path: str) -> Callable[[dict[str, Array]], dict[str, Array]]:
    from asrbuild.coreml.executor import load

    return load(path).predict


def measure(what: str, path: str, n_hidden: int, steps: int, repeats: int) -> dict[str, Any]:
    """Seconds to load, of one shot and of all chunks (the best of some), and peak memory in MB."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if what == "tensorflow":
        import tensorflow  # noqa: F401 - its import is not measured
    else:
        import asrbuild.coreml.executor.mil
        import asrbuild.coreml.executor.nn  # noqa: F401
    windows = np.random.default_rng(0).standard_normal((1, steps, 19, 26), dtype=np.float32)
    before = _resident_mb()
    start = time.perf_counter()
    run = (open_tensorflow if what == "tensorflow" else open_package)(path)
    load_s = time.perf_counter() - start

    def inputs(part: Array, c: Array, h: Array) -> dict[str, Array]:
        length = np.array([part.shape[1]], np.int32)
        return {
            "input_node": part,
            "input_lengths": length,
            "previous_state_c": c,
            "previous_state_h": h,
        }

    zero = np.zeros((1, n_hidden), np.float32)
    one_shot, chunked = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        whole = run(inputs(windows, zero, zero))
        one_shot.append(time.perf_counter() - start)
    peak = _peak_mb() - before
    for _ in range(repeats):
        c = h = zero
        rows = []
        start = time.perf_counter()
        for at in range(0, steps, CHUNK):
            got = run(inputs(windows[:, at : at + CHUNK], c, h))
            c, h = got["new_state_c"], got["new_state_h"]
            rows.append(got["logits"])
        chunked.append(time.perf_counter() - start)
    difference = float(np.abs(np.concatenate(rows) - whole["logits"]).max())
    return {
        "load": load_s,
        "one_shot": min(one_shot),
        "chunked": min(chunked),
        "peak": peak,
        "difference": difference,
    }


def _resident_mb() -> float:
    return _status_mb("VmRSS")


def _peak_mb() -> float:
    return _status_mb("VmHWM")


def _status_mb(field: str) -> float:
    """Linux's figure for this process; ``getrusage`` would count the parent's peak too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    for line in status.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def measured(what: str, path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [
        sys.executable,
        __file__,
        "--measure",
        what,
        str(path),
        "--n-hidden",
        str(arguments.n_hidden),
        "--steps",
        str(arguments.steps),
        "--repeats",
        str(arguments.repeats),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def size_mb(path: Path) -> float:
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def report(arguments: argparse.Namespace, directory: Path) -> int:
    """Prints the table; returns the number of exceeded limits."""
    results: dict[str, list[dict[str, Any]]] = {}
    paths = {"tensorflow": directory / "output_graph.pb"}
    for form, precision, lstm, _, _ in chosen(arguments.only):
        path = package_path(directory, form, precision, lstm)
        paths[path.name] = path
    for _ in range(arguments.rounds):
        for name, path in paths.items():
            what = "tensorflow" if name == "tensorflow" else "package"
            results.setdefault(name, []).append(measured(what, path, arguments))

    def median(name: str, key: str) -> float:
        return float(statistics.median(result[key] for result in results[name]))

    reference = {key: median("tensorflow", key) for key in ("one_shot", "chunked")}
    print(
        f"n_hidden {arguments.n_hidden}, {arguments.steps} steps, chunks of {CHUNK}, "
        f"{arguments.rounds} rounds, {os.cpu_count()} cores"
    )
    print("| what | load s | one shot s | ratio | chunked s | ratio | memory / package |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| TensorFlow session | {median('tensorflow', 'load'):.2f} | {reference['one_shot']:.2f}"
        f" | 1 | {reference['chunked']:.2f} | 1 | |"
    )
    over = 0
    for form, precision, lstm, *limits in chosen(arguments.only):
        path = package_path(directory, form, precision, lstm)
        cells = [f"{form} {precision} {lstm}", f"{median(path.name, 'load'):.2f}"]
        for key, limit in zip(("one_shot", "chunked"), limits, strict=True):
            seconds = median(path.name, key)
            ratio = seconds / reference[key]
            cells += [f"{seconds:.2f}", _against(ratio, limit)]
            over += limit is not None and ratio > limit
        memory = median(path.name, "peak") / size_mb(path)
        over += memory > MEMORY_LIMIT
        cells.append(_against(memory, MEMORY_LIMIT))
        print("| " + " | ".join(cells) + " |")
    return over


def _against(value: float, limit: float | None) -> str:
    if limit is None:
        return f"{value:.2f}"
    return f"{value:.2f} ({'at most' if value <= limit else 'OVER'} {limit})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-hidden", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=636)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", default="", help="packages with all these words: fp32,native")
    parser.add_argument("--keep", type=Path, help="build there, and use what is there already")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        what, path = arguments.measure
        result = measure(what, path, arguments.n_hidden, arguments.steps, arguments.repeats)
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        build(directory, arguments.n_hidden, arguments.only)
        sys.exit(1 if report(arguments, directory) else 0)


if __name__ == "__main__":
    main()
