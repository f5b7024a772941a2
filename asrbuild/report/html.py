"""``report.html``: the proof as one self-contained page, with pictures of the probabilities."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.manifest import Manifest, Transcript
from asrbuild.parity import PROBABILITIES, PROBABILITY_FLOOR
from asrbuild.report.page import input_rows, transcript_rows, verdict, word_runs, worst_rows

Outputs = Mapping[str, np.ndarray]


def html_report(
    manifest: Manifest, reference: Mapping[str, Outputs], package: Mapping[str, Outputs]
) -> str:
    """The page as HTML.

    Args:
        manifest: with the verification to show.
        reference: recording -> output -> TensorFlow's values.
        package: the same of the package.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    recordings = {t.input for t in manifest.verification.transcripts if "@" not in t.input}
    labels = [*manifest.decoder.alphabet, "blank"]
    pictures = [
        {
            "title": name,
            "png": heat_map(
                name, reference[name][PROBABILITIES], package[name][PROBABILITIES], labels
            ),
        }
        for name in sorted(recordings & reference.keys() & package.keys())
    ]
    return environment.get_template("report.html.j2").render(
        m=manifest,
        verdict=verdict(manifest).replace("**", ""),
        systems=", ".join(f"{name} {v}" for name, v in manifest.model.minimum_os.items()),
        transcripts=_marked(manifest.verification.transcripts),
        pictures=pictures,
        worst=worst_rows(manifest.verification.metrics),
        inputs=[
            {key: value.replace("**", "") for key, value in row.items()}
            for row in input_rows(manifest)
        ],
    )


def heat_map(title: str, reference: np.ndarray, package: np.ndarray, labels: list[str]) -> str:
    """A PNG in base64: log10 of both (steps, classes), and of their difference.

    The same numbers give the same bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = min(len(reference), len(package))
    reference, package = reference[:steps], package[:steps]
    figure = Figure(figsize=(13, 11), layout="constrained")
    panels = (
        ("TensorFlow", reference),
        ("package", package),
        ("difference", np.abs(reference.astype(np.float64) - package)),
    )
    # In bytes output there are 255 labels: too many to write beside the picture.
    written = len(labels) <= 64
    for axes, (name, values) in zip(figure.subplots(3, 1, sharex=True), panels, strict=True):
        image = axes.imshow(
            np.log10(np.maximum(values.T, PROBABILITY_FLOOR)),
            aspect="auto",
            interpolation="nearest",
            cmap="magma",
            vmin=np.log10(PROBABILITY_FLOOR),
            vmax=0.0,
        )
        axes.set_title(f"{title}: {name}", loc="left")
        if written:
            shown = [{" ": "space"}.get(label, label) for label in labels]
            axes.set_yticks(range(len(labels)), shown, fontsize=6)
        figure.colorbar(image, ax=axes, label="log10 of the probability")
    axes.set_xlabel("step")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _marked(transcripts: list[Transcript]) -> list[dict[str, Any]]:
    """Rows of transcripts with their words as (element, words): span, del or ins."""
    rows = transcript_rows(transcripts)
    expected = {t.input: t.expected for t in transcripts}
    heard = {t.input: t.package for t in transcripts}
    for row in rows:
        first = row["inputs"].split(", ")[0]
        if expected[first] is None:
            row["marks"] = [("span", heard[first] or "(nothing)")]
            continue
        row["marks"] = [
            (kind, words)
            for missed, found, right in word_runs(expected[first] or "", heard[first])
            for kind, words in (
                ("del", "" if right else missed),
                ("span" if right else "ins", found),
            )
            if words
        ]
    return rows
