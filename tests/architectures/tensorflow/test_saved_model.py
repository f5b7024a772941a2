"""SavedModels: the choice of a signature, and recurrent layers of Keras.

``acceptance/test_tensorflow_models`` builds one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from asrbuild.architectures.tensorflow.proto import FLOAT, Graph, Node, Shape
from asrbuild.architectures.tensorflow_graph.saved_model import chosen_signature
from asrbuild.architectures.tensorflow_graph.settle import refuse_keras_loops
from asrbuild.base.errors import AsrbuildError


@pytest.mark.parametrize(
    ("offered", "asked", "answer"),
    [
        (["serving_default", "other"], "", "serving_default"),
        (["serving_default", "other"], "other", "other"),
        (["only", "__saved_model_init_op"], "", "only"),
        (["a", "b"], "", "no signature serving_default; it has a, b"),
        (["a"], "c", "no signature c; it has a"),
    ],
)
def test_a_signature_is_chosen_by_name(offered: list[str], asked: str, answer: str) -> None:
    if "no signature" not in answer:
        assert chosen_signature(offered, asked) == answer
        return
    with pytest.raises(AsrbuildError, match=answer) as caught:
        chosen_signature(offered, asked)
    assert caught.value.fix == "set source.config.signature=a"


def test_a_recurrent_keras_layer_is_refused_by_name(tmp_path: Path) -> None:
    """The graph has the nodes that Keras' LSTM leaves after freezing, without the rest of them."""
    nodes = [
        Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": Shape((1, 20, 8))}),
        Node("model/sequential/lstm_1/while/TensorListReserve", "TensorListReserve", ("x",), {}),
        Node(
            "model/sequential/lstm_1/while/LoopCond",
            "LoopCond",
            ("model/sequential/lstm_1/while/TensorListReserve",),
            {},
        ),
    ]
    with pytest.raises(AsrbuildError, match="lstm_1 is a recurrent layer of Keras") as caught:
        refuse_keras_loops(Graph(tuple(nodes), 0, 0, tmp_path), tmp_path)
    assert "unroll=True" in str(caught.value.fix)
