"""Freezes a TensorFlow SavedModel: one signature, with its functions inlined.

    python -m asrbuild.architectures.tensorflow_graph.saved_model FOLDER SIGNATURE frozen.pb

TensorFlow's loader of version 1 reads it, which does not require the Python objects of Keras.
Inputs and outputs have the names of the signature. The format is that of ``saved_model.proto``
(https://www.tensorflow.org/guide/saved_model).
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.processes import run

_KEY = "source.config.signature"
_SERVE = "serve"
_DEFAULT = "serving_default"
_PARTS = "variables/*"
#: The file that :func:`frozen` makes.
GRAPH = "frozen.pb"


def parts(folder: Path) -> dict[str, Path]:
    """Label -> file of a SavedModel: the graph, and its weights."""
    weights = sorted(path for path in folder.glob(_PARTS) if path.is_file())
    graph = {"checkpoint.graph": folder / "saved_model.pb"}
    return graph | {f"checkpoint.weights.{at}": path for at, path in enumerate(weights)}


def frozen(folder: Path, signature: str) -> tempfile.TemporaryDirectory[str]:
    """A folder with the frozen graph ``GRAPH`` of a SavedModel; it lasts as long as the object.

    The last one is kept: settling a build, drafting a recipe and exporting the original need the
    same graph, and TensorFlow takes ten seconds for it. For the arguments see :func:`freeze`.
    """
    stamps = tuple(
        (part.stat().st_mtime_ns, part.stat().st_size) for part in parts(folder).values()
    )
    return _frozen(folder.absolute(), signature, stamps)


@functools.lru_cache(maxsize=1)
def _frozen(
    folder: Path, signature: str, stamps: tuple[tuple[int, int], ...]
) -> tempfile.TemporaryDirectory[str]:
    del stamps  # of the files: changed ones are another model
    made = tempfile.TemporaryDirectory(prefix="asrbuild-frozen-")
    freeze(folder, signature, Path(made.name, GRAPH))
    return made


def freeze(folder: Path, signature: str, destination: Path) -> None:
    """Writes a SavedModel's signature as a frozen graph, by TensorFlow in a process of its own.

    Args:
        signature: the signature's name; empty: ``serving_default``, or the only one.

    Raises:
        AsrbuildError: there is no such signature, or TensorFlow does not load the model.
    """
    module = "asrbuild.architectures.tensorflow_graph.saved_model"
    code, lines = run(module, str(folder), signature, str(destination))
    if not code:
        return
    try:
        fields = json.loads(lines[-1])
    except ValueError:
        fields = {"message": f"TensorFlow cannot load the SavedModel: {lines[-1]}"}
    plain = {"key": "source.path", "fix": "export it again, or export the network to ONNX"}
    raise AsrbuildError(**{**plain, "file": folder, **fields})


def freeze_here(folder: str, signature: str, destination: Path) -> None:
    """``freeze`` in this process, which imports TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        model = v1.saved_model.load(session, [_SERVE], folder)
        own = model.signature_def[chosen_signature(list(model.signature_def), signature)]
        inputs = {name: own.inputs[name] for name in sorted(own.inputs)}
        outputs = {name: own.outputs[name].name for name in sorted(own.outputs)}
        ends = sorted({tensor.partition(":")[0] for tensor in outputs.values()})
        graph = v1.graph_util.convert_variables_to_constants(session, session.graph_def, ends)
    specs = [
        tf.TensorSpec(_sizes(info.tensor_shape), tf.as_dtype(info.dtype), name=name)
        for name, info in inputs.items()
    ]

    def call(*values: Any) -> Any:
        fed = {info.name: value for info, value in zip(inputs.values(), values, strict=True)}
        return tf.import_graph_def(graph, fed, list(outputs.values()), name="model")

    # This inlines functions, and the variables in them.
    function = convert_variables_to_constants_v2(v1.wrap_function(call, specs))
    with tf.Graph().as_default() as named:
        ends = [tensor.name for tensor in function.outputs]
        made = tf.import_graph_def(function.graph.as_graph_def(), return_elements=ends, name="")
        for name, tensor in zip(outputs, made, strict=True):
            tf.identity(tensor, name=name)
        destination.write_bytes(named.as_graph_def().SerializeToString(deterministic=True))


def chosen_signature(names: list[str], signature: str) -> str:
    """The name of the signature to build.

    Raises:
        AsrbuildError: the signature does not exist, or there are several and none is named.
    """
    offered = sorted(name for name in names if not name.startswith("__"))
    if signature in offered:
        return signature
    if not signature and _DEFAULT in offered:
        return _DEFAULT
    if not signature and len(offered) == 1:
        return offered[0]
    which = f"no signature {signature}" if signature else f"no signature {_DEFAULT}"
    raise AsrbuildError(
        f"the SavedModel has {which}; it has {', '.join(offered) or 'none'}",
        key=_KEY,
        fix=f"set {_KEY}={offered[0]}" if offered else "export it with a signature",
    )


def _sizes(shape: Any) -> list[int | None] | None:
    if shape.unknown_rank:
        return None
    return [None if dim.size < 0 else dim.size for dim in shape.dim]


if __name__ == "__main__":
    # Ctrl-C ends it at once: TensorFlow's import would swallow a KeyboardInterrupt.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        freeze_here(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except AsrbuildError as error:
        fields = {"message": error.message, "key": error.key, "fix": error.fix}
        sys.stderr.write(json.dumps(fields) + "\n")  # noqa: TID251 - the parent process reads it
        sys.exit(1)
