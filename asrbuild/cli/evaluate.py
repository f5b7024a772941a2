"""``asrbuild evaluate``: word and character error rates of artifacts and decoders, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.progress import bars
from asrbuild.base.tables import bare, show
from asrbuild.cli.decoding import (
    AlphaOption,
    BeamOption,
    BetaOption,
    DecoderChoice,
    HotWordOption,
    ScorerOption,
    parse_hot_words,
)
from asrbuild.cli.measuring import decoders_for, evaluate_one, spelled_dataset
from asrbuild.cli.options import ArtifactsOption, DataOption, JsonOption

if TYPE_CHECKING:
    from asrbuild.proof.evaluation import SetResult
    from asrbuild.speech.dataset import Recording
    from asrbuild.speech.decoder_settings import DecoderSettings


def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="ARTIFACT",
            help="Artifacts, as `transcribe` takes them; without --data, the data last.",
        ),
    ],
    data: DataOption = None,
    decoder: Annotated[
        str | None,
        typer.Option(help="One or several: greedy,beam,ds_ctcdecoder; default: the manifest's."),
    ] = None,
    beam_width: BeamOption = None,
    scorer: ScorerOption = None,
    lm_alpha: AlphaOption = None,
    lm_beta: BetaOption = None,
    hot_word: HotWordOption = None,
    function: Annotated[
        str | None,
        typer.Option(help="A function of multifunction packages: whole, chunk_16, ..."),
    ] = None,
    worst: Annotated[
        int, typer.Option(min=0, help="How many of the best result's errors to show.")
    ] = 3,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Also write a page with plots, HTML."),
    ] = None,
    count_unspelled: Annotated[
        bool,
        typer.Option(
            "--count-unspelled", help="Count words that the alphabet cannot spell as errors."
        ),
    ] = False,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure word and character error rates on recordings whose words are known.

    Texts are compared in lower case and with single spaces; nothing else is changed. References
    that the model's alphabet cannot spell are reported and not counted. Probabilities and words
    are cached: another decoder does not run the model again, and the same command after an
    interruption continues; times are those of the first run. If several decoders are compared,
    ds_ctcdecoder is shown without its scorer and with it.

    A recording that a decoder cannot decode fails the whole set, by name: remove it from the data,
    or choose another decoder. Recordings that were decoded before stay cached.

    Examples:
        asrbuild evaluate demo-dynamic-mlprogram --data demo:dev/dev.csv
    """
    from asrbuild.base.disk import require_writable
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.ship.opening import opened
    from asrbuild.speech.dataset import read_dataset

    names = list(arguments)
    if data is None and len(names) < 2:
        raise AsrbuildError(
            "evaluate requires at least one artifact, and the data",
            fix="for instance asrbuild evaluate demo-static-mlprogram --data test.csv",
        )
    if output is not None:
        require_writable(output, "writing the page", "--output")
    data = data or Path(names.pop())
    dataset = read_dataset(data)
    kinds = [kind.strip() for kind in decoder.split(",")] if decoder is not None else [None]
    choice = DecoderChoice(beam_width, scorer, lm_alpha, lm_beta, parse_hot_words(hot_word))
    root, note = artifacts or artifacts_root(), partial(terminal.say, err=True)
    results: list[SetResult] = []
    with ExitStack() as stack:
        paths = [stack.enter_context(opened(name, root, note)) for name in names]
        # Check all of them before transcribing the first recording.
        decoders = [decoders_for(path, kinds, choice, function) for path in paths]
        spelled = spelled_dataset(paths, dataset, data, count_all=count_unspelled)
        dataset = spelled.counted
        if spelled.remark:
            note(f"note: {spelled.remark}")
        shown = stack.enter_context(bars())
        for name, path, settings in zip(names, paths, decoders, strict=True):
            results += evaluate_one(name, path, dataset, settings, shown, function)
    if output is not None:
        from asrbuild.handover.report.evaluation import write_page

        write_page(output, str(data), dataset, results, spelled.remark)
    if as_json:
        rows = [_row(result, dataset) for result in results]
        left_out = [{"audio": str(one.audio), "said": one.text} for one in spelled.left_out]
        head = {"data": str(data), "unspelled": spelled.remark or None, "left_out": left_out}
        terminal.say_json(head | {"results": rows})
        return
    _print_table(results)
    _print_worst(min(results, key=lambda result: result.rates.wer), dataset, worst)
    if output is not None:
        terminal.say(f"\npage: {output}")


def _print_table(results: Sequence[SetResult]) -> None:
    names = sorted({r.artifact for r in results})
    units = dict.fromkeys(r.rates.unit for r in results)  # phonemes, if a model writes them
    rate = " / ".join("PER %" if unit == "phonemes" else "CER %" for unit in units)
    figures = ("words", "WER %", "95 %", rate, "95 %", "acoustic", "decoding")
    first = ("decoder",) if len(names) == 1 else ("artifact", "decoder")
    table = bare(names[0] if len(names) == 1 else "", *first, *figures, right=figures)
    for r in results:
        wer, cer = r.rates.wer_interval, r.rates.cer_interval
        table.add_row(
            *([r.artifact] if len(names) > 1 else []),
            r.decoder,
            str(r.rates.words.reference),
            f"{100 * r.rates.wer:.1f}",
            f"{100 * wer.low:.1f}-{100 * wer.high:.1f}",
            f"{100 * r.rates.cer:.1f}",
            f"{100 * cer.low:.1f}-{100 * cer.high:.1f}",
            f"{r.acoustic_s / r.audio_s:.3f} x",
            f"{r.decoder_s / r.audio_s:.3f} x",
        )
    show(table)
    audio, count = results[0].audio_s, len(results[0].transcripts)
    terminal.console().print(
        f"{count} recording{'s' if count > 1 else ''}, {audio:.0f} s; "
        "times are seconds of work per second of audio",
        style="dim",
    )


def _print_worst(result: SetResult, dataset: Sequence[Recording], count: int) -> None:
    for at in result.worst(count):
        recording, words = dataset[at], result.rates.utterances[at].words
        terminal.say(
            f"\n{result.artifact}, {result.decoder}: {recording.audio.name}, "
            f"{words.errors} of {words.reference} words wrong"
        )
        utterance = result.rates.utterances[at]
        for label, line in zip(
            ("expected  ", "transcript"),
            aligned(utterance.expected, utterance.transcript),
            strict=True,
        ):
            terminal.say(f"  {label} {line}")


def aligned(expected: str, transcript: str) -> tuple[str, str]:
    """Two texts in aligned columns: wrong words in capitals, gaps as stars."""
    from asrbuild.speech.alignment import align

    above, below = [], []
    for word in align(expected, transcript):
        wrong = word.kind != "equal"
        left, right = (text.upper() if wrong else text for text in (word.expected, word.found))
        width = max(len(left), len(right))
        above.append((left or "*" * width).ljust(width))
        below.append((right or "*" * width).ljust(width))
    return " ".join(above).rstrip(), " ".join(below).rstrip()


def _row(result: SetResult, dataset: Sequence[Recording]) -> dict[str, Any]:
    rates = result.rates
    return {
        "artifact": result.artifact,
        "decoder": result.decoder,
        "settings": _settings(result.settings),
        "wer": rates.wer,
        "wer_interval": [rates.wer_interval.low, rates.wer_interval.high],
        "cer": rates.cer,
        "cer_interval": [rates.cer_interval.low, rates.cer_interval.high],
        "words": asdict(rates.words),
        "characters": asdict(rates.characters),
        "audio_s": result.audio_s,
        "acoustic_s": result.acoustic_s,
        "decoder_s": result.decoder_s,
        "real_time_factor": result.real_time_factor,
        "recordings": [
            {
                "audio": str(recording.audio),
                "said": recording.text,
                "heard": transcript,
                "words": asdict(utterance.words),
                "characters": asdict(utterance.characters),
            }
            for recording, transcript, utterance in zip(
                dataset, result.transcripts, rates.utterances, strict=True
            )
        ],
    }


def _settings(settings: DecoderSettings) -> dict[str, Any]:
    """Decoder settings as JSON, with the scorer's file name for its path."""
    shown = asdict(settings) | {"scorer": settings.scorer.name if settings.scorer else None}
    return {key: value for key, value in shown.items() if key != "interpreter"}
