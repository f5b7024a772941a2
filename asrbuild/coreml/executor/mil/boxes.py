"""``non_maximum_suppression``: boxes that overlap a better one are dropped.

Source: "tensor_operation" in the MIL reference; ``NonMaximumSuppressionLayerParams`` in
NeuralNetwork.proto, whose rule for an empty result holds for both formats.
"""

from __future__ import annotations

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor import sized
from asrbuild.coreml.executor.registry import mil_op


@mil_op("non_maximum_suppression", arithmetic=True)
def non_maximum_suppression(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    score_threshold: float = -np.inf,
    max_boxes: int = 1,
    per_class_suppression: bool = False,
) -> list[Array]:
    """``boxes [n, B, 4]`` as (x, y, width, height) of the centre, ``scores [n, B, K]`` to the boxes
    kept, their scores, their indices, padded to ``max_boxes``, and how many they are, ``[n]``."""
    batch, most = len(boxes), int(max_boxes)
    sized.sized([batch, most, 4 + scores.shape[2]])
    kept = (
        np.zeros((batch, most, 4), np.float32),
        np.zeros((batch, most, scores.shape[2]), np.float32),
        np.full((batch, most), -1, np.int32),
        np.zeros(batch, np.int32),
    )
    for n in range(batch):
        chosen = _chosen(
            boxes[n].astype(np.float64),
            scores[n],
            float(iou_threshold),
            float(score_threshold),
            bool(per_class_suppression),
        )[:most]
        count = len(chosen)
        kept[0][n, :count], kept[1][n, :count] = boxes[n][chosen], scores[n][chosen]
        kept[2][n, :count], kept[3][n] = chosen, count
    return list(kept)


def _chosen(boxes: Array, scores: Array, overlap: float, least: float, by_class: bool) -> list[int]:
    """The indices of the boxes that stay, best first; the very best if none is good enough."""
    best, classes = scores.max(axis=-1), scores.argmax(axis=-1)
    chosen: list[int] = []
    for index in np.argsort(-best, kind="stable"):
        if best[index] <= least:
            break
        rivals = [one for one in chosen if not by_class or classes[one] == classes[index]]
        if all(_overlap(boxes[index], boxes[one]) <= overlap for one in rivals):
            chosen.append(int(index))
    return chosen or [int(np.argmax(best))]


def _overlap(a: Array, b: Array) -> float:
    """The intersection's area divided by the union's; 0 if either box has no area."""
    low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    shared = float(np.prod(np.maximum(high - low, 0)))
    union = float(np.prod(a[2:]) + np.prod(b[2:])) - shared
    return shared / union if union > 0 else 0.0
