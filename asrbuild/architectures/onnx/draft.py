"""A draft of a recipe for a model: all that its file and a run tell, and blanks for the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asrbuild.architectures.onnx.folding import fold
from asrbuild.architectures.onnx.graph import Graph
from asrbuild.architectures.onnx.other_kinds import refuse_other_kinds
from asrbuild.architectures.onnx.reading import read_graph
from asrbuild.architectures.onnx.roles import assign
from asrbuild.architectures.onnx.section import OnnxConfig
from asrbuild.architectures.onnx.settle import settled

#: What Hydra refuses to build with until it has a value.
BLANK = "???"
_HEAD = """\
# FOLDER/source/{name}.yaml; fill in each ???, then build:
#   asrbuild --config-dir FOLDER source={name} model=dynamic
defaults: [onnx]
name: {name}
path: {path}
description: ""
author: ""
license: ""
# A recording that the model was made for, and what is said in it.
sample: {{audio: "demo:sample.wav", text: null}}
config:
"""


def draft(file: Path, cache_root: Path) -> str:
    """The text of a config file for a model.

    Raises:
        AsrbuildError: the file is not an ONNX model, or has ops without a Core ML form.
    """
    graph = fold(read_graph(file), {})
    refuse_other_kinds(graph, file)
    name = re.sub(r"\W+", "_", file.stem).strip("_").lower() or "model"
    config, unknown = assign(graph, OnnxConfig())
    lines = [_HEAD.format(name=name, path=json.dumps(str(file)))]
    samples = any(one["meaning"] == "samples" for one in config.inputs.values())
    known, classes = asdict(config), None
    if samples and not unknown:
        found = settled(file, OnnxConfig(), cache_root, keep=False)
        known, classes = found.config, found.classes
    lines += _mapping("inputs", known["inputs"])
    for tensor in unknown:
        sizes = "unknown" if tensor.shape is None else json.dumps(list(tensor.shape))
        lines.append(f"    {json.dumps(tensor.name)}: {BLANK}  # or pin; {tensor.dtype} {sizes}\n")
    lines += _mapping("outputs", known["outputs"] or {_likely(graph, config): BLANK})
    lines += _mapping("states", known["states"])
    lines += ["  pin: {}\n", "  sample_rate: 16000\n"]
    if known["rows"]:
        lines.append(
            "  # Measured: a row of output for every so many input steps, and what a row\n"
        )
        lines.append("  # depends on.\n")
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


def _likely(graph: Graph, config: OnnxConfig) -> str:
    """The output that is most likely decoded: the first one with several axes, states left out."""
    own = [output for output in graph.outputs if output.name not in config.states.values()]
    wide = (o.name for o in own if o.shape is None or len(o.shape) > 1)
    return next(wide, (own or graph.outputs)[0].name)


def _mapping(key: str, values: Mapping[str, Any]) -> list[str]:
    if not values:
        return [f"  {key}: {{}}\n"] if key == "states" else [f"  {key}:\n"]
    entries = [f"    {json.dumps(n)}: {_value(v)}\n" for n, v in values.items()]
    return [f"  {key}:\n", *entries]


def _value(value: Any) -> str:
    return BLANK if value == BLANK else json.dumps(value, ensure_ascii=False)
