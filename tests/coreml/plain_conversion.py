"""Plain conversions and runs of a graph by coremltools and TensorFlow, in a separate process.

``python plain_conversion.py job.json`` with a list of steps, in order:

- ``{"do": "plain", "graph", "request", "out"}``: ``ct.convert`` and ``save``, without asrbuild.
- ``{"do": "ours", "graph", "request", "out"}``: the TensorFlow front end, with stand-ins for every
  matrix, however small.
- ``{"do": "refused", "graph", "request", "out"}``: the same, expected to fail; the error as JSON.
- ``{"do": "run", "graph", "cases", "out"}``: the graph run by TensorFlow on an npz of inputs.

It imports TensorFlow before coremltools, which a shared test process cannot guarantee.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import tensorflow as tf

STATES = ("previous_state_c", "previous_state_h")
OUTPUTS = ("logits", "new_state_c", "new_state_h")


def graph_def(path: str):
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(Path(path).read_bytes())
    return graph


def plain(graph: str, request: dict, out: str) -> None:
    import coremltools as ct

    steps = request["steps"]
    if steps["kind"] == "fixed":
        shape = (1, steps["steps"], 19, 26)
    elif steps["kind"] == "enumerated":
        shape = ct.EnumeratedShapes(
            [(1, size, 19, 26) for size in steps["sizes"]], default=(1, steps["default"], 19, 26)
        )
    else:
        upper = -1 if steps["upper"] is None else steps["upper"]
        length = ct.RangeDim(steps["lower"], upper, default=steps["default"])
        shape = ct.Shape((1, length, 19, 26))
    network = request["format"] == "neuralnetwork"

    def typed(name, shape, dtype):
        return ct.TensorType(name, shape=shape, **({} if network else {"dtype": dtype}))

    hidden = request["hidden"]
    inputs = [typed("input_node", shape, np.float32), typed("input_lengths", (1,), np.int32)]
    inputs += [typed(name, (1, hidden), np.float32) for name in STATES]
    arguments: dict = {"outputs": list(request["outputs"] or OUTPUTS)}
    if not network:
        arguments["outputs"] = [ct.TensorType(n, dtype=np.float32) for n in arguments["outputs"]]
        arguments["minimum_deployment_target"] = getattr(ct.target, request["deployment_target"])
        half = request["precision"] == "fp16"
        arguments["compute_precision"] = ct.precision.FLOAT16 if half else ct.precision.FLOAT32
    model = ct.convert(
        graph_def(graph),
        source="tensorflow",
        convert_to=request["format"],
        inputs=inputs,
        skip_model_load=True,
        **arguments,
    )
    if network and request["precision"] == "fp16":
        from coremltools.models.neural_network import quantization_utils as quantization

        class Weights(quantization.QuantizedLayerSelector):
            def do_quantize(self, layer, weight_param=None):
                known = super().do_quantize(layer, weight_param=weight_param)
                return known and layer.WhichOneof("layer") != "loadConstantND"

        spec = quantization.quantize_weights(model, 16, selector=Weights())
        spec = spec.get_spec() if hasattr(spec, "get_spec") else spec
        Path(out).write_bytes(spec.SerializeToString())
        return
    model.save(out)


def ours(graph: str, request: dict, out: str) -> None:
    from asrbuild.architectures.conversion_job import decoded_request
    from asrbuild.architectures.deepspeech import from_graph
    from asrbuild.coreml.speedups import placeholders as standins

    standins.MIN_ELEMENTS = 100
    from_graph.StandIns = None  # a second conversion with the real weights would need it
    plain = {key: value for key, value in request.items() if key != "hidden"}
    from_graph.convert_here(Path(graph), decoded_request(plain), Path(out))


def refused(graph: str, request: dict, out: str) -> None:
    from asrbuild.base.errors import AsrbuildError

    package = Path(out).with_suffix("")
    try:
        ours(graph, request, str(package))
    except AsrbuildError as error:
        written = [entry.name for entry in Path(out).parent.glob(f"*{package.name}*")]
        fields = {"message": error.message, "key": error.key, "fix": error.fix}
        Path(out).write_text(json.dumps(fields | {"written": written}))


def run(graph: str, cases: str, out: str) -> None:
    loaded = np.load(cases)
    results = {}
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph_def(graph), name="")
        with tf.compat.v1.Session(graph=imported) as session:
            for case in sorted({name.split("/")[0] for name in loaded.files}):
                names = ("input_node", "input_lengths", *STATES)
                feed = {f"{name}:0": loaded[f"{case}/{name}"] for name in names}
                found = session.run([f"{name}:0" for name in OUTPUTS], feed)
                results |= {f"{case}/{n}": a for n, a in zip(OUTPUTS, found, strict=True)}
    np.savez(out, **results)


if __name__ == "__main__":
    import coremltools  # noqa: F401

    gc.freeze()  # coremltools collects garbage often, and would walk all of TensorFlow each time
    for step in json.loads(Path(sys.argv[1]).read_text()):
        doing = {"plain": plain, "ours": ours, "refused": refused, "run": run}
        doing[step.pop("do")](**step)
