"""The stage ``convert``: makes the Core ML package from the weights or the frozen graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.builder.recipe import Recipe, label, network_of
from asrbuild.builder.stage import Reads, Stage, View
from asrbuild.builder.stages.export import original

if TYPE_CHECKING:
    from asrbuild.builder.conversion import Conversion


def run(view: View, at: Path) -> None:
    """Writes the package, ``model.mlpackage`` or ``model.mlmodel``."""
    from asrbuild.builder.conversion import conversion_request, package_name

    view.architecture.convert(
        view.source,
        view.config,
        conversion_request(conversion(view)),
        at / package_name(view.recipe.coreml.format),
        view.fact(frontend),
        lambda: original(view).file,
    )


def conversion(view: View) -> Conversion:
    """The inputs of the conversion, for this stage and later ones."""
    from asrbuild.builder.conversion import Conversion

    recipe = view.recipe
    return Conversion(
        view.fact(label),
        recipe.version,
        view.architecture,
        view.config,
        view.architecture.card(recipe),
        recipe.model,
        recipe.coreml,
        view.source.alphabet,
    )


def frontend(recipe: Recipe) -> str:
    """The front end of the conversion: ``tensorflow`` or ``mil``, also for ``auto``."""
    exported = network_of(recipe)[0].CONVERTS_EXPORTED
    return "tensorflow" if exported or recipe.coreml.frontend == "tensorflow" else "mil"


def _graph(recipe: Recipe) -> tuple[str, ...]:
    return ("export",) if frontend(recipe) == "tensorflow" else ()


def _libraries(recipe: Recipe) -> tuple[str, ...]:
    own = network_of(recipe)[0].LIBRARIES.get("convert", ())
    return ("coremltools", "numpy", *own, *(("tensorflow",) if _graph(recipe) else ()))


def _reads(recipe: Recipe) -> Reads:
    architecture, _ = network_of(recipe)
    return (*architecture.NETWORK_KEYS, *architecture.CARD_KEYS, *_READS)


_READS: Reads = (
    "version",
    label,
    "model.steps",
    "model.functions",
    "model.streaming",
    "coreml.format",
    "coreml.precision",
    "coreml.minimum_deployment_target",
    "coreml.lstm",
    "coreml.state",
    "coreml.outputs",
    "coreml.fp32",
    "coreml.compress",
    "coreml.compress_layers",
    "coreml.sparsity",
    frontend,
)
STAGE = Stage(
    name="convert",
    title="Core ML package from the weights",
    run=run,
    calls=("original", "exported", "signature", "front_end", "card", "convert"),
    reads=_reads,
    files=("model", "alphabet"),
    after=_graph,
    libraries=_libraries,
)
