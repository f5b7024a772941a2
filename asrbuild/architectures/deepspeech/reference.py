"""The TensorFlow original as the reference: a DeepSpeech graph run on given features.

It runs in a process of its own, so that the build itself never imports TensorFlow, concurrently
with the conversion:

    python -m asrbuild.architectures.deepspeech.reference --graph G.pb --cases in.npz --out out.npz

The two sides of a proof should share no reader. They share these readings of the weights, with
these safeguards:

- A checkpoint's variables: asrbuild's reader feeds the package and the exported graph. Here
  TensorFlow's reader reads the checkpoint, and each constant of the graph must be its variable.
- A frozen graph: asrbuild's parser feeds the package and the session. Here TensorFlow parses the
  file, and each node must be the one asrbuild read.
- The division of variables into the network's and records of training: one rule (``network.py``).
It refuses unknown variables.
- The form of a checkpoint's network (order of the gates, forget bias, normalisation): exporter and
MIL builder implement the same assumptions. Tests compare the exporter's graph with genuine exports
of genuine checkpoints. A frozen graph has its own form, which must be the known one.
- The exported graph also gives the transcripts that ``evaluate`` compares with; the build has
compared it with the checkpoint before. The export of ``verify --bisect`` is compared again.

Besides the weights they share:

- Labels: both sides are decoded with the source's own (``metadata_alphabet``, ``alphabet.txt``), so
  transcripts agree under any labels. A key with other labels is refused, and a model that gets no
  word of an expected transcript right is not published (``proof.wrong_words``).
- Features: both sides read the same cases. Their settings are the source's; those of a graph are
also compared with its own AudioSpectrogram and Mfcc nodes (``settle``). Those of a checkpoint are
only in flags.txt: only an expected transcript can contradict them.
- The clip: TensorFlow runs a frozen graph's own nodes, and the package has the value read from
them, so the gates compare two readings. For a checkpoint both have the value in flags.txt.
- Context and coefficients: TensorFlow refuses windows that are not the graph's ``input_node``; the
  graph of a checkpoint has the sizes of its variables.
- Lengths and state: TensorFlow masks and carries them by the graph. The graph of a checkpoint is
asrbuild's export, which tests compare with the genuine exports.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asrbuild.architectures import original
from asrbuild.architectures.deepspeech import WORKER
from asrbuild.architectures.deepspeech.signature import (
    OUTPUTS,
    STATES,
)
from asrbuild.architectures.original import OriginalRun, Result
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.outputs import check_outputs, placeholder_shape
from asrbuild.architectures.tensorflow.proto import Graph, input_name
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.recognition import recognise
from asrbuild.base.processors import usable_processors

if TYPE_CHECKING:
    from asrbuild.architectures.deepspeech.batching import Batch, Piece

_COMPARED_STEPS = 8
#: Tolerance of probabilities; a wrong utterance differs by a thousand times that.
_SAME = 1e-4
#: Tolerance of a sum of probabilities, for rounding.
_SUM_ERROR = 1e-3


@dataclass(frozen=True)
class ReferenceOutput:
    """TensorFlow's results for one case.

    Args:
        logits: probabilities (the node is a softmax), (T, n_output).
        new_state_c: cell state after T steps, (1, n_hidden).
        new_state_h: output state after T steps, (1, n_hidden).
        nodes: further requested nodes: name -> value for each run of the graph.
    """

    logits: Array
    new_state_c: Array
    new_state_h: Array
    nodes: Mapping[str, Sequence[Array]]


def start_reference(
    graph: Path | str,
    cases_path: Path | str,
    out_path: Path | str,
    *,
    nodes: Iterable[str] = (),
    checkpoint: Path | None = None,
) -> OriginalRun:
    """Starts the reference process; does not wait for it.

    Args:
        graph: a frozen DeepSpeech graph, static or dynamic.
        cases_path: npz of case name -> features (T, window, coefficients) float32.
        out_path: npz with the results, renamed into place when whole; see ``read_reference``.
        nodes: further requested nodes, ``name`` or ``name:index``.
        checkpoint: prefix of the checkpoint that the graph was exported from; TensorFlow reads it
            too, and a graph with other weights is refused.
    """
    arguments = ["--graph", str(graph), "--cases", str(cases_path)]
    if wanted := ",".join(nodes):
        arguments += ["--nodes", wanted]
    if checkpoint is not None:
        arguments += ["--checkpoint", str(checkpoint)]
    return original.start(WORKER, "TensorFlow", Path(out_path), *arguments)


def run_reference(
    graph: Path | str,
    cases: Mapping[str, Array],
    *,
    nodes: Iterable[str] = (),
    checkpoint: Path | None = None,
) -> dict[str, ReferenceOutput]:
    """Runs the reference process on cases in memory and waits for it."""
    with tempfile.TemporaryDirectory(prefix="asrbuild-reference-") as folder:
        cases_path = Path(folder, "cases.npz")
        # numpy's stubs match any unpacked mapping with the flag allow_pickle as well.
        np.savez(cases_path, **dict(cases))  # type: ignore[arg-type]
        out = Path(folder, "out.npz")
        run = start_reference(graph, cases_path, out, nodes=nodes, checkpoint=checkpoint)
        return read_reference(run.wait())


def read_reference(path: Path | str) -> dict[str, ReferenceOutput]:
    """Reads a file of results: case -> output."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    outputs = {}
    for key in arrays:
        name, _, part = key.rpartition("/")
        if part != "logits" or "/nodes/" in key:
            continue
        prefix = f"{name}/nodes/"
        nodes: dict[str, list[Array]] = {}
        runs = [key for key in arrays if key.startswith(prefix)]
        for node_key in sorted(runs, key=lambda key: int(key.rpartition("/")[2])):
            nodes.setdefault(node_key[len(prefix) :].rpartition("/")[0], []).append(
                arrays[node_key]
            )
        logits, new_state_c, new_state_h = (arrays[f"{name}/{output}"] for output in OUTPUTS)
        outputs[name] = ReferenceOutput(logits, new_state_c, new_state_h, nodes)
    return outputs


#: Numbers of ``BlockLSTM``'s outputs ``cs`` (cell states) and ``h`` (outputs), one row a step, in
#: the order of ``STATES``.
STATE_OUTPUTS = (1, 6)


def state_nodes(graph: Path) -> tuple[str, ...]:
    """The tensors with the LSTM's states after every step, (T, 1, H) each.

    Raises:
        AsrbuildError: the graph has no LSTM as DeepSpeech exports it, or several.
    """
    found = [node.name for node in load_graph(graph).nodes if node.op.startswith("BlockLSTM")]
    if len(found) != 1:
        raise AsrbuildError(
            f"the graph has {len(found)} BlockLSTM nodes; a DeepSpeech graph has one",
            file=graph,
            fix="export the model with DeepSpeech 0.6 to 0.9, or with asrbuild",
        )
    return tuple(f"{found[0]}:{output}" for output in STATE_OUTPUTS)


def read_results(path: Path) -> dict[str, Result]:
    """Reads a file of results with the states of every step: case -> result."""
    names = {f"{index}": pair.output for index, pair in zip(STATE_OUTPUTS, STATES, strict=True)}
    return {
        case: Result(
            dict(zip(OUTPUTS, (own.logits, own.new_state_c, own.new_state_h), strict=True)),
            {
                names[node.rpartition(":")[2]]: np.concatenate([v.reshape(len(v), -1) for v in run])
                for node, run in own.nodes.items()
            },
        )
        for case, own in read_reference(path).items()
    }


def run_cases(
    path: Path, cases: Mapping[str, Array], nodes: Sequence[str] = (), *, lean: bool = False
) -> dict[str, Array]:
    """Runs every case in this process; returns the arrays for the file of results.

    A static graph runs in chunks with carried state. A dynamic graph runs each case in one call, or
    several cases together in calls that end where a case ends. ``lean``: see ``GraphSession``.
    """
    from asrbuild.architectures.deepspeech.batching import find_batch, for_any_batch, run_together
    from asrbuild.architectures.tensorflow.session import GraphSession

    graph = load_graph(path)
    check_outputs(graph, [*OUTPUTS, *nodes])
    utterances, steps, window, coefficients = _input_dims(graph)
    state_dims = placeholder_shape(graph, "previous_state_c")
    if utterances not in (1, None):
        raise AsrbuildError(
            f"the reference runs one utterance at a time, the graph takes {utterances}",
            key="batch_size",
            file=path,
        )
    for name, features in cases.items():
        if features.ndim != 3 or features.shape[1:] != (window, coefficients):
            raise AsrbuildError(
                f"case {name} has shape {features.shape}, expected (T, {window}, {coefficients})"
            )
    n_hidden = int(state_dims[1] or 0)
    batch = find_batch(graph) if _may_be_batched(graph, cases, nodes) else None
    session = GraphSession(for_any_batch(graph) if batch else graph, lean=lean)
    run = partial(run_together, session, nodes=nodes, steps=steps, n_hidden=n_hidden)

    # A batch reads the weights once a step; meanwhile the build uses the other processors.
    pieces = _run_at_once(run, batch, cases) if batch else None
    if pieces is None:
        ordered = sorted(cases, key=lambda name: -len(cases[name]))
        with ThreadPoolExecutor(usable_processors()) as threads:
            alone = threads.map(lambda name: run(None, {name: cases[name]})[name], ordered)
            pieces = dict(zip(ordered, alone, strict=True))
    zeros = np.zeros((1, n_hidden), np.float32)
    results: dict[str, Array] = {}
    for name in cases:
        own = pieces[name]
        logits = [piece.logits for piece in own]
        if not own:  # without steps, a step of zeros gives the number of classes
            (one,) = run(None, {name: np.zeros((1, window, coefficients), np.float32)}).values()
            logits = [one[0].logits[:0]]
        results[f"{name}/logits"] = np.concatenate(logits)
        states = own[-1].states if own else (zeros, zeros)
        results |= zip((f"{name}/new_state_c", f"{name}/new_state_h"), states, strict=True)
        for index, piece in enumerate(own):
            for node, value in zip(nodes, piece.nodes, strict=True):
                results[f"{name}/nodes/{node}/{index}"] = value
    return results


def check_readings(path: Path, checkpoint: Path | None, *, lean: bool = False) -> None:
    """Raises unless TensorFlow's readers and asrbuild's readers agree on the source.

    Raises:
        AsrbuildError: it names the variable or node that differs.
    """
    from asrbuild.architectures.deepspeech.readings import (
        check_checkpoint,
        check_graph_file,
        check_lite,
    )
    from asrbuild.architectures.tensorflow.session import import_tensorflow

    import_tensorflow(lean)
    graph = load_graph(path)
    if checkpoint is not None and checkpoint.is_file() and recognise(checkpoint).key == "tflite":
        check_lite(graph, checkpoint)
    elif checkpoint is not None:
        check_checkpoint(graph, checkpoint)
    else:
        check_graph_file(graph)


def check_probabilities(path: Path, results: Mapping[str, Array]) -> None:
    """Raises unless ``logits`` are probabilities, as packages, manifests and decoders require.

    Raises:
        AsrbuildError: a row does not add up to 1.
    """
    for key, rows in results.items():
        if not key.endswith("/logits") or "/nodes/" in key or not np.isfinite(rows).all():
            continue
        sums = rows.sum(axis=-1)
        wrong = (abs(sums - 1) > _SUM_ERROR) | (rows < 0).any(axis=-1)
        if wrong.any():
            raise AsrbuildError(
                f"the graph's logits are not probabilities: a row adds up to {sums[wrong][0]:.4g}",
                file=path,
                fix="export the graph with the softmax that DeepSpeech puts behind its last layer",
            )


def _may_be_batched(graph: Graph, cases: Mapping[str, Array], nodes: Sequence[str]) -> bool:
    """Whether the cases can run as a batch: there are several, and no node mixes utterances."""
    lstm = all(graph.by_name[input_name(node)].op.startswith("BlockLSTM") for node in nodes)
    return lstm and len(cases) > 1


def _run_at_once(
    run: Callable[..., dict[str, list[Piece]]], batch: Batch, cases: Mapping[str, Array]
) -> dict[str, list[Piece]] | None:
    """Runs all cases together; None if the results differ from those of each case alone.

    The beginnings of the first and the last case also run alone: with a missing or additional fed
    constant, they would differ or TensorFlow would fail. Differences of sums in another order are
    tolerated.
    """
    try:
        together = run(batch, cases)
    except AsrbuildError:
        return None
    by_length = sorted((name for name in cases if len(cases[name])), key=lambda n: -len(cases[n]))
    for name in {*by_length[:1], *by_length[-1:]}:
        (pieces,) = run(None, {name: cases[name][:_COMPARED_STEPS]}).values()
        alone, own = pieces[0].logits, together[name][0].logits
        both = min(len(alone), len(own))
        if not np.allclose(alone[:both], own[:both], 0, _SAME, equal_nan=True):
            return None
    return together


def _input_dims(graph: Graph) -> tuple[int | None, ...]:
    dims = placeholder_shape(graph, "input_node")
    placeholder_shape(graph, "input_lengths")
    placeholder_shape(graph, "previous_state_h")
    if len(dims) != 4 or len(placeholder_shape(graph, "previous_state_c")) != 2:
        raise AsrbuildError("not a DeepSpeech inference graph", file=graph.path)
    return dims


def _run(options: argparse.Namespace, cases: Mapping[str, Array]) -> dict[str, Array]:
    graph = Path(options.graph)
    checkpoint = None if options.checkpoint is None else Path(options.checkpoint)
    check_readings(graph, checkpoint, lean=True)
    nodes = [name for name in (options.nodes or "").split(",") if name]
    try:
        results = run_cases(graph, cases, nodes, lean=True)
    except AsrbuildError:
        raise
    except Exception as error:  # TensorFlow's errors have no common base class
        raise AsrbuildError(
            f"TensorFlow cannot run the graph: {str(error).splitlines()[0]}",
            file=graph,
            fix="`asrbuild inspect graph` shows its inputs, outputs and operations",
        ) from error
    check_probabilities(graph, results)
    return results


def main() -> int:
    """The main function of the process; see ``original.serve``."""
    from asrbuild.architectures.tensorflow.session import import_tensorflow

    prepare = partial(import_tensorflow, lean=True)
    return original.serve(_run, prepare, "--graph", "--nodes", "--checkpoint")


if __name__ == "__main__":
    sys.exit(main())
