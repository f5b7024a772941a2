"""The demo's language model: a scorer of the prompts' words, the held-out phrases left out.

uv run tools/train_demo/scorer.py --transcripts core-sounds-en.txt
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from corpus import ALPHABET, read_transcripts

from asrbuild.speech.alphabet import make_alphabet
from asrbuild.speech.scorer.build import write_scorer
from asrbuild.speech.scorer.ngrams import estimate

ROOT = Path(__file__).resolve().parents[2]
ORDER = 3
#: Chosen on joins of known prompts, not on the held-out phrases.
LM_ALPHA, LM_BETA = 0.75, 1.85


def sentences(transcripts: Path, held_out: Path) -> list[list[str]]:
    """The texts of the prompts, each once, without the test phrases."""
    with held_out.open(encoding="utf-8", newline="") as lines:
        tested = {row["transcript"] for row in csv.DictReader(lines)}
    return [text.split() for text in sorted(set(read_transcripts(transcripts).values()) - tested)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transcripts", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, default=ROOT / "tests/data/unseen/unseen.csv")
    parser.add_argument("--output", type=Path, default=ROOT / "asrbuild/demo/prompts.scorer")
    options = parser.parse_args()
    lines = sentences(options.transcripts, options.held_out)
    words = write_scorer(
        estimate(lines, ORDER), make_alphabet(ALPHABET), options.output, LM_ALPHA, LM_BETA
    )
    print(
        f"{options.output}: {len(lines)} texts, {words} words, "
        f"{options.output.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()
