"""The drawing of an utterance as calls of a package: chunks, look-ahead, states and the tail."""

from __future__ import annotations

from dataclasses import dataclass

from asrbuild.artifact.manifest import Manifest

#: Of more chunks than this, the first ones and the last two are drawn.
_MOST_CHUNKS = 6
#: The pixel row of the marks of calls, and the width of a mark on a telephone's screen.
_CALL_Y, _MARK_PERCENT = 160, 6.5


@dataclass(frozen=True)
class Chunk:
    """One call. Places are percent of the drawing's width.

    Args:
        real: where its real steps end.
        y: the pixel row of its mark, which is higher next to another mark.
    """

    number: int
    left: float
    real: float
    right: float
    call: float
    starts: str
    y: int


@dataclass(frozen=True)
class Timeline:
    """A recording in calls, as the manifest specifies.

    Args:
        input: the recording.
        steps: how many it has.
        chunks: those drawn, in order; ``gap`` is the place of those left out.
        calls: how many calls it takes.
        tail: real steps of the last call.
        size: steps of a call.
        whole: everything goes in one call.
        carried: names of the states that a call passes to the next.
    """

    input: str
    steps: int
    chunks: tuple[Chunk, ...]
    gap: float | None
    calls: int
    tail: int
    size: int
    whole: bool
    carried: tuple[str, ...]


def timeline(manifest: Manifest) -> Timeline | None:
    """The timeline of the first verified input; None if no input was verified."""
    if not manifest.verification.inputs:
        return None
    first, streaming = manifest.verification.inputs[0], manifest.streaming
    whole = streaming.mode == "whole"
    limit = streaming.steps_per_chunk or first.steps
    size = min(limit, first.steps) if whole else limit
    calls = -(-first.steps // size)
    tail = first.steps - (calls - 1) * size
    numbers = list(range(calls))
    if calls > _MOST_CHUNKS:
        numbers = [*numbers[: _MOST_CHUNKS - 2], *numbers[-2:]]
    gap_at = _MOST_CHUNKS - 2 if calls > _MOST_CHUNKS else None
    # Half a column for the gap, and room for the mark of a call at the right edge.
    columns = len(numbers) + (0.5 if gap_at is not None else 0.0) + 0.15
    wait = streaming.lookahead_ms / (size * streaming.hop_ms)
    chunks: list[Chunk] = []
    for place, number in enumerate(numbers):
        left = place + (0.5 if gap_at is not None and place >= gap_at else 0.0)
        real = tail / size if number == calls - 1 else 1.0
        # The last call has no look-ahead to wait for.
        ready = left + real if number == calls - 1 else left + 1 + min(wait, 0.85)
        call = _percent(ready, columns)
        crowded = bool(chunks) and call - chunks[-1].call < _MARK_PERCENT
        chunks.append(
            Chunk(
                number=number + 1,
                left=_percent(left, columns),
                real=_percent(left + real, columns),
                right=_percent(left + 1, columns),
                call=call,
                starts=f"{number * size * streaming.hop_ms / 1000:g} s",
                y=_CALL_Y - 24 * crowded,
            )
        )
    return Timeline(
        input=first.name,
        steps=first.steps,
        chunks=tuple(chunks),
        gap=None if gap_at is None else _percent(gap_at + 0.25, columns),
        calls=calls,
        tail=tail,
        size=size,
        whole=whole,
        carried=tuple(s.input.removeprefix("previous_") for s in manifest.state),
    )


def _percent(place: float, columns: float) -> float:
    return round(100 * place / columns, 2)
