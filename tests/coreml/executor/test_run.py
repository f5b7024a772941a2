"""``asrbuild run``: output of values and of names, hostile ones too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.file_names import file_names
from tests.command import output, values
from tests.coreml.executor.harness import ct, floats, mb
from tests.coreml.executor.networks import WORDS, converted


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shifted")
    return converted(shift, {"x": floats((1, 4))}, folder / "shift.mlpackage")


def shift(x: Any) -> Any:
    return mb.add(x=x, y=np.float32(1), name="y")


def given(folder: Path, *values: float) -> str:
    np.save(folder / "x.npy", np.array([values], np.float32))
    return f"x={folder / 'x.npy'}"


def test_values_that_are_not_finite_are_reported(shifted: Path, tmp_path: Path) -> None:
    x = given(tmp_path, np.nan, -np.inf, 2, np.inf)
    shown = output("run", shifted, "--input", x)
    assert "1 NaN, 1 +inf, 1 -inf" in shown
    assert "\t-inf\t" in shown
    assert "\t+inf\t" in shown
    (row,) = values("run", shifted, "--input", x)["outputs"]
    assert (row["nan"], row["+inf"], row["-inf"]) == (1, 1, 1)
    assert (row["min"], row["max"]) == ("-inf", "+inf")
    with pytest.raises(
        AsrbuildError, match=r"not all values are finite: y \(1 NaN, 1 \+inf, 1 -inf\)"
    ):
        output("run", shifted, "--input", x, "--finite", "--output", str(tmp_path / "out"))
    # The requested outputs are still written.
    assert np.isnan(np.load(tmp_path / "out" / "y.npy")).sum() == 1
    fine = output("run", shifted, "--input", given(tmp_path, 1, 2, 3, 4), "--finite")
    assert "not finite" not in fine
    nothing = values("run", shifted, "--input", given(tmp_path, *[np.nan] * 4))
    assert nothing["outputs"][0]["min"] == "nan"


NAMES = {
    "logits": "logits",
    "../x": "%2E.%2Fx",
    "/abs/x": "%2Fabs%2Fx",
    "net/in:0": "net%2Fin%3A0",
    "": "%",
    ".": "%2E",
    "..": "%2E%2E",
    "a\\b": "a%5Cb",
    "nul": "%6Eul",
    "CON.x": "%43ON.x",
    "50%": "50%25",
    "50%25": "50%2525",
    "ö": "%C3%B6",
    "a b": "a%20b",
    "a.": "a%2E",
    "\0": "%00",
    "console": "console",
}


def test_file_names_are_unique_and_have_one_component() -> None:
    assert file_names(NAMES) == NAMES
    alike = file_names(["x", "X", "y", "l" * 500, "l" * 501])
    assert alike["y"] == "y"
    assert len({name.casefold() for name in alike.values()}) == 5
    assert all(len(name) <= 200 for name in alike.values())
    assert alike == file_names(reversed(list(alike)))


@pytest.mark.parametrize("name", ["../above", "/abs/x", "a/b", ".."])
def test_the_name_of_an_output_is_not_used_as_a_path(name: str, tmp_path: Path) -> None:
    network = tmp_path / "named.mlmodel"
    converted(shift, {"x": floats((1, 4))}, network)
    spec = ct.utils.load_spec(str(network))
    spec.neuralNetwork.layers[-1].output[0] = spec.description.output[0].name = name
    network.write_bytes(spec.SerializeToString())
    out = tmp_path / "deep" / "out"
    before = set(tmp_path.rglob("*"))
    shown = values("run", network, "--input", given(tmp_path, 1, 2, 3, 4), "--output", out)
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before - {tmp_path / "x.npy"}
    assert [path.parent for path in made] == [out]
    assert Path(shown["outputs"][0]["file"]) in made


def test_a_classifier_prints_label_and_probabilities(
    labelled: dict[str, Path],
    tmp_path: Path,
) -> None:
    np.save(tmp_path / "frames.npy", floats((1, 4)))
    arguments = ("--input", f"frames={tmp_path / 'frames.npy'}", "--output", str(tmp_path))
    model = labelled["words.mlpackage"]
    shown = output("run", model, *arguments)
    rows = {row["name"]: row for row in values("run", model, *arguments)["outputs"]}
    label = rows["classLabel"]["label"]
    assert f"classLabel: {label}" in shown
    (probabilities,) = (row for row in rows.values() if "probabilities" in row)
    assert list(probabilities["probabilities"]) == WORDS
    assert json.loads(Path(rows["classLabel"]["file"]).read_text()) == label
    assert json.loads(Path(probabilities["file"]).read_text()) == probabilities["probabilities"]
    assert "label" in output("run", model)
