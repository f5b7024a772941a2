"""``asrbuild scorer build`` and ``asrbuild inspect scorer``: language models for ds-ctcdecoder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.options import JsonOption

if TYPE_CHECKING:
    from asrbuild.speech.alphabet import Alphabet

AlphabetOption = Annotated[Path | None, typer.Option(help="The model's alphabet.txt.")]
BytesOption = Annotated[
    bool, typer.Option("--bytes-output", help="Instead of an alphabet: UTF-8 (bytes output) mode.")
]


def build(
    output: Annotated[Path, typer.Option("--output", "-o", help="The .scorer file to write.")],
    alphabet: AlphabetOption = None,
    bytes_output: BytesOption = False,
    text: Annotated[
        Path | None, typer.Option(help="A text, one sentence a line, as the model writes them.")
    ] = None,
    arpa: Annotated[
        Path | None, typer.Option(help="An ARPA file instead, for instance from KenLM's lmplz.")
    ] = None,
    order: Annotated[int, typer.Option(min=2, max=6, help="n of the n-grams.")] = 3,
    lm_alpha: Annotated[float | None, typer.Option(help="Default weight of the model.")] = None,
    lm_beta: Annotated[float | None, typer.Option(help="Default reward of a word.")] = None,
) -> None:
    """Make a DeepSpeech scorer package from a text, without other tools.

    For a model in UTF-8 (bytes output) mode the n-grams are of characters, spaces included.

    Examples:
        asrbuild scorer build --text demo:sample.txt \\
          --alphabet demo:alphabet.txt -o my.scorer
    """
    from asrbuild.base.disk import disk_errors
    from asrbuild.base.text_files import read_text
    from asrbuild.speech.scorer.build import DEFAULT_ALPHA, DEFAULT_BETA, write_scorer
    from asrbuild.speech.scorer.ngrams import characters, estimate, read_arpa
    from asrbuild.speech.scorer.package import inspect_scorer

    if (text is None) == (arpa is None):
        raise AsrbuildError(
            "a scorer requires either a text or an ARPA file", fix="give either --text or --arpa"
        )
    labels = _labels(alphabet, bytes_output)
    if labels is None:
        raise AsrbuildError(
            "a scorer requires an alphabet", fix="give either --alphabet or --bytes-output"
        )
    if text is not None:
        units = characters if bytes_output else str.split
        model = estimate(map(units, read_text(text).splitlines()), order)
    elif arpa is not None:
        model = read_arpa(arpa)
    alpha = DEFAULT_ALPHA if lm_alpha is None else lm_alpha
    beta = DEFAULT_BETA if lm_beta is None else lm_beta
    with disk_errors("writing the scorer", output):
        output.parent.mkdir(parents=True, exist_ok=True)
        spelled = write_scorer(model, labels, output, alpha, beta)
    info = inspect_scorer(output)
    left_out = len(model.words) - spelled
    note = f"; {left_out} words that the alphabet cannot spell are left out" if left_out else ""
    terminal.say(f"{output}: {info.order}-grams, {info.words} words, {info.size} bytes{note}")


def inspect_scorer(
    scorer: Annotated[
        str, typer.Argument(help="A .scorer package; demo:prompts.scorer is the demo's.")
    ],
    alphabet: AlphabetOption = None,
    bytes_output: BytesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show a scorer's content, and how many of its words an alphabet spells differently.

    Examples:
        asrbuild inspect scorer demo:prompts.scorer
    """
    from asrbuild.speech.scorer.fit import check_scorer, compare_spelling
    from asrbuild.speech.scorer.package import inspect_scorer as look

    labels = _labels(alphabet, bytes_output)
    path = Path(scorer).expanduser()
    info = look(path)
    spelling = None
    if labels is not None:
        spelling = compare_spelling(path, labels)
        try:
            check_scorer(path, labels)
        except AsrbuildError as error:
            if not spelling.fits:
                error.message += f"; {spelling}"
            raise
    if as_json:
        fits = None if spelling is None else spelling.fits
        spelled = None if spelling is None else asdict(spelling)
        terminal.say_json({**asdict(info), "fits": fits, "spelling": spelled})
        return
    rows = {
        "file": f"{scorer}, {info.size} bytes",
        "language model": f"{info.order}-grams, KenLM {info.kind}",
        "n-grams": ", ".join(f"{count} of {n}" for n, count in enumerate(info.ngrams, start=1)),
        "vocabulary": f"{info.words} {'characters' if info.bytes_output else 'words'}",
        "character based": "yes, UTF-8 bytes" if info.bytes_output else "no, word based",
        "alpha, beta": f"{info.lm_alpha:g}, {info.lm_beta:g}",
        "labels": f"{len(info.labels)} used, the highest is {max(info.labels, default=-1)}",
        "alphabet": "not compared; give --alphabet"
        if spelling is None
        else f"fits {alphabet or 'UTF-8 mode'}: it spells all {spelling.words} words"
        if spelling.fits
        else f"{alphabet} does not fit: {spelling}",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        terminal.say(f"{name.ljust(width)}  {value}")


def _labels(alphabet: Path | None, bytes_output: bool) -> Alphabet | None:
    """The alphabet of the options; None without one."""
    from asrbuild.speech.alphabet import bytes_alphabet, read_alphabet

    if alphabet is not None and bytes_output:
        raise AsrbuildError("--alphabet and --bytes-output exclude each other", fix="give one")
    if bytes_output:
        return bytes_alphabet()
    return None if alphabet is None else read_alphabet(alphabet)
