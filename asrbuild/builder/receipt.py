"""The receipt of a build: the record of its publication, an entry of the cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asrbuild.artifact import integrity, store
from asrbuild.artifact.layout import MANIFEST, RECEIPT
from asrbuild.base.cache import StageKey, claim, entry_path, is_cached, run_stage
from asrbuild.base.code import code_digest
from asrbuild.base.disk import read_plain

NAME = "artifact"
TITLE = "manifest, report, published"


@dataclass(frozen=True)
class Receipt:
    """The record of a publication: the artifact's name, version and figures.

    ``parity``: the proof in one line; ``figures``: the worst value of each metric of the
    probabilities over all inputs. ``transcripts``: recording -> the package's transcript;
    ``expected``: recording -> the expected transcript, if it is known and the alphabet can spell
    it. ``witnessed``: whether Apple's Core AI runtime ran the package too; ``also``: name and
    version of the variant in its format. ``wer``: the word error rate over all recordings with an
    expected transcript (1.0: as many errors as words); ``set_wer``: the word error rate on
    ``verify.evaluation``. ``compress``: the compressions of the weights, joined by a plus.
    ``bytes`` is the size of the artifact, ``package_bytes`` that of the Core ML package.
    """

    name: str
    version: str
    bytes: int
    parity: str
    figures: dict[str, float]
    transcripts: dict[str, str]
    expected: dict[str, str]
    transcripts_match: bool
    core_ml_executed: bool
    witnessed: bool
    also: tuple[str, str] | None
    compress: str
    package_bytes: int
    wer: float | None
    set_wer: float | None


def key(recorded: Mapping[str, Any], digests: Mapping[str, str], proofs: Sequence[str]) -> StageKey:
    """The key of a receipt: the recorded recipe, every file's digest, and the stages' keys."""
    keys = {"prove": proofs, "recipe": recorded}
    return StageKey(NAME, code_digest("builder/publish.py"), keys, digests, {})


def published(cache: Path, artifacts: Path, key: StageKey) -> Receipt | None:
    """The receipt of an earlier build of the same recipe, if its artifact is still in the store."""
    if not is_cached(cache, key):
        return None
    try:
        receipt = Receipt(**json.loads(read_plain(entry_path(cache, key) / RECEIPT)))
    except OSError:
        return None  # removed meanwhile
    path = artifacts / receipt.name / receipt.version
    also = [] if receipt.also is None else [artifacts.joinpath(*receipt.also)]
    if not all(integrity.is_published(p, cache) for p in (path, *also)):
        return None
    # Another store may have this version without a witness; publishing reports that.
    return receipt if not receipt.witnessed or _has_witness(path) else None


def _has_witness(artifact: Path) -> bool:
    """Whether the manifest of an intact artifact names a second runtime."""
    try:
        manifest = json.loads(read_plain(artifact / MANIFEST))
    except OSError:
        return False  # removed meanwhile
    return bool(manifest["verification"].get("witness"))


def claimed(cache: Path, artifacts: Path, key: StageKey) -> Receipt | None:
    """The receipt of a published artifact, which no clean-up removes from now on."""
    receipt = published(cache, artifacts, key) if claim(cache, key) else None
    # Nothing was built, so an existing pointer stays; a receipt is written after the pointer.
    if receipt and store.point_latest(artifacts, receipt.name, receipt.version, move=False):
        return receipt
    return None


def keep(cache: Path, key: StageKey, receipt: Receipt, notify: Callable[[str], None]) -> None:
    """Writes the receipt of the artifact that was just published."""
    text = json.dumps(asdict(receipt), indent=2, ensure_ascii=False) + "\n"

    def write(at: Path) -> None:
        (at / RECEIPT).write_text(text, encoding="utf-8", newline="\n")

    run_stage(cache, key, write, notify=notify)
