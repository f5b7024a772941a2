"""Measures this artifact on this Mac, and writes what was measured to one JSON file.

    python measure.py [--out evidence.json] [--passes 100] [--units CPU_ONLY,CPU_AND_NE,...]

It needs Python 3.9, numpy and coremltools (pip install coremltools). Nothing is sent anywhere. Send
the file back; ``asrbuild evidence add evidence.json ARTIFACT`` checks it, and trusts nothing in it.
Close other programs, and plug the Mac in or leave it on battery as an app's users would.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.util
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # PYTHONSAFEPATH leaves it out

from calls import Runner, Vectors  # noqa: E402

MEASURED = HERE / "ASRKit" / "Tests" / "ASRKitEvidence" / "measured"
VERSION = "1"
UNITS = ("CPU_ONLY", "CPU_AND_NE", "CPU_AND_GPU", "ALL")
#: A compute plan runs a whole compile for the Neural Engine, which may take minutes.
PLAN_SECONDS = 3600


class NotHereError(Exception):
    """Something cannot be measured on this machine; its message says why."""


# The device ---------------------------------------------------------------------------------------


def command(*words: str) -> str:
    """The output of a command of macOS; empty if it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def read_device() -> dict[str, Any]:
    """The section ``device``, with both thermal states unknown: Python cannot read them."""
    identifier, build = command("sysctl", "-n", "hw.model"), command("sw_vers", "-buildVersion")
    if not identifier or not build:
        raise NotHereError("this is not a Mac: sysctl and sw_vers name no model and no build")
    virtual = command("sysctl", "-n", "kern.hv_vmm_present") == "1"
    battery = command("pmset", "-g", "batt")
    low_power = re.search(r"lowpowermode\s+(\d)", command("pmset", "-g"))
    return {
        "kind": "virtual machine" if virtual or "Virtual" in identifier else "device",
        "identifier": identifier,
        "chip": command("sysctl", "-n", "machdep.cpu.brand_string") or None,
        "os": "macOS",
        "os_version": command("sw_vers", "-productVersion"),
        "os_build": build,
        "memory_bytes": int(command("sysctl", "-n", "hw.memsize") or 0),
        "low_power": low_power[1] == "1" if low_power else None,
        "power": "mains" if "AC Power" in battery else "battery" if battery else None,
        "thermal": ["unknown", "unknown"],
    }


def footprint() -> tuple[int, int] | None:
    """Present and largest physical footprint of this process in bytes; None if unknown.

    ``rusage_info_v4`` of macOS's libproc.h: 16 bytes, then 35 or 36 numbers of 8 bytes, of which
    the eighth is ri_phys_footprint and the 29th ri_lifetime_max_phys_footprint.
    """
    import ctypes

    try:
        call = ctypes.CDLL(None).proc_pid_rusage
    except (AttributeError, OSError):
        return None
    buffer = (ctypes.c_uint8 * 512)()
    if call(os.getpid(), 4, buffer) != 0:
        return None
    numbers = np.frombuffer(bytes(buffer[16:]), "<u8")
    return int(numbers[7]), int(numbers[28])


def largest_rss() -> int:
    """The largest resident size so far, in bytes."""
    import resource

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(size if sys.platform == "darwin" else size * 1024)


# The package --------------------------------------------------------------------------------------


def package_digest(package: Path) -> str:
    """SHA-256 of the lines ``<sha256>  <path>`` of the package's files, in order."""
    files = sorted(p for p in package.rglob("*") if p.is_file()) if package.is_dir() else [package]
    named = sorted(
        ("." if file == package else file.relative_to(package).as_posix(), file) for file in files
    )
    lines = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n" for name, file in named)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def load(compiled: str, units: str, function: str | None, hints: dict[str, Any]) -> Any:
    """The package as Core ML loads it."""
    import coremltools as ct

    given = {}
    if hints["reshape_frequency"]:
        given["reshapeFrequency"] = ct.ReshapeFrequency[hints["reshape_frequency"]]
    if hints["specialization_strategy"]:
        chosen = ct.SpecializationStrategy[hints["specialization_strategy"]]
        given["specializationStrategy"] = chosen
    return ct.models.CompiledMLModel(
        compiled,
        compute_units=ct.ComputeUnit[units],
        function_name=function,
        optimization_hints=given or None,
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """A result, and the milliseconds it took."""
    start = time.perf_counter()
    result = work()
    return result, 1000 * (time.perf_counter() - start)


# The compute plan ---------------------------------------------------------------------------------


def plan_ops(compiled: str, units: str, function: str) -> list[dict[str, Any]]:
    """The operations of Core ML's compute plan; constants are left out.

    No answer of Core ML is no device: the fields are null, and not CPU.
    """
    import coremltools as ct
    from coremltools.models import compute_device
    from coremltools.models.compute_plan import MLComputePlan

    names = {
        compute_device.MLCPUComputeDevice: "CPU",
        compute_device.MLGPUComputeDevice: "GPU",
        compute_device.MLNeuralEngineComputeDevice: "NE",
    }

    def name(device: Any) -> str:
        return next(short for kind, short in names.items() if isinstance(device, kind))

    def row(operator: str, output: str, usage: Any, cost: Any) -> dict[str, Any]:
        return {
            "operator": operator.rpartition(".")[2],
            "output": output,
            "preferred": None if usage is None else name(usage.preferred_compute_device),
            "supported": []
            if usage is None
            else sorted({name(device) for device in usage.supported_compute_devices}),
            "weight": None if cost is None else min(1.0, max(0.0, float(cost.weight))),
        }

    plan = MLComputePlan.load_from_path(compiled, compute_units=ct.ComputeUnit[units])
    structure = plan.model_structure
    if structure.neuralnetwork is not None:
        return [
            row(
                one.type, one.name, plan.get_compute_device_usage_for_neuralnetwork_layer(one), None
            )
            for one in structure.neuralnetwork.layers
        ]
    if structure.program is None:
        raise NotHereError("the plan is neither of a program nor of a neural network")
    rows: list[dict[str, Any]] = []

    def walk(block: Any) -> None:
        for one in block.operations:
            if one.operator_name.rpartition(".")[2] != "const" and one.outputs:
                usage = plan.get_compute_device_usage_for_mlprogram_operation(one)
                cost = plan.get_estimated_cost_for_mlprogram_operation(one)
                rows.append(row(one.operator_name, one.outputs[0].name, usage, cost))
            for inner in one.blocks or ():
                walk(inner)

    functions = structure.program.functions
    walk(functions[function if function in functions else next(iter(functions))].block)
    return rows


def read_plan(compiled: str, units: str, function: str, ours: list[str]) -> dict[str, Any]:
    """The section of ``plans`` for these units.

    The plan is read in a process of its own: on some models Core ML ends it.
    """
    ops: list[dict[str, Any]] = []
    error = None
    words = [sys.executable, __file__, "--plan", compiled, units, function]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=PLAN_SECONDS
        )
    except subprocess.TimeoutExpired:
        error = f"Core ML gave no plan within {PLAN_SECONDS} s"
    else:
        if done.returncode == 0:
            ops = json.loads(done.stdout.strip().splitlines()[-1])
        else:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            error = f"reading the plan ended with {done.returncode}: {last}"[:2000]
    listed = {op["output"] for op in ops}
    return {
        "units": units,
        "answered": any(op["preferred"] is not None for op in ops),
        "ops": ops,
        "absent": [] if error else sorted(set(ours) - listed),
        "added": sorted(listed - set(ours)),
        "error": error,
    }


# The run ------------------------------------------------------------------------------------------


def quantile(values: list[float], share: float) -> float:
    """The nearest-rank quantile."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def statistics(units: str, passes: list[dict[str, Any]], audio_s: float) -> dict[str, Any]:
    """The section of ``statistics`` for these units."""
    values = [sum(one["calls_ms"]) / audio_s for one in passes if one["units"] == units]
    return {
        "units": units,
        "passes": len(values),
        "mean_ms": math.fsum(values) / len(values),
        "p50_ms": quantile(values, 0.5),
        "p95_ms": quantile(values, 0.95),
        "max_ms": max(values),
    }


def measure(choices: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The whole document; the compiled package is in ``scratch``."""
    import coremltools as ct

    kit = json.loads((MEASURED / "kit.json").read_text(encoding="utf-8"))
    manifest = json.loads((MEASURED / "manifest.json").read_text(encoding="utf-8"))
    book = json.loads((MEASURED / "conformance" / "steps.json").read_text(encoding="utf-8"))
    package = MEASURED / manifest["model"]["package"]
    digest = package_digest(package)
    if digest != kit["package_sha256"]:
        raise NotHereError("the package is not the one that the kit was made for")
    functions = manifest["model"]["functions"]
    function = next(one for one in functions if one["name"] == kit["function"])
    name = kit["function"] if len(functions) > 1 else None
    measured = datetime.now(timezone.utc).isoformat(timespec="seconds")
    device = read_device()
    hints = {
        "reshape_frequency": choices.reshape_frequency,
        "specialization_strategy": choices.specialization_strategy,
    }
    errors: list[str] = []
    peak = footprint()
    before = peak[0] if peak else largest_rss()

    say("compiling the package")
    compiled = ct.models.utils.compile_model(str(package), str(scratch / "model.mlmodelc"))
    runners: dict[str, Runner] = {}
    loads = []
    for units in choices.units:
        say(f"loading with {units}")
        try:
            model, first = timed(lambda u=units: load(compiled, u, name, hints))
        except Exception as error:  # what Core ML refuses is a finding
            errors.append(f"loading with {units} failed: {error}"[:2000])
            continue
        runners[units] = Runner(model, manifest, function)
        cache = "cleared" if choices.cache_cleared else "unknown"
        loads.append({"units": units, "first_ms": first, "cache": cache, "again_ms": []})
    for row in loads:
        for _ in range(choices.loads):
            again = timed(lambda u=row["units"]: load(compiled, u, name, hints))
            row["again_ms"].append(again[1])
    if not runners:
        raise NotHereError(f"Core ML loads the package with no units: {errors[0]}")
    after = (footprint() or (largest_rss(), 0))[0]

    plans = []
    for units in runners:
        say(f"asking for the plan with {units}")
        plans.append(read_plan(compiled, units, kit["function"], [op[1] for op in kit["ops"]]))

    vectors = {one["name"]: Vectors(MEASURED, one, book, manifest) for one in book["recordings"]}
    outputs = []
    for units, runner in runners.items():
        say(f"running the recordings with {units}")
        for recording in book["recordings"]:
            _, rows = runner.run(vectors[recording["name"]])
            outputs.append(
                {
                    "units": units,
                    "recording": recording["name"],
                    "samples": recording["samples"],
                    "samples_sha256": recording["samples_sha256"],
                    "steps": int(rows.shape[0]),
                    "classes": int(rows.shape[1]),
                    "probabilities": base64.b64encode(rows.astype("<f4").tobytes()).decode(),
                }
            )

    longest = max(book["recordings"], key=lambda one: one["samples"])
    say(f"timing {choices.passes} passes with each")
    passes: list[dict[str, Any]] = []
    order = list(runners)
    start = time.perf_counter()
    for number in range(choices.passes):
        # In turn, and not always one after the same other: heat and clocks drift.
        turn = number % len(order)
        for units in order[turn:] + order[:turn]:
            at = time.perf_counter() - start
            times, _ = runners[units].run(vectors[longest["name"]])
            passes.append({"units": units, "at_s": at, "calls_ms": times})
    peak = footprint()
    audio_s = longest["samples"] / manifest["audio"]["sample_rate"]
    return {
        "format": "asrbuild-evidence/1",
        "measured": measured,
        "artifact": {
            "name": manifest["name"],
            "version": manifest["version"],
            "package_sha256": digest,
            "function": kit["function"],
        },
        "runner": {
            "name": "measure.py",
            "version": VERSION,
            "core_ml": f"coremltools {ct.__version__}, Python {platform.python_version()}",
            "clock": "perf_counter around predict, which also converts arrays",
        },
        "device": device,
        "hints": hints,
        "timed_recording": longest["name"],
        "plans": plans,
        "loads": loads,
        "passes": passes,
        "statistics": [statistics(units, passes, audio_s) for units in order],
        "memory": {
            "counts": "phys_footprint" if peak else "max_rss",
            "counts_neural_engine": None,
            "before_bytes": before,
            "after_load_bytes": after,
            "peak_bytes": peak[1] if peak else largest_rss(),
        },
        "outputs": outputs,
        "errors": errors,
    }


def compare(document: dict[str, Any]) -> list[str]:
    """The findings of the conformance kit's checker on these outputs that are wrong."""
    path = MEASURED / "conformance" / "check.py"
    spec = importlib.util.spec_from_file_location("check", path)
    if spec is None or spec.loader is None:
        raise NotHereError("conformance/check.py is missing")
    checker = importlib.util.module_from_spec(spec)
    sys.modules["check"] = checker  # its dataclasses look themselves up there
    spec.loader.exec_module(checker)
    wrong = []
    for units in dict.fromkeys(one["units"] for one in document["outputs"]):
        with tempfile.TemporaryDirectory() as folder:
            for one in document["outputs"]:
                if one["units"] == units:
                    rows = np.frombuffer(base64.b64decode(one["probabilities"]), "<f4")
                    Path(folder, one["recording"]).mkdir()
                    np.save(
                        Path(folder, one["recording"], "probabilities.npy"),
                        rows.reshape(one["steps"], one["classes"]),
                    )
            found = checker.check(path.parent, Path(folder), ("probabilities",))
        wrong += [f"{units}: {f.recording}: {f.detail}" for f in found if f.verdict == checker.OFF]
    return wrong


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="measure.py", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("evidence.json"), help="the file to write")
    parser.add_argument("--passes", type=int, default=100, help="timed passes with each units")
    parser.add_argument("--loads", type=int, default=3, help="loads after the first")
    parser.add_argument(
        "--units", type=lambda text: text.split(","), default=list(UNITS), help=",".join(UNITS)
    )
    parser.add_argument(
        "--cache-cleared", action="store_true", help="you have cleared Core ML's cache just now"
    )
    parser.add_argument("--reshape-frequency", choices=("Frequent", "Infrequent"))
    parser.add_argument("--specialization-strategy", choices=("Default", "FastPrediction"))
    choices = parser.parse_args(arguments)
    if unknown := set(choices.units) - set(UNITS):
        parser.error(f"there are no units {min(unknown)}; there are {', '.join(UNITS)}")
    if choices.passes < 1 or choices.loads < 0:
        parser.error("at least one pass is required")
    return choices


def main(arguments: list[str]) -> int:
    """The command line; the exit code."""
    if arguments[:1] == ["--plan"]:
        print(json.dumps(plan_ops(*arguments[1:])))
        return 0
    choices = parsed(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="asrbuild-evidence-") as scratch:
            document = measure(choices, Path(scratch))
        wrong = compare(document)
    except NotHereError as error:
        say(f"error: {error}")
        return 2
    choices.out.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")
    for row in document["statistics"]:
        figures = f"{row['p50_ms']:.3g} ms per second of audio, 95 % within {row['p95_ms']:.3g}"
        say(f"{row['units']:<12} {figures}")
    for line in [*document["errors"], *wrong]:
        say(f"WRONG: {line}")
    say(f"wrote {choices.out}; send it back: `asrbuild evidence add {choices.out.name} ARTIFACT`")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
