"""Commands other than a build, on the artifacts of the sweep."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import jsonschema
import pytest

from asrbuild.base.cache import run_stage
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.plan import plan
from asrbuild.builder.sources import settle
from tests.acceptance.conftest import Workshop, run_asrbuild
from tests.command import run_main
from tests.forging import agree
from tests.imports import run_command
from tests.paths import DEMO, SAMPLE_TEXT


@pytest.mark.parametrize("model", ["static", "dynamic", "enumerated"])
def test_transcribe_requires_only_the_artifact(
    workshop: Workshop, model: str, tmp_path: Path
) -> None:
    artifact = workshop.artifact(model, "mlprogram")
    text, modules = run_command("transcribe", artifact, DEMO / "sample.wav", cwd=tmp_path)
    assert SAMPLE_TEXT in text
    assert not modules & {"tensorflow", "coremltools"}


def test_ls_and_show(workshop: Workshop) -> None:
    listed = run_asrbuild("ls", "--json", cwd=workshop.folder)
    assert listed.code == 0, listed.err
    names = {entry["name"] for entry in json.loads(listed.out)}
    assert {"demo-static-mlprogram", "demo-dynamic-neuralnetwork"} <= names
    shown = run_asrbuild("show", "demo-static-mlprogram", cwd=workshop.folder)
    assert shown.code == 0, shown.err
    assert "probabilities" in shown.out
    missing = run_asrbuild("show", "demo-statik-mlprogram", cwd=workshop.folder)
    assert missing.code == 1
    assert "demo-static-mlprogram" in missing.err


def test_schema_is_a_json_schema(workshop: Workshop) -> None:
    done = run_asrbuild("schema", cwd=workshop.folder)
    assert done.code == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(done.out))


def test_plan_and_why_name_the_changed_key(workshop: Workshop) -> None:
    plan = run_asrbuild("plan", "model=dynamic", "--json", cwd=workshop.folder)
    assert plan.code == 0, plan.err
    assert all(row["cached"] for row in json.loads(plan.out))
    # A length that no other test builds into the shared cache.
    shorter = ("model=dynamic", "coreml.range_upper=2345")
    changed = run_asrbuild("plan", *shorter, "--json", cwd=workshop.folder)
    rows = {row["stage"]: row["cached"] for row in json.loads(changed.out)}
    assert rows == {
        "export": True,
        "cases": True,
        "reference": True,
        "convert": False,
        "execute": False,
        "vectors": False,
        "prove": False,
        "artifact": False,
    }
    why = run_asrbuild("cache", "why", *shorter, cwd=workshop.folder)
    assert why.code == 0, why.err
    assert "key recipe.coreml.range_upper: 3000 -> 2345" in why.out
    assert "input convert: " in why.out


def _reasons(workshop: Workshop, *overrides: str) -> dict[str, list[str]]:
    """Stage that would run -> the reason that ``asrbuild plan`` prints."""
    done = run_asrbuild("plan", "model=dynamic", *overrides, "--json", cwd=workshop.folder)
    assert done.code == 0, done.err
    return {row["stage"]: row["because"] for row in json.loads(done.out) if row["would"] == "run"}


def test_plan_gives_the_reason_for_each_stage_that_runs(workshop: Workshop, tmp_path: Path) -> None:
    recording = tmp_path / "sample.wav"
    recording.write_bytes((DEMO / "sample.wav").read_bytes() + b"\0")
    changed = _reasons(workshop, f"source.sample.audio={recording}")
    assert set(changed) == {"cases", "reference", "execute", "vectors", "prove", "artifact"}
    (content,) = changed["cases"]
    assert content.startswith("content of sample: ")
    (made,) = changed["reference"]
    assert made.startswith("input cases: ")
    gates = _reasons(workshop, "verify.thresholds.fp16.psnr_db=61")
    assert gates["prove"] == ["key gates.fp16.psnr_db: 60 -> 61"]
    gone = _reasons(workshop, f"paths.artifacts={tmp_path}")
    assert gone == {"artifact": ["the artifact is not in the store"]}


def test_why_names_an_older_library_and_older_code(tmp_path: Path) -> None:
    """The cache holds entries of another version of coremltools, and of asrbuild."""
    recipe = compose_recipe([])
    keys = plan(*settle(recipe, tmp_path)).keys
    older = replace(keys["convert"], versions={**keys["convert"].versions, "coremltools": "8.3"})
    before = replace(keys["cases"], code_version="0" * 64)
    for key in (older, before):
        run_stage(tmp_path, key, lambda at: (at / "x").touch(), notify=print)
    why = run_asrbuild("cache", "why", f"paths.cache={tmp_path}", cwd=tmp_path)
    assert why.code == 0, why.err
    now = metadata.version("coremltools")
    assert f"version of coremltools: 8.3 -> {now}\n" in why.out
    assert "the stage's code: version 000000000000 -> version " in why.out
    assert "runs, this stage has no earlier entry" in why.out


def test_plan_of_a_published_recipe_needs_no_cache_entries(
    workshop: Workshop, tmp_path: Path
) -> None:
    """A cleared cache adds no stages to the plan of a published artifact."""
    shutil.copytree(workshop.folder / ".asrbuild" / "cache", tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache" / "convert")
    paths = f"paths.cache={tmp_path}/cache", f"paths.artifacts={workshop.artifacts}"
    assert _reasons(workshop, *paths) == {}
    done = run_asrbuild("model=dynamic", *paths, cwd=tmp_path)
    assert "nothing to do" in done.out


def test_export_overwrites_no_other_file(
    workshop: Workshop,
    at: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ASRBUILD_CACHE", str(workshop.folder / ".asrbuild" / "cache"))
    (at / "mine.pb").write_bytes(b"another model")
    command = ["export", "model=static", "--output"]
    code, _, err = run_main([*command, "mine.pb"], monkeypatch, capfd)
    assert code == 1
    assert "another file is there, and is not overwritten\n  key: --output\n  file: mine.pb" in err
    assert "--output mine-new.pb" in err
    assert (at / "mine.pb").read_bytes() == b"another model"
    for _ in range(2):  # its own file is written again
        assert run_main([*command, "mine-new.pb"], monkeypatch, capfd)[0] == 0


def test_inspect_shows_inputs_outputs_and_ranges(workshop: Workshop) -> None:
    package = workshop.artifact("dynamic", "mlprogram") / "model.mlpackage"
    table = run_asrbuild("inspect", "model", str(package), cwd=workshop.folder)
    assert table.code == 0, table.err
    assert "input_node" in table.out
    assert "3000" in table.out
    graphs = sorted(workshop.folder.glob(".asrbuild/cache/export/*/output_graph.pb"))
    shapes = []
    for graph in graphs:
        done = run_asrbuild("inspect", "graph", str(graph), "--json", cwd=workshop.folder)
        assert done.code == 0, done.err
        summary = json.loads(done.out)
        shapes += [t["shape"] for t in summary["inputs"] if t["name"] == "input_node"]
    assert sorted(shapes, key=str) == sorted([[1, 16, 19, 26], [1, None, 19, 26]], key=str)


def test_verify_passes_and_names_the_tampered_artifact(workshop: Workshop, tmp_path: Path) -> None:
    artifact = workshop.artifact("static", "mlprogram")
    good = run_asrbuild("verify", str(artifact), cwd=tmp_path)
    assert good.code == 0, good.out + good.err
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in artifact.rglob("*"):
        target = copy / path.relative_to(artifact)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    weights = next(copy.rglob("weight.bin"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 0x40
    weights.write_bytes(content)
    bad = run_asrbuild("verify", str(copy), cwd=tmp_path)
    assert bad.code == 1
    assert "weight.bin" in bad.out + bad.err


def test_report_of_several_as_a_page_and_as_json(workshop: Workshop, tmp_path: Path) -> None:
    made = [workshop.artifact(model, "mlprogram") for model in ("static", "dynamic")]
    done = run_asrbuild("report", *map(str, made), "-o", "both.html", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert (tmp_path / answer["page"]).is_file()
    assert [row["artifact"] for row in answer["artifacts"]] == [
        f"{path.parent.name}/{path.name}" for path in made
    ]
    for row, path in zip(answer["artifacts"], made, strict=True):
        files = [f for f in (path / "model.mlpackage").rglob("*") if f.is_file()]
        package = sum(f.stat().st_size for f in files)
        assert row["size"] == package / 1e6
        assert (row["error"], row["wer"], row["words"]) == (None, 0, "equal")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text("{}")
    done = run_asrbuild("report", str(made[0]), "damaged", cwd=tmp_path)
    assert done.code == 1
    assert f"1 of 2 cannot be read: {tmp_path.name}/damaged" in done.err
    assert (tmp_path / "report.html").is_file()


def test_report_fails_if_the_proof_of_the_artifact_fails(
    workshop: Workshop, tmp_path: Path
) -> None:
    artifact = workshop.artifact("static", "mlprogram")
    done = run_asrbuild("report", str(artifact), "--json", cwd=tmp_path)
    assert (done.code, json.loads(done.out)["passed"]) == (0, True)
    shutil.copytree(artifact, tmp_path / "off", copy_function=shutil.copyfile)
    weights = tmp_path / "off" / "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    with weights.open("r+b") as stream:
        stream.seek(weights.stat().st_size // 2)  # in the weights of the LSTM
        stream.write(bytes(100_000))
    done = run_asrbuild("report", "off", "--json", cwd=tmp_path)
    assert done.code == 1
    assert "the artifact is damaged: model.mlpackage/Data/com.apple.CoreML/weights" in done.err
    agree(tmp_path / "off")
    done = run_asrbuild("report", "off", "--json", cwd=tmp_path)
    assert (done.code, json.loads(done.out)["passed"]) == (1, False)
    assert "the artifact fails its proof here: " in done.err
    assert "Traceback" not in done.err


def test_help_imports_no_heavy_library_and_names_every_command(tmp_path: Path) -> None:
    text, modules = run_command("--help", cwd=tmp_path)
    for command in ("build", "plan", "transcribe", "verify", "inspect", "ls", "show", "doctor"):
        assert command in text
    assert not modules & {"tensorflow", "coremltools", "numpy", "hydra"}


def test_doctor_finds_no_fault_on_this_machine(tmp_path: Path) -> None:
    done = run_asrbuild("doctor", "--json", cwd=tmp_path)
    assert done.code == 0, done.out
    lines = {f["name"]: f for f in json.loads(done.out)}
    assert lines.keys() >= {"tensorflow", "coremltools", "Core ML"}
    assert "tune" in lines["extras"]["found"]


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "show {}",
        "verify {}",
        "run {}",
        "inspect model {}",
        "diff {} {}",
        "cache ls",
        "doctor",
        "inspect graph {graph}",
        "plan model=static",
        "evaluate {} {} " + str(DEMO / "dev" / "dev.csv"),
    ],
)
def test_a_narrow_terminal_cuts_no_text(workshop: Workshop, command: str) -> None:
    names = ("demo-static-mlprogram", "demo-dynamic-neuralnetwork")
    graph = next((workshop.folder / ".asrbuild" / "cache" / "export").glob("*/output_graph.pb"))
    arguments = command.format(*names, graph=graph).split()
    done = run_asrbuild(*arguments, cwd=workshop.folder, env={"COLUMNS": "40"})
    assert done.code == 0, done.err
    assert done.out
    assert "…" not in done.out


def test_run_and_inspect_take_an_artifact_as_other_commands_do(
    workshop: Workshop, tmp_path: Path
) -> None:
    """They take a package, or the artifact that holds it by name, version, folder or bundle."""
    artifact = workshop.artifact("static", "mlprogram")
    package = artifact / "model.mlpackage"
    env = {"ASRBUILD_CONFIG": str(tmp_path / "config")}
    for made in (("key", "new", "me"), ("bundle", str(artifact), str(tmp_path / "one.asrb"))):
        assert run_asrbuild(*made, cwd=tmp_path, env=env).code == 0
    link = tmp_path / "no suffix"
    link.symlink_to(package)
    name = artifact.parent.name
    specs = [
        name,
        f"{name}/{artifact.name}",
        str(artifact),
        str(artifact / "manifest.json"),
        str(tmp_path / "one.asrb"),
        str(link),
        str(package),
    ]
    for command in (("run",), ("inspect", "model")):
        answers = []
        for spec in specs:
            done = run_asrbuild(*command, spec, "--json", cwd=workshop.folder, env=env)
            assert done.code == 0, (spec, done.err)
            answers.append(json.loads(done.out))
        shown = [answer.pop("path", None) for answer in answers]
        assert all(answer == answers[-1] for answer in answers)
        if command != ("run",):
            assert shown[4] == f"{tmp_path}/one.asrb/model.mlpackage"
            assert shown[-1] == shown[2] == str(package)
    table = str(DEMO / "dev" / "dev.csv")
    rows = []
    for spec in (specs[0], specs[4]):
        done = run_asrbuild("evaluate", spec, table, "--json", cwd=workshop.folder, env=env)
        assert done.code == 0, done.err
        (row,) = json.loads(done.out)["results"]
        rows.append(row["wer"])
    assert rows[0] == rows[1]
    for spec, message in (("demo-statik-mlprogram", "did you mean"), ("gone.mlpackage", "no such")):
        refused = run_asrbuild("run", spec, cwd=workshop.folder, env=env)
        assert refused.code == 1
        assert message in refused.err
