"""Finds and reads DeepSpeech's training checkpoints."""

from __future__ import annotations

import codecs
import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import (
    CHECKPOINT,
    CHECKPOINT_DATA,
    CHECKPOINT_INDEX,
    CHECKPOINT_STATE,
)
from asrbuild.base.kinds.recognition import require

if TYPE_CHECKING:
    from asrbuild.architectures.deepspeech.network import AcousticWeights
    from asrbuild.architectures.tensorflow.tensorbundle import Bundle

#: ``load_evaluate`` -> state files to try, in order, as DeepSpeech does.
STATE_FILES = {
    "auto": ("best_dev_checkpoint", "checkpoint"),
    "best": ("best_dev_checkpoint",),
    "last": ("checkpoint",),
}
_PATH_LINE = re.compile(
    r"""^\s*model_checkpoint_path\s*:\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""", re.MULTILINE
)
#: The part of the name of a checkpoint's file after its prefix.
_SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})")
#: TensorFlow's prefix for checkpoints with the best result on the development set.
_BEST = "best_dev"


def find_checkpoint(checkpoint_dir: Path | str, load_evaluate: str = "auto") -> Path:
    """The prefix of the checkpoint that DeepSpeech would export: see :func:`choose_checkpoint`."""
    return choose_checkpoint(checkpoint_dir, load_evaluate)[0]


def choose_checkpoint(checkpoint_dir: Path | str, load_evaluate: str = "auto") -> tuple[Path, str]:
    """The prefix of a folder's checkpoint, and the reason for the choice.

    It checks the kinds of its files: none is a pointer, a page or empty.

    Only the last component of the path in a state file counts: training may have run elsewhere, and
    on another system.

    Args:
        checkpoint_dir: the folder of a training run, a checkpoint's prefix or one of its files
            (``best_dev-10``, ``best_dev-10.index``), or a state file.
        load_evaluate: ``best``, ``last``, or ``auto``: best, or last if there is no best.

    Returns:
        The prefix, for which ``<prefix>.index`` and ``<prefix>.data-*`` exist; and the reason for a
        person.

    Raises:
        AsrbuildError: the folder or checkpoint does not exist, the choice is ambiguous, or a file
        is of another kind.
    """
    prefix, because = _choose(checkpoint_dir, load_evaluate)
    index, *parts = checkpoint_files(prefix)
    require(index, CHECKPOINT_INDEX)
    for part in parts:
        require(part, CHECKPOINT_DATA)
    return prefix, because


def _choose(checkpoint_dir: Path | str, load_evaluate: str) -> tuple[Path, str]:
    named = Path(checkpoint_dir)
    if os.path.exists(named):
        require(named, CHECKPOINT, key="source.checkpoint_dir")
    if load_evaluate not in STATE_FILES:
        raise AsrbuildError(
            f"load_evaluate is {load_evaluate}",
            key="source.load_evaluate",
            fix=f"choose one of {', '.join(STATE_FILES)}",
        )
    if not os.path.isdir(named):
        return _without_folder(named)
    refused: list[AsrbuildError] = []
    for state in STATE_FILES[load_evaluate]:
        if (named / state).is_file():
            try:
                chosen = _prefix_of(named / state)
            except AsrbuildError as error:
                refused.append(error)
                continue
            before = "".join(f"; {Path(e.file or '').name}: {e.message}" for e in refused)
            return chosen, f"{state} names it{before}"
    if refused:
        raise refused[0]
    return _without_state(named, load_evaluate), "no state file; it is the only one of its kind"


def checkpoint_files(prefix: Path) -> list[Path]:
    """The index and the data files of a checkpoint, in order."""
    parts = sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*-of-*"))
    return [prefix.with_name(f"{prefix.name}.index"), *parts]


def _is_whole(prefix: Path) -> bool:
    index, *parts = checkpoint_files(prefix)
    return os.path.isfile(index) and bool(parts)


def _whole_prefixes(folder: Path) -> list[Path]:
    found = (path.with_name(path.name.removesuffix(".index")) for path in folder.glob("*.index"))
    return sorted(prefix for prefix in found if _is_whole(prefix))


def _offer(folder: Path) -> str:
    """A fix that names the checkpoints of a folder."""
    found = _whole_prefixes(folder)
    if not found:
        return (
            "give the folder that DeepSpeech's --checkpoint_dir wrote: *.index and *.data-* in it"
        )
    first, *others = found
    more = f" (or {', '.join(path.name for path in others)})" if others else ""
    return f"set source.checkpoint_dir={first}{more}"


def _without_folder(named: Path) -> tuple[Path, str]:
    """The checkpoint for a prefix, one of its files, or a state file."""
    prefix = named.with_name(_SUFFIX.sub("", named.name))
    if _is_whole(prefix):
        return prefix, "source.checkpoint_dir names it"
    if os.path.isfile(prefix.with_name(f"{prefix.name}.index")):
        raise AsrbuildError(
            f"the checkpoint {prefix.name} has no data file",
            key="source.checkpoint_dir",
            file=prefix.parent,
            fix=f"{prefix.name}.data-00000-of-00001 belongs beside {prefix.name}.index",
        )
    if os.path.isfile(named):
        return _prefix_of(named), f"{named.name} names it"
    raise AsrbuildError(
        "the checkpoint folder does not exist",
        key="source.checkpoint_dir",
        file=named,
        fix=_offer(named.parent),
    )


def _without_state(folder: Path, load_evaluate: str) -> Path:
    """The one checkpoint of a folder without a state file."""
    found = _whole_prefixes(folder)
    best = [prefix for prefix in found if prefix.name.startswith(_BEST)]
    last = [prefix for prefix in found if prefix not in best]
    chosen = {"auto": best or last, "best": best, "last": last}[load_evaluate]
    if len(chosen) == 1:
        return chosen[0]
    several = f"{len(chosen)} checkpoints and " if chosen else ""
    raise AsrbuildError(
        f"the checkpoint folder has {several}no {' or '.join(STATE_FILES[load_evaluate])} file",
        key="source.checkpoint_dir",
        file=folder,
        fix=_offer(folder),
    )


def _prefix_of(state: Path) -> Path:
    """The checkpoint next to a state file with the last component of the path in that file."""
    require(state, CHECKPOINT_STATE)
    try:
        data = state.read_bytes()
        wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AsrbuildError(
            "the checkpoint state is not text", file=state, fix=_offer(state.parent)
        ) from error
    match = _PATH_LINE.search(text)
    if match is None or not (match[1] or match[2]):
        raise AsrbuildError(
            "the checkpoint state has no model_checkpoint_path",
            file=state,
            fix=_offer(state.parent),
        )
    written = match[1] or match[2]
    # The backslashes of a Windows path may be doubled, as the format requires, or plain.
    names = [re.split(r"[\\/]", path.rstrip("\\/"))[-1] for path in (_unescaped(written), written)]
    for name in dict.fromkeys(names):
        if name and _is_whole(state.with_name(name)):
            return state.with_name(name)
    raise AsrbuildError(
        f"the checkpoint {names[-1]} is not in the folder: {names[-1]}.index and its .data-* files "
        "belong there",
        key="source.checkpoint_dir",
        file=state,
        fix=_offer(state.parent),
    )


def _unescaped(text: str) -> str:
    """Decodes a string of protobuf's text format, whose non-ASCII bytes have three octal digits."""

    def one(match: re.Match[str]) -> str:
        octal = match[1]
        return chr(int(octal, 8) & 0xFF) if octal.isdigit() else octal

    plain = re.sub(r"\\([0-7]{3}|.)", one, text)
    try:
        return plain.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return plain


def read_weights(prefix: Path | str) -> AcousticWeights:
    """Reads the acoustic model's weights, memory-mapped and checked.

    Raises:
        AsrbuildError: the checkpoint is damaged, is not a DeepSpeech acoustic model, or has a
            variable that is neither a weight of that network nor a record of training.
    """
    # Not at the top: finding a checkpoint, which every build does, requires no arrays.
    from asrbuild.architectures.deepspeech.network import (
        OPAQUE_KERNEL,
        network_variables,
        weights_from_named,
    )
    from asrbuild.architectures.tensorflow.tensorbundle import open_bundle

    bundle = open_bundle(Path(prefix))
    present = bundle.names()
    names, unknown = network_variables({name: bundle.shape(name) for name in present})
    if not names:
        raise AsrbuildError(
            "not a DeepSpeech checkpoint: layer_1/weights and the rest are not in it",
            file=prefix,
            fix=f"it has: {', '.join(present[:12]) or 'no variables'}",
        )
    if unknown == [OPAQUE_KERNEL]:
        _check_opaque(bundle, names)
    elif unknown:
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        raise AsrbuildError(
            f"the network has no place for {', '.join(unknown[:8])}{more} of the checkpoint, and "
            "without them the model would be another one",
            file=prefix,
            fix="export the model's graph with the code that trained it, and build that with "
            "source=frozen_graph coreml.frontend=tensorflow coreml.lstm=loop",
        )
    return weights_from_named({name: bundle.read(name) for name in names}, file=str(prefix))


def _check_opaque(bundle: Bundle, names: Sequence[str]) -> None:
    """Raises if cuDNN's own vector of the LSTM's weights is alone or differs from them.

    Its layout: the matrices for the input and for the hidden state, gates i, f, c, o, (H, inputs)
    each; then the biases of both in that order. Source: ``CudnnParamsFormatConverterLSTM``.
    """
    import numpy as np

    from asrbuild.architectures.deepspeech.network import LSTM_SCOPE, OPAQUE_KERNEL

    kernel, bias = f"{LSTM_SCOPE}/kernel", f"{LSTM_SCOPE}/bias"
    if kernel not in names or bias not in names:
        raise AsrbuildError(
            f"the LSTM's weights are in the checkpoint as {OPAQUE_KERNEL} only, whose layout is "
            "cuDNN's own",
            file=bundle.prefix,
            fix="load the checkpoint with the training code and --load_cudnn, and save it again",
        )
    opaque, hidden = bundle.read(OPAQUE_KERNEL).ravel(), bundle.shape(bias)[0] // 4
    matrices = 8 * hidden * hidden
    same = opaque.size == matrices + 8 * hidden
    if same:
        gates = opaque[:matrices].reshape(2, 4, hidden, hidden)[:, [0, 2, 1, 3]]
        biases = opaque[matrices:].reshape(2, 4, hidden)[:, [0, 2, 1, 3]].sum(0)
        same = np.array_equal(gates.transpose(0, 3, 1, 2).ravel(), bundle.read(kernel).ravel())
        same = same and np.allclose(biases.ravel(), bundle.read(bias), 0, 1e-6)
    if not same:
        raise AsrbuildError(
            f"{OPAQUE_KERNEL} of the checkpoint holds another LSTM than {kernel}",
            file=bundle.prefix,
            fix="save the checkpoint again with the training code",
        )
