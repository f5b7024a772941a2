"""The HTML page of an evaluation: error rates, their distribution, and every wrong recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.handover.report.html import render, write_html
from asrbuild.handover.report.page import word_marks
from asrbuild.handover.report.table import Column, Entry, Table, make_table

if TYPE_CHECKING:
    from asrbuild.proof.evaluation import SetResult
    from asrbuild.speech.dataset import Recording

COLUMNS = (
    Column("decoder", "decoder", number=False),
    Column("wer", "WER %", text="{:.1f}"),
    Column("wer_interval", "95 %", number=False),
    Column("cer", "CER %", text="{:.1f}"),
    Column("cer_interval", "95 %", number=False),
    Column("substitutions", "substituted", text="{:.0f}"),
    Column("deletions", "left out", text="{:.0f}"),
    Column("insertions", "put in", text="{:.0f}"),
    Column("factor", "x real time", text="{:.3f}"),
)


def write_page(
    destination: Path,
    data: str,
    dataset: Sequence[Recording],
    results: Sequence[SetResult],
    remark: str = "",
) -> None:
    """Writes one self-contained HTML file; ``remark``: recordings left out of the set.

    Raises:
        AsrbuildError: the disk refuses.
    """
    most = max((100 * u.words.rate for r in results for u in r.rates.utterances), default=0.0)
    text = render(
        "evaluation.html.j2",
        scripts=("sort.js",),
        data=Path(data).name,
        remark=remark,
        recordings=len(dataset),
        seconds=results[0].audio_s,
        spoken=results[0].rates.words.reference,
        table=_table(results),
        rates=_rates(results),
        curves=[{"name": _name(r), "path": _curve(r, most)} for r in results],
        most=f"{most:.0f}",
        wrong=_wrong(results, dataset),
    )
    write_html(destination, text)


def _name(result: SetResult) -> str:
    return f"{result.artifact}, {result.decoder}"


def _table(results: Sequence[SetResult]) -> Table:
    entries = []
    for number, r in enumerate(results, start=1):
        wer, cer, words = r.rates.wer_interval, r.rates.cer_interval, r.rates.words
        facts: dict[str, float | str] = {
            "decoder": r.decoder,
            "wer": 100 * r.rates.wer,
            "wer_interval": f"{100 * wer.low:.1f} to {100 * wer.high:.1f}",
            "cer": 100 * r.rates.cer,
            "cer_interval": f"{100 * cer.low:.1f} to {100 * cer.high:.1f}",
            "substitutions": words.substitutions,
            "deletions": words.deletions,
            "insertions": words.insertions,
            "factor": r.real_time_factor,
        }
        entries.append(Entry(number, r.artifact, facts))
    return make_table(COLUMNS, entries)


def _rates(results: Sequence[SetResult]) -> list[dict[str, Any]]:
    """Bars of word and character error rates with their intervals, in percent of the widest."""
    widest = max(max(r.rates.wer_interval.high, r.rates.cer_interval.high) for r in results) or 1.0
    bars = []
    for r in results:
        pairs = ((r.rates.wer, r.rates.wer_interval), (r.rates.cer, r.rates.cer_interval))
        rates = [
            {
                "width": round(100 * rate / widest, 2),
                "low": round(100 * interval.low / widest, 2),
                "high": round(100 * interval.high / widest, 2),
                "text": f"{100 * rate:.1f} %",
            }
            for rate, interval in pairs
        ]
        label = f"{_name(r)}: {rates[0]['text']} of words, {rates[1]['text']} of letters wrong"
        bars.append({"name": r.artifact, "decoder": r.decoder, "rates": rates, "label": label})
    return bars


def _curve(result: SetResult, most: float) -> str:
    """The SVG path, in a square of 100, of the share of recordings with at most x wrong words.

    ``most``: percent of wrong words at the right edge.
    """
    shares = sorted(100 * u.words.rate for u in result.rates.utterances)
    path = ["M0 100"]
    for rank, share in enumerate(shares, start=1):
        path.append(f"H{100 * share / (most or 1.0):.2f}V{100 - 100 * rank / len(shares):.2f}")
    return "".join([*path, "H100"])


def _wrong(results: Sequence[SetResult], dataset: Sequence[Recording]) -> list[dict[str, Any]]:
    """Recordings in which a result has wrong words, worst first, each with every result."""

    def rate(at: int) -> float:
        return sum(result.rates.utterances[at].words.rate for result in results)

    order = sorted(range(len(dataset)), key=lambda at: (-rate(at), at))
    return [
        {
            "name": dataset[at].audio.name,
            "results": [
                {
                    "name": _name(result),
                    "rate": f"{100 * pair.words.rate:.0f} %",
                    "marks": word_marks(pair.expected, pair.transcript),
                }
                for result in results
                for pair in [result.rates.utterances[at]]
            ],
        }
        for at in order
        if rate(at)
    ]
