"""Finds and reads DeepSpeech's training checkpoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.errors import AsrbuildError

if TYPE_CHECKING:
    from asrbuild.network import AcousticWeights

#: ``load_evaluate`` -> state files to try, in order, as DeepSpeech does.
STATE_FILES = {
    "auto": ("best_dev_checkpoint", "checkpoint"),
    "best": ("best_dev_checkpoint",),
    "last": ("checkpoint",),
}
_PATH_LINE = re.compile(r'^\s*model_checkpoint_path\s*:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)


def find_checkpoint(checkpoint_dir: Path | str, load_evaluate: str = "auto") -> Path:
    """The prefix of the checkpoint that DeepSpeech would export: ``<prefix>.index`` exists.

    Args:
        checkpoint_dir: the folder that training wrote.
        load_evaluate: ``best``, ``last``, or ``auto``: best, and last where there is no best.

    Raises:
        AsrbuildError: the folder, its state file, or the checkpoint it names is not there.
    """
    folder = Path(checkpoint_dir)
    if load_evaluate not in STATE_FILES:
        raise AsrbuildError(
            f"load_evaluate is {load_evaluate}",
            key="load_evaluate",
            fix=f"choose one of {', '.join(STATE_FILES)}",
        )
    if not folder.is_dir():
        raise AsrbuildError("no such checkpoint folder", key="checkpoint_dir", file=folder)
    for state in STATE_FILES[load_evaluate]:
        if (folder / state).is_file():
            return _prefix_of(folder, folder / state)
    found = sorted(path.stem for path in folder.glob("*.index"))
    raise AsrbuildError(
        f"no {' or '.join(STATE_FILES[load_evaluate])} in the checkpoint folder",
        key="checkpoint_dir",
        file=folder,
        fix=f"load_evaluate={load_evaluate} reads it; checkpoints there: "
        f"{', '.join(found) or 'none'}",
    )


def _prefix_of(folder: Path, state: Path) -> Path:
    try:
        text = state.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AsrbuildError("cannot read the checkpoint state", file=state) from error
    match = _PATH_LINE.search(text)
    if match is None:
        raise AsrbuildError(
            "the checkpoint state names no model_checkpoint_path",
            file=state,
            fix='it should have a line like: model_checkpoint_path: "best_dev-1000"',
        )
    named = Path(re.sub(r"\\(.)", r"\1", match.group(1)))
    # Training may have written an absolute path; the folder can have moved since.
    candidates = [folder / named, folder / named.name]
    for prefix in candidates:
        if prefix.with_name(prefix.name + ".index").is_file():
            return prefix
    raise AsrbuildError(
        f"the checkpoint {named} has no index file",
        file=state,
        fix=f"{named.name}.index and {named.name}.data-* belong into the folder",
    )


def read_weights(prefix: Path | str) -> AcousticWeights:
    """Reads the acoustic model's weights, memory-mapped and checked.

    Raises:
        AsrbuildError: the checkpoint is damaged, or not a DeepSpeech acoustic model.
    """
    # Here and not above: finding a checkpoint, which every build does, needs no arrays.
    from asrbuild.deepspeech.tensorbundle import open_bundle
    from asrbuild.network import VARIABLES, weights_from_named

    bundle = open_bundle(Path(prefix))
    present = set(bundle.names())
    arrays = {name: bundle.read(name) for name in VARIABLES.values() if name in present}
    if not arrays:
        raise AsrbuildError(
            "not a DeepSpeech checkpoint: layer_1/weights and the rest are not in it",
            file=prefix,
            fix=f"it has: {', '.join(sorted(present)[:12]) or 'no variables'}",
        )
    return weights_from_named(arrays, file=str(prefix))
