"""Texts of the scorers' tests."""

from __future__ import annotations

from asrbuild.speech.scorer.ngrams import NgramModel

TEXT = """the cat sat on the mat
the dog sat on the cat
a dog saw the cat and the mat
the cat's mat
yes
no no no""".splitlines()
SENTENCES = [line.split() for line in TEXT]


CHARACTERS = ["für 漢字 und", "fünf 漢 ñ", "нет ñ 🙂 字", "für und 字", "нет"]


def arpa_text(model: NgramModel) -> str:
    lines = ["\\data\\"] + [f"ngram {n}={len(t)}" for n, t in enumerate(model.tables, start=1)]
    for n, table in enumerate(model.tables, start=1):
        lines += ["", f"\\{n}-grams:"]
        tail = "\t{1:.9g}" if n < model.order else ""
        lines += [f"{w[0]:.9g}\t{' '.join(g)}" + tail.format(*w) for g, w in table.items()]
    return "\n".join([*lines, "", "\\end\\", ""])
