"""The picture of one recording: spectrogram, labels, and the model's confidence in each."""

from __future__ import annotations

from dataclasses import dataclass

from asrbuild.artifact.manifest import Transcript
from asrbuild.base.array import Array
from asrbuild.handover.report.pictures import error_levels, png, probability_levels, spectrum_levels
from asrbuild.speech.alignment import align
from asrbuild.speech.greedy import best_path

#: Steps of one segment, 1.5 s at a step of 20 ms.
SEGMENT = 75
#: Width of a letter in steps; one that would overlap the letter before moves to the right.
_LETTER = 1.9
#: Steps that are shown of a longer recording, so that a page stays small.
LONGEST = 20 * SEGMENT


@dataclass(frozen=True)
class Letter:
    """One label. ``x``: percent of its lane's width; ``kind``: right, wrong or unknown."""

    text: str
    x: float
    kind: str


@dataclass(frozen=True)
class Segment:
    """A part of a recording. Pictures are data URIs; ``width`` is in percent of a whole segment."""

    start_s: float
    width: float
    sound: str
    heat: str
    error: str
    letters: tuple[Letter, ...]


@dataclass(frozen=True)
class Score:
    """One recording. ``ticks``: labels of the classes' axis with their places in percent."""

    name: str
    text: str
    steps: int
    shown: int
    step_ms: float
    labels: tuple[str, ...]
    ticks: tuple[tuple[str, float], ...]
    segments: tuple[Segment, ...]


def score(
    transcript: Transcript,
    bands: Array,
    reference: Array,
    package: Array,
    labels: list[str],
    blank: int | None,
    step_ms: float,
) -> Score:
    """Lays out a recording in segments.

    Args:
        transcript: of the recording.
        bands: logarithms of mel bands (steps, bands), one a row of probabilities.
        reference: the original's probabilities (steps, classes).
        package: the package's, of the same shape.
        labels: text of each class.
        blank: class of the CTC blank; None: there is none.
        step_ms: milliseconds from one step to the next.
    """
    shown = min(len(package), LONGEST)
    sound = spectrum_levels(bands[:shown])
    heat = probability_levels(package[:shown])
    error = error_levels(reference[:shown], package[:shown])
    letters = _apart(_letters(transcript, package, labels, blank))
    segments = []
    for start in range(0, shown, SEGMENT):
        part = slice(start, min(start + SEGMENT, shown))
        segments.append(
            Segment(
                start_s=start * step_ms / 1000,
                width=round(100 * (part.stop - start) / SEGMENT, 2),
                sound=png(sound[:, part]),
                heat=png(heat[:, part]),
                error=png(error[:, part]),
                letters=tuple(
                    Letter(text, round(100 * (place - start) / (part.stop - start), 2), kind)
                    for place, text, kind in letters
                    if part.start <= place < part.stop
                ),
            )
        )
    every = max(4, len(labels) // 8)
    marked = [*range(0, len(labels) - every // 2, every), len(labels) - 1]
    return Score(
        name=transcript.input,
        text=transcript.package,
        steps=len(package),
        shown=shown,
        step_ms=step_ms,
        labels=tuple(_name(label) for label in labels),
        ticks=tuple((_name(labels[i]), round(100 * (i + 0.5) / len(labels), 2)) for i in marked),
        segments=tuple(segments),
    )


def _name(label: str) -> str:
    if label == " ":
        return "space"
    # In UTF-8 mode a label is a byte, and not every byte is a character.
    return label if label.isprintable() else f"0x{ord(label[0]):02x}"


def _apart(letters: list[tuple[int, str, str]]) -> list[tuple[float, str, str]]:
    """Place in steps, text and kind of the visible letters, without overlap."""
    placed: list[tuple[float, str, str]] = []
    for step, text, kind in letters:
        if text.strip():
            least = placed[-1][0] + _LETTER if placed else 0.0
            placed.append((max(step + 0.5, least), _name(text), kind))
    return placed


def _letters(
    transcript: Transcript, package: Array, labels: list[str], blank: int | None
) -> list[tuple[int, str, str]]:
    """Step, text and kind of each letter on the likeliest path.

    The kind is ``unknown`` unless a transcript is expected and the path spells the package's
    transcript; a beam search or a language model may have changed that.
    """
    path = best_path(package, blank)
    texts = [labels[token] for token in path.tokens]
    kinds = ["unknown"] * len(texts)
    if transcript.expected is not None and "".join(texts) == transcript.package:
        words = [
            w.kind == "equal" for w in align(transcript.expected, transcript.package) if w.found
        ]
        number, inside = -1, False
        for index, text in enumerate(texts):
            if text.isspace():
                inside = False
                continue
            number, inside = number + (not inside), True
            kinds[index] = "right" if words[number] else "wrong"
    return list(zip(path.steps, texts, kinds, strict=True))
