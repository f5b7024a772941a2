"""The cost of chunks and padding: label edits against the whole recording.

The proof compares a package with its original in the same calls, so it does not show this cost. A
network whose rows depend on all steps of a call gives other labels in chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asrbuild.artifact import manifest2
from asrbuild.artifact.manifest import Transcript
from asrbuild.base.array import Array
from asrbuild.proof.calls import whole_of
from asrbuild.proof.execution import probabilities_of


def against_recordings(
    manifest: manifest2.Manifest,
    transcripts: Sequence[Transcript],
    package: Mapping[str, Array],
    reference: Mapping[str, Mapping[str, Array]],
) -> list[Transcript]:
    """The transcripts, with the original's transcript of the whole recording where it ran on that.

    Args:
        package: way to run a recording -> the package's probabilities (rows, classes).
        reference: the original's outputs by label; see ``calls.original_outputs``.
    """
    from asrbuild.speech.greedy import GreedyDecoder, best_path

    tokens, name = manifest2.tokens_of(manifest.decoder), probabilities_of(manifest)
    decoder = GreedyDecoder(tokens, manifest2.row_ms(manifest) / 1000.0)
    found: list[Transcript] = []
    for transcript in transcripts:
        values = transcript.model_dump()
        if (whole := reference.get(whole_of(transcript.input))) is not None:
            expected = best_path(whole[name], tokens.blank).tokens
            given = best_path(package[transcript.input], tokens.blank).tokens
            values |= {
                "recording": decoder.decode(whole[name])[0].text,
                "recording_labels": len(expected),
                "recording_edits": label_edits(expected, given),
            }
        found.append(manifest2.Transcript(**values))
    return found


def label_edits(expected: Sequence[int], given: Sequence[int]) -> int:
    """The edit distance of two sequences of labels."""
    import jiwer

    if not len(expected):
        return len(given)
    left, right = (" ".join(map(str, labels)) for labels in (expected, given))
    counts = jiwer.process_words(left, right)
    return counts.substitutions + counts.deletions + counts.insertions
