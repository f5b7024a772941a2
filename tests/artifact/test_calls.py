"""Calls of a package give the rows of the whole recording, for any rows and context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from asrbuild.artifact.calls import Acoustic, Contract
from asrbuild.artifact.manifest import Axis
from asrbuild.artifact.manifest2 import Model, State, Streaming, Tensor
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.signature import Context, Rows

CLASSES = 3


def state(name: str, initial: Any) -> State:
    """A state of an utterance, (1, 3)."""
    return State(
        input=name,
        output="kept",
        kind="explicit",
        shape=[1, 3],
        initial=initial,
        reset="per_utterance",
    )


class Sums:
    """A network whose row k is the sum of the steps from ``4 k - left`` to ``4 k + 4 + right``.

    Steps outside of a call count as zeros, so a row is right only if its steps are inside.
    """

    def __init__(self, rows: Rows, context: Context, *, last: bool = False) -> None:
        self.rows, self.context, self.last = rows, context, last
        self.ranges: list[list[int]] = []

    def predict(self, data: Mapping[str, Array], state: Any = None) -> dict[str, Array]:
        fed = np.moveaxis(data["fed"], 2, 1)[0] if self.last else data["fed"][0]
        if "range" in data:
            self.ranges.append(data["range"].tolist())
        left, right, steps = self.context.left, self.context.right, self.rows.steps
        before = 0 if self.context.trimmed else left
        # Trimmed calls include their context.
        padded = np.pad(fed, ((before, steps + right), (0, 0)))
        first = [padded[k * steps :][: left + steps + right] for k in range(self.rows.of(len(fed)))]
        sums = np.array([[part.sum(), part[0, 0], part[-1, 0]] for part in first], np.float32)
        return {"rows": sums.reshape(1, -1, CLASSES)}

    def make_state(self) -> None:
        return None


def axis(name: str, size: int, most: int | None = None) -> Axis:
    return Axis(name=name, min=1 if most else size, default=size, max=most or size, enumerated=None)


def contract(rows: Rows, context: Context, size: int, *, last: bool = False) -> Contract:
    time, width = axis("steps", size), axis("band", 2)
    shape = [axis("batch", 1), *((width, time) if last else (time, width))]
    fed = Tensor(name="fed", dtype="float32", shape=shape, meaning="features", fill="")
    given = Tensor(
        name="range", dtype="int32", shape=[axis("bound", 2)], meaning="step_range", fill=""
    )
    out = [axis("batch", 1), axis("rows", rows.of(size)), axis("class", CLASSES)]
    decoded = Tensor(name="rows", dtype="float32", shape=out, meaning="probabilities", fill="")
    model = Model.model_construct(
        inputs=[fed, *([given] if context.trimmed else [])], outputs=[decoded], functions=[]
    )
    streaming = Streaming.model_construct(mode="chunked", steps_per_chunk=size, tail=None)
    return Contract(model, (), streaming, rows, context)


@pytest.mark.parametrize(
    ("rows", "context", "size"),
    [
        (Rows(4), Context(), 16),
        (Rows(4), Context(False, 8, 4), 24),
        (Rows(4), Context(False, 0, 12), 16),
        (Rows(1), Context(False, 5, 3), 9),
    ],
)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_chunks_give_the_rows_of_the_whole(
    rows: Rows, context: Context, size: int, last: bool, piece: int
) -> None:
    rng = np.random.default_rng(3)
    for steps in (1, size - 1, size, size + 1, 3 * size + 5, 101):
        recording = rng.integers(0, 9, (steps, 2)).astype(np.float32)
        network = Sums(rows, context, last=last)
        run = Acoustic(network, contract(rows, context, size, last=last))
        found = [run.feed(recording[at : at + piece]) for at in range(0, steps, piece)]
        found.append(run.finish())
        whole = Sums(rows, context).predict({"fed": recording[None]})["rows"][0]
        np.testing.assert_array_equal(np.concatenate(found), whole.reshape(-1, CLASSES))


@pytest.mark.parametrize("steps", [1, 11, 30, 31, 100])
def test_a_package_that_trims_takes_zeros_at_both_ends(steps: int) -> None:
    context = Context(False, 8, 4, trimmed=True)
    rows = Rows(4, add=-(8 + 4 + 2))  # a row needs two steps beyond its own
    recording = np.random.default_rng(4).integers(1, 9, (steps, 2)).astype(np.float32)
    network = Sums(rows, context)
    size = 8 + 16 + 4 + 2
    run = Acoustic(network, contract(rows, context, size))
    found = np.concatenate([run.feed(recording), run.finish()])
    padded = np.pad(recording, ((8, 4), (0, 0)))
    whole = Sums(rows, context).predict({"fed": padded[None]})["rows"][0]
    np.testing.assert_array_equal(found, whole.reshape(-1, CLASSES))
    assert len(found) == rows.of(steps + 12)
    if network.ranges:
        assert network.ranges[0][0] == 8  # the first eight steps are before the recording
        assert all(end <= size for _, end in network.ranges)


def test_states_can_begin_with_the_first_samples() -> None:
    seen: list[Array] = []

    class Overlap:
        def predict(self, data: Mapping[str, Array], state: Any = None) -> dict[str, Array]:
            seen.append(np.concatenate([data["past"].ravel(), data["fed"].ravel()]))
            rows = np.zeros((1, 2, CLASSES), np.float32)
            return {"rows": rows, "kept": data["fed"][:, -3:]}

        def make_state(self) -> None:
            return None

    base = contract(Rows(4), Context(), 8)
    samples = Tensor(
        name="fed",
        dtype="float32",
        shape=[axis("batch", 1), axis("samples", 8)],
        meaning="samples",
        fill="",
    )
    past = state("past", "first_samples")
    model = base.model.model_copy(update={"inputs": [samples]})
    run = Acoustic(Overlap(), Contract(model, (past,), base.streaming, base.rows, base.context))
    recording = np.arange(1, 20, dtype=np.float32)
    for sample in recording:
        run.feed(sample[None])
    run.finish()
    np.testing.assert_array_equal(seen[0], recording[:11])
    np.testing.assert_array_equal(seen[1], recording[8:19])


def test_states_that_an_app_must_give_are_refused_by_name() -> None:
    base = contract(Rows(4), Context(), 16)
    voice = state("voice", "given")
    given = Contract(base.model, (voice,), base.streaming, base.rows, base.context)
    with pytest.raises(AsrbuildError, match="the state kept begins with values") as caught:
        Acoustic(Sums(Rows(4), Context()), given)
    assert caught.value.key == "state.initial"


def test_rows_that_contradict_the_manifest_are_refused() -> None:
    promised = contract(Rows(4), Context(), 16)
    run = Acoustic(Sums(Rows(2), Context()), promised)
    with pytest.raises(AsrbuildError, match=r"says 4 rows on axis 1"):
        run.feed(np.zeros((16, 2), np.float32))
