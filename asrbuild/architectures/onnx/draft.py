"""Drafts a recipe for a model: with all facts from its file and a run, and blanks for the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asrbuild.architectures.onnx.folding import fold
from asrbuild.architectures.onnx.graph import Graph
from asrbuild.architectures.onnx.other_kinds import refuse_other_kinds
from asrbuild.architectures.onnx.reading import read_graph
from asrbuild.architectures.onnx.roles import assign
from asrbuild.architectures.onnx.section import OnnxConfig
from asrbuild.architectures.onnx.settle import Settled, settled

#: A blank: Hydra requires a value in its place.
BLANK = "???"
_HEAD = """\
# FOLDER/source/{name}.yaml; fill in each ???, then build:
#   asrbuild --config-dir FOLDER source={name}
defaults: [{kind}]
name: {name}
path: {path}
description: ""
author: ""
license: ""
# A recording that the model was made for, and what is said in it.
sample: {{audio: "demo:sample.wav", text: null}}
config:
"""
_MEASURED = """\
  # Measured: a row of output for every so many input steps, and what a row
  # depends on.
"""


_OPEN = ["  inputs:\n"]


def draft(file: Path, cache_root: Path) -> str:
    """The text of a config file for a model.

    Raises:
        AsrbuildError: the file is not an ONNX model, or has ops without a Core ML form.
    """
    graph = fold(read_graph(file), {})
    refuse_other_kinds(graph, file)
    find = lambda config: settled(file, config, cache_root, keep=False)  # noqa: E731
    return written("onnx", file, graph, OnnxConfig(), find)


def written(
    kind: str,
    file: Path,
    graph: Graph,
    config: OnnxConfig,
    find: Callable[[OnnxConfig], Settled],
    remarks: Sequence[str] = (),
) -> str:
    """The text of a config file for a model of any kind.

    Args:
        kind: the kind of the source; the draft extends its config file.
        graph: the graph after the cuts and pins of ``config``.
        config: the values that are known without a run.
        find: completes the section by a run, for a network of samples whose inputs all have roles.
        remarks: lines before the section.
    """
    name = re.sub(r"\W+", "_", file.stem).strip("_").lower() or "model"
    assigned, unknown = assign(graph, config)
    path = json.dumps(str(file.absolute()), ensure_ascii=False)
    lines = [_HEAD.format(name=name, path=path, kind=kind)]
    lines += [f"  # {remark}\n" for remark in remarks]
    samples = any(one.get("meaning") == "samples" for one in assigned.inputs.values())
    known, classes = asdict(assigned), None
    if samples and not unknown:
        found = find(config)
        known, classes = found.config, found.classes
    if config.cut:
        lines.append(f"  cut: {json.dumps(config.cut)}\n")
    lines += _mapping("inputs", known["inputs"]) if known["inputs"] or not unknown else _OPEN
    for tensor in unknown:
        sizes = "unknown" if tensor.shape is None else json.dumps(list(tensor.shape))
        lines.append(f"    {json.dumps(tensor.name)}: {BLANK}  # or pin; {tensor.dtype} {sizes}\n")
    lines += _mapping("outputs", known["outputs"])
    lines += _mapping("states", known["states"]) + _mapping("pin", known["pin"])
    lines.append(f"  sample_rate: {assigned.sample_rate}\n")
    if known["rows"]:
        lines.append(_MEASURED)
        lines += _mapping("rows", known["rows"]) + _mapping("context", known["context"])
    if samples:
        lines.append("  features: {kind: none}\n")
    else:
        lines.append(
            "  # mfcc_tf, log_mel_whisper, log_mel_nemo or fbank_kaldi; none for samples\n"
        )
        lines.append(f'  features: {{kind: "{BLANK}"}}\n')
    count = "all" if classes is None else classes
    lines += [
        f"  # The labels of {count} classes, one a line in the order of the classes.\n",
        "  # kind: characters, pieces, phonemes or classes; blank: first, last or a label.\n",
        f'  tokens: {{file: "{BLANK}", kind: "{BLANK}", blank: "{BLANK}"}}\n',
    ]
    return "".join(lines)


def _mapping(key: str, values: Mapping[str, Any]) -> list[str]:
    if not values:
        return [f"  {key}: {{}}\n"]
    names = [json.dumps(name, ensure_ascii=False) for name in values]
    pairs = zip(names, values.values(), strict=True)
    entries = [f"    {name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in pairs]
    return [f"  {key}:\n", *entries]
