"""Loads the weights of a source of any form, and checks them against the recipe."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from asrbuild.architectures.architecture import SourceFiles
from asrbuild.architectures.deepspeech import facts
from asrbuild.architectures.deepspeech.network import AcousticWeights
from asrbuild.base.errors import AsrbuildError

_INDEX = "checkpoint.index"


def checkpoint_prefix(source: SourceFiles) -> Path | None:
    """The prefix of a source's checkpoint; None for a graph."""
    index = source.files.get(_INDEX)
    return None if index is None else index.with_suffix("")


def load_weights(source: SourceFiles, config: Any) -> AcousticWeights:
    """The weights of a frozen graph or a checkpoint; ``config``: the recipe's export flags.

    Raises:
        AsrbuildError: the file is damaged, has another width, or is for another alphabet.
    """
    graph, alphabet = source.files.get("graph"), source.alphabet
    key = "source.checkpoint_dir" if graph is None else "source.path"
    file = source.files[_INDEX] if graph is None else graph
    read = ("checkpoint", "graph")
    digests = tuple(pair for pair in source.digests.items() if pair[0].startswith(read))
    weights = _read_weights(graph, checkpoint_prefix(source), digests)
    features = (config.n_input or 0) * (2 * (config.n_context or 0) + 1)
    if weights.n_features != features:
        raise AsrbuildError(
            f"the source reads {weights.n_features} values a step, but n_input="
            f"{config.n_input} and n_context={config.n_context} make {features}",
            key="export.n_context",
            file=file,
            fix="set the n_input and n_context that the model was trained with",
        )
    if weights.n_output != alphabet.size + 1:
        raise AsrbuildError(
            f"the alphabet has {alphabet.size} labels, but the source has "
            f"{weights.n_output} outputs",
            key=facts.ALPHABET,
            file=file,
            fix=f"give the alphabet.txt that {key} was trained with",
        )
    return weights


@functools.lru_cache(maxsize=1)
def _read_weights(
    graph: Path | None, checkpoint: Path | None, digests: tuple[tuple[str, str], ...]
) -> AcousticWeights:
    """The mapped weights of files with these digests; the last ones are kept for a sweep."""
    from asrbuild.architectures.deepspeech.checkpoint import read_weights
    from asrbuild.architectures.deepspeech.frozen import read_graph_weights

    if graph is not None:
        return read_graph_weights(graph)
    assert checkpoint is not None
    return read_weights(checkpoint)
