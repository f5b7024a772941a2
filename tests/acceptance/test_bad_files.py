"""A build refuses each file that it cannot use with its key, its file and a fix."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from asrbuild.architectures.deepspeech.network import random_weights
from tests import golden
from tests.acceptance.conftest import Workshop, assert_nothing_was_published
from tests.command import run_main
from tests.paths import DEMO


def _other_width(at: Path) -> tuple[list[str], str]:
    return ["export.n_hidden=512"], "export.n_hidden=512 in the recipe, but the source states 256 ("


def _other_alphabet(at: Path) -> tuple[list[str], str]:
    (at / "short.txt").write_text(" \na\nb\n")
    return (
        [f"source.alphabet_config_path={at}/short.txt"],
        "the alphabet has 3 labels, but the source has 29 outputs: it wants 28 labels",
    )


def _truncated_graph(at: Path) -> tuple[list[str], str]:
    graph = _graph(at, -1)
    whole = graph.read_bytes()
    graph.write_bytes(whole[: len(whole) // 2])
    return ["source=frozen_graph", f"source.path={graph}"], str(graph)


def _graph(at: Path, n_steps: int) -> Path:
    from asrbuild.architectures.deepspeech.export import write_frozen_graph
    from asrbuild.architectures.deepspeech.flags import ExportFlags
    from asrbuild.speech.alphabet import read_alphabet

    labels = list(read_alphabet(DEMO / "alphabet.txt").labels)
    graph = at / "output_graph.pb"
    write_frozen_graph(random_weights(32), ExportFlags(n_steps=n_steps, n_hidden=32), labels, graph)
    return graph


def _missing_output(at: Path) -> tuple[list[str], str]:
    graph = _graph(at, -1)
    # The name has the same length, so that the graph can still be read.
    graph.write_bytes(graph.read_bytes().replace(b"new_state_c", b"old_state_c"))
    return (
        ["source=frozen_graph", f"source.path={graph}"],
        "the graph has no output new_state_c\n  key: coreml.outputs",
    )


def _static_graph(at: Path) -> tuple[list[str], str]:
    return (
        [
            "source=frozen_graph",
            f"source.path={_graph(at, 16)}",
            "model=dynamic_to_static",
            "n_steps=32",
        ],
        "n_steps=32 in the recipe, but the source states 16 (shape of input_node of",
    )


def _empty_recording(at: Path) -> tuple[list[str], str]:
    (at / "empty.wav").touch()
    return [f"source.sample.audio={at}/empty.wav", "verify=quick"], "empty.wav"


def _not_a_recording(at: Path) -> tuple[list[str], str]:
    (at / "notes.wav").write_text("these are words about sounds\n" * 100)
    return [f"source.sample.audio={at}/notes.wav", "verify=quick"], "notes.wav"


def _words_in_latin_1(at: Path) -> tuple[list[str], str]:
    (at / "latin.txt").write_bytes("grüße".encode("latin-1"))
    return (
        [f"source.sample.text={at}/latin.txt"],
        f"the words of a recording are not UTF-8 text\n  key: source.sample.text\n  file: {at}",
    )


def _too_short(at: Path) -> tuple[list[str], str]:
    soundfile.write(at / "click.wav", [0.1] * 100, 16_000)
    return [
        f"source.sample.audio={at}/click.wav",
        "verify=quick",
    ], "one step of the features requires"


def _artifacts_is_a_file(at: Path) -> tuple[list[str], str]:
    (at / "taken").write_text("not a folder")
    return [f"paths.artifacts={at}/taken", "verify=quick"], "taken"


def _checkpoint_without_state(at: Path) -> tuple[list[str], str]:
    (at / "empty").mkdir()
    return ["source=checkpoint", f"source.checkpoint_dir={at}/empty"], str(at / "empty")


def _damaged_checkpoint(at: Path) -> tuple[list[str], str]:
    folder = at / "damaged"
    shutil.copytree(DEMO / "checkpoint", folder)
    for data in folder.glob("*.data-*"):
        data.chmod(0o644)
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    return ["source=checkpoint", f"source.checkpoint_dir={folder}"], "does not match its checksum"


@pytest.mark.parametrize(
    "make",
    [
        _other_width,
        _other_alphabet,
        _truncated_graph,
        _missing_output,
        _static_graph,
        _empty_recording,
        _not_a_recording,
        _words_in_latin_1,
        _too_short,
        _artifacts_is_a_file,
        _checkpoint_without_state,
        _damaged_checkpoint,
    ],
)
def test_unusable_files_are_refused(
    make: Callable[[Path], tuple[list[str], str]],
    at: Path,
    workshop: Workshop,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    overrides, message = make(at)
    # The sweep's cache spares the stages before the fault, TensorFlow's among them.
    cache = [f"paths.cache={workshop.folder}/.asrbuild/cache"]
    code, _, err = run_main(["model=dynamic", *overrides, *cache], monkeypatch, capfd)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert "unexpected" not in err
    assert_nothing_was_published(at)
    golden.check_error(make.__name__, code, err, at)
