"""Word-level alignment of two transcripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Kind: TypeAlias = Literal["equal", "substitute", "delete", "insert"]
_KINDS: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}


@dataclass(frozen=True)
class AlignedWord:
    """One word of an alignment: ``expected`` is None in an insertion, ``found`` in a deletion."""

    kind: Kind
    expected: str
    found: str


def align(expected: str, found: str) -> list[AlignedWord]:
    """Aligns the words of two transcripts with the fewest edits."""
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
                    _KINDS[chunk.type],
                    before[position] if position < len(before) else "",
                    after[position] if position < len(after) else "",
                )
            )
    return aligned
