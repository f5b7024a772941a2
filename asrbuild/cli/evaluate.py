"""``asrbuild evaluate``: word and character error rates of artifacts and decoders, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.progress import bars
from asrbuild.cli.decoding import (
    AlphaOption,
    BeamOption,
    BetaOption,
    HotWordOption,
    ScorerOption,
    Wanted,
    parse_hot_words,
    settings_for,
)
from asrbuild.cli.options import ArtifactsOption

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from asrbuild.proof.evaluation import Result, Spelled
    from asrbuild.speech.dataset import Recording
    from asrbuild.speech.decoder_settings import DecoderSettings


#: Columns of the terminal that all figures and a few letters of names take.
_ROOM_FOR_FIGURES = 78


def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="ARTIFACT... DATA",
            help="Artifacts, as `transcribe` takes them; then DeepSpeech's CSV or a folder of WAV "
            "and TXT files.",
        ),
    ],
    decoder: Annotated[
        str | None,
        typer.Option(help="One or several: greedy,beam,ds_ctcdecoder; else the manifest's."),
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
    page: Annotated[Path | None, typer.Option(help="Also write a page with plots, HTML.")] = None,
    count_unspelled: Annotated[
        bool,
        typer.Option("--count-unspelled", help="Count what the alphabet cannot spell as errors."),
    ] = False,
    artifacts: ArtifactsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure word and character error rates on recordings whose words are known.

    Texts are compared in lower case and with single spaces; nothing else is changed. References
    that the model's alphabet cannot spell are reported and not counted. Probabilities and words
    are kept: another decoder does not run the model again, and the same command after an
    interruption goes on where it was; times are those of the first run. Where several decoders are
    compared, ds_ctcdecoder is shown without its scorer and with it.

    A recording that a decoder gives no words of fails the whole set, by name: take it out of the
    data, or choose another decoder. What was decoded before is kept.

    Example: asrbuild evaluate demo-static demo-dynamic test.csv --decoder greedy,beam
    """
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.ship.opening import opened
    from asrbuild.speech.dataset import read_dataset

    if len(arguments) < 2:
        raise AsrbuildError(
            "give at least one artifact, and the data last",
            fix="for instance asrbuild evaluate demo-static-mlprogram test.csv",
        )
    *names, data = arguments
    dataset = read_dataset(Path(data))
    kinds = [kind.strip() for kind in decoder.split(",")] if decoder is not None else [None]
    wanted = Wanted(beam_width, scorer, lm_alpha, lm_beta, parse_hot_words(hot_word))
    root, tell = artifacts or artifacts_root(), partial(terminal.say, err=True)
    results: list[Result] = []
    with ExitStack() as stack:
        paths = [stack.enter_context(opened(name, root, tell)) for name in names]
        # All of them are checked before the first recording is heard.
        decoders = [decoders_for(path, kinds, wanted, function) for path in paths]
        spelled = spelled_dataset(paths, dataset, Path(data), count_all=count_unspelled)
        dataset = spelled.counted
        if spelled.remark:
            tell(f"note: {spelled.remark}")
        shown = stack.enter_context(bars())
        for name, path, settings in zip(names, paths, decoders, strict=True):
            results += evaluate_one(name, path, dataset, settings, shown, function)
    if page is not None:
        from asrbuild.handover.report.evaluation import write_page

        write_page(page, data, dataset, results, spelled.remark)
    if as_json:
        rows = [_row(result, dataset) for result in results]
        left_out = [{"audio": str(one.audio), "said": one.text} for one in spelled.left_out]
        head = {"data": data, "unspelled": spelled.remark or None, "left_out": left_out}
        terminal.say_json(head | {"results": rows})
        return
    _print_table(results)
    _print_worst(min(results, key=lambda result: result.rates.wer), dataset, worst)
    if page is not None:
        terminal.say(f"\npage: {page}")


def spelled_dataset(
    paths: Sequence[Path], dataset: Sequence[Recording], data: Path, *, count_all: bool
) -> Spelled:
    """The recordings to compare these artifacts on: those that the alphabet of each can spell.

    Raises:
        AsrbuildError: there are none.
    """
    from asrbuild.artifact.manifest import read_manifest
    from asrbuild.proof.evaluation import spelled_by
    from asrbuild.speech.alphabet import make_alphabet

    decoders = [read_manifest(path).decoder for path in paths]
    alphabets = [make_alphabet(each.alphabet, bytes_output=each.utf8) for each in decoders]
    try:
        return spelled_by(alphabets, dataset, count_all=count_all, option="--count-unspelled")
    except AsrbuildError as error:
        error.file = str(data)
        raise


def decoders_for(
    path: Path, kinds: Sequence[str | None], wanted: Wanted, function: str | None = None
) -> list[DecoderSettings]:
    """The decoders to compare on one artifact; a scorer is for the genuine one."""
    from asrbuild.artifact.manifest import read_manifest
    from asrbuild.artifact.runtime import with_function

    manifest = read_manifest(path)
    if function is not None:
        with_function(manifest, function)
    found = []
    beams = any((kind or manifest.decoder.type) != "greedy" for kind in kinds)
    for kind in kinds:
        bare = replace(wanted, scorer=None, lm_alpha=None, lm_beta=None, hot_words={})
        takes_scorer = (kind or manifest.decoder.type) == "ds_ctcdecoder"
        given = wanted if takes_scorer or len(kinds) == 1 else bare
        if beams and (kind or manifest.decoder.type) == "greedy":
            given = replace(given, beam_width=None)
        settings = settings_for(manifest, path, kind, given)
        if settings.scorer is not None and len(kinds) > 1:
            found.append(replace(settings, scorer=None, hot_words={}))
        found.append(settings)
    return found


def evaluate_one(
    name: str,
    path: Path,
    dataset: Sequence[Recording],
    decoders: Sequence[DecoderSettings],
    shown: Bars,
    function: str | None = None,
) -> list[Result]:
    """One artifact with every decoder."""
    from asrbuild.artifact.runtime import open_artifact
    from asrbuild.base.places import cache_root
    from asrbuild.proof.evaluation import decode, listen, notes_text, words_folder
    from asrbuild.speech.decoders import open_decoder

    results = []
    with ExitStack() as stack:
        transcriber = stack.enter_context(open_artifact(path, decoders[0], function))
        task = shown.add_task(f"{name}: listening", total=len(dataset))
        cache = cache_root()
        spoken = listen(transcriber, dataset, cache, lambda: shown.advance(task))
        for note in notes_text(dataset, spoken):
            terminal.say(f"note: {name}: {note}", err=True)
        step_ms = transcriber.manifest.features.step_ms
        for index, settings in enumerate(decoders):
            opened = transcriber.decoder
            if index:
                opened = open_decoder(settings, transcriber.alphabet, step_ms, path)
                stack.enter_context(opened)
            label = settings.type + (f" + {settings.scorer.name}" if settings.scorer else "")
            task = shown.add_task(f"{name}: {label}", total=len(dataset))
            advance = partial(shown.advance, task)
            kept = words_folder(cache, transcriber, settings)
            results.append(
                decode(
                    name, label, settings, opened, dataset, spoken, advance, kept,
                    transcriber.alphabet,
                )
            )  # fmt: skip
    return results


def _print_table(results: Sequence[Result]) -> None:
    from rich.table import Table

    names = sorted({r.artifact for r in results})
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.title, table.title_justify = (names[0], "left") if len(names) == 1 else (None, "center")
    for heading in ("artifact", "decoder") if len(names) > 1 else ("decoder",):
        table.add_column(heading, overflow="fold")
    console = terminal.console()
    # Names give way to figures, until there is no room for these either.
    whole = console.width >= _ROOM_FOR_FIGURES
    for heading in ("words", "WER %", "95 %", "CER %", "95 %", "acoustic", "decoder"):
        table.add_column(heading, justify="right", no_wrap=whole, overflow="fold")
    for r in results:
        wer, cer = r.rates.wer_interval, r.rates.cer_interval
        table.add_row(
            *([r.artifact] if len(names) > 1 else []), r.decoder, str(r.rates.words.reference),
            f"{100 * r.rates.wer:.1f}", f"{100 * wer.low:.1f}-{100 * wer.high:.1f}",
            f"{100 * r.rates.cer:.1f}", f"{100 * cer.low:.1f}-{100 * cer.high:.1f}",
            f"{r.acoustic_s / r.audio_s:.3f} x", f"{r.decoder_s / r.audio_s:.3f} x",
        )  # fmt: skip
    console.print(table)
    audio = results[0].audio_s
    console.print(
        f"{len(results[0].heard)} recordings, {audio:.0f} s; "
        "times are seconds of work for a second of sound",
        style="dim",
    )


def _print_worst(result: Result, dataset: Sequence[Recording], count: int) -> None:
    for at in result.worst(count):
        recording, words = dataset[at], result.rates.utterances[at].words
        terminal.say(
            f"\n{result.artifact}, {result.decoder}: {recording.audio.name}, "
            f"{words.errors} of {words.reference} words wrong"
        )
        utterance = result.rates.utterances[at]
        for label, line in zip(
            ("said ", "heard"), aligned(utterance.said, utterance.heard), strict=True
        ):
            terminal.say(f"  {label} {line}")


def aligned(said: str, heard: str) -> tuple[str, str]:
    """Both texts in columns, wrong words in capitals, gaps as stars."""
    from asrbuild.speech.alignment import align

    above, below = [], []
    for word in align(said, heard):
        wrong = word.kind != "equal"
        left, right = (text.upper() if wrong else text for text in (word.expected, word.found))
        width = max(len(left), len(right))
        above.append((left or "*" * width).ljust(width))
        below.append((right or "*" * width).ljust(width))
    return " ".join(above).rstrip(), " ".join(below).rstrip()


def _row(result: Result, dataset: Sequence[Recording]) -> dict[str, Any]:
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
                "heard": heard,
                "words": asdict(utterance.words),
                "characters": asdict(utterance.characters),
            }
            for recording, heard, utterance in zip(
                dataset, result.heard, rates.utterances, strict=True
            )
        ],
    }


def _settings(settings: DecoderSettings) -> dict[str, Any]:
    """What decoded, as JSON; a scorer by its name."""
    shown = asdict(settings) | {"scorer": settings.scorer.name if settings.scorer else None}
    return {key: value for key, value in shown.items() if key != "interpreter"}
