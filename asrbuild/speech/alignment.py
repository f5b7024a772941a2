"""Words right and wrong: two transcripts laid side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AlignedWord:
    """One place of an alignment; an insertion expects nothing, a deletion finds nothing."""

    kind: Literal["equal", "substitute", "delete", "insert"]
    expected: str
    found: str


def align(expected: str, found: str) -> list[AlignedWord]:
    """The words of two transcripts in their cheapest alignment."""
    left, right = expected.split(), found.split()
    if not left:
        return [AlignedWord("insert", "", word) for word in right]
    import jiwer

    (chunks,) = jiwer.process_words(" ".join(left), " ".join(right)).alignments
    aligned: list[AlignedWord] = []
    for chunk in chunks:
        before = left[chunk.ref_start_idx : chunk.ref_end_idx]
        after = right[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for position in range(max(len(before), len(after))):
            aligned.append(
                AlignedWord(
                    chunk.type,
                    before[position] if position < len(before) else "",
                    after[position] if position < len(after) else "",
                )
            )
    return aligned
