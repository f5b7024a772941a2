"""Drafts a recipe for a frozen graph or a SavedModel, with a cut if it requires one.

A graph of TensorFlow's keyword spotting reads the bytes of a WAV file. The outputs of
``DecodeWav``, samples and sample rate, are known, so the cut of such a graph has no blanks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asrbuild.architectures.onnx.draft import written
from asrbuild.architectures.onnx.section import OnnxConfig
from asrbuild.architectures.tensorflow.convertible import unconvertible
from asrbuild.architectures.tensorflow.cutting import Cut, cut_graph, suggested_cuts
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.inspect import read_metadata
from asrbuild.architectures.tensorflow.outputs import output_nodes
from asrbuild.architectures.tensorflow.proto import Graph, input_name
from asrbuild.architectures.tensorflow_graph.settle import (
    cut_to,
    ports_of,
    refuse_keras_loops,
    settled,
)
from asrbuild.base.errors import AsrbuildError


def draft(file: Path, cache_root: Path) -> str:
    """The text of a config file for a graph or the folder of a SavedModel.

    Raises:
        AsrbuildError: the graph cannot be built, or does not require a recipe.
    """
    kind = "saved_model" if file.is_dir() else "tensorflow_graph"
    with tempfile.TemporaryDirectory(prefix="asrbuild-draft-") as folder:
        whole = Path(folder, "graph.pb")
        if file.is_dir():
            cut_to(file, OnnxConfig(), whole)
        graph = load_graph(whole if file.is_dir() else file)
        if read_metadata(graph):
            raise AsrbuildError(
                "the graph is one that DeepSpeech exported, which needs no recipe",
                file=file,
                fix=f"asrbuild source=frozen_graph source.path={file}",
            )
        refuse_keras_loops(graph, file)
        outputs = [node.name for node in output_nodes(graph)]
    config, graph, remarks = _cut(graph, outputs)
    find = lambda given: settled(file, given, cache_root, keep=False)  # noqa: E731
    return written(kind, file, ports_of(graph, outputs), config, find, remarks)


def _cut(graph: Graph, outputs: Sequence[str]) -> tuple[OnnxConfig, Graph, list[str]]:
    """The cut of a graph after operations without a Core ML form, the rest, and the reasons."""
    refused = unconvertible(graph, outputs)
    if not refused:
        return OnnxConfig(), graph, []
    cuts = suggested_cuts(graph, outputs)
    if not cuts:
        raise AsrbuildError(
            f"no Core ML form for {refused[0].op} ({refused[0].node})",
            key="source.config.cut",
            file=graph.path,
            fix="export the part of the network behind it",
        )
    remarks = [
        f"Cut, because {refused[0].op} has no Core ML form; other places to cut the graph at are",
        f"{', '.join(cuts)}. Tensors :1 and so on are numbers to pin.",
    ]
    decoder = graph.by_name[input_name(cuts[0])]
    if decoder.op != "DecodeWav":
        left = cut_graph(graph, {cuts[0]: Cut()}, {}, outputs)
        return OnnxConfig(cut=[cuts[0]]), left, remarks
    own: dict[str, Any] = {"meaning": "samples", "axes": ["samples", _number(decoder, "channels")]}
    samples = _number(decoder, "samples")
    if samples > 0:
        own["steps"] = samples
    rate = f"{decoder.name}:1"
    pins = {rate: OnnxConfig().sample_rate} if rate in cuts else {}
    config = OnnxConfig(cut=[decoder.name], pin=pins, inputs={decoder.name: own})
    return config, cut_graph(graph, {decoder.name: Cut()}, pins, outputs), remarks


def _number(decoder: Any, what: str) -> int:
    """``desired_samples`` or ``desired_channels``; -1: those of the file, so one channel."""
    value = int(decoder.attrs.get(f"desired_{what}", -1))
    return max(1, value) if what == "channels" else value
