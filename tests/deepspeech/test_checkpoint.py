"""Choosing a checkpoint as DeepSpeech does, and its weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from asrbuild.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.errors import AsrbuildError
from asrbuild.network import random_weights


@pytest.fixture(scope="module")
def trained(tf, tmp_path_factory) -> Path:
    """A folder as training leaves it: train-20 is last, best_dev-10 is best."""
    folder = tmp_path_factory.mktemp("checkpoints")
    v1 = tf.compat.v1
    for name, step, state, seed in [
        ("train", 20, "checkpoint", 1),
        ("best_dev", 10, "best_dev_checkpoint", 2),
    ]:
        with tf.Graph().as_default(), v1.Session() as session:
            for variable, value in random_weights(8, seed).named().items():
                v1.get_variable(variable, initializer=value, use_resource=False)
            v1.get_variable("layer_1/weights/Adam", initializer=np.zeros(4, np.float32))
            session.run(v1.global_variables_initializer())
            saver = v1.train.Saver()
            saver.save(session, str(folder / name), step, latest_filename=state)
    return folder


@pytest.mark.parametrize(
    ("load_evaluate", "expected", "seed"),
    [("auto", "best_dev-10", 2), ("best", "best_dev-10", 2), ("last", "train-20", 1)],
)
def test_choice(trained, load_evaluate, expected, seed):
    prefix = find_checkpoint(trained, load_evaluate)
    assert prefix.name == expected
    for name, value in random_weights(8, seed).named().items():
        assert np.array_equal(read_weights(prefix).named()[name], value), name


def test_auto_falls_back_to_last(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "c")
    (tmp_path / "c" / "best_dev_checkpoint").unlink()
    assert find_checkpoint(tmp_path / "c").name == "train-20"
    with pytest.raises(AsrbuildError, match="no best_dev_checkpoint in") as error:
        find_checkpoint(tmp_path / "c", "best")
    assert "best_dev-10, train-20" in error.value.fix


def test_absolute_path_of_a_folder_that_moved(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "c")
    (tmp_path / "c" / "checkpoint").write_text('model_checkpoint_path: "/gone/far/train-20"\n')
    assert find_checkpoint(tmp_path / "c", "last") == tmp_path / "c" / "train-20"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("", "names no model_checkpoint_path"),
        ("all_model_checkpoint_paths: 'x'", "names no model_checkpoint_path"),
        ('model_checkpoint_path: "train-9"', "the checkpoint train-9 has no index file"),
        (b"\xff\xfe", "cannot read the checkpoint state"),
    ],
)
def test_bad_state_file(tmp_path, state, message):
    data = state if isinstance(state, bytes) else state.encode()
    (tmp_path / "checkpoint").write_bytes(data)
    with pytest.raises(AsrbuildError, match=message):
        find_checkpoint(tmp_path)


def test_no_folder_no_state_no_choice(tmp_path):
    with pytest.raises(AsrbuildError, match="no such checkpoint folder"):
        find_checkpoint(tmp_path / "none")
    with pytest.raises(AsrbuildError, match="no best_dev_checkpoint or checkpoint"):
        find_checkpoint(tmp_path)
    with pytest.raises(AsrbuildError, match="load_evaluate is newest") as error:
        find_checkpoint(tmp_path, "newest")
    assert error.value.key == "load_evaluate"
    assert error.value.fix == "choose one of auto, best, last"


def test_not_deepspeech(tf, tmp_path):
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "other"),
        tensor_names=["conv/kernel"],
        shape_and_slices=[""],
        tensors=[tf.ones(3)],
    )
    with pytest.raises(AsrbuildError, match="not a DeepSpeech checkpoint") as error:
        read_weights(tmp_path / "other")
    assert "conv/kernel" in error.value.fix


def test_demo_checkpoint_is_read():
    folder = Path(__file__).parents[2] / "asrbuild" / "demo" / "checkpoint"
    weights = read_weights(find_checkpoint(folder))
    assert weights.n_features == 494
    assert weights.n_output == 29
    assert all(np.isfinite(value).all() for value in weights.named().values())
