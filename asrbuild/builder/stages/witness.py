"""The stage ``witness``: runs the package in Apple's Core AI runtime, a second runtime."""

from __future__ import annotations

from pathlib import Path

from asrbuild.base.code import code_digest
from asrbuild.base.places import PACKAGE
from asrbuild.builder.recipe import Recipe
from asrbuild.builder.stage import Stage, View
from asrbuild.builder.stages.cases import all_cases
from asrbuild.builder.stages.execute import core_ml_units, package_manifest
from asrbuild.coreai.environment import VERSION, find, unsupported


def run(view: View, at: Path) -> None:
    """Writes the runtime's outputs for every input, or the operations that it does not support.

    Raises:
        NoLoweringError: an operation has no lowering, and the recipe requires a witness.
    """
    from asrbuild.coreai.handover import NoLoweringError
    from asrbuild.proof.witness import Witnessed, save_witnessed, witness

    try:
        found = witness(
            view.folder("convert"),
            package_manifest(view),
            all_cases(view),
            every=view.fact(publishes_asset),
        )
    except NoLoweringError as error:
        if view.fact(witness_required) or view.fact(publishes_asset):
            error.key = "verify.witness"
            raise
        view.note(f"the package is not witnessed: {error.message}")
        found = Witnessed({}, missing_ops=error.ops)
    save_witnessed(at, found)


def witness_required(recipe: Recipe) -> bool:
    """Whether the recipe requires a witness."""
    return recipe.verify.witness == "required"


def publishes_asset(recipe: Recipe) -> bool:
    """Whether a recipe publishes an ``.aimodel``, which the witness proves."""
    return recipe.coreai == "preview"


def core_ai(recipe: Recipe) -> str:
    """The version of Core AI's runtime, with a digest of asrbuild's code in its Python.

    That Python imports the code, so no import of this process leads to it.
    """
    del recipe
    worker = sorted((PACKAGE / "coreai" / "worker").rglob("*.py"))
    names = (path.relative_to(PACKAGE).as_posix() for path in worker)
    return f"{VERSION} {code_digest(*names)}"


def why_unwitnessed(recipe: Recipe) -> tuple[str, str] | None:
    """The reason why no witness runs a recipe's package, and the fix; None if one runs it."""
    if recipe.verify.witness == "off":
        return "verify.witness=off", "set verify.witness=auto"
    if recipe.coreml.format != "mlprogram":
        reason = f"Core AI has no lowering of a {recipe.coreml.format} package"
        return reason, "set coreml=mlprogram"
    if find() is not None:
        return None
    if (missing := unsupported()) is not None:
        return f"Core AI's runtime does not run here: {missing}", "build on a machine where it does"
    return "Core AI's runtime is not installed", "run `asrbuild coreai install`"


def _needed(recipe: Recipe, source: object) -> bool:
    del source
    return why_unwitnessed(recipe) is None


def _thread_modules(recipe: Recipe) -> tuple[str, ...]:
    from asrbuild.coreai.asset import THREAD_MODULES

    del recipe
    return (
        "encodings.cp437",  # of the names in an npz
        "asrbuild.builder.conversion",
        "asrbuild.builder.describe",
        "asrbuild.proof.cases",
        "asrbuild.proof.prefixes",
        "asrbuild.proof.witness",
        *THREAD_MODULES,
    )


STAGE = Stage(
    name="witness",
    title="package run by Apple's Core AI runtime",
    run=run,
    reads=(
        "n_steps",
        "verify.edge_lengths",
        "verify.max_steps",
        core_ml_units,
        core_ai,
        witness_required,
        publishes_asset,
    ),
    after=("convert", "cases"),
    libraries=("numpy",),
    calls=("signature", "front_end", "card"),
    needed=_needed,
    threaded=_thread_modules,
)
