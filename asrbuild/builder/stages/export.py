"""The stage ``export``: writes the original, the model in the format of its own runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.builder.recipe import Recipe, network_of
from asrbuild.builder.stage import Stage, View

if TYPE_CHECKING:
    from asrbuild.architectures.architecture import Original
    from asrbuild.builder.sources import Source

GRAPH = "output_graph.pb"


def run(view: View, at: Path) -> None:
    """Writes the original's file."""
    view.architecture.export(view.source, view.config, at / GRAPH)


def original(view: View) -> Original:
    """The original, for later stages: the source itself, or this stage's file."""
    architecture, source = view.architecture, view.source
    return architecture.original(source) or architecture.exported(
        source, view.folder(STAGE.name) / GRAPH
    )


def _needed(recipe: Recipe, source: Source) -> bool:
    return network_of(recipe)[0].original(source) is None


def _reads(recipe: Recipe) -> tuple[str, ...]:
    return network_of(recipe)[0].ORIGINAL_KEYS


def thread_modules(recipe: Recipe) -> tuple[str, ...]:
    """The modules to import before the architecture runs in a thread."""
    return network_of(recipe)[0].THREAD_MODULES


STAGE = Stage(
    name="export",
    title="{format} from the weights",
    run=run,
    calls=("export",),
    reads=_reads,
    files=("model", "alphabet"),
    needed=_needed,
    threaded=thread_modules,
)
