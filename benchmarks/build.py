"""Time and peak memory of whole builds, compared with the guide's steps in a script.

    uv run benchmarks/build.py [--n-hidden 2048] [--repeat 3] [--kernels ,Haswell]
                               [--only cold,sweep,noop,width,growth,witness]

"By hand" is a script that exports the graph, runs plain ``ct.convert`` and saves, with no
verification; its export is asrbuild's own, which is faster than DeepSpeech's. asrbuild's builds
include export, TensorFlow's reference and the proof, and no second runtime. Weights are random at a
trained network's scale. Each row has the ratio of elapsed time and that of processor time; other
work on the machine hardly changes the latter. A sweep runs once with each of the BLAS kernels
(``OPENBLAS_CORETYPE``; empty: the machine's own), and its bytes on the disk are compared with those
of one shape. ``witness`` is the cost of a second runtime, and needs ``asrbuild coreai install``.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asrbuild

DEMO = Path(asrbuild.__file__).parent / "demo"
BY_HAND = """
import sys
from pathlib import Path
import tensorflow as tf
import coremltools as ct
from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.export import write_frozen_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.speech.alphabet import read_alphabet
folder, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
weights = read_weights(find_checkpoint(folder))
labels = list(read_alphabet(folder / "alphabet.txt").labels)
write_frozen_graph(weights, ExportFlags(n_steps=steps, n_hidden=weights.n_hidden), labels,
                   out / "output_graph.pb")
graph = tf.compat.v1.GraphDef()
graph.ParseFromString((out / "output_graph.pb").read_bytes())
model = ct.convert(graph, source="tensorflow", convert_to="mlprogram",
                   outputs=["logits", "new_state_c", "new_state_h"],
                   minimum_deployment_target=ct.target.iOS17)
model.save(str(out / "model.mlpackage"))
"""
WRITE_CHECKPOINT = """
import sys
from pathlib import Path
import tensorflow as tf
from asrbuild.architectures.deepspeech.network import random_weights
folder, n_hidden = Path(sys.argv[1]), int(sys.argv[2])
named = random_weights(n_hidden).named()
tf.raw_ops.SaveV2(prefix=str(folder / "train-1"), tensor_names=list(named),
                  shape_and_slices=[""] * len(named), tensors=list(named.values()))
(folder / "checkpoint").write_text('model_checkpoint_path: "train-1"\\n')
"""
#: Facts that a checkpoint without ``flags.txt`` lacks: DeepSpeech's default values.
TRAINED_WITH = (
    "export.audio_sample_rate=16000",
    "export.feature_win_len=32",
    "export.feature_win_step=20",
    "export.upper_frequency_limit=8000.0",
    "export.relu_clip=20.0",
)


@dataclass(frozen=True)
class Measured:
    """Elapsed and processor seconds of a command, and the most that one process holds (MB)."""

    seconds: float
    cpu: float
    peak_mb: float


def measure(command: list[str], cwd: Path, kernel: str = "") -> Measured:
    """Runs a command and watches its process group; raises when it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=os.environ | ({"OPENBLAS_CORETYPE": kernel} if kernel else {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    peak = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        # Linux keeps the peak of a process, so rare looks suffice; each reads all of /proc.
        pause = 0.1  # a command that does nothing ends in 0.2 s
        while not done.wait(pause):
            peak = max(peak, *(resident_mb(pid) for pid in group(process.pid)), 0.0)
            pause = min(2 * pause, 0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, err = process.communicate()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{err.decode()[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(seconds, cpu, peak)


def group(leader: int) -> list[int]:
    """The processes of a process group (Linux's /proc; elsewhere the leader alone)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader:
            found.append(int(entry.name))
    return found or [leader]


def resident_mb(pid: int) -> float:
    """High-water resident size of a process, file-backed pages included."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        return 0.0
    return 0.0  # an ended process has no pages


def medians(runs: list[Measured]) -> Measured:
    return Measured(
        statistics.median(run.seconds for run in runs),
        statistics.median(run.cpu for run in runs),
        statistics.median(run.peak_mb for run in runs),
    )


def asrbuild_command(source: Path, *overrides: str) -> list[str]:
    # Untrained weights give ties between letters, in which fp16 may pick the other one without a
    # fault. Every other gate, such as the argmax agreement up to ties, stays.
    return [
        sys.executable,
        "-m",
        "asrbuild.cli.main",
        "source=checkpoint",
        "verify.require_transcript=false",
        "verify.witness=off",
        f"source.checkpoint_dir={source}",
        *TRAINED_WITH,
        *overrides,
    ]


def write_source(folder: Path, n_hidden: int) -> Path:
    """A checkpoint of random weights, written by TensorFlow."""
    folder.mkdir(parents=True)
    shutil.copyfile(DEMO / "alphabet.txt", folder / "alphabet.txt")
    subprocess.run([sys.executable, "-c", WRITE_CHECKPOINT, str(folder), str(n_hidden)], check=True)
    return folder


class Bench:
    """Runs and prints; every measurement starts from an empty folder."""

    def __init__(self, base: Path, n_hidden: int, repeat: int, kernels: list[str]) -> None:
        self.base, self.repeat, self.kernels = base, repeat, kernels
        # All modules run from compiled files, as those of an installed package do.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(base / "compiled")
        self.source = write_source(base / "source", n_hidden)
        self._hand: Measured | None = None

    def fresh(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.base))

    def once(self, command: Callable[[Path], list[str]]) -> Measured:
        """One run in an empty folder, which the command is made for."""
        folder = self.fresh()
        measured = measure(command(folder), folder)
        shutil.rmtree(folder)
        return measured

    def times(self, command: Callable[[], list[str]], repeat: int | None = None) -> Measured:
        return medians([self.once(lambda _: command()) for _ in range(repeat or self.repeat)])

    def by_hand(self) -> Measured:
        if self._hand is None:
            self.cold()
        assert self._hand is not None
        return self._hand

    def cold(self) -> None:
        """The guide's steps and a build in turns: a machine's speed changes within minutes."""
        hands: list[Measured] = []
        built: list[Measured] = []
        steps = [sys.executable, "-c", BY_HAND, str(self.source)]
        for _ in range(max(2, self.repeat)):
            hands.append(self.once(lambda folder: [*steps, str(folder), "16"]))
            built.append(self.once(lambda _: asrbuild_command(self.source, "model=static")))
        self._hand = medians(hands)
        show("by hand, static, fp16", self._hand)
        show("asrbuild model=static, proven", medians(built), self._hand, 0.28, 0.50)

    def witness(self) -> None:
        """Cold builds with Apple's runtime and without it, in turns; it must be installed."""
        runs: dict[str, list[Measured]] = {"off": [], "required": []}
        for _ in range(self.repeat):
            for witness, found in runs.items():
                gate = f"verify.witness={witness}"
                command = partial(asrbuild_command, self.source, "model=static", gate)
                found.append(self.times(command, 1))
        without, seen = (medians(found) for found in runs.values())
        show("asrbuild model=static, no second runtime", without)
        show("asrbuild model=static, witnessed", seen, without, 1.25, None)

    def sweep(self) -> None:
        hand = self.by_hand()
        sizes = ",".join(str(8 * n) for n in range(1, 17))
        command = asrbuild_command(self.source, "model=dynamic_to_static")
        sixteen = Measured(16 * hand.seconds, 16 * hand.cpu, hand.peak_mb)
        folder = self.fresh()
        measure([*command, "n_steps=8"], folder)
        one = bytes_on_disk(folder)
        shutil.rmtree(folder)
        workers = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={os.cpu_count()}"]
        for launcher, overrides in {"one process": [], "joblib": workers}.items():
            for kernel in self.kernels:
                folder = self.fresh()
                built = measure([*command, "-m", f"n_steps={sizes}", *overrides], folder, kernel)
                name = f"sweep of 16 shapes, {launcher}, {kernel or 'own'} kernel"
                show(name, built, sixteen, 0.06, None)
                on_disk = bytes_on_disk(folder)
                print(
                    f"{'  on the disk':<52} {on_disk / 1e6:8.0f} MB, of one shape "
                    f"{one / 1e6:.0f} MB   space x{on_disk / one:.2f} (at most 1.3)",
                    flush=True,
                )
                shutil.rmtree(folder)

    def noop(self) -> None:
        folder = self.fresh()
        command = asrbuild_command(self.source, "model=static")
        measure(command, folder)
        again = medians([measure(command, folder) for _ in range(5)])
        empty = folder / "empty.py"
        empty.write_text(
            "import hydra\n@hydra.main(version_base='1.3', config_path=None)\n"
            "def main(config): pass\nmain()\n"
        )
        plain = medians([measure([sys.executable, str(empty)], folder) for _ in range(5)])
        show("empty Hydra app", plain)
        show("build with nothing to do, full size", again, plain, 1.2, None)

    def width(self) -> None:
        for width in (1, 4, 16, 64):
            sizes = ",".join(str(4 * n) for n in range(1, width + 1))
            overrides = ("-m", "model=dynamic_to_static", f"n_steps={sizes}", "verify=quick")
            folder = self.fresh()
            command = [sys.executable, "-m", "asrbuild.cli.main", *overrides]
            show(f"demo, sweep of {width}", measure(command, folder))
            if width == 64:
                show("demo, sweep of 64 again, nothing to do", measure(command, folder))
            shutil.rmtree(folder)

    def growth(self) -> None:
        for n_hidden in (512, 1024, 2048, 4096):
            source = write_source(self.base / f"source-{n_hidden}", n_hidden)
            # Random cells of this width differ by 0.15 in fp16; those of trained networks saturate.
            gate = "verify.thresholds.fp16.state_max_abs_error=0.3"
            built = self.times(partial(asrbuild_command, source, "model=static", gate), 1)
            show(f"asrbuild model=static, n_hidden {n_hidden}", built)
            shutil.rmtree(source)


def bytes_on_disk(folder: Path) -> int:
    """The bytes that ``du`` counts in a cache and a store: the blocks of each file once."""
    files = {s.st_ino: s.st_blocks for s in (path.lstat() for path in folder.rglob("*"))}
    return 512 * sum(files.values())


def show(
    name: str,
    found: Measured,
    against: Measured | None = None,
    most: float | None = None,
    most_memory: float | None = None,
) -> None:
    """Prints one line: seconds, peak, and the ratios with their limits."""
    line = f"{name:<52} {found.seconds:8.2f} s {found.cpu:8.2f} s cpu {found.peak_mb:8.0f} MB"
    if against is not None:
        line += f"   time x{found.seconds / against.seconds:.3f}"
        line += f" (at most {most})" if most else ""
        line += f", cpu x{found.cpu / against.cpu:.3f}"
        line += f", memory x{found.peak_mb / against.peak_mb:.2f}"
        line += f" (at most {most_memory})" if most_memory else ""
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-hidden", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="cold,sweep,noop,width,growth")
    parser.add_argument("--kernels", default=",Haswell", help="names of OPENBLAS_CORETYPE")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} processors, n_hidden {arguments.n_hidden}")
    with tempfile.TemporaryDirectory() as base:
        bench = Bench(
            Path(base), arguments.n_hidden, arguments.repeat, arguments.kernels.split(",")
        )
        for name in arguments.only.split(","):
            getattr(bench, name)()


if __name__ == "__main__":
    main()
