"""Time of the convert stage, compared with plain ``coremltools.convert``.

    python benchmarks/convert.py [--n-hidden 2048]

Everything runs in this one session, each conversion in a process of its own, on the same exported
graph with random weights:

- plain: parse ``output_graph.pb``, ``coremltools.convert``, ``save``;
- mil: read the weights from the graph, build the program with coremltools' builder, write it;
- tensorflow: ``coremltools.convert`` with placeholder weights, the real ones written afterwards.

A ratio is a median over a median. Imports are left out of "convert" and are in "process".
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

N_STEPS = 16
#: (front end, format, precision, LSTM form, compared with, at most).
MEASURED = (
    ("plain", "mlprogram", "fp16", "loop", None, None),
    ("mil", "mlprogram", "fp16", "native", "plain", 0.08),
    ("mil", "mlprogram", "fp16", "loop", "plain", 0.08),
    ("tensorflow", "mlprogram", "fp16", "loop", "plain", 0.20),
    ("plain", "neuralnetwork", "fp32", "loop", None, None),
    ("mil", "neuralnetwork", "fp32", "native", "plain", 0.10),
    ("mil", "neuralnetwork", "fp32", "loop", "plain", 0.10),
    ("tensorflow", "neuralnetwork", "fp32", "loop", "plain", 0.20),
)


@dataclass(frozen=True)
class Measure:
    """Seconds of wall and processor time of the conversion, of its whole process, and peak MB."""

    convert_s: float
    cpu_s: float
    process_s: float
    peak_mb: float


def plain(graph: Path, form: str, precision: str, lstm: str, out: Path) -> Callable[[], None]:
    """The conversion of the guide, adapted to TensorFlow 2."""
    import coremltools as ct
    from tensorflow.compat.v1 import GraphDef

    arguments: dict[str, Any] = {}
    if form == "mlprogram":
        arguments["compute_precision"] = getattr(ct.precision, f"FLOAT{precision[2:]}")
        arguments["minimum_deployment_target"] = ct.target.iOS17

    def convert() -> None:
        parsed = GraphDef()
        parsed.ParseFromString(graph.read_bytes())
        outputs = ["logits", "new_state_c", "new_state_h"]
        model = ct.convert(
            parsed, source="tensorflow", convert_to=form, outputs=outputs, **arguments
        )
        model.save(str(out))

    return convert


def mil(graph: Path, form: str, precision: str, lstm: str, out: Path) -> Callable[[], None]:
    from asrbuild.architectures.deepspeech import program as acoustic  # noqa: F401  # imports coremltools, without TensorFlow
    from asrbuild.architectures.deepspeech.from_weights import convert_weights
    from asrbuild.architectures.deepspeech.frozen import read_graph_weights
    from asrbuild.coreml.request import ConversionRequest, FixedSteps

    request = ConversionRequest(form, precision, lstm=lstm, steps=FixedSteps(N_STEPS))  # type: ignore[arg-type]
    return lambda: convert_weights(read_graph_weights(graph), request, out)


def tensorflow(graph: Path, form: str, precision: str, lstm: str, out: Path) -> Callable[[], None]:
    import coremltools  # noqa: F401  # imports TensorFlow itself

    from asrbuild.architectures.deepspeech.from_graph import convert_here
    from asrbuild.coreml.request import ConversionRequest, FixedSteps

    request = ConversionRequest(form, precision, lstm=lstm, steps=FixedSteps(N_STEPS))  # type: ignore[arg-type]
    return lambda: convert_here(graph, request, out)


def child(arguments: list[str]) -> None:
    """Runs one conversion and prints its figures; ``prepare`` only exports the graph."""
    if arguments[0] == "prepare":
        from asrbuild.architectures.deepspeech.export import write_frozen_graph
        from asrbuild.architectures.deepspeech.flags import ExportFlags
        from asrbuild.architectures.deepspeech.network import random_weights

        hidden = int(arguments[1])
        flags = ExportFlags(n_steps=N_STEPS, n_hidden=hidden)
        labels = [*" abcdefghijklmnopqrstuvwxyz'"]
        write_frozen_graph(random_weights(hidden), flags, labels, Path(arguments[2]))
        return
    maker = {"plain": plain, "mil": mil, "tensorflow": tensorflow}[arguments[0]]
    graph, form, precision, lstm, out = arguments[1:]
    convert = maker(Path(graph), form, precision, lstm, Path(out))
    started, cpu = time.perf_counter(), time.process_time()
    convert()
    figures = [time.perf_counter() - started, time.process_time() - cpu, peak_mb()]
    print(json.dumps(figures))


def peak_mb() -> float:
    """This process's largest resident size."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count the parent's memory from before exec
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def spawn(*arguments: str) -> str:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "TQDM_DISABLE": "1"}
    command = [sys.executable, __file__, "--child", *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{ran.stderr[-2000:]}")
    return ran.stdout


def measure(kind: tuple[str, ...], graph: Path, folder: Path) -> Measure:
    frontend, form, precision, lstm = kind
    out = folder / ("m.mlpackage" if form == "mlprogram" else "m.mlmodel")
    started = time.perf_counter()
    line = spawn(frontend, str(graph), form, precision, lstm, str(out)).splitlines()[-1]
    convert_s, cpu_s, peak = json.loads(line)
    return Measure(convert_s, cpu_s, time.perf_counter() - started, peak)


def median(runs: list[Measure], field: str) -> float:
    return float(statistics.median(getattr(run, field) for run in runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-hidden", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3, help="of each; the plain way runs once")
    parser.add_argument("--plain-runs", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "output_graph.pb"
        spawn("prepare", str(chosen.n_hidden), str(graph))
        print(f"n_hidden {chosen.n_hidden}, graph {graph.stat().st_size / 2**20:.0f} MB")
        print(
            "| front end | format | lstm | convert s | cpu s | process s | peak MB | "
            "convert ratio | cpu ratio | process ratio | memory ratio | at most |"
        )
        print("|" + "---|" * 12)
        baselines: dict[str, list[Measure]] = {}
        for frontend, form, precision, lstm, against, limit in MEASURED:
            count = chosen.plain_runs if frontend == "plain" else chosen.runs
            kind = (frontend, form, precision, lstm)
            runs = [measure(kind, graph, Path(scratch)) for _ in range(count)]
            if against is None:
                baselines[form] = runs
            fields = ("convert_s", "cpu_s", "process_s", "peak_mb")
            values = {field: median(runs, field) for field in fields}
            ratios = {field: values[field] / median(baselines[form], field) for field in fields}
            cells = [frontend, f"{form} {precision}", lstm]
            cells += [f"{values[field]:.1f}" for field in fields[:3]]
            cells += [f"{values['peak_mb']:.0f}"]
            cells += [f"{ratios[field]:.3f}" for field in fields]
            print("| " + " | ".join([*cells, f"{limit or ''}"]) + " |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()
