"""Every recipe, built, proven and measured, in one table.

    python benchmarks/matrix.py [--n-hidden 2048] [--only fp16]

Each cell (model, format, precision, LSTM form, place of the state) that a recipe can request is
built and proven by the stages of a build, and measured while it is proven. Without ``--n-hidden``
that is the demo model on every verification input; with it, a network of random weights on the
sample recording.

The columns: the worst value of each metric over every input and every way to run the package (a
state's error as a fraction of its largest value), the number of failed gates; the operations of
plain ``ct.convert`` on the same graph, loop bodies included, and those of the package (all
functions together); the seconds that the sample takes the way the manifest says, and the ratio to
TensorFlow's session fed the same way, in the same run. Operations do not depend on the width of the
network, so plain conversion, which takes 40 s at width 2048, is done at width 64.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.base.errors import AsrbuildError

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Metric
    from asrbuild.builder.recipe import Recipe, StepsConfig
    from asrbuild.proof.gates import Gates

MODELS = ("static", "dynamic", "dynamic_to_static", "enumerated", "multifunction")
AXES = {
    "coreml": ("mlprogram", "neuralnetwork"),
    "coreml.precision": ("fp32", "fp16"),
    "coreml.lstm": ("native", "loop"),
    "coreml.state": ("explicit", "stateful"),
}
ROOT = Path(__file__).parents[1]
PLAIN = ROOT / "tests" / "coreml" / "plain_conversion.py"
SPEED = ROOT / "benchmarks" / "executor.py"
PLAIN_HIDDEN = 64


@dataclass(frozen=True)
class Cell:
    """One recipe: ``values`` of ``model`` and of each of ``AXES``."""

    values: tuple[str, ...]

    @property
    def overrides(self) -> list[str]:
        return [f"{k}={v}" for k, v in zip(("model", *AXES), self.values, strict=True)]

    def __str__(self) -> str:
        return " ".join(value for value in self.values if value != "explicit")


@dataclass(frozen=True)
class Row:
    """The results of one cell; metrics by name, the worst of all inputs."""

    cell: str
    logits: dict[str, float]
    states: dict[str, float]
    gates: int
    failed: int
    words: bool | None
    ops_before: int
    ops_after: int
    seconds: float
    ratio: float


def cells(only: list[str], folder: Path) -> Iterator[Cell]:
    """Every cell of a recipe that has all words of ``only``.

    ``folder`` caches the facts of the demo model, which complete each recipe.
    """
    from asrbuild.builder.compose import compose_recipe
    from asrbuild.builder.rules import check_recipe
    from asrbuild.builder.sources import settle

    for values in itertools.product(MODELS, *AXES.values()):
        cell = Cell(values)
        if not set(only) <= set(values):
            continue
        try:
            check_recipe(settle(compose_recipe(cell.overrides), folder)[0])
        except AsrbuildError:
            continue
        yield cell


@dataclass(frozen=True)
class Bench:
    """A folder with the shared files of the cells: graphs, cases and TensorFlow's outputs."""

    folder: Path
    common: tuple[str, ...]
    rounds: int

    def recipe(self, cell: Cell) -> Recipe:
        from asrbuild.builder.compose import compose_recipe
        from asrbuild.builder.sources import settle

        return settle(compose_recipe([*cell.overrides, *self.common]), self.folder)[0]

    def shared(self, recipe: Recipe) -> Path:
        """Runs the stages before the conversion, once for each kind of graph."""
        from asrbuild.builder.recipe import network_of

        _, export = network_of(recipe)
        at = self.folder / ("static" if (export.n_steps or 0) > 0 else "dynamic")
        if not at.exists():
            for stage in ("export", "cases", "reference"):
                self.run(stage, recipe, at)
        return at

    def run(self, stage: str, recipe: Recipe, shared: Path, at: Path | None = None) -> None:
        """Runs one stage into ``shared``, which has the earlier ones, or into ``at``."""
        from asrbuild.builder.plan import plan
        from asrbuild.builder.sources import settle

        planned = plan(*settle(recipe, self.folder))
        step = next(step for step in planned.steps if step.stage.name == stage)
        folders = {name: partial(shared.__truediv__, name) for name in planned.keys}
        at = at or shared / stage
        at.mkdir(parents=True, exist_ok=True)
        step.stage.run(planned.view(step, folders, print), at)

    def measure(self, cell: Cell, tensorflow: dict[str, float], before: int) -> Row:
        """Converts one cell, runs it on every input, every way, and takes its figures."""
        from asrbuild.artifact.runtime import timed
        from asrbuild.builder import describe
        from asrbuild.builder.conversion import package_name
        from asrbuild.builder.sources import settle
        from asrbuild.coreml import executor
        from asrbuild.coreml.inspect import inspect_model
        from asrbuild.proof.execution import package_function, run_case
        from asrbuild.proof.gates import gates_from
        from asrbuild.proof.verdict import WordGates, prove

        recipe = self.recipe(cell)
        _, source = settle(recipe, self.folder)
        shared = self.shared(recipe)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            at = Path(scratch)
            self.run("convert", recipe, shared, at)
            package = at / package_name(recipe.coreml.format)
            manifest = describe.describe(recipe, source, package)
            cases, expected = cases_and_reference(recipe, shared)
            precision = recipe.coreml.precision
            gates = gates_from(asdict(recipe.verify.thresholds[precision]), precision)
            words = WordGates(require_transcript=recipe.verify.require_transcript)
            bound = recipe.verify.max_steps if recipe.verify.edge_lengths else None
            proof = prove(at, manifest, cases, expected, gates, source.texts, words, bound)
            model = executor.load(package, package_function(manifest))
            seconds = min(
                timed(run_case, model, manifest, cases["sample"])[1] for _ in range(self.rounds)
            )
            after = sum(sum(f.ops.values()) for f in inspect_model(package).functions)
        metrics = proof.verification.metrics
        way = "one_shot" if manifest.streaming.mode == "whole" else "chunked"
        return Row(
            str(cell),
            worst_of([m for m in metrics if m.output == "logits"]),
            worst_of([_relative(m, gates) for m in metrics if m.output != "logits"]),
            len(metrics),
            sum(not metric.passed for metric in metrics),
            all(t.match for t in proof.verification.transcripts)
            if words.require_transcript
            else None,
            before,
            after,
            seconds,
            seconds / tensorflow[way],
        )


def worst_of(metrics: list[Metric]) -> dict[str, float]:
    """Metric name -> its worst value."""
    found: dict[str, list[float]] = {}
    for metric in metrics:
        found.setdefault(metric.name, []).append(metric.value)
    least = {metric.name for metric in metrics if metric.comparison == ">="}
    return {name: min(v) if name in least else max(v) for name, v in found.items()}


def _relative(metric: Metric, gates: Gates) -> Metric:
    """A state's error over its largest value, by which its gate was multiplied."""
    if metric.name != "max_abs_error":
        return metric
    value = metric.value * gates.state_max_abs_error / metric.threshold
    return metric.model_copy(update={"value": value})


def cases_and_reference(recipe: Recipe, shared: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The verification inputs with their edges, and TensorFlow's outputs for each."""
    from asrbuild.builder.recipe import network_of
    from asrbuild.builder.stages.cases import read_cases, with_edges
    from asrbuild.builder.stages.reference import read_reference

    model, verify = recipe.model, recipe.verify
    axes = model.functions.values() or [model.steps]
    longest = verify.max_steps if verify.edge_lengths else None
    cases = with_edges(read_cases(shared / "cases"), axes, recipe.n_steps or 0, longest)
    architecture, config = network_of(recipe)
    return cases, read_reference(
        shared / "reference", cases, architecture, architecture.signature(config)
    )


def random_network(folder: Path, n_hidden: int) -> tuple[str, ...]:
    """Writes a frozen graph of random weights; returns the overrides that build it."""
    from asrbuild.architectures.deepspeech.export import write_frozen_graph
    from asrbuild.architectures.deepspeech.flags import ExportFlags
    from asrbuild.architectures.deepspeech.network import random_weights

    graph = folder / "output_graph.pb"
    if not graph.exists():
        labels = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]
        flags = ExportFlags(n_steps=-1, n_hidden=n_hidden)
        write_frozen_graph(random_weights(n_hidden), flags, labels, graph)
    return (
        "source=frozen_graph",
        f"source.path={graph}",
        "source.sample.audio=demo:sample.wav",
        "source.alphabet_config_path=demo:alphabet.txt",
        "verify=quick",
        # Random weights give no words: their letters are ties.
        "verify.require_transcript=false",
    )


def tensorflow_seconds(graph: Path, n_hidden: int, steps: int, rounds: int) -> dict[str, float]:
    """One shot and in chunks of 16, by a session on the frozen graph, in a process of its own."""
    command = [
        sys.executable,
        str(SPEED),
        "--measure",
        "tensorflow",
        str(graph),
        "--n-hidden",
        str(n_hidden),
        "--steps",
        str(steps),
        "--repeats",
        str(max(2, rounds)),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def plain_conversions(bench: Bench, chosen: list[Cell]) -> dict[Cell, int]:
    """The operations that plain ``ct.convert`` makes of each cell's graph, one process for all.

    A cell with several functions gets the sum of all. Plain conversion has no states inside, so a
    stateful cell is compared with the same one without states.
    """
    from asrbuild.architectures.deepspeech.export import write_frozen_graph
    from asrbuild.architectures.deepspeech.flags import ExportFlags
    from asrbuild.architectures.deepspeech.network import random_weights
    from asrbuild.builder.conversion import deployment_target
    from asrbuild.coreml.inspect import inspect_model
    from asrbuild.coreml.request import package_suffix

    at = bench.folder / "plain"
    at.mkdir(exist_ok=True)
    graph = at / "output_graph.pb"
    flags = ExportFlags(n_steps=-1, n_hidden=PLAIN_HIDDEN)
    write_frozen_graph(random_weights(PLAIN_HIDDEN), flags, list(map(str, range(28))), graph)
    jobs: dict[str, dict[str, Any]] = {}
    wanted: dict[Cell, list[str]] = {}
    for cell in chosen:
        recipe = bench.recipe(cell)
        target = deployment_target(recipe.coreml, recipe.model)
        for steps in recipe.model.functions.values() or [recipe.model.steps]:
            request = {
                "format": recipe.coreml.format,
                "steps": _plain_steps(steps),
                "precision": recipe.coreml.precision,
                "deployment_target": target,
                "hidden": PLAIN_HIDDEN,
                "outputs": list(recipe.coreml.outputs or ()),
            }
            key = json.dumps(request, sort_keys=True)
            out = at / f"{len(jobs)}{package_suffix(recipe.coreml.format)}"
            job = {"do": "plain", "graph": str(graph), "request": request, "out": str(out)}
            wanted.setdefault(cell, []).append(jobs.setdefault(key, job)["out"])
    script = at / "jobs.json"
    script.write_text(json.dumps(list(jobs.values())))
    subprocess.run([sys.executable, str(PLAIN), str(script)], check=True, capture_output=True)
    return {
        cell: sum(sum(f.ops.values()) for out in outs for f in inspect_model(Path(out)).functions)
        for cell, outs in wanted.items()
    }


def _plain_steps(steps: StepsConfig) -> dict[str, Any]:
    if steps.kind == "fixed":
        return {"kind": "fixed", "steps": steps.default}
    if steps.kind == "enumerated":
        return {"kind": "enumerated", "sizes": list(steps.sizes), "default": steps.default}
    return {"kind": "range", "lower": steps.lower, "upper": steps.upper, "default": steps.default}


HEADINGS = (
    "cell",
    "argmax",
    "KL",
    "max error",
    "PSNR dB",
    "state error",
    "state PSNR dB",
    "gates",
    "words",
    "ops before",
    "ops after",
    "seconds",
    "ratio",
)


def as_line(row: Row) -> str:
    """One row of the Markdown table."""
    passed = f"{row.gates} passed" if not row.failed else f"{row.failed} of {row.gates} FAILED"
    words = "-" if row.words is None else "equal" if row.words else "DIFFER"
    values = (
        row.cell,
        f"{row.logits['argmax_agreement']:.4f}",
        f"{row.logits['kl_divergence']:.1e}",
        f"{row.logits['max_abs_error']:.1e}",
        f"{row.logits['psnr_db']:.1f}",
        f"{row.states['max_abs_error']:.1e}",
        f"{row.states['psnr_db']:.1f}",
        passed,
        words,
        str(row.ops_before),
        str(row.ops_after),
        f"{row.seconds:.2f}",
        f"{row.ratio:.2f}",
    )
    return "| " + " | ".join(values) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-hidden", type=int, help="random weights of this width")
    parser.add_argument("--only", default="", help="cells with all these words: mlprogram,fp16")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; the best one counts")
    parser.add_argument("--keep", type=Path, help="work there, and use what is there already")
    parser.add_argument("--json", action="store_true", help="rows as JSON lines")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        sys.exit(run(arguments, folder))


def run(arguments: argparse.Namespace, folder: Path) -> int:
    """Prints each row as soon as it is measured; returns 1 if a gate failed, else 0."""
    from asrbuild.builder.recipe import network_of
    from asrbuild.builder.sources import settle
    from asrbuild.builder.stages.export import GRAPH

    common = random_network(folder, arguments.n_hidden) if arguments.n_hidden else ()
    bench = Bench(folder, common, arguments.rounds)
    chosen = list(cells([word for word in arguments.only.split(",") if word], folder))
    if not chosen:
        print(f"no cell has all of {arguments.only}", file=sys.stderr)
        return 1
    print(f"{len(chosen)} cells; plain conversion first", file=sys.stderr)
    before = plain_conversions(bench, chosen)
    recipe = bench.recipe(Cell(("dynamic", "mlprogram", "fp32", "native", "explicit")))
    shared = bench.shared(recipe)
    cases, _ = cases_and_reference(recipe, shared)
    n_hidden = network_of(settle(recipe, folder)[0])[1].n_hidden
    steps = len(cases["sample"])
    tensorflow = tensorflow_seconds(shared / "export" / GRAPH, n_hidden, steps, arguments.rounds)
    if not arguments.json:
        whole, chunked = tensorflow["one_shot"], tensorflow["chunked"]
        print(
            f"n_hidden {n_hidden}; inputs {', '.join(cases)}; TensorFlow on the sample's {steps} "
            f"steps: {whole:.2f} s whole, {chunked:.2f} s in chunks of 16\n"
        )
        print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|", flush=True)
    failed = 0
    for cell in chosen:
        row = bench.measure(cell, tensorflow, before[cell])
        failed += row.failed + (row.words is False)
        print(json.dumps(asdict(row)) if arguments.json else as_line(row), flush=True)
    shutil.rmtree(folder / "plain")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
