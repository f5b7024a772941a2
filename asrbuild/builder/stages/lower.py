"""The stage ``lower``: writes the package in Core AI's format, for iOS 27 and macOS 27."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.builder.recipe import Recipe
from asrbuild.builder.stage import Stage, View
from asrbuild.builder.stages.convert import conversion
from asrbuild.builder.stages.witness import core_ai, publishes_asset
from asrbuild.coreml.choices import ASSET

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest

PACKAGE = f"model.{ASSET}"
#: The end of the artifact's name.
SUFFIX = f"-{ASSET}"
MINIMUM_OS = {"iOS": "27", "macOS": "27"}
#: The ``assetVersion`` of Core AI's format.
_VERSION = 2


def run(view: View, at: Path) -> None:
    """Writes ``model.aimodel``.

    Raises:
        NoLoweringError: an operation of the package has no counterpart in Core AI.
    """
    from asrbuild.base.digest import canonical_json, text_digest, tree_digests
    from asrbuild.builder.conversion import package_metadata, package_name
    from asrbuild.coreai.asset import AssetMetadata, lower

    asked = conversion(view)
    package = view.folder("convert") / package_name(view.recipe.coreml.format)
    values = package_metadata(asked) | {
        "asrbuild.package_sha256": text_digest(canonical_json(tree_digests(package)))
    }
    card = asked.card
    metadata = AssetMetadata(card.author, card.license, card.description, values)
    lower(package, at / PACKAGE, metadata=metadata)


def asset_manifest(manifest: Manifest) -> Manifest:
    """The manifest of an ``.aimodel``, from that of its Core ML package."""
    model = manifest.model.model_copy(
        update={
            "format": ASSET,
            "package": PACKAGE,
            "spec_version": _VERSION,
            "minimum_os": MINIMUM_OS,
        }
    )
    return manifest.model_copy(update={"model": model, "name": f"{manifest.name}{SUFFIX}"})


def _needed(recipe: Recipe, source: object) -> bool:
    del source
    return publishes_asset(recipe)


STAGE = Stage(
    name="lower",
    title="Core AI asset from the package",
    run=run,
    reads=(core_ai,),
    after=("convert",),
    calls=("signature", "front_end", "card"),
    needed=_needed,
)
