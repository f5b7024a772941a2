"""Cases of ops, joined into one graph that onnxruntime and the executor run."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from asrbuild.architectures.onnx.folding import fold
from asrbuild.architectures.onnx.lowering.walk import lower
from asrbuild.architectures.onnx.reading import read_graph
from asrbuild.architectures.onnx.section import port_name
from asrbuild.coreml.executor import load
from asrbuild.coreml.speedups.importing import import_coremltools

ct = import_coremltools()
mil, mb = ct.converters.mil.mil, ct.converters.mil.Builder
Arrays = dict[str, np.ndarray]
#: Absolute, for values near 1: the error of float32 sums in another order.
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


@dataclass(frozen=True)
class Case:
    """One node.

    Args:
        inputs: arrays; None for an input that is left out.
        known: places of the inputs that are weights of the model.
        open: place of an input -> its axes of any size.
    """

    op: str
    inputs: Sequence[np.ndarray | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    known: frozenset[int] = frozenset()
    open: Mapping[int, Sequence[int]] = field(default_factory=dict)


def case(
    op: str,
    *inputs: np.ndarray | None,
    outputs: int = 1,
    known: Sequence[int] = (),
    open: Mapping[int, Sequence[int]] | None = None,
    **attributes: Any,
) -> Case:
    """A case with the attributes of its node as keywords."""
    return Case(op, inputs, attributes, outputs, frozenset(known), open or {})


def joined(cases: Sequence[Case], opset: int) -> tuple[onnx.ModelProto, Arrays]:
    """One graph of all cases, each with its own inputs, and the arrays for these inputs."""
    nodes, inputs, outputs, weights, feeds = [], [], [], [], {}
    for number, one in enumerate(cases):
        names = []
        for place, array in enumerate(one.inputs):
            name = "" if array is None else f"in_{number}_{place}"
            names.append(name)
            if array is None:
                continue
            if place in one.known:
                weights.append(numpy_helper.from_array(np.asarray(array), name))
                continue
            shape: list[Any] = list(array.shape)
            for axis in one.open.get(place, ()):
                shape[axis] = f"n_{number}_{place}_{axis}"
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            inputs.append(helper.make_tensor_value_info(name, kind, shape))
            feeds[name] = np.asarray(array)
        made = [f"out_{number}_{place}" for place in range(one.outputs)]
        nodes.append(helper.make_node(one.op, names, made, f"node_{number}", **one.attributes))
        outputs += [helper.make_empty_tensor_value_info(name) for name in made]
    graph = helper.make_graph(nodes, "cases", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model), feeds


def expected(model: onnx.ModelProto, feeds: Arrays) -> Arrays:
    """The outputs of onnxruntime with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def lowered(
    model: onnx.ModelProto | Path,
    feeds: Arrays,
    *,
    target: str = "iOS17",
    pins: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    any_size: bool = True,
    count_ops: bool = False,
    given: Callable[[dict[str, Any]], dict[str, Any]] = lambda inputs: inputs,
) -> Any:
    """The outputs of the lowered graph in the executor.

    Args:
        any_size: whether an axis that the file leaves open takes any size, or that of ``feeds``.
        given: the function's inputs -> the values that the lowering gets.
        count_ops: returns how often the package has each operation, instead of running it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx") if isinstance(model, onnx.ModelProto) else model
        if isinstance(model, onnx.ModelProto):
            path.write_bytes(model.SerializeToString())
        graph = fold(read_graph(path), pins or {})
        symbols: dict[Any, Any] = {}
        placeholders, types, safe = {}, [], {}
        for tensor in graph.inputs:
            assert tensor.shape is not None
            fed = feeds[tensor.name]
            stated = tensor.shape if any_size else fed.shape
            sizes = [
                size if isinstance(size, int) else symbols.setdefault(size, mil.get_new_symbol())
                for size in stated
            ]
            kind = mil.types.int32 if fed.dtype.kind in "iu" else mil.types.fp32
            name = safe[tensor.name] = port_name(tensor.name)
            placeholders[name] = mb.placeholder(sizes or [1], kind)  # Core ML has no scalars
            shape = [
                one if isinstance(one, int) else ct.RangeDim(1, 100_000, default=size)
                for one, size in zip(stated, fed.shape, strict=True)
            ]
            types.append(ct.TensorType(name, shape=shape or [1]))
        program = mil.Program()
        opset = getattr(ct.target, target)
        with mil.Function(placeholders, opset_version=opset) as function:
            inputs = {}
            for tensor in graph.inputs:
                value = function.inputs[safe[tensor.name]]
                value = value if tensor.shape else mb.squeeze(x=value)
                truth = feeds[tensor.name].dtype == bool
                inputs[tensor.name] = mb.cast(x=value, dtype="bool") if truth else value
            made = lower(graph, given(inputs))
            for name, value in made.items():
                value.name = port_name(name)
            function.set_outputs(list(made.values()))
        function.set_input_types(tuple(types))
        program.add_function("main", function)
        package = ct.convert(
            program,
            source="milinternal",
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT16 if precision == "fp16" else ct.precision.FLOAT32,
            minimum_deployment_target=opset,
            skip_model_load=True,
        )
        if count_ops:
            main = package.get_spec().mlProgram.functions["main"]
            (block,) = main.block_specializations.values()
            return Counter(operation.type for operation in block.operations)
        package.save(f"{folder}/m.mlpackage")
        loaded = load(Path(folder, "m.mlpackage"))

    def run(feeds: Arrays) -> Arrays:
        data = {
            safe[name]: np.atleast_1d(array).astype(
                np.int32 if array.dtype.kind in "iu" else np.float32
            )
            for name, array in feeds.items()
            if name in safe
        }
        results = loaded.predict(data)
        return {name: results[port_name(name)] for name in made}

    return run


def check(cases: Sequence[Case], opset: int = 18, target: str = "iOS17", **close: float) -> None:
    """Runs the cases both ways and compares every output."""
    model, feeds = joined(cases, opset)
    wanted = expected(model, feeds)
    got = lowered(model, feeds, target=target)(feeds)
    wrong = []
    for name, array in wanted.items():
        number = int(name.split("_")[1])
        try:
            assert got[name].shape == array.shape
            np.testing.assert_allclose(
                got[name].astype(np.float64), array.astype(np.float64), **(CLOSE | close)
            )
        except AssertionError as error:
            wrong.append(f"{name} {cases[number].op} {dict(cases[number].attributes)}: {error}")
    assert not wrong, "\n".join(wrong)


__all__ = ["Case", "TensorProto", "case", "check", "expected", "joined", "lowered"]
