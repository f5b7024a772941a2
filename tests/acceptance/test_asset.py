"""``coreai=preview``: artifacts of the second format are published, proven, chosen and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.artifact.agreement import damaged_files
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.rules import check_keys
from asrbuild.cli.tree import run_command
from asrbuild.handover.ship.formats.header import make_header
from asrbuild.handover.ship.formats.variants import choose, describe_variant
from asrbuild.handover.ship.signing.keys import new_key
from tests.acceptance.building import built
from tests.acceptance.conftest import Workshop
from tests.marks import needs_core_ai
from tests.paths import DEMO
from tests.proof import building

#: The forms whose assets are the most complex; tests/coreai lowers every form twice by two workers.
FORMS = (
    "model=dynamic coreml.lstm=loop",
    "model=multifunction",
    "model=static coreml.state=stateful",
    "model=static coreml.compress=palettize_4",
)


@needs_core_ai
@pytest.mark.usefixtures("core_ai")
def test_one_recipe_publishes_both_formats(
    workshop: Workshop,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = tmp_path / "store"
    recipe = ("coreml.precision=fp32", "verify=quick")
    alone, _ = built(workshop, tmp_path / "alone", *recipe)
    path, _ = built(workshop, store, *recipe, "coreai=preview")
    assert path.name == alone.name  # the Core ML artifact is the same with its variant
    (asset,) = (p for p in (store / f"{path.parent.name}-aimodel").iterdir() if p.is_dir())
    first, second = read_manifest(path), read_manifest(asset)
    assert damaged_files(asset) == []
    assert (second.model.format, second.model.package) == ("aimodel", "model.aimodel")
    assert second.model.minimum_os == {"iOS": "27", "macOS": "27"}
    assert second.schema_version == "1.2"
    assert second.verification.passed
    assert [e.executor for e in second.verification.executions] == ["coreai"]
    assert len(second.verification.metrics) == len(first.verification.metrics)
    assert [t.package for t in second.verification.transcripts] == [
        t.package for t in first.verification.transcripts
    ]
    weights = sum(f.bytes for f in first.files if f.path.endswith("weight.bin"))
    assert sum(f.bytes for f in second.files if f.path.endswith("main.mlirb")) < 1.02 * weights

    signer = new_key("test", tmp_path)
    variants = [
        describe_variant(make_header(p, m, signer), m) for p, m in ((asset, second), (path, first))
    ]
    chosen = {system: choose(variants, system).name for system in ("iOS27", "macOS27.1", "iOS18")}
    assert chosen == {"iOS27": second.name, "macOS27.1": second.name, "iOS18": first.name}

    for command in (
        ["verify", str(asset)],
        ["inspect", "model", str(asset / "model.aimodel"), "--json"],
        ["transcribe", str(asset), str(DEMO / "second.wav")],
        ["diff", str(path), str(asset)],
        ["run", str(asset)],
        ["show", str(asset)],
    ):
        capsys.readouterr()
        assert run_command(command) == 0, command
        out = capsys.readouterr().out
        if command[0] == "inspect":
            found = json.loads(out)
            assert found["minimum_os"] == "27.0"
            assert found["values"]["asrbuild.name"] == "demo-static-mlprogram"
        if command[0] == "transcribe":
            assert out.strip() == (DEMO / "second.txt").read_text().strip()


@needs_core_ai
def test_a_form_has_the_same_bytes_in_any_process(core_ai_folder: Path, tmp_path: Path) -> None:
    """Two processes with different hash seeds export and lower each form."""
    weights = random_weights(32, seed=3)
    for number, form in enumerate(FORMS):
        building.build(tmp_path / str(number), weights, *form.split())
    code = (
        "import json, sys\nfrom pathlib import Path\n"
        "from asrbuild.base.digest import tree_digests\nfrom asrbuild.coreai import asset\n"
        "at, found = Path(sys.argv[1]), []\n"
        "for number in range(int(sys.argv[2])):\n"
        "    made = at / f'{sys.argv[3]}-{number}.aimodel'\n"
        "    asset.lower(at / str(number) / 'model.mlpackage', made)\n"
        "    found.append(tree_digests(made))\n"
        "print(json.dumps(found))\n"
    )
    answers = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "ASRBUILD_COREAI": str(core_ai_folder)}
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), str(len(FORMS)), seed],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    assert answers[0] == answers[1]
    assert len({one["main.mlirb"] for one in answers[0]}) == len(FORMS)


def test_without_the_runtime_there_is_no_second_format() -> None:
    for override, fix in (
        ("model=static", "run `asrbuild coreai install`"),
        ("coreml=neuralnetwork", "set coreml=mlprogram"),
        ("verify.witness=off", "set verify.witness=auto"),
    ):
        with pytest.raises(AsrbuildError) as caught:
            check_keys(compose_recipe([override, "coreai=preview"]))
        assert (caught.value.key, caught.value.fix) == ("coreai", fix)
