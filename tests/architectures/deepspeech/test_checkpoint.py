"""The choice of a checkpoint, which is DeepSpeech's, and its weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import (
    checkpoint_files,
    choose_checkpoint,
    find_checkpoint,
    read_weights,
)
from asrbuild.architectures.deepspeech.network import (
    LSTM_SCOPE,
    NORM_VARIABLES,
    OPAQUE_KERNEL,
    network_variables,
    random_weights,
)
from asrbuild.base.errors import AsrbuildError
from tests.paths import DEMO, GENUINE


@pytest.fixture(scope="module")
def trained(tf, tmp_path_factory) -> Path:
    """A folder that training wrote: train-20 is the last checkpoint, best_dev-10 the best."""
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
def test_the_chosen_checkpoint_is_that_of_deepspeech(trained, load_evaluate, expected, seed):
    prefix = find_checkpoint(trained, load_evaluate)
    assert prefix.name == expected
    for name, value in random_weights(8, seed).named().items():
        assert np.array_equal(read_weights(prefix).named()[name], value), name


def test_auto_falls_back_to_last(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "c")
    (tmp_path / "c" / "best_dev_checkpoint").unlink()
    assert find_checkpoint(tmp_path / "c").name == "train-20"
    assert find_checkpoint(tmp_path / "c", "best").name == "best_dev-10"


def state_file(path: str) -> str:
    return f'model_checkpoint_path: "{path}"\n'


@pytest.mark.parametrize(
    "written",
    [
        state_file("/gone/far/train-20"),
        state_file("train-20"),
        state_file("sub/train-20"),
        state_file(r"C:\train\best\train-20"),
        state_file(r"C:\\train\\best\\train-20"),
        state_file(r"\\\\server\\share\\train-20"),
        state_file(r"/d\303\251j\303\240/train-20"),
        state_file("/gone/far/train-20").replace('"', "'"),
        "\ufeff" + state_file("/gone/far/train-20"),
        state_file("/gone/far/train-20").replace("\n", "\r\n")
        + "all_model_checkpoint_paths: ''\r\n",
        state_file("/gone/far/train-20").encode("utf-16"),
    ],
)
def test_a_state_file_names_the_last_component_of_a_path(trained, tmp_path, written):
    folder = shutil.copytree(trained, tmp_path / "c")
    data = written if isinstance(written, bytes) else written.encode()
    (folder / "checkpoint").write_bytes(data)
    assert find_checkpoint(folder, "last") == folder / "train-20"


def test_the_given_folder_precedes_the_folder_of_its_state_file(trained, tmp_path):
    """The original still exists, and the copy has another checkpoint under the same name."""
    original = shutil.copytree(trained, tmp_path / "original")
    copy = shutil.copytree(trained, tmp_path / "copy")
    for path in copy.glob("best_dev-10.*"):
        shutil.copy(copy / path.name.replace("best_dev-10", "train-20"), path)
    (copy / "best_dev_checkpoint").write_text(state_file(f"{original}/best_dev-10"))
    prefix = find_checkpoint(copy)
    assert prefix == copy / "best_dev-10"
    assert all(path.parent == copy for path in checkpoint_files(prefix))
    found = read_weights(prefix).layer_1_bias
    assert np.array_equal(found, random_weights(8, 1).layer_1_bias)
    for path in copy.glob("best_dev-10.*"):
        path.unlink()
    with pytest.raises(
        AsrbuildError, match=r"checkpoint best_dev-10 is not in the folder"
    ) as error:
        find_checkpoint(copy, "best")
    assert error.value.fix == f"set source.checkpoint_dir={copy}/train-20"


@pytest.mark.parametrize("suffix", ["", ".index", ".meta", ".data-00000-of-00001"])
def test_a_checkpoint_is_named_by_its_prefix_or_a_file_of_it(trained, suffix):
    assert find_checkpoint(f"{trained}/train-20{suffix}") == trained / "train-20"


def test_a_missing_state_file_is_named(trained):
    assert find_checkpoint(trained / "checkpoint") == trained / "train-20"


def test_a_folder_without_a_state_file_is_refused(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "c [1]")
    for state in ("checkpoint", "best_dev_checkpoint"):
        (folder / state).unlink()
    chosen = {how: find_checkpoint(folder, how).name for how in ("auto", "best", "last")}
    assert chosen == {"auto": "best_dev-10", "best": "best_dev-10", "last": "train-20"}
    for path in folder.glob("train-20.*"):
        shutil.copy(path, folder / path.name.replace("20", "30"))
    with pytest.raises(AsrbuildError, match="2 checkpoints and no checkpoint file") as error:
        find_checkpoint(folder, "last")
    key, _, value = error.value.fix.removeprefix("set ").partition("=")
    assert key == "source.checkpoint_dir"
    assert find_checkpoint(value.partition(" (or")[0]) == folder / "best_dev-10"


def test_auto_takes_the_last_checkpoint_if_the_best_is_missing(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "c")
    (folder / "best_dev-10.data-00000-of-00001").unlink()
    prefix, because = choose_checkpoint(folder)
    assert prefix == folder / "train-20"
    assert because.startswith(
        "checkpoint names it; best_dev_checkpoint: the checkpoint best_dev-10 is not in the folder"
    )
    with pytest.raises(AsrbuildError, match=r"best_dev-10 is not in the folder") as error:
        find_checkpoint(folder, "best")
    assert error.value.fix == f"set source.checkpoint_dir={folder}/train-20"
    with pytest.raises(AsrbuildError, match=r"best_dev-10 has no data file"):
        find_checkpoint(folder / "best_dev-10")


def test_a_state_file_of_a_moved_folder_is_followed(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "c")
    (tmp_path / "c" / "checkpoint").write_text('model_checkpoint_path: "/gone/far/train-20"\n')
    assert find_checkpoint(tmp_path / "c", "last") == tmp_path / "c" / "train-20"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("", "has no model_checkpoint_path"),
        ("all_model_checkpoint_paths: 'x'", "has no model_checkpoint_path"),
        ('model_checkpoint_path: "train-9"', "the checkpoint train-9 is not in the folder"),
        ('model_checkpoint_path: ""', "has no model_checkpoint_path"),
        (b"\x80\xfe", "the checkpoint state is not text"),
    ],
)
def test_bad_state_files_are_refused(tmp_path, state, message):
    data = state if isinstance(state, bytes) else state.encode()
    (tmp_path / "checkpoint").write_bytes(data)
    with pytest.raises(AsrbuildError, match=message):
        find_checkpoint(tmp_path)


def test_a_missing_folder_state_or_choice_is_refused(tmp_path):
    with pytest.raises(AsrbuildError, match="the checkpoint folder does not exist"):
        find_checkpoint(tmp_path / "none")
    with pytest.raises(AsrbuildError, match="no best_dev_checkpoint or checkpoint"):
        find_checkpoint(tmp_path)
    with pytest.raises(AsrbuildError, match="load_evaluate is newest") as error:
        find_checkpoint(tmp_path, "newest")
    assert error.value.key == "source.load_evaluate"
    assert error.value.fix == "choose one of auto, best, last"


def test_checkpoints_of_other_networks_are_refused(tf, tmp_path):
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
    folder = DEMO / "checkpoint"
    weights = read_weights(find_checkpoint(folder))
    assert weights.n_features == 494
    assert weights.n_output == 29
    assert all(np.isfinite(value).all() for value in weights.named().values())


@pytest.fixture(scope="module")
def saved(tf, tmp_path_factory):
    """Saves the variables of a small network with changes: name -> array, or None to remove it."""
    folder = tmp_path_factory.mktemp("saved")
    count = 0

    def save(changes: dict[str, np.ndarray | None]) -> Path:
        nonlocal count
        count += 1
        arrays = {
            n: a for n, a in (random_weights(8, 1).named() | changes).items() if a is not None
        }
        prefix = folder / f"c-{count}"
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=list(arrays),
            shape_and_slices=[""] * len(arrays),
            tensors=[tf.constant(array) for array in arrays.values()],
        )
        return prefix

    return save


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


NORMS = {name: ones(8) for name in NORM_VARIABLES}
RECORDS = [
    "layer_1/weights/Adam",
    "layer_1/weights/Adam_1",
    "layer_6/bias/AdamOptimizer_1",
    f"{LSTM_SCOPE}/kernel/my_adam",
    "Adam/layer_1/weights/m",
    "train/layer_2/bias/Momentum",
    "layer_1/weights/RMSProp_1",
    "layer_1/bias/ExponentialMovingAverage",
    "layer_1/bias/adam_v",
    "OptimizeLoss/layer_3/weights/Adagrad",
    f"{OPAQUE_KERNEL}/Adam",
    f"{OPAQUE_KERNEL}/Adam_1",
    "layer_1/weights/lamb_m",
    "layer_1/weights/ema",
]
NUMBERS = [
    "global_step",
    "learning_rate",
    "beta1_power",
    "beta2_power_1",
    "loss_scale",
    "good_steps",
    "current_loss_scale",
    "num_good_steps",
    "epoch",
    "best_dev_loss",
    "Adam/beta_1",
    "iter",
]


@pytest.mark.parametrize("more", [{}, NORMS], ids=["plain", "layer norm"])
def test_records_of_training_are_left_out(saved, more):
    training = {name: ones(3) for name in RECORDS} | {name: ones() for name in NUMBERS}
    training["layer_2/LayerNorm/gamma/Adam"] = ones(8) if more else None
    training["counts/step"] = np.array([7])
    read = read_weights(saved(more | training)).named()
    assert read.keys() == {*random_weights(8, 1).named(), *more}


@pytest.mark.parametrize(
    "name",
    [
        "layer_1/weights/mask",
        "layer_1/weights_1",
        "layer_1/prelu/alpha",
        "layer_4/weights",
        "layer_6/LayerNorm/gamma",
        "layer_1/BatchNorm/moving_mean",
        "layer_1/weights/part_0",
        "layer_1/BatchNorm/moving_variance",
        "layer_1/layer_normalization/gamma",
        "layer_1/g",
        "cudnn_lstm/rnn/multi_rnn_cell/cell_1/cudnn_compatible_lstm_cell/kernel",
        "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell/w_f_diag",
        "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell/projection/kernel",
        "bidirectional_rnn/bw/lstm_cell/kernel",
        "layer_2/scale/Adam",
        "teacher/layer_1/weights",
        "adapter/weights",
        "lambda/bias",
        "attention/kernel",
        "layer_1/decay",
        "layer_5/norm/g",
    ],
)
def test_an_unknown_variable_is_refused(saved, name):
    with pytest.raises(AsrbuildError, match="the network has no place for") as error:
        read_weights(saved({name: ones() if name.endswith("decay") else ones(8)}))
    assert name in error.value.message
    assert "coreml.frontend=tensorflow" in error.value.fix


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_5/bias": None}, "missing layer_5/bias"),
        ({f"{LSTM_SCOPE}/kernel": None}, f"missing {LSTM_SCOPE}/kernel"),
        ({"layer_1/LayerNorm/gamma": ones(8)}, "has no layer_1/LayerNorm/beta, layer_2/LayerNorm"),
        (NORMS | {"layer_5/LayerNorm/beta": ones(4)}, "layer_5/LayerNorm/beta is float32"),
        ({"layer_2/weights": ones(8, 16), "layer_2/bias": ones(16)}, "layer_2/weights is float32"),
        ({"layer_1/weights": ones(494, 8).astype(np.float16)}, "layer_1/weights is float16"),
        ({f"{LSTM_SCOPE}/kernel": ones(24, 32)}, "kernel is float32"),
    ],
)
def test_missing_variables_and_wrong_sizes_are_refused(saved, changes, message):
    with pytest.raises(AsrbuildError) as error:
        read_weights(saved(changes))
    assert message in error.value.message


def opaque(named: dict[str, np.ndarray]) -> np.ndarray:
    """The LSTM in cuDNN's form: gates i, f, c, o of the input, then of the hidden state."""
    kernel, bias = named[f"{LSTM_SCOPE}/kernel"], named[f"{LSTM_SCOPE}/bias"]
    parts = []
    for rows in (kernel[:8], kernel[8:]):
        i, c, f, o = np.split(rows, 4, axis=1)
        parts += [gate.T.ravel() for gate in (i, f, c, o)]
    i, c, f, o = np.split(bias, 4)
    return np.concatenate([*parts, i, f, c, o, np.zeros(32, np.float32)])


def test_the_lstm_is_read_from_cudnns_vector(saved):
    named = random_weights(8, 1).named()
    read = read_weights(saved({OPAQUE_KERNEL: opaque(named)})).named()
    assert read.keys() == named.keys()
    with pytest.raises(AsrbuildError, match="holds another LSTM"):
        read_weights(saved({OPAQUE_KERNEL: opaque(named)[::-1].copy()}))
    only = {OPAQUE_KERNEL: opaque(named), f"{LSTM_SCOPE}/kernel": None, f"{LSTM_SCOPE}/bias": None}
    with pytest.raises(AsrbuildError, match="whose layout is cuDNN's own") as error:
        read_weights(saved(only))
    assert "--load_cudnn" in error.value.fix


def test_genuine_checkpoints_have_no_unknown_variables():
    for index in GENUINE.glob("*/checkpoint/*.index"):
        weights = read_weights(index.with_suffix(""))
        assert len(weights.norms) == (4 if "layer-norm" in str(index) else 0)


def test_variables_are_found_by_name():
    assert network_variables({"layer_1/bias": (4,), "global_step": (), "x": ()}) == (
        ["layer_1/bias"],
        ["x"],
    )
