"""The page of an evaluation: error rates side by side and drawn, and every mistake."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.report.drawing import STYLE, figure, svg

if TYPE_CHECKING:
    from asrbuild.evaluation import Recording, Result


def write_page(
    destination: Path, data: str, dataset: Sequence[Recording], results: Sequence[Result]
) -> None:
    """Writes one self-contained HTML file."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>Error rates on {escape(data)}</title><style>{STYLE}</style>",
        f"<h1>Error rates on {escape(Path(data).name)}</h1>",
        f"<p>{len(dataset)} recordings, {results[0].audio_s:.0f} s of sound, "
        f"{results[0].rates.words.reference} words. Case is folded and white space joined before "
        "comparing. Intervals: 95 %, from resampled recordings.</p>",
        _table(results),
        f"<h2>Rates</h2>{_rates(results)}",
        f"<h2>Recordings by share of wrong words</h2>{_shares(results)}",
        "<h2>Every recording that went wrong</h2>",
        *(_wrong(result, dataset) for result in results),
        "</html>",
    ]
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_text("\n".join(parts), encoding="utf-8")


def _table(results: Sequence[Result]) -> str:
    headings = ("artifact", "decoder")
    numbers = ("WER %", "95 %", "CER %", "95 %", "substituted", "left out", "put in", "x real time")
    head = "".join(f"<th>{name}" for name in headings)
    head += "".join(f"<th class=n>{name}" for name in numbers)
    rows = []
    for r in results:
        wer, cer, words = r.rates.wer_interval, r.rates.cer_interval, r.rates.words
        cells = (
            f"{100 * r.rates.wer:.1f}", f"{100 * wer.low:.1f} to {100 * wer.high:.1f}",
            f"{100 * r.rates.cer:.1f}", f"{100 * cer.low:.1f} to {100 * cer.high:.1f}",
            str(words.substitutions), str(words.deletions), str(words.insertions),
            f"{r.real_time_factor:.3f}",
        )  # fmt: skip
        names = f"<td>{escape(r.artifact)}<td>{escape(r.decoder)}"
        rows.append(f"<tr>{names}{''.join(f'<td class=n>{cell}' for cell in cells)}")
    return f"<table><tr>{head}{''.join(rows)}</table>"


def _rates(results: Sequence[Result]) -> str:
    import numpy as np

    drawn, axes = figure(width=8, height=0.5 * len(results) + 1.2)
    places = np.arange(len(results))[::-1]
    for offset, kind in ((0.18, "wer"), (-0.18, "cer")):
        rates = [100 * getattr(r.rates, kind) for r in results]
        intervals = [getattr(r.rates, f"{kind}_interval") for r in results]
        low = [rate - 100 * i.low for rate, i in zip(rates, intervals, strict=True)]
        high = [100 * i.high - rate for rate, i in zip(rates, intervals, strict=True)]
        spread = np.maximum([low, high], 0)
        axes.barh(places + offset, rates, 0.34, xerr=spread, capsize=3, label=kind.upper())
    axes.set_yticks(places, [f"{r.artifact}\n{r.decoder}" for r in results], fontsize=8)
    axes.set_xlabel("error rate, %")
    axes.legend()
    return svg(drawn)


def _shares(results: Sequence[Result]) -> str:
    import numpy as np

    drawn, axes = figure(width=8, height=3)
    for r in results:
        shares = np.sort([100 * u.words.rate for u in r.rates.utterances])
        best = np.arange(1, len(shares) + 1) / len(shares) * 100
        axes.step(shares, best, where="post", label=f"{r.artifact}, {r.decoder}")
    axes.set_xlabel("at most this share of words wrong, %")
    axes.set_ylabel("recordings, %")
    axes.set_ylim(0, 102)
    axes.legend(fontsize=8)
    return svg(drawn)


def _wrong(result: Result, dataset: Sequence[Recording]) -> str:
    from asrbuild.speech.rates import normalise
    from asrbuild.words import align

    rows = []
    for at in result.worst(len(dataset)):
        lines: tuple[list[str], list[str]] = ([], [])
        for word in align(normalise(dataset[at].text), normalise(result.heard[at])):
            for line, text in zip(lines, (word.expected, word.found), strict=True):
                shown = escape(text) or "&middot;"
                line.append(shown if word.kind == "equal" else f"<b class=wrong>{shown}</b>")
        said, heard = (" ".join(line) for line in lines)
        rows.append(f"<tr><td>{escape(dataset[at].audio.name)}<td>{said}<br>{heard}")
    title = f"<h3>{escape(result.artifact)}, {escape(result.decoder)}</h3>"
    return title + (f"<table>{''.join(rows)}</table>" if rows else "<p>None.</p>")
