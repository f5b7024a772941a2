"""Foreign packages are read without errors, and without wrong claims."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.speedups.importing import import_coremltools
from asrbuild.handover.fit.counts import count
from asrbuild.handover.fit.verdict import fit_of, read_package, summary
from tests.wheels import fetched

ct = import_coremltools()

from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import types  # noqa: E402
from coremltools.models import datatypes  # noqa: E402
from coremltools.models.neural_network import NeuralNetworkBuilder  # noqa: E402
from coremltools.models.pipeline import Pipeline  # noqa: E402
from coremltools.models.tree_ensemble import TreeEnsembleRegressor  # noqa: E402


def program(folder: Path) -> Path:
    """The example of the guide's page on the Model Intermediate Language."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 100, 100, 3))])
    def prog(x: Any) -> Any:
        x = mb.transpose(x=x, perm=[0, 3, 1, 2], name="transpose")
        x = mb.reduce_mean(x=x, axes=[2, 3], keep_dims=False, name="reduce")
        return mb.log(x=x, name="log")

    path = folder / "program.mlpackage"
    ct.convert(prog, skip_model_load=True).save(str(path))
    return path


def stateful(folder: Path) -> Path:
    """An accumulator, as in the guide's page on stateful models."""

    @mb.program(
        input_specs=[
            mb.TensorSpec((1, 8), dtype=types.fp16),
            mb.StateTensorSpec((1, 8), dtype=types.fp16),
        ],
        opset_version=ct.target.iOS18,
    )
    def prog(x: Any, accumulator: Any) -> Any:
        total = mb.add(x=x, y=mb.read_state(input=accumulator))
        return mb.coreml_update_state(state=accumulator, value=total)

    path = folder / "stateful.mlpackage"
    target = ct.target.iOS18
    ct.convert(prog, minimum_deployment_target=target, skip_model_load=True).save(str(path))
    return path


def _dense() -> Any:
    array = datatypes.Array
    builder = NeuralNetworkBuilder([("data", array(3))], [("probabilities", array(2))])
    builder.add_inner_product("dense", np.ones((2, 3)), np.ones(2), 3, 2, True, "data", "logits")
    builder.add_softmax("softmax", "logits", "probabilities")
    return builder.spec


def network(folder: Path) -> Path:
    ct.models.utils.save_spec(_dense(), str(folder / "network.mlmodel"))
    return folder / "network.mlmodel"


def pipeline(folder: Path) -> Path:
    array = datatypes.Array
    made = Pipeline([("data", array(3))], [("probabilities", array(2))])
    made.add_model(_dense())
    ct.models.utils.save_spec(made.spec, str(folder / "pipeline.mlmodel"))
    return folder / "pipeline.mlmodel"


def trees(folder: Path) -> Path:
    made = TreeEnsembleRegressor([("x", datatypes.Double())], "y")
    made.set_default_prediction_value(0.0)
    made.add_branch_node(0, 0, 0, 0.5, "BranchOnValueLessThanEqual", 1, 2)
    made.add_leaf_node(0, 1, 1.0)
    made.add_leaf_node(0, 2, 2.0)
    ct.models.utils.save_spec(made.spec, str(folder / "trees.mlmodel"))
    return folder / "trees.mlmodel"


def basic_pitch(folder: Path) -> Path:
    """Spotify's model for the transcription of music, from its wheel."""
    return fetched() / "basic_pitch" / "saved_models" / "icassp_2022" / "nmp.mlpackage"


@pytest.mark.parametrize(
    ("make", "said", "verdicts", "multiply_adds"),
    [
        (program, "no rule against it", {"eligible"}, 0),
        (stateful, "contested R08 R14", {"contested", "eligible"}, 0),
        (network, "no rule against it", {"not known"}, 6),
        (pipeline, "no rule against it", {"not known"}, None),
        (trees, "no rule against it", set(), None),
        # float32 throughout, with kernels of 39 columns and an axis of 43,844 samples.
        (basic_pitch, "blocked R07 R16, contested R19", {"blocked"}, 524_079_648),
    ],
)
def test_a_foreign_package_is_read(
    tmp_path: Path,
    make: Callable[[Path], Path],
    said: str,
    verdicts: set[str],
    multiply_adds: int | None,
) -> None:
    path = make(tmp_path)
    fit = fit_of(read_package(path))
    assert summary(fit) == said
    assert set(fit.verdicts.values()) == verdicts
    (function,) = fit.package.functions
    if multiply_adds is None:
        with pytest.raises(AsrbuildError):
            count(path, function)
    else:
        assert count(path, function).multiply_adds == multiply_adds
