"""The demo's checkpoint, alphabet and recordings have the names and shapes that asrbuild reads."""

from __future__ import annotations

import csv
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.paths import DATA, DEMO

N_HIDDEN, N_WINDOW, N_OUTPUT = 256, 494, 29
CELL = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"
SHAPES = {
    "global_step": [],
    "layer_1/weights": [N_WINDOW, N_HIDDEN],
    "layer_1/bias": [N_HIDDEN],
    "layer_2/weights": [N_HIDDEN, N_HIDDEN],
    "layer_2/bias": [N_HIDDEN],
    "layer_3/weights": [N_HIDDEN, N_HIDDEN],
    "layer_3/bias": [N_HIDDEN],
    f"{CELL}/kernel": [2 * N_HIDDEN, 4 * N_HIDDEN],
    f"{CELL}/bias": [4 * N_HIDDEN],
    "layer_5/weights": [N_HIDDEN, N_HIDDEN],
    "layer_5/bias": [N_HIDDEN],
    "layer_6/weights": [N_HIDDEN, N_OUTPUT],
    "layer_6/bias": [N_OUTPUT],
}


def labels() -> list[str]:
    """The alphabet's labels in order, without the comments (`#`)."""
    lines = (DEMO / "alphabet.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_alphabet_is_english_with_space_first_and_no_blank() -> None:
    assert "".join(labels()) == " abcdefghijklmnopqrstuvwxyz'"


@pytest.mark.parametrize("state", ["checkpoint", "best_dev_checkpoint"])
def test_checkpoint_has_deepspeech_names_and_shapes(state: str) -> None:
    tf = pytest.importorskip("tensorflow")
    path = tf.train.latest_checkpoint(str(DEMO / "checkpoint"), state)
    assert path is not None
    text = (DEMO / "checkpoint" / state).read_text(encoding="utf-8")
    assert f'model_checkpoint_path: "{Path(path).name}"' in text  # relative: movable
    reader = tf.train.load_checkpoint(path)
    assert reader.get_variable_to_shape_map() == SHAPES
    types = reader.get_variable_to_dtype_map()
    assert types.pop("global_step") == tf.int64
    assert set(types.values()) == {tf.float32}
    for name in types:
        assert abs(reader.get_tensor(name)).max() < 65504 / 20  # representable in fp16


@pytest.mark.parametrize(("name", "shortest", "longest"), [("sample", 10, 13), ("second", 3, 6)])
def test_recordings_have_the_format_and_letters_of_the_model(
    name: str, shortest: float, longest: float
) -> None:
    with wave.open(str(DEMO / f"{name}.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        assert shortest <= file.getnframes() / file.getframerate() <= longest
    text = (DEMO / f"{name}.txt").read_text(encoding="utf-8").strip()
    assert text
    assert set(text) <= set(labels())


@pytest.mark.parametrize(("folder", "count"), [("joins", 20), ("unseen", 22)])
def test_evaluation_sets_are_complete(folder: str, count: int) -> None:
    with (DATA / folder / f"{folder}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count
    for row in rows:
        path = DATA / folder / row["wav_filename"]
        assert path.stat().st_size == int(row["wav_filesize"])
        assert set(row["transcript"]) <= set(labels())


def test_the_development_set_is_the_other_half_of_the_unseen_recordings() -> None:
    def rows(table: Path) -> dict[str, str]:
        with table.open(encoding="utf-8", newline="") as file:
            return {row["wav_filename"]: row["transcript"] for row in csv.DictReader(file)}

    every, tested = rows(DATA / "unseen" / "unseen.csv"), rows(DATA / "unseen" / "test.csv")
    developed = {Path(n).stem: said for n, said in rows(DEMO / "dev" / "dev.csv").items()}
    assert len(developed) == len(tested) == 11
    assert {name: every[name] for name in every if name not in tested} == {
        f"{name}.wav": said for name, said in developed.items()
    }
    for name in developed:
        ours, _ = soundfile.read(DEMO / "dev" / f"{name}.flac", dtype="int16")
        wanted, _ = soundfile.read(DATA / "unseen" / f"{name}.wav", dtype="int16")
        assert np.array_equal(ours, wanted)


def test_demo_is_small() -> None:
    """Each of the two models has about 3.4 MB, and the recordings have about 1 MB."""
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 8_500_000
