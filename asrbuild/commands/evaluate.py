"""``asrbuild evaluate``: word and character error rates of artifacts and decoders, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild.commands.ls import ArtifactsOption
from asrbuild.errors import AsrbuildError

if TYPE_CHECKING:
    from rich.progress import Progress

    from asrbuild.evaluation import Recording, Result


def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="ARTIFACT... DATA",
            help="Artifacts, then DeepSpeech's CSV or a folder of WAV and TXT files.",
        ),
    ],
    decoder: Annotated[
        str | None,
        typer.Option(help="One or several: greedy,beam,ds_ctcdecoder; else the manifest's."),
    ] = None,
    beam_width: Annotated[int | None, typer.Option(help="Hypotheses kept at each step.")] = None,
    scorer: Annotated[
        Path | None, typer.Option(help="A DeepSpeech .scorer, for ds_ctcdecoder.")
    ] = None,
    worst: Annotated[
        int, typer.Option(min=0, help="How many of the best result's errors to show.")
    ] = 3,
    page: Annotated[Path | None, typer.Option(help="Also write a page with plots, HTML.")] = None,
    artifacts: ArtifactsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure word and character error rates on recordings whose words are known.

    Case is folded and white space joined before comparing; nothing else. Probabilities are kept, so
    another decoder, or the same command after an interruption, does not run the model again.

    Example: asrbuild evaluate demo-static demo-dynamic test.csv --decoder greedy,beam
    """
    from asrbuild.evaluation import read_dataset

    if len(arguments) < 2:
        raise AsrbuildError("give at least one artifact, and the data last")
    *names, data = arguments
    dataset = read_dataset(Path(data))
    decoders = [name.strip() for name in decoder.split(",")] if decoder else [None]
    results = []
    with _bars() as bars:
        for name in names:
            found = _one(name, artifacts, dataset, decoders, beam_width, scorer, bars)
            results += found
    if page is not None:
        from asrbuild.report.evaluation import write_page

        write_page(page, data, dataset, results)
    if as_json:
        rows = [_row(result, dataset) for result in results]
        typer.echo(json.dumps({"data": data, "results": rows}, indent=2, ensure_ascii=False))
        return
    _print_table(results)
    _print_worst(min(results, key=lambda result: result.rates.wer), dataset, worst)
    if page is not None:
        typer.echo(f"\npage: {page}")


def _one(
    name: str,
    artifacts: Path | None,
    dataset: Sequence[Recording],
    decoders: Sequence[str | None],
    beam_width: int | None,
    scorer: Path | None,
    bars: Progress,
) -> list[Result]:
    """One artifact with every decoder."""
    from asrbuild.commands.transcribe import decoder_choice
    from asrbuild.evaluation import decode, listen
    from asrbuild.manifest import read_manifest
    from asrbuild.recipe import artifacts_root, cache_root
    from asrbuild.runtime import open_artifact
    from asrbuild.speech.decoding import open_decoder
    from asrbuild.store import resolve

    path = resolve(artifacts or artifacts_root(), name)
    manifest = read_manifest(path)
    # A scorer is for the genuine decoder; the others are compared without one.
    wanted = [
        decoder_choice(manifest, kind, beam_width, scorer if kind == "ds_ctcdecoder" else None)
        if kind is not None
        else decoder_choice(manifest, None, beam_width, scorer)
        for kind in decoders
    ]
    results = []
    with ExitStack() as stack:
        transcriber = stack.enter_context(open_artifact(path, wanted[0]))
        task = bars.add_task(f"{name}: listening", total=len(dataset))
        spoken = listen(transcriber, dataset, cache_root(), lambda: bars.advance(task))
        for index, settings in enumerate(wanted):
            opened = transcriber.decoder
            if index:
                opened = open_decoder(
                    settings, transcriber.alphabet, manifest.features.step_ms, path
                )
                stack.enter_context(opened)
            label = settings.type + (" with scorer" if settings.scorer else "")
            task = bars.add_task(f"{name}: {label}", total=len(dataset))
            advance = partial(bars.advance, task)
            results.append(decode(name, label, opened, dataset, spoken, advance))
    return results


@contextmanager
def _bars() -> Iterator[Progress]:
    """Progress on stderr, on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
    ) as bars:
        yield bars


def _print_table(results: Sequence[Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = sorted({r.artifact for r in results})
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.title, table.title_justify = (names[0], "left") if len(names) == 1 else (None, "center")
    for heading in ("artifact", "decoder") if len(names) > 1 else ("decoder",):
        table.add_column(heading, overflow="fold")
    for heading in ("words", "WER %", "95 %", "CER %", "95 %", "acoustic", "decoder"):
        table.add_column(heading, justify="right", no_wrap=True)
    for r in results:
        wer, cer = r.rates.wer_interval, r.rates.cer_interval
        table.add_row(
            *([r.artifact] if len(names) > 1 else []), r.decoder, str(r.rates.words.reference),
            f"{100 * r.rates.wer:.1f}", f"{100 * wer.low:.1f}-{100 * wer.high:.1f}",
            f"{100 * r.rates.cer:.1f}", f"{100 * cer.low:.1f}-{100 * cer.high:.1f}",
            f"{r.acoustic_s / r.audio_s:.3f} x", f"{r.decoder_s / r.audio_s:.3f} x",
        )  # fmt: skip
    console = Console(highlight=False)
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
        typer.echo(
            f"\n{result.artifact}, {result.decoder}: {recording.audio.name}, "
            f"{words.errors} of {words.reference} words wrong"
        )
        for label, line in zip(
            ("said ", "heard"), aligned(recording.text, result.heard[at]), strict=True
        ):
            typer.echo(f"  {label} {line}")


def aligned(said: str, heard: str) -> tuple[str, str]:
    """Both texts in columns, wrong words in capitals, gaps as stars."""
    from asrbuild.speech.rates import normalise
    from asrbuild.words import align

    above, below = [], []
    for word in align(normalise(said), normalise(heard)):
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
