"""Finds and reads DeepSpeech's training checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.errors import AsrbuildError

if TYPE_CHECKING:
    from asrbuild.deepspeech.tensorbundle import Bundle
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
        AsrbuildError: the checkpoint is damaged, is not a DeepSpeech acoustic model, or has a
            variable that is neither a weight of that network nor a record of training.
    """
    # Here and not above: finding a checkpoint, which every build does, needs no arrays.
    from asrbuild.deepspeech.tensorbundle import open_bundle
    from asrbuild.network import OPAQUE_KERNEL, network_variables, weights_from_named

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
    """cuDNN's own vector of the LSTM's weights is allowed beside them where it holds the same.

    Its layout: the matrices of the input and of the hidden state, gates i, f, c, o, (H, inputs)
    each; then the biases of both in that order. Source: ``CudnnParamsFormatConverterLSTM``.
    """
    import numpy as np

    from asrbuild.network import LSTM_SCOPE, OPAQUE_KERNEL

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
