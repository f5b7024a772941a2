"""Writes weights as a TensorFlow 1 checkpoint under DeepSpeech's names."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

STATES = ("checkpoint", "best_dev_checkpoint")  # the last and the best checkpoint are the same


def write_checkpoint(weights: dict[str, np.ndarray], step: int, folder: Path) -> None:
    """`best_dev-<step>` and the state files that name it; older checkpoints are removed."""
    import tensorflow as tf

    folder.mkdir(parents=True, exist_ok=True)
    values = {**weights, "global_step": np.asarray(step, np.int64)}
    names, prefix = sorted(values), f"best_dev-{step}"
    tf.raw_ops.SaveV2(
        prefix=str(folder / prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(values[name]) for name in names],
    )
    text = f'model_checkpoint_path: "{prefix}"\nall_model_checkpoint_paths: "{prefix}"\n'
    for state in STATES:
        (folder / state).write_text(text, encoding="utf-8")
    for old in folder.glob("best_dev-*"):
        if not old.name.startswith(f"{prefix}."):
            old.unlink()


if __name__ == "__main__":
    archive, target = np.load(sys.argv[1]), Path(sys.argv[2])
    stored = {name: archive[name] for name in archive.files if name != "global_step"}
    write_checkpoint(stored, int(archive["global_step"]), target)
