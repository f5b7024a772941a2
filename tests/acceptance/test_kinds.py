"""Every command that reads a file accepts each kind of file, or refuses it with one error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from asrbuild.base.digest import file_digest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.recognition import recognise
from asrbuild.base.kinds.table import KINDS
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.sources import settle
from asrbuild.cli import tree
from tests import golden
from tests.acceptance.conftest import Workshop, run_asrbuild
from tests.other_files import DEMO, FILES, GENUINE, PB, TFLITE, make, memory_mapped

AUDIO = {"wav", "flac", "ogg", "mp3", "audio", "binary"}
WORDS = {"text", "csv"}
DATA = {"csv", "text", "folder", "checkpoint"}
CHECKPOINT = {
    "checkpoint",
    "folder",
    "checkpoint-index",
    "checkpoint-data",
    "checkpoint-state",
    "meta-graph",
}
ARTIFACT = {"artifact", "manifest"}

#: Key of a recipe -> the other overrides that it requires, and the kinds that it takes.
KEYS = {
    "source.path": (["source=frozen_graph"], {"graph", "pbmm", "tflite"}),
    "source.checkpoint_dir": (["source=checkpoint"], CHECKPOINT),
    "source.alphabet_config_path": ([], WORDS),
    "source.sample.audio": ([], AUDIO),
    "source.sample.text": ([], WORDS),
    "source.second.audio": ([], AUDIO),
    "source.second.text": ([], WORDS),
    "decoder.scorer_path": (["decoder=ds_ctcdecoder"], {"scorer"}),
    "verify.evaluation": ([], DATA),
    "verify.compared_with": ([], ARTIFACT),
}

#: Command line with {file} -> the kinds that it takes. {static} is an artifact of the sweep.
COMMANDS = {
    "inspect graph {file}": {"graph", "graph-unfrozen", "pbmm", "tflite"},
    "inspect model {file}": {"mlmodel", "mlpackage", "aimodel", "asrb", *ARTIFACT},
    "inspect scorer {file}": {"scorer"},
    "inspect scorer demo:prompts.scorer --alphabet {file}": WORDS,
    "run {file}": {"mlmodel", "mlpackage", "aimodel", "asrb", *ARTIFACT},
    "run {static} --input input_node={file}": {"npy"},
    "scorer build -o {out} --alphabet {alphabet} --text {file}": WORDS,
    "scorer build -o {out} --alphabet {alphabet} --arpa {file}": {"arpa"},
    "scorer build -o {out} --text {alphabet} --alphabet {file}": WORDS,
    "evaluate nothing {file}": DATA,
    "transcribe {file} {sample}": {"asrb", *ARTIFACT},
    "transcribe {static} {sample} --decoder ds_ctcdecoder --scorer {file}": {"scorer"},
    "app {file} -o {out}": {"asrb", *ARTIFACT},
    "app {static} -o {out} --no-check --audio {file}": AUDIO,
    "show {file}": {"asrb", *ARTIFACT},
    "verify {file}": {"asrb", *ARTIFACT},
    "verify nothing --bisect --graph {file}": {"graph", "pbmm"},
    "verify nothing --bisect --checkpoint {file}": CHECKPOINT,
    "report {file} -o {out}": ARTIFACT,
    "diff {file} nothing": {"asrb", *ARTIFACT},
    "diff {static} {static} --data {file}": DATA,
    "bundle {file} {out}.asrb": ARTIFACT,
    "ship {file} {out}": ARTIFACT,
    "pull {file}": {"asrb"},
    "variants {file}": {"asrb"},
    "key trust {file}": {"public-key"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("kinds") / "files")


@pytest.fixture(scope="module")
def command_line() -> Callable[[list[str]], object]:
    """The commands of ``asrbuild``, built once for all pairs."""
    command = typer.main.get_command(tree.typer_app())
    return lambda argv: command(argv, standalone_mode=False, prog_name="asrbuild")


def refusal(run: Callable[[], object]) -> AsrbuildError | None:
    """The error of one command; any other exception is a bug."""
    try:
        run()
    except AsrbuildError as error:
        return error
    return None


def wrong(name: str, error: AsrbuildError | None, takes: set[str], file: Path) -> str | None:
    """The fault in the answer to one file; None if there is none."""
    kind = KINDS[FILES[name][0]]
    what = recognise(file).what
    named = error is not None and (
        f"is {what}" in error.message and (", not a" in error.message or "NOT_A_BU" in str(error))
    )
    if kind.key in takes:
        return f"{name} is refused: {error}" if named else None
    if not named:
        return f"{name} is not refused by its name: {error}"
    assert error is not None
    if error.file != str(file):
        return f"{name}: the error names {error.file}"
    return None if error.fix else f"{name} is refused without a fix: {error}"


def unlike(found: Iterator[str | None]) -> str:
    return "\n".join(problem for problem in found if problem is not None)


def test_every_kind_has_a_file_and_is_recognised(files: Path) -> None:
    assert {kind for kind, _ in FILES.values()} == set(KINDS)
    assert {name: recognise(files / name).key for name in FILES} == {
        name: kind for name, (kind, _) in FILES.items()
    }


@pytest.mark.parametrize("key", KEYS)
def test_every_key_takes_or_refuses_each_kind_of_file(
    key: str, files: Path, tmp_path: Path
) -> None:
    needed, takes = KEYS[key]
    section, _, last = key.rpartition(".")
    recipe = compose_recipe(
        [*needed, f"{key}=tensorflow" if last == "compared_with" else f"{key}=x"]
    )
    owner = recipe
    for part in section.split("."):
        owner = getattr(owner, part)

    refusals = {}

    def problems() -> Iterator[str | None]:
        for name in FILES:
            object.__setattr__(owner, last, str(files / name))
            error = refusal(lambda: settle(recipe, tmp_path))
            refusals[name] = None if FILES[name][0] in takes else str(error)
            yield wrong(name, error, takes, files / name)
            if error is not None and FILES[name][0] not in takes and error.key not in (key, None):
                yield f"{name}: the error is put down to {error.key}"

    assert unlike(problems()) == ""
    golden.check_refusals(key, refusals)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_or_refuses_each_kind_of_file(
    command: str,
    files: Path,
    tmp_path: Path,
    workshop: Workshop,
    command_line: Callable[[list[str]], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASRBUILD_CONFIG", str(tmp_path / "config"))
    command_line(["key", "new", "mine"])
    places = {
        "static": workshop.artifact("static", "mlprogram"),
        "alphabet": DEMO / "alphabet.txt",
        "sample": DEMO / "sample.wav",
        "out": tmp_path / "out",
    }

    refusals = {}

    def problems() -> Iterator[str | None]:
        for name in FILES:
            argv = [part.format(file=files / name, **places) for part in command.split()]
            error = refusal(lambda a=argv: command_line(a))
            refusals[name] = None if FILES[name][0] in COMMANDS[command] else str(error)
            yield wrong(name, error, COMMANDS[command], files / name)

    assert unlike(problems()) == ""
    golden.check_refusals(command, refusals)


def test_transcribe_refuses_each_recording_by_its_kind(
    files: Path,
    workshop: Workshop,
    command_line: Callable[[list[str]], object],
    capfd: pytest.CaptureFixture[str],
) -> None:
    static = workshop.artifact("static", "mlprogram")
    audio = [str(files / name) for name in FILES]
    assert refusal(lambda: command_line(["transcribe", str(static), *audio, "--json"])) is not None
    rows = json.loads(capfd.readouterr().out)["recordings"]
    for name, row in zip(FILES, rows, strict=True):
        refused = f"is {recognise(files / name).what}" in row.get("error", "")
        assert refused == (FILES[name][0] not in AUDIO), (name, row)


@pytest.mark.parametrize("form", ["pbmm", "tflite"])
def test_other_forms_of_a_graph_are_built(form: str, tmp_path: Path) -> None:
    """The suffix does not decide the kind; the transcripts are those of the genuine graph."""
    path = tmp_path / "model.bin"
    if form == "pbmm":
        memory_mapped(PB, path)
    else:
        shutil.copy(TFLITE, path)
    done = run_asrbuild(
        "source=frozen_graph",
        f"source.path={path}",
        "verify=quick",
        f"source.sample.audio={GENUINE / 'hello.wav'}",
        f"source.sample.text={GENUINE / 'hello.txt'}",
        cwd=tmp_path,
    )
    assert done.code == 0, done.err
    assert "hello world you are currently caller number" in done.out
    (manifest,) = (tmp_path / "artifacts").glob("*/*/manifest.json")
    provenance = json.loads(manifest.read_text())["provenance"]
    sources = {(s["name"], s["sha256"]) for s in provenance["sources"]}
    assert ("model.bin", file_digest(path)) in sources
    weights = [fact["value"] for fact in provenance["source_facts"] if fact["name"] == "weights"]
    assert [text.partition(" as ")[0] for text in weights] == (
        [] if form == "pbmm" else ["int8, dequantised to float32"]
    )
    for page in ("report.md", "report.html"):
        text = manifest.with_name(page).read_text()
        assert "What the source states of itself" in text
        assert "export.relu_clip" in text.replace("<wbr>", "")
        assert ("dequantised to float32" in text) == (form == "tflite")
