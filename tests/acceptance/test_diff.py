"""``asrbuild diff`` on many variants of the demo model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.artifact import layout
from asrbuild.artifact.interface import Relation
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.engine import build
from asrbuild.handover.difference import ArtifactDifference, Side, compare
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import new_key
from asrbuild.handover.ship.signing.trust import read_trust
from tests import command
from tests.paths import DATA, DEMO

UNSEEN = DATA / "unseen" / "unseen.csv"
RECORDING = f"source.sample.audio={DEMO / 'sample.wav'}"
TEXT = f"source.sample.text={DEMO / 'sample.txt'}"
#: Allows variants whose transcripts are wrong.
WRONG = "verify.allow_wrong_words=true"
VARIANTS: dict[str, tuple[str, ...]] = {
    "static": ("model=static",),
    "chunk32": ("model=static", "n_steps=32"),
    "fp32": ("model=static", "coreml.precision=fp32"),
    "dynamic": ("model=dynamic",),
    "enumerated": ("model=enumerated",),
    "stateful": ("model=static", "coreml.state=stateful"),
    "functions": ("model=multifunction",),
    "neural": ("model=static", "coreml=neuralnetwork"),
    "hop": ("model=static", "source=checkpoint", RECORDING, TEXT, WRONG),
    "beam": ("model=static", "decoder=beam"),
    "ios18": ("model=static", "coreml.minimum_deployment_target=iOS18"),
    "described": ("model=static", "source.description=Another", "version=1.0.1"),
    "letters": ("model=static", "source=checkpoint", RECORDING, TEXT, WRONG),
    "noisy": ("model=static", "source=frozen_graph", RECORDING, TEXT),
}


def _letters(folder: Path) -> str:
    """The demo's checkpoint with its alphabet in reverse order."""
    copy = shutil.copytree(DEMO / "checkpoint", folder / "letters")
    lines = (DEMO / "alphabet.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (copy / "alphabet.txt").write_text("".join(lines[::-1]), encoding="utf-8")
    return f"source.checkpoint_dir={copy}"


def _hop(folder: Path) -> str:
    """The demo's checkpoint with another step between windows in its flags."""
    copy = shutil.copytree(DEMO / "checkpoint", folder / "hop")
    flags = (copy / "flags.txt").read_text().replace("win_step=20", "win_step=10")
    (copy / "flags.txt").write_text(flags)
    return f"source.checkpoint_dir={copy}"


def _noisy(folder: Path) -> str:
    """The demo's graph with noise on its last weights: another, less accurate model."""
    from asrbuild.architectures.deepspeech.checkpoint import read_weights
    from asrbuild.architectures.deepspeech.export import write_frozen_graph
    from asrbuild.architectures.deepspeech.flags import ExportFlags
    from asrbuild.builder.sources import settle

    _, source = settle(compose_recipe([]), folder)
    assert source.checkpoint is not None
    weights = read_weights(source.checkpoint)
    chance = np.random.default_rng(4)
    noise = chance.normal(
        0, 0.5 * weights.layer_6_weights.std(), weights.layer_6_weights.shape
    ).astype(np.float32)
    path = folder / "noisy.pb"
    labels = list(source.alphabet.labels)
    flags = ExportFlags(16, weights.n_hidden, export_language="en-US")
    write_frozen_graph(
        replace(weights, layer_6_weights=weights.layer_6_weights + noise), flags, labels, path
    )
    return f"source.path={path}"


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The artifact of every variant; the builds share one cache."""
    folder = tmp_path_factory.mktemp("variants")
    more = {
        "letters": (_letters(folder),),
        "hop": (_hop(folder),),
        "noisy": (_noisy(folder),),
    }
    common = (
        "verify=quick",
        f"paths.artifacts={folder / 'artifacts'}",
        f"paths.cache={folder / 'cache'}",
    )
    built = {}
    for name, overrides in VARIANTS.items():
        settings = [*common, f"name={name}", *overrides, *more.get(name, ())]
        built[name] = build(compose_recipe(settings)).path
    return built


@pytest.fixture(scope="session")
def differ(artifacts: dict[str, Path]) -> Callable[[str, str], ArtifactDifference]:
    sides = {}
    for name, path in artifacts.items():
        manifest = read_manifest(path)
        sides[name] = Side(manifest, path / manifest.model.package)
    return lambda before, now: compare(sides[before], sides[now])


def interface(difference: ArtifactDifference) -> dict[str, str]:
    return {c.what: c.relation.value for c in difference.changes if c.relation is not None}


STATEFUL = {
    "model.minimum_os": "narrower",
    **{f"input previous_state_{gate}": "other" for gate in "ch"},
    **{f"output new_state_{gate}": "narrower" for gate in "ch"},
    **{f"state previous_state_{gate}": "other" for gate in "ch"},
    **{f"state state_{gate}": "other" for gate in "ch"},
}
FUNCTIONS = {f"function {name}": "wider" for name in ("chunk_16", "chunk_32", "whole")}
NEURAL = {
    "model.package": "other",
    "model.minimum_os": "wider",
    "input input_lengths dtype": "other",
    "output new_state_c shape": "narrower",
    "output new_state_h shape": "narrower",
}


@pytest.mark.parametrize(
    ("before", "now", "verdict", "bump", "expected"),
    [
        ("static", "static", "nothing changed", "none", {}),
        ("static", "chunk32", "must change code", "major", {"input input_node steps": "other"}),
        ("static", "dynamic", "may gain", "minor", {"input input_node steps": "wider"}),
        ("static", "enumerated", "may gain", "minor", {"input input_node steps": "wider"}),
        ("enumerated", "dynamic", "may gain", "minor", {"input input_node steps": "wider"}),
        ("chunk32", "enumerated", "may gain", "minor", {"input input_node steps": "wider"}),
        # A native LSTM requires iOS 17 in fp16, and iOS 15 in fp32.
        ("static", "fp32", "may gain", "minor", {"model.minimum_os": "wider"}),
        ("static", "ios18", "must change code", "major", {"model.minimum_os": "narrower"}),
        ("static", "hop", "must change code", "major", {"features.step_samples": "other"}),
        ("static", "letters", "must change code", "major", {"decoder.alphabet": "other"}),
        ("static", "stateful", "must change code", "major", STATEFUL),
        ("ios18", "functions", "may gain", "minor", FUNCTIONS),
        ("static", "neural", "must change code", "major", NEURAL),
        ("static", "beam", "other words", "minor", {}),
        ("static", "described", "nothing changed", "patch", {}),
        ("static", "noisy", "may lose", "minor", {}),
        ("noisy", "static", "may gain", "minor", {}),
    ],
)
def test_verdicts_are_those_of_each_change(
    before: str,
    now: str,
    verdict: str,
    bump: str,
    expected: dict[str, str],
    differ: Callable[[str, str], ArtifactDifference],
):
    found = differ(before, now)
    assert (found.verdict, found.suggestion.bump) == (verdict, bump), found.reasons
    assert interface(found) == expected
    assert found.must_change_code == any(
        value in ("narrower", "other") for value in expected.values()
    )
    back = differ(now, before)
    turned = {what: Relation(relation).flipped().value for what, relation in expected.items()}
    assert interface(back) == turned


def test_every_change_is_listed(differ: Callable[[str, str], ArtifactDifference]):
    found = differ("static", "fp32")
    told = {(c.section, c.what): (c.before, c.now) for c in found.changes}
    assert told["recipe", "coreml.precision"] == ('"fp16"', '"fp32"')
    assert told["running", "model.compute_precision"] == ("fp16", "fp32")
    sizes = [told["size", f"float{bits} weights"] for bits in (16, 32)]
    assert sizes[0][0] * 2 == sizes[1][1]
    assert told["size", "package"][0] < told["size", "package"][1]
    # An fp16 program casts at every boundary.
    assert told["operations", "cast"][0] > told["operations", "cast"][1]
    before, now = told["proof", "logits max_abs_error"]
    assert float(now) < float(before)


def test_another_model_is_known_by_its_weights(differ: Callable[[str, str], ArtifactDifference]):
    found = differ("static", "noisy")
    heard = {c.what: c for c in found.changes if c.effect == "other words"}
    assert {"graph", "sample"} <= set(heard)
    assert heard["sample"].before != heard["sample"].now
    (rate,) = found.error_rates
    assert (rate.before_errors, rate.words) == (0, 21)
    assert rate.now_errors > 0
    assert "word error rate 0.0 %" in found.reasons[0]


def test_suggested_versions_are_those_of_each_change(
    differ: Callable[[str, str], ArtifactDifference],
):
    wanted = differ("static", "described").suggestion
    assert (wanted.version, wanted.given, wanted.enough) == ("1.0.1", "1.0.1", True)
    wanted = differ("described", "static").suggestion
    assert (wanted.version, wanted.given, wanted.enough) == ("1.0.2", "1.0.0", False)
    assert differ("static", "hop").suggestion.version == "2.0.0"


@pytest.mark.parametrize(
    ("version", "now", "expected"),
    [
        ("0.4.2", "chunk32", "0.5.0"),
        ("0.4.2", "dynamic", "0.5.0"),
        ("0.4.2", "described", "0.4.3"),
        ("3.1.4", "chunk32", "4.0.0"),
        ("nightly", "chunk32", None),
    ],
)
def test_the_suggested_version_follows_that_of_the_first_artifact(
    version: str, now: str, expected: str | None, artifacts: dict[str, Path]
):
    sides = []
    for path in (artifacts["static"], artifacts[now]):
        manifest = read_manifest(path)
        sides.append(Side(manifest, path / manifest.model.package))
    renamed = sides[0].manifest.model_copy(update={"version": f"{version}+0123456789ab"})
    found = compare(replace(sides[0], manifest=renamed), sides[1])
    assert found.suggestion.version == expected


@pytest.fixture
def run(artifacts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs ``diff`` with a store of the variants and an empty configuration folder."""
    monkeypatch.setenv("ASRBUILD_ARTIFACTS", str(artifacts["static"].parent.parent))
    monkeypatch.setenv("ASRBUILD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ASRBUILD_CONFIG", str(tmp_path / "config"))
    return partial(command.output, "diff")


def test_the_command_prints_a_table(run: Any):
    text = run("static", "hop")
    for line in (
        "An app must change its code.",
        "features.step_samples: 320 -> 160",
        "version: 2.0.0 (major: an app must change its code); it has 1.0.0",
        "the app computes its features this way",
    ):
        assert line in text
    assert "Nothing that an app notices has changed." in run("static", "static")
    assert "1.0.1 is enough" in run("static", "described")


def test_artifacts_of_stores_bundles_and_remotes_are_compared(
    run: Any, artifacts: dict[str, Path], tmp_path: Path
):
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.handover.ship.formats.bundle import write_bundle

    config = tmp_path / "config"
    signer = new_key("default", config)
    bundle = tmp_path / "dynamic.asrb"
    write_bundle(artifacts["dynamic"], bundle, signer)
    remote = tmp_path / "remote"
    ship(
        artifacts["dynamic"],
        open_remote(str(remote)),
        signer=signer,
        trust=read_trust(config),
        channel="beta",
    )
    path = artifacts["dynamic"]
    expected = json.loads(run("static", "dynamic", "--json"))
    for spec in (
        f"dynamic@{path.name}",
        f"dynamic/{path.name}",
        "dynamic@latest",
        str(path),
        str(bundle),
        f"{remote}#dynamic@beta",
        f"{remote}#dynamic@{path.name}",
    ):
        assert json.loads(run("static", spec, "--json")) == expected, spec
    # The comparison fetches no weights, so it works when the remote has lost them.
    weights = [f for f in read_manifest(path).files if f.path.endswith((".bin", ".npz"))]
    assert weights
    for file in weights:
        (remote / "blobs" / file.sha256).unlink()
    assert json.loads(run("static", f"{remote}#dynamic@beta", "--json")) == expected
    # Fetched files are verified.
    manifest = next(b for b in (remote / "blobs").iterdir() if b.read_bytes()[:20].count(b"schema"))
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes().replace(b'"1.0.0', b'"9.0.0', 1))
    with pytest.raises(Refused, match="is not the signed one"):
        run("static", f"{remote}#dynamic@beta")


def test_an_untrusted_signer_is_refused(run: Any, artifacts: dict[str, Path], tmp_path: Path):
    from asrbuild.handover.ship.formats.bundle import write_bundle

    stranger = new_key("stranger", tmp_path / "strange")
    write_bundle(artifacts["static"], tmp_path / "b.asrb", stranger)
    with pytest.raises(Refused, match="UNTRUSTED_SIGNER"):
        run("static", str(tmp_path / "b.asrb"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "there is no artifact 'nothing'"),
        ("static@old", "there is no artifact 'static/old'"),
        ("/nowhere#static@beta", "the remote does not exist"),
        ("gopher://x#static", "cannot ship to or pull from gopher"),
    ],
)
def test_missing_artifacts_are_refused(spec: str, message: str, run: Any):
    with pytest.raises(AsrbuildError, match=message):
        run("static", spec)


def test_word_errors_equal_those_of_evaluate(run: Any, artifacts: dict[str, Path]):
    found = json.loads(run("static", "noisy", "--data", UNSEEN, "--json"))
    assert found["verdict"] == "may lose"
    assert not found["may_gain"]
    measured, proof = found["error_rates"]
    assert measured["on"] == str(UNSEEN)
    assert (measured["recordings"], measured["words"]) == (22, 118)
    names = ["static", "noisy"]
    rates = [row["wer"] for row in command.values("evaluate", *names, UNSEEN)["results"]]
    assert [measured["before"], measured["now"]] == pytest.approx(rates)
    assert proof["on"] == "the recordings of the proof"


def test_a_damaged_manifest_is_an_error(run: Any, artifacts: dict[str, Path], tmp_path: Path):
    import shutil

    copy = tmp_path / "damaged"
    shutil.copytree(artifacts["static"], copy)
    (copy / layout.MANIFEST).chmod(0o644)
    copy.chmod(0o755)
    (copy / layout.MANIFEST).write_text('{"schema_version": "1.0"}')
    with pytest.raises(AsrbuildError, match="is not as it was published"):
        run("static", str(copy))
