"""The published table of ops is up to date, and every op in it is tested."""

from __future__ import annotations

from asrbuild.coreml.executor import supported_ops
from tests.coreml.executor.page import NOT_RUN, PAGE, render
from tests.coreml.executor.tested import INFERENCE, kept_ops


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "write it again: python -m tests.coreml.executor.page"
    )


def test_every_op_has_a_summary() -> None:
    for op in supported_ops():
        assert op.summary, op


def test_every_op_has_a_conformance_test() -> None:
    """``tested.json`` lists the tests of each op; ``conftest.py`` fails a module that runs less."""
    tested = kept_ops()
    missing = [op.name for op in supported_ops() if not tested.get(op.name)]
    # coreml_update_state becomes write_state in a saved program.
    assert missing == ["write_state"]


def test_ops_of_coremltools_run_or_are_listed() -> None:
    """The ops are every MIL op of any opset, and every neural network layer of the format."""
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    from asrbuild.coreml import protobufs as coremlproto

    layers = coremlproto.neural_network().NeuralNetworkLayer.DESCRIPTOR.oneofs_by_name["layer"]
    known = {layer.name for layer in layers.fields} | set(SSAOpRegistry.core_ops)
    assert known - {op.name for op in supported_ops()} == set(NOT_RUN)


def test_programs_ops_are_tested_in_both_precisions() -> None:
    kept = kept_ops()
    once = {
        op.name
        for op in supported_ops()
        if op.format == "mlprogram" and len({"fp16", "fp32"} & kept.get(op.name, set())) == 1
    }
    assert once == ONE_PRECISION


#: Core ML's states are fp16, a classifier's probabilities fp32; sparse and shifted weights are
#: stored for fp16 programs, and their arithmetic is that of ops that are tested in both.
ONE_PRECISION = {
    "classify",
    "read_state",
    "coreml_update_state",
    "constexpr_blockwise_shift_scale",
    "constexpr_lut_to_sparse",
    "constexpr_sparse_blockwise_shift_scale",
    "quantize",
    "dequantize",
}
#: Ops whose own value in coremltools cannot be compared, with the reason.
NO_INFERENCE = {
    "const": "it is the value",
    "cond": "coremltools takes one of the branches then, which is what is tested here",
    "list_length": "lists have no values while a program is built",
    "reverse_sequence": "coremltools gives no value",
    "layer_norm": "coremltools divides by the product of a shape it has wrong",
}


def test_coremltools_own_value_is_a_second_reference_wherever_it_has_one() -> None:
    from coremltools.converters.mil.mil import Operation
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    inferring = {
        name
        for name, versions in SSAOpRegistry.core_ops.items()
        if any(c.value_inference is not Operation.value_inference for c in versions.values())
    }
    kept = kept_ops()
    ours = {op.name for op in supported_ops() if op.format == "mlprogram"}
    missing = {op for op in ours & inferring if INFERENCE not in kept.get(op, set())}
    assert missing == set(NO_INFERENCE)
