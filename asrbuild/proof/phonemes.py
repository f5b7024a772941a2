"""Phoneme errors of a proof: the package against the original, and both against what is expected.

A word error rate does not say how far two pronunciations of a word are apart, so a model that
writes phonemes has gates on phonemes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asrbuild.artifact import manifest2
from asrbuild.artifact.manifest import Transcript
from asrbuild.proof.phoneme_gates import PhonemeGates
from asrbuild.speech.rates import count_phonemes, normalise, unspelled
from asrbuild.speech.tokens import Tokens


def with_phonemes(
    transcripts: Sequence[Transcript], tokens: Tokens, *, count_unspelled: bool
) -> list[Transcript]:
    """Transcripts of manifest 2.0 with phoneme errors, the expected ones in the model's own form.

    Args:
        tokens: the model's phonemes.
        count_unspelled: also against expected phonemes that the model has no label of.
    """
    found: list[Transcript] = []
    for transcript in transcripts:
        against = count_phonemes(transcript.reference, transcript.package).characters
        package = original = None
        expected = transcript.expected
        if expected is not None:
            counted = count_unspelled or not unspelled(expected, tokens)
            expected = normalise(expected, tokens)
            if counted:
                package = count_phonemes(expected, transcript.package).characters
                original = count_phonemes(expected, transcript.reference).characters
        phonemes = manifest2.Phonemes(
            original=against.reference,
            changed=against.errors,
            expected=None if package is None else package.reference,
            package_errors=None if package is None else package.errors,
            original_errors=None if original is None else original.errors,
        )
        found.append(transcript.model_copy(update={"expected": expected, "phonemes": phonemes}))
    return found


def phoneme_failures(
    transcripts: Sequence[Transcript], gates: PhonemeGates
) -> Iterator[tuple[str, str]]:
    """The gates that transcripts of :func:`with_phonemes` fail: key of ``verify``, sentence."""
    for transcript in transcripts:
        phonemes = getattr(transcript, "phonemes", None)
        if phonemes is None:
            continue
        own, rise = phonemes.per, phonemes.per_increase
        for key, name, value, limit in (
            ("max_per", "phoneme error rate", own, gates.max_per),
            ("max_per_increase", "rise of the phoneme error rate", rise, gates.max_per_increase),
            (
                "max_per_from_original",
                "share of phonemes that are not the original's",
                phonemes.per_from_original,
                gates.max_per_from_original,
            ),
        ):
            if limit is not None and value is not None and value > limit:
                yield key, f"{transcript.input}: the {name} is {value:.1%}, above {limit:.1%}"
