"""``asrbuild transcribe``: transcribes recordings with an artifact."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial as bind
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.decoding import (
    AlphaOption,
    BeamOption,
    BetaOption,
    DecoderChoice,
    HotWordOption,
    ScorerOption,
    parse_hot_words,
    settings_for,
)
from asrbuild.cli.options import ArtifactsOption, OpenedArgument

if TYPE_CHECKING:
    from asrbuild.artifact.runtime import Transcriber, Transcription

Show = Callable[[str], None]
_STANDARD_INPUT = Path("-")
#: Bounds of ``--raw``, equal to those of a header in ``speech.audio``.
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000


def transcribe(
    artifact: OpenedArgument,
    audio: Annotated[
        list[Path],
        typer.Argument(help="Recordings: WAV, FLAC, OGG, ...; - reads one from standard input."),
    ],
    decoder: Annotated[
        str | None,
        typer.Option(help="greedy, beam or ds_ctcdecoder; default: the manifest's."),
    ] = None,
    beam_width: BeamOption = None,
    scorer: ScorerOption = None,
    lm_alpha: AlphaOption = None,
    lm_beta: BetaOption = None,
    hot_word: HotWordOption = None,
    n_best: Annotated[int, typer.Option(min=1, help="Transcripts of each recording.")] = 1,
    function: Annotated[
        str | None,
        typer.Option(help="A function of a multifunction package: whole, chunk_16, ..."),
    ] = None,
    raw: Annotated[
        int | None,
        typer.Option(
            min=LOWEST_RATE,
            max=HIGHEST_RATE,
            metavar="RATE",
            help="Recordings have no header: mono 16-bit samples, little-endian, at this rate.",
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Print every partial result as a line on stderr.")
    ] = False,
    artifacts: ArtifactsOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print words with times, confidence and timings.")
    ] = False,
) -> None:
    """Transcribe recordings with an artifact; words appear while it runs.

    Any sample rate is accepted; channels are mixed to one. TensorFlow is not needed.
    Conditions that may make words wrong (a missing end, a telephone's sample rate) are reported.

    Examples:
        asrbuild transcribe demo-dynamic-mlprogram demo:sample.wav
        asrbuild transcribe demo-static-mlprogram demo:sample.wav --json
    """
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.artifact.runtime import open_artifact
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.ship.opening import opened

    choice = DecoderChoice(beam_width, scorer, lm_alpha, lm_beta, parse_hot_words(hot_word))
    rows: list[dict[str, Any]] = []
    failed: list[AsrbuildError] = []
    with ExitStack() as stack:
        note = bind(terminal.say, err=True)
        path = stack.enter_context(opened(artifact, artifacts or artifacts_root(), note))
        manifest = read_manifest(path)
        settings = settings_for(manifest, path, decoder, choice)
        transcriber = stack.enter_context(open_artifact(path, settings, function))
        for file in audio:
            try:
                notes: list[str] = []
                transcription = _one(transcriber, file, raw, n_best, partial, notes.append)
            except AsrbuildError as error:
                # Continue with the other recordings.
                error.file = error.file or str(file)
                failed.append(error)
                rows.append({"file": str(file), "error": error.message})
                continue
            rows.append(_row(file, transcription, notes))
            for text in notes:
                terminal.say(f"note: {file}: {text}", err=True)
            if not as_json:
                _print_text(file, transcription, len(audio) > 1, settings.type)
    if as_json:
        head = {"artifact": manifest.artifact_id, "decoder": settings.type}
        terminal.say_json({**head, "recordings": rows})
    if failed:
        raise failed[0] if len(failed) == 1 else _several(failed, len(audio))


def _one(
    transcriber: Transcriber, file: Path, raw: int | None, n_best: int, partial: bool, note: Show
) -> Transcription:
    from asrbuild.speech.audio import read_audio

    source = _standard_input() if file == _STANDARD_INPUT else file
    samples = read_audio(source, transcriber.sample_rate, note, raw)
    with _showing(partial) as show:
        return transcriber.transcribe(samples, show, n_best)


def _standard_input() -> bytes:
    if sys.stdin.isatty():
        raise AsrbuildError(
            "standard input is a terminal, not a recording",
            fix="pipe one into it: cat hello.wav | asrbuild transcribe ARTIFACT -",
        )
    data = sys.stdin.buffer.read()
    if not data:
        raise AsrbuildError("standard input is empty", fix="check the program that writes to it")
    return data


@contextmanager
def _showing(as_lines: bool) -> Iterator[Show | None]:
    """Yields a function that shows partial results: as a live line, as lines, or None.

    They are on stderr, so that stdout has transcripts only.
    """
    if as_lines:
        yield bind(terminal.say, err=True)
        return
    if not terminal.is_terminal(err=True):
        yield None
        return
    from rich.live import Live

    with Live(console=terminal.console(err=True), transient=True, refresh_per_second=20) as live:
        yield lambda text: live.update(terminal.line(text + " …", "dim"))


def _print_text(file: Path, transcription: Transcription, several: bool, decoder: str) -> None:
    for rank, hypothesis in enumerate(transcription.hypotheses):
        label = f"{file}: " if several else ""
        place = f"{rank + 1}. " if len(transcription.hypotheses) > 1 else ""
        terminal.say(f"{label}{place}{hypothesis.text}")
    spent = transcription.acoustic_s + transcription.decoder_s
    terminal.console(err=True).print(
        f"{transcription.audio_s:.1f} s of audio in {spent:.2f} s "
        f"({transcription.real_time_factor:.2f} of real time), {decoder}",
        style="dim",
        soft_wrap=True,
    )


def _row(file: Path, transcription: Transcription, notes: list[str]) -> dict[str, Any]:
    best, *others = (asdict(hypothesis) for hypothesis in transcription.hypotheses)
    return {
        "file": str(file),
        **best,
        "alternatives": others,
        "notes": notes,
        "audio_s": round(transcription.audio_s, 4),
        "acoustic_s": round(transcription.acoustic_s, 4),
        "decoder_s": round(transcription.decoder_s, 4),
    }


def _several(failed: list[AsrbuildError], total: int) -> AsrbuildError:
    lines = "".join(
        f"\n  {error.file}: {error.message}" + (f"; {error.fix}" if error.fix else "")
        for error in failed
    )
    return AsrbuildError(f"{len(failed)} of {total} recordings have no transcript:{lines}")
