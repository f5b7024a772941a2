"""The systems that load a spec version of Core ML, and the parts of a package that require it.

Sources: ``Model.proto`` (versions), the field numbers of ``NeuralNetworkLayer`` in
``NeuralNetwork.proto`` together with coremltools' ``mlmodel/src/Utils.cpp`` (layers), and the op
registry of coremltools 9.0 (operations of programs), which a test compares with the table here.
"""

from __future__ import annotations

from collections.abc import Iterable

from asrbuild.coreml import protobufs as coremlproto

#: Specification version -> the oldest systems that load it.
MINIMUM_OS = {
    1: "iOS 11, macOS 10.13",
    2: "iOS 11.2, macOS 10.13.2",
    3: "iOS 12, macOS 10.14",
    4: "iOS 13, macOS 10.15",
    5: "iOS 14, macOS 11",
    6: "iOS 15, macOS 12",
    7: "iOS 16, macOS 13",
    8: "iOS 17, macOS 14",
    9: "iOS 18, macOS 15",
    10: "iOS 26, macOS 26",
}
#: Operations of programs that came after iOS 15 -> their first spec version.
NEWER_OPERATIONS = {
    **dict.fromkeys(
        """
        constexpr_affine_dequantize constexpr_cast constexpr_lut_to_dense
        constexpr_sparse_to_dense fill_like pixel_unshuffle reshape_like
        """.split(),
        7,
    ),
    **dict.fromkeys(("dequantize", "quantize", "resize"), 8),
    **dict.fromkeys(
        """
        constexpr_blockwise_shift_scale constexpr_lut_to_sparse
        constexpr_sparse_blockwise_shift_scale read_state write_state coreml_update_state
        scaled_dot_product_attention slice_update
        """.split(),
        9,
    ),
}
#: The first layers of iOS 13 and of iOS 14, by their field numbers in ``NeuralNetworkLayer``.
_IOS13_LAYERS, _IOS14_LAYERS = 600, 1450


def operation_version(kind: str) -> int:
    """The spec version that introduced an operation of a program."""
    return NEWER_OPERATIONS.get(kind, 6)


def layer_version(kind: str) -> int:
    """The spec version that introduced a layer of a neural network; 1 for the oldest layers."""
    fields = coremlproto.neural_network().NeuralNetworkLayer.DESCRIPTOR.fields_by_name
    number = fields[kind].number if kind in fields else 0
    if number >= _IOS14_LAYERS:
        return 5
    if number >= _IOS13_LAYERS:
        return 4
    return {"custom": 2, "resizeBilinear": 3, "cropResize": 3}.get(kind, 1)


def reasons(version: int, needs: Iterable[tuple[int, str]]) -> tuple[str, ...]:
    """The parts of a package that require its spec version.

    Args:
        version: the package's spec version.
        needs: (spec version that introduced it, description) of each part.

    Returns:
        Descriptions of the parts that its version introduced; empty if every part is older, so that
        only the deployment target of the conversion decided.
    """
    return tuple(dict.fromkeys(what for came_with, what in needs if came_with == version))
