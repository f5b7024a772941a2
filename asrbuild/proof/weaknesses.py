"""Weaknesses: compares the gates of a published proof with asrbuild's default proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asrbuild.artifact.manifest import Manifest
from asrbuild.base.choices import packaged
from asrbuild.coreml.compression import HALF_ORIGINAL, gate_names
from asrbuild.proof.gates import Gates, gates_of

#: A weakness of the gates, not of the result if the transcripts are equal.
WORDS_UNGATED = "its words need not be those of the original"
#: Gates that are lower bounds; the others are upper bounds.
_AT_LEAST = ("argmax_agreement", "psnr_db", "state_psnr_db")


def recorded_gates(manifest: Manifest, *, compressed: bool = True) -> Gates:
    """The gates of an artifact's proof, from the recipe in its manifest.

    Args:
        compressed: whether the gates of its compressions count; False: those of its precision
            alone.
    """
    verify = manifest.provenance.recipe.get("verify", {})
    precision = manifest.model.compute_precision
    thresholds = verify.get("thresholds", {})
    coreml = {"precision": precision} | manifest.provenance.recipe.get("coreml", {})
    names = gate_names(coreml, thresholds)
    return gates_of(thresholds, precision, names if compressed else (precision,))


def weaknesses(manifest: Manifest) -> list[str]:
    """The parts of the default proof that a proof lacks; empty for a whole proof.

    A recipe may prove less (``verify=quick``) or have looser gates. Additional or stricter gates
    are not a weakness. For an artifact without its recipe's ``verify``, only the gates are known.
    """
    found = manifest.verification
    if not found.executed:
        return ["nothing has run the package"]
    if not found.passed or not found.metrics:
        return ["its gates did not pass"]
    verify = manifest.provenance.recipe.get("verify")
    whole = packaged("verify", "default")
    if not isinstance(verify, Mapping) or whole is None:
        return []
    try:
        return _lacking(manifest, verify, whole)
    except (TypeError, ValueError, AttributeError):
        return ["its recipe does not say what was gated"]


def _lacking(manifest: Manifest, verify: Mapping[str, Any], whole: Mapping[str, Any]) -> list[str]:
    lacks = []
    if missing := [name for name in whole["inputs"] if name not in verify.get("inputs", [])]:
        lacks.append(f"it was not run on {', '.join(missing)}")
    if not verify.get("edge_lengths", True):
        lacks.append("it was not run at the lengths at which chunking goes wrong")
    if not verify.get("require_transcript", True):
        lacks.append(WORDS_UNGATED)
    if verify.get("allow_wrong_words", False):
        lacks.append("its words may all be wrong")
    if verify.get("max_steps", whole["max_steps"]) < whole["max_steps"]:
        lacks.append(f"no call was longer than {verify['max_steps']} steps")
    if HALF_ORIGINAL in verify.get("thresholds", {}):
        lacks.append("its gates are those of an original in half precision")
    coreml = {"precision": manifest.model.compute_precision}
    for gates in gate_names(coreml | manifest.provenance.recipe.get("coreml", {})):
        usual, own = whole["thresholds"].get(gates, {}), verify.get("thresholds", {}).get(gates, {})
        for name, limit in usual.items():
            given = own.get(name, limit)
            if given < limit if name in _AT_LEAST else given > limit:
                lacks.append(f"its gate {gates}.{name} is {given:g}, and comes as {limit:g}")
    return lacks


def is_quick(manifest: Manifest) -> bool:
    """Whether a proof is that of ``verify=quick``, of the sample recording alone."""
    verify = manifest.provenance.recipe.get("verify")
    if not isinstance(verify, Mapping):
        return False
    quick = packaged("verify", "quick") or {}
    return all(verify.get(key) == quick.get(key) for key in ("inputs", "edge_lengths"))
