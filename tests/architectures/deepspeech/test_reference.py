"""The reference process: equal to TensorFlow's own session, chunked or not; its errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from asrbuild.architectures.deepspeech import batching as company
from asrbuild.architectures.deepspeech.reference import (
    read_reference,
    run_cases,
    run_reference,
    start_reference,
)
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.proto import Graph, Node, constant, write_graph
from asrbuild.architectures.tensorflow.session import GraphSession
from asrbuild.base.errors import AsrbuildError
from tests.imports import run_python

HIDDEN = 32
LENGTHS = range(1, 101)


def features(steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((steps, 19, 26)).astype(np.float32)


@pytest.fixture(scope="module")
def both(export):
    """Outputs for every length from 0 to 100, in chunks of 16 and in one shot, by two processes."""
    cases = {f"{steps}": features(steps, steps) for steps in [0, *LENGTHS]}
    return (
        run_reference(export(16), cases, nodes=["Minimum_2"]),
        run_reference(export(-1), cases, nodes=["Minimum_2"]),
        cases,
    )


@pytest.mark.parametrize("steps", LENGTHS)
def test_chunked_is_one_shot(both, steps):
    chunked, one_shot = both[0][str(steps)], both[1][str(steps)]
    assert chunked.logits.shape == (steps, 29)
    np.testing.assert_allclose(chunked.logits, one_shot.logits, atol=1e-6)
    np.testing.assert_allclose(chunked.new_state_c, one_shot.new_state_c, atol=1e-5)
    np.testing.assert_allclose(chunked.new_state_h, one_shot.new_state_h, atol=1e-5)


def test_no_steps_change_nothing(both):
    for run in both[:2]:
        assert run["0"].logits.shape == (0, 29)
        assert not run["0"].new_state_c.any()
        assert not run["0"].nodes


def test_nodes_of_every_run(both):
    chunked, one_shot = both[0]["33"].nodes["Minimum_2"], both[1]["33"].nodes["Minimum_2"]
    assert [value.shape for value in chunked] == [(16, HIDDEN)] * 3
    assert [value.shape for value in one_shot] == [(33, HIDDEN)]
    np.testing.assert_allclose(np.concatenate(chunked)[:33], one_shot[0], atol=1e-5)


def test_the_outputs_are_those_of_tensorflow(tf, export, both):
    """The test uses none of the process's shortcuts (parts of TensorFlow, weights as variables)."""
    definition = tf.compat.v1.GraphDef.FromString(export(-1).read_bytes())
    with tf.Graph().as_default() as graph:
        tf.compat.v1.import_graph_def(definition, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        logits, c, h = session.run(
            ["logits:0", "new_state_c:0", "new_state_h:0"],
            {
                "input_node:0": both[2]["57"][None],
                "input_lengths:0": [57],
                "previous_state_c:0": np.zeros((1, HIDDEN)),
                "previous_state_h:0": np.zeros((1, HIDDEN)),
            },
        )
    ours = both[1]["57"]
    np.testing.assert_allclose(ours.logits, logits[:, 0], atol=1e-6)
    np.testing.assert_allclose(ours.new_state_c, c, atol=1e-5)
    np.testing.assert_allclose(ours.new_state_h, h, atol=1e-5)
    assert np.abs(ours.logits - 1 / 29).max() > 0.02  # neither side is empty


def test_a_run_in_this_process_gives_the_same(tf, export, both):
    arrays = run_cases(export(16), {"40": both[2]["40"]})
    # Not bit by bit: earlier tests decided how many threads TensorFlow has in this process.
    np.testing.assert_allclose(arrays["40/logits"], both[0]["40"].logits, atol=1e-6)


def test_case_names_may_have_slashes(export, tmp_path):
    np.savez(tmp_path / "in.npz", **{"a/b/logits": features(3)})
    run = start_reference(export(16), tmp_path / "in.npz", tmp_path / "out.npz")
    assert list(read_reference(run.wait(60))) == ["a/b/logits"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz", "out.npz"]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (np.zeros((3, 19, 25), np.float32), r"case x has shape \(3, 19, 25\), expected"),
        (np.zeros((3, 494), np.float32), r"case x has shape \(3, 494\), expected \(T, 19, 26\)"),
    ],
)
def test_wrong_features_are_refused(export, case, message):
    with pytest.raises(AsrbuildError, match=message):
        run_reference(export(16), {"x": case})


def test_wrong_graphs_are_refused(export, tmp_path):
    cases = {"x": features(2)}
    with pytest.raises(AsrbuildError, match="no such TensorFlow graph") as error:
        run_reference(tmp_path / "none.pb", cases)
    assert error.value.file == str(tmp_path / "none.pb")
    with pytest.raises(AsrbuildError, match="no output Minimum_9"):
        run_reference(export(16), cases, nodes=["Minimum_9"])
    with pytest.raises(AsrbuildError, match="one utterance at a time, the graph takes 2"):
        run_reference(export(16, batch_size=2), cases)
    (tmp_path / "cut.pb").write_bytes(export(16).read_bytes()[:5000])
    with pytest.raises(AsrbuildError, match="not a whole TensorFlow GraphDef"):
        run_reference(tmp_path / "cut.pb", cases)


def test_errors_of_tensorflow_are_reported(tf, export, tmp_path):
    graph = load_graph(export(16))
    unknown = Graph((*graph.nodes, Node("x", "NoSuchOperation")), graph.producer)
    write_graph(unknown, tmp_path / "unknown.pb")
    with pytest.raises(AsrbuildError, match=r"does not take the graph: .*NoSuchOperation"):
        run_reference(tmp_path / "unknown.pb", {"x": features(2)})
    session = GraphSession(graph)
    with pytest.raises(AsrbuildError, match="TensorFlow cannot run the graph: "):
        session.run(["logits"], {"input_node": features(16)})
    with pytest.raises(AsrbuildError, match="TensorFlow cannot run the graph: "):
        session.run(["logits"], {})  # nothing fed


def test_a_wrong_file_of_cases_is_refused(export, tmp_path):
    (tmp_path / "in.npz").write_bytes(b"not a zip")
    with pytest.raises(AsrbuildError, match="cannot read the cases"):
        start_reference(export(16), tmp_path / "in.npz", tmp_path / "out.npz").wait(60)


def test_the_death_of_the_process_is_reported_and_leaves_no_files(export, tmp_path):
    np.savez(tmp_path / "in.npz", x=features(2))
    run = start_reference(export(16), tmp_path / "in.npz", tmp_path / "out.npz")
    os.kill(run.process.pid, signal.SIGKILL)
    with pytest.raises(AsrbuildError, match="ended with signal 9"):
        run.wait(60)
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]


def test_a_process_that_takes_too_long_is_ended(export, tmp_path):
    np.savez(tmp_path / "in.npz", x=features(2))
    run = start_reference(export(16), tmp_path / "in.npz", tmp_path / "out.npz")
    with pytest.raises(AsrbuildError, match=r"did not finish in 0.01 s"):
        run.wait(0.01)
    assert run.process.poll() is not None


def test_ctrl_c_ends_the_process(export, tmp_path, monkeypatch):
    np.savez(tmp_path / "in.npz", x=features(2))
    run = start_reference(export(16), tmp_path / "in.npz", tmp_path / "out.npz")
    real = run.process.wait

    def interrupted(timeout=None):
        monkeypatch.setattr(run.process, "wait", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(run.process, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.wait()
    assert run.process.poll() is not None


_WHOLE = """
import sys
import numpy as np
from asrbuild.architectures.tensorflow import session
from asrbuild.architectures.tensorflow.graph import load_graph
real = session._session_modules
def refuses_parts():
    modules = real()  # some of it is loaded when it fails
    if not hasattr(sys.modules["tensorflow"], "__version__"):
        print("parts", flush=True)
        raise ImportError("needs the whole")
    return modules
session._session_modules = refuses_parts
graph = session.GraphSession(load_graph(sys.argv[1]), lean=True)
feeds = {
    "input_node": np.ones((1, 16, 19, 26)), "input_lengths": [16],
    "previous_state_c": np.zeros((1, 32)), "previous_state_h": np.zeros((1, 32)),
}
print(graph.run(["logits"], feeds)[0].shape)
"""


def test_the_whole_of_tensorflow_is_imported_if_the_short_import_fails(export):
    """The short import is an optimisation."""
    command = [sys.executable, "-c", _WHOLE, str(export(16))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "parts\n(16, 1, 29)\n"


def test_starting_the_process_imports_no_tensorflow_here():
    _, modules = run_python("import asrbuild.architectures.deepspeech.reference")
    assert not modules & {"tensorflow", "coremltools"}


#: The reference process on one processor; it prints how many threads had cases.
PINNED = """
import os, sys, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from asrbuild.architectures.deepspeech import batching as company, reference
run, seen = company.run_together, set()
def watched(*given, **named):
    seen.add(threading.get_ident())
    return run(*given, **named)
company.run_together = watched
assert reference.main() == 0
print(len(seen))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux keeps a process to CPUs")
def test_one_processor_runs_one_thread_and_gives_the_same(export, tmp_path):
    graph, cases = export(-1), tmp_path / "in.npz"
    np.savez(cases, **{f"{steps}": features(steps, steps) for steps in (60, 50, 40, 30)})
    # A node that prevents batches of cases.
    free = start_reference(graph, cases, tmp_path / "free.npz", nodes=["Minimum_2"])
    pinned = subprocess.run(
        [
            sys.executable,
            "-c",
            PINNED,
            "--graph",
            graph,
            "--cases",
            cases,
            "--out",
            tmp_path / "pinned.npz",
            "--nodes",
            "Minimum_2",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert pinned.stdout.split() == ["1"]
    assert free.wait().read_bytes() == (tmp_path / "pinned.npz").read_bytes()


#: Cases of one step, of none, and of lengths that end within a chunk and at its end.
TOGETHER = (33, 0, 7, 64, 33, 16, 90)


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """The batch sizes of the graph's runs."""
    counted: list[int] = []
    real = GraphSession.run

    def run(session, fetches, feeds):
        counted.append(len(feeds["input_node"]))
        return real(session, fetches, feeds)

    monkeypatch.setattr(GraphSession, "run", run)
    return counted


@pytest.mark.parametrize(
    ("steps", "utterances"),
    [(16, [4, 4, 4, 4, 1, 1]), (-1, [4, 4, 3, 2, 1])],
    ids=["static", "dynamic"],
)
def test_batched_cases_equal_single_ones(export, calls, steps, utterances):
    cases = {f"{n}-{length}": features(length, n) for n, length in enumerate(TOGETHER)}
    graph = export(steps)
    (cell,) = [node.name for node in load_graph(graph).nodes if node.op == "BlockLSTM"]
    together = run_cases(graph, cases, [f"{cell}:1", f"{cell}:6"])
    # Four run at a time; then the beginnings of two of them, and one step in place of the case
    # without steps.
    assert sorted(calls) == sorted([*utterances, 1, 1, 1])
    for name, given in cases.items():
        alone = run_cases(graph, {name: given}, [f"{cell}:1", f"{cell}:6"])
        assert set(alone) <= set(together)
        for part in ("logits", "new_state_c", "new_state_h"):
            key = f"{name}/{part}"
            assert together[key].shape == alone[key].shape
            np.testing.assert_allclose(together[key], alone[key], atol=1e-5, err_msg=key)
        for output in (1, 6):
            prefix = f"{name}/nodes/{cell}:{output}/"
            rows, expected = (
                [run[key][:, 0] for key in run if key.startswith(prefix)]
                for run in (together, alone)
            )
            if len(given):
                rows, expected = np.concatenate(rows), np.concatenate(expected)
                np.testing.assert_allclose(
                    rows[: len(given)], expected[: len(given)], atol=1e-5, err_msg=prefix
                )


def changed(path, at, change):
    """A copy of a graph with some nodes changed."""
    graph = load_graph(path)
    write_graph(replace(graph, nodes=tuple(map(change, graph.nodes))), at)
    return at


def test_a_graph_of_one_utterance_whose_batch_axis_is_unknown_gets_one(export, calls, tmp_path):
    """Only a part of its constants is found, so the cases cannot form a batch."""

    def fixed(node):
        if node.op == "Const" and node.value.tolist() == [-1, 1, 29]:
            value = constant(np.array([16, -1, 29], np.int32))
            return replace(node, attrs={**node.attrs, "value": value})
        return node

    graph = changed(export(16), tmp_path / "fixed.pb", fixed)
    cases = {f"{length}": features(length) for length in (20, 40, 60)}
    kept = run_cases(graph, cases)
    usual = run_cases(export(16), cases)
    for key in usual:
        np.testing.assert_allclose(kept[key], usual[key], atol=1e-6, err_msg=key)


@pytest.mark.parametrize("fault", ["a count", "a shape", "none is found"])
def test_cases_that_fail_in_a_batch_are_run_alone(export, calls, monkeypatch, fault):
    cases = {f"{length}": features(length, length) for length in (20, 40, 60)}
    expected = run_cases(export(-1), cases)
    assert max(calls) == 3
    calls.clear()
    found = company.find_batch(load_graph(export(-1)))
    assert (len(found.shapes), len(found.counts)) == (2, 2)
    wrong = {
        "a count": replace(found, counts=found.counts[1:]),
        "a shape": replace(found, shapes=dict(list(found.shapes.items())[1:])),
        "none is found": None,
    }[fault]
    monkeypatch.setattr(company, "find_batch", lambda graph: wrong)
    found = run_cases(export(-1), cases)
    assert calls[-3:] == [1, 1, 1]
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], atol=1e-6, err_msg=key)
