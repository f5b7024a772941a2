"""Facts that a source states, and recipes that contradict them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.export import build_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.architectures.tensorflow.proto import Graph, Node, constant, write_graph
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.recipe import Recipe, lookup
from asrbuild.builder.sources import Source, settle
from asrbuild.proof.cases import build_cases
from asrbuild.speech.mfcc import FeatureSettings
from tests.other_files import LFS
from tests.paths import GENUINE

DEEPSPEECH = GENUINE / "deepspeech-0.9.3"
ENGLISH = " abcdefghijklmnopqrstuvwxyz'"
SWAHILI = " 'abcdefghijklmnopqrstuvwxyz"


def settled(folder: Path, *overrides: str) -> tuple[Recipe, Source]:
    return settle(compose_recipe(list(overrides)), folder / "cache")


def refusal(folder: Path, *overrides: str) -> AsrbuildError:
    with pytest.raises(AsrbuildError) as caught:
        settled(folder, *overrides)
    return caught.value


def of(path: Path, *more: str) -> list[str]:
    if path.is_dir() or path.with_name(f"{path.name}.index").is_file():
        return ["source=checkpoint", f"source.checkpoint_dir={path}", *more]
    return ["source=frozen_graph", f"source.path={path}", *more]


SOURCES: list[tuple[str, str, dict[str, Any]]] = [
    ("deepspeech-0.6.1/checkpoint", ENGLISH, {"upper_frequency_limit": 4000.0}),
    ("deepspeech-0.6.1/x_r061.pb", ENGLISH, {"upper_frequency_limit": 4000.0}),
    ("deepspeech-0.9.3/checkpoint", ENGLISH, {}),
    ("deepspeech-0.9.3/x_r1_16.pb", ENGLISH, {}),
    ("deepspeech-0.9.3/x_r1_dyn.pb", ENGLISH, {}),
    (
        "deepspeech-0.9.3-8khz/checkpoint",
        ENGLISH,
        {"audio_sample_rate": 8000, "upper_frequency_limit": 4000.0},
    ),
    (
        "deepspeech-0.9.3-8khz/x_r4k8_16.pb",
        ENGLISH,
        {"audio_sample_rate": 8000, "upper_frequency_limit": 4000.0},
    ),
    ("deepspeech-0.9.3-swahili-labels/checkpoint", SWAHILI, {}),
    ("deepspeech-0.9.3-swahili-labels/x_r3sw_16.pb", SWAHILI, {}),
    ("deepspeech-0.9.3-layer-norm/checkpoint", ENGLISH, {}),
    ("deepspeech-0.9.3-layer-norm/x_r2_16.pb", ENGLISH, {}),
    ("coqui-1.4.0/checkpoint", SWAHILI, {}),
    ("coqui-1.4.0/x_q1.pb", SWAHILI, {}),
    ("deepspeech-0.9.3-bytes/checkpoint", "", {}),
    ("deepspeech-0.9.3-bytes/x_r5b_16.pb", "", {}),
]
USUAL = {
    "audio_sample_rate": 16000,
    "feature_win_len": 32,
    "feature_win_step": 20,
    "relu_clip": 20.0,
    "n_input": 26,
    "n_context": 9,
    "n_hidden": 96,
    "beam_width": 500,
    "export_language": "",
    "upper_frequency_limit": 8000.0,
}


@pytest.mark.parametrize(("name", "labels", "other"), SOURCES, ids=[row[0] for row in SOURCES])
def test_genuine_sources_state_every_required_fact(
    name: str, labels: str, other: dict[str, Any], tmp_path: Path
) -> None:
    recipe, source = settled(tmp_path, *of(GENUINE / name))
    for key, value in (USUAL | other).items():
        assert lookup(recipe, f"export.{key}") == value, key
    assert recipe.source.bytes_output_mode is (labels == "")
    assert "".join(source.alphabet.labels) == (labels or "".join(map(chr, range(1, 256))))
    static = name.endswith(".pb") and "dyn" not in name
    steps = recipe.model.steps
    assert (steps.kind, steps.default) == ("fixed" if static else "range", 16)
    assert recipe.model.streaming == ("chunked" if static else "whole")
    for fact in source.facts:
        assert Path(fact.file).exists()
        assert fact.place
    # The cached facts are the same, and a settled recipe does not change.
    again = settle(recipe, tmp_path / "cache")
    assert again == (recipe, source)


def test_the_second_recording_of_a_proof_is_optional(tmp_path: Path) -> None:
    recipe, source = settled(tmp_path, "source.second=null")
    assert set(source.recordings) == {"sample"}
    whole = compose_recipe([]).verify.inputs
    assert recipe.verify.inputs == [name for name in whole if name != "second"]
    cases = build_cases(
        FeatureSettings(), {"sample": np.zeros(32000, np.float32)}, recipe.verify.inputs
    )
    assert {name.split("_")[0] for name in cases} >= {"sample", "silence", "noise"}


def test_a_key_that_repeats_the_source_changes_nothing(tmp_path: Path) -> None:
    source = of(GENUINE / "deepspeech-0.9.3-8khz/x_r4k8_16.pb")
    repeated = [f"export.{key}={value}" for key, value in USUAL.items() if value not in ("", 500)]
    repeated = [key for key in repeated if "rate" not in key and "frequency" not in key]
    repeated += ["export.audio_sample_rate=8000", "export.upper_frequency_limit=4000", "n_steps=16"]
    plain, typed = (settled(tmp_path, *source, *more)[0] for more in ((), repeated))
    assert asdict(typed) == asdict(plain)
    assert settled(tmp_path, *source, *repeated, "name=own")[0].name == "own"


@pytest.mark.parametrize("name", ["checkpoint", "x_r5b_16.pb"])
def test_a_model_that_writes_bytes_takes_no_alphabet(name: str, tmp_path: Path) -> None:
    source = GENUINE / "deepspeech-0.9.3-bytes" / name
    plain, typed = (
        settled(tmp_path, *of(source, *more))[0]
        for more in ((), ("source.bytes_output_mode=true",))
    )
    assert typed == plain
    for key in ("source.bytes_output_mode=false", "source.alphabet_config_path=demo:alphabet.txt"):
        error = refusal(tmp_path, *of(source, key))
        assert error.key == key.partition("=")[0]
        assert "the source states true" in error.message


def folder_of(source: str, at: Path, flags: Callable[[str], str] | None = None) -> Path:
    """A copy of a genuine checkpoint without other files, with changed flags."""
    copy = shutil.copytree(GENUINE / source / "checkpoint", at / "run" / "ckpt")
    if flags is not None:
        path = copy / "flags.txt"
        path.write_text(flags(path.read_text()))
    return copy


def with_alphabet(folder: Path, labels: str = ENGLISH) -> Path:
    (folder / "alphabet.txt").write_text("".join(f"{label}\n" for label in labels))
    return folder


def last(line: str) -> Callable[[str], str]:
    return lambda text: f"{text}\n{line}\n"


@pytest.mark.parametrize(
    "flags",
    [
        last("--audio_sample_rate=8000"),
        last("--audio_sample_rate 8000"),
        last("--audio_sample_rate\n8000"),
        last("-audio_sample_rate=8000"),
        lambda text: "\ufeff" + text.replace("=16000", "=8000").replace("\n", "\r\n"),
        lambda text: text.replace("=16000", "=8000").replace("\n", "\r"),
        lambda text: json.dumps(
            {
                "audio_sample_rate": 8000,
                "feature_win_len": 32,
                "feature_win_step": 20,
                "relu_clip": 20.0,
            }
        ),
        last("--flagfile=/elsewhere/more.txt"),
        last("--flagfile=C:\\elsewhere\\more.txt"),
    ],
)
def test_flags_are_read_in_every_written_form(flags: Callable[[str], str], tmp_path: Path) -> None:
    folder = with_alphabet(folder_of("deepspeech-0.9.3", tmp_path, flags))
    (folder / "more.txt").write_text("# by hand\n--audio_sample_rate=8000\n")
    recipe, source = settled(tmp_path, *of(folder))
    assert recipe.export.audio_sample_rate == 8000
    assert recipe.export.upper_frequency_limit == 4000.0
    rate = next(f for f in source.facts if f.name == "export.audio_sample_rate")
    assert Path(source.files["flags"]).parent == folder
    assert rate.place.startswith("line ")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (last("--audio_sample_rate=16k"), "--audio_sample_rate is '16k', not a whole number"),
        (last("--bytes_output_mode=maybe"), "--bytes_output_mode is 'maybe', not true or false"),
        (last("--flagfile=gone.txt"), "flags.txt takes flags from gone.txt, which is not beside"),
        (last("--flagfile=flags.txt"), "flags.txt takes flags from flags.txt"),
        (lambda _: "hello\n", "flags.txt is not the flags of a training run"),
        (lambda _: "{", "flags.txt is not the flags of a training run"),
        (last("--n_hidden=512"), "the source contradicts itself: export.n_hidden is 96 (shape of"),
    ],
)
def test_unusable_flags_are_refused(
    flags: Callable[[str], str], message: str, tmp_path: Path
) -> None:
    folder = with_alphabet(folder_of("deepspeech-0.9.3", tmp_path, flags))
    error = refusal(tmp_path, *of(folder))
    assert error.message.startswith(message)
    assert error.fix


@pytest.mark.parametrize(
    "override",
    [
        "export.audio_sample_rate=8000",
        "export.feature_win_len=25",
        "export.feature_win_step=10",
        "export.upper_frequency_limit=4000",
        "export.relu_clip=6",
        "export.n_hidden=64",
        "export.n_context=8",
        "export.n_input=13",
    ],
)
@pytest.mark.parametrize("source", ["checkpoint", "x_r1_16.pb"])
def test_a_key_that_contradicts_the_source_is_refused(
    source: str, override: str, tmp_path: Path
) -> None:
    error = refusal(tmp_path, *of(DEEPSPEECH / source, override))
    key, _, value = override.partition("=")
    assert error.key == key
    assert error.message.startswith(f"{key}={value}")
    assert "in the recipe, but the source states " in error.message
    right = error.fix.removeprefix("set ").partition(" ")[0]
    settled(tmp_path, *of(DEEPSPEECH / source, right))
    settled(tmp_path, *of(DEEPSPEECH / source))


def test_steps_that_contradict_the_graph_are_refused(tmp_path: Path) -> None:
    graph = DEEPSPEECH / "x_r1_16.pb"
    error = refusal(tmp_path, *of(graph, "model=static", "n_steps=32"))
    assert error.fix == "set n_steps=16 or leave it out"
    recipe, _ = settled(tmp_path, *of(DEEPSPEECH / "x_r1_dyn.pb", "model=static", "n_steps=32"))
    assert (recipe.n_steps, recipe.model.steps.default) == (32, 32)


@pytest.mark.parametrize("source", ["checkpoint", "x_r3sw_16.pb"])
def test_an_alphabet_that_contradicts_the_source_is_refused(source: str, tmp_path: Path) -> None:
    path = GENUINE / "deepspeech-0.9.3-swahili-labels" / source
    error = refusal(tmp_path, *of(path, "source.alphabet_config_path=demo:alphabet.txt"))
    assert "alphabet.txt has 28 labels and label 1 is 'a'; the source states" in error.message
    assert 'label 1 is "\'"' in error.message
    error = refusal(tmp_path, *of(path, "source.bytes_output_mode=true"))
    assert error.key == "source.bytes_output_mode"


def test_a_checkpoint_without_facts_requires_keys(tmp_path: Path) -> None:
    folder = folder_of("deepspeech-0.9.3", tmp_path)
    (folder / "flags.txt").unlink()
    error = refusal(tmp_path, *of(folder))
    assert error.message == "nothing states the model's 28 labels"
    labels = error.fix.partition("(")[2].partition(" ")[0]
    assert labels == "source.alphabet_config_path=demo:alphabet.txt"
    error = refusal(tmp_path, *of(folder, labels))
    assert error.message.startswith(
        "nothing states audio_sample_rate, feature_win_len, feature_win_step, "
        "upper_frequency_limit, relu_clip of the model"
    )
    given = error.fix.partition(" that is ")[2].split()
    assert len(given) == 5
    recipe, _ = settled(tmp_path, *of(folder, labels, *given))
    assert recipe.export.audio_sample_rate == 16000


@pytest.mark.parametrize(
    "name",
    [
        "best_dev-590.index",
        "best_dev-590.data-00000-of-00001",
        "best_dev_checkpoint",
        "flags.txt",
        "alphabet.txt",
    ],
)
def test_a_git_lfs_pointer_in_a_checkpoint_is_refused(name: str, tmp_path: Path) -> None:
    folder = with_alphabet(folder_of("deepspeech-0.9.3", tmp_path))
    (folder / name).write_text(LFS)
    error = refusal(tmp_path, *of(folder))
    assert "a Git LFS pointer" in error.message
    assert "git lfs pull" in (error.fix or "")
    assert error.file == str(folder / name)


def test_the_alphabet_of_a_checkpoint_is_found_by_name(tmp_path: Path) -> None:
    """The search uses the last component of the path in flags.txt, and no other name."""
    folder = folder_of("deepspeech-0.9.3-swahili-labels", tmp_path)
    error = refusal(tmp_path, *of(folder))
    assert error.message == (
        "nothing states the model's 28 labels; line 23 of flags.txt names "
        "/mnt/data/swahili_coqui_v8.0-large-vocab_alphabet.txt, which is not here"
    )
    assert error.key == "source.alphabet_config_path"
    for place in (
        "../swahili_coqui_v8.0-large-vocab_alphabet.txt",
        "../alphabet.txt",
        "swahili_coqui_v8.0-large-vocab_alphabet.txt",
        "alphabet.txt",
    ):
        path = folder / place
        with_alphabet(path.parent, SWAHILI)
        if path.name != "alphabet.txt":
            (path.parent / "alphabet.txt").rename(path)
        _, source = settled(tmp_path, *of(folder))
        assert "".join(source.alphabet.labels) == SWAHILI
        assert Path(source.files["alphabet"]).resolve() == path.resolve()
        path.unlink()


def test_an_export_of_other_weights_does_not_state_labels(tmp_path: Path) -> None:
    folder = folder_of("deepspeech-0.9.3", tmp_path)
    shutil.copy(GENUINE / "deepspeech-0.6.1" / "x_r061.pb", folder.parent / "other.pb")
    assert "nothing states the model's 28 labels" in refusal(tmp_path, *of(folder)).message
    shutil.copy(DEEPSPEECH / "x_r1_16.pb", folder / "own.pb")
    _, source = settled(tmp_path, *of(folder))
    assert "".join(source.alphabet.labels) == ENGLISH
    assert source.files["alphabet"].name == "own.pb"


def test_256_outputs_hint_at_bytes_output_mode(tmp_path: Path) -> None:
    folder = folder_of("deepspeech-0.9.3-bytes", tmp_path)
    (folder / "flags.txt").unlink()
    usual = [
        "export.audio_sample_rate=16000",
        "export.feature_win_len=32",
        "export.feature_win_step=20",
        "export.upper_frequency_limit=8000",
        "export.relu_clip=20",
    ]
    for more in ([], ["source.alphabet_config_path=demo:alphabet.txt"]):
        error = refusal(tmp_path, *of(folder, *usual, *more))
        assert "source.bytes_output_mode=true" in error.fix
    _, source = settled(tmp_path, *of(folder, *usual, "source.bytes_output_mode=true"))
    assert source.alphabet.bytes_output


# Graphs ------------------------------------------------------------------------------------------


def written(
    at: Path,
    change: Callable[[Node], Node | None],
    flags: ExportFlags | None = None,
    labels: str = ENGLISH,
) -> Path:
    """Writes a small graph in DeepSpeech's form with some nodes changed or left out."""
    weights = random_weights(8, n_output=len(labels) + 1)
    made = build_graph(weights, flags or ExportFlags(16, 8, export_language="sw"), list(labels))
    nodes = [changed for node in made.nodes if (changed := change(node)) is not None]
    path = at / "output_graph.pb"
    write_graph(Graph(tuple(nodes), made.producer), path)
    return path


def const(name: str, value: Any) -> Callable[[Node], Node]:
    array = (
        np.array(value, object)
        if isinstance(value, list) and isinstance(value[0], bytes)
        else np.array(value)
    )
    tensor = constant(array)

    def change(node: Node) -> Node:
        if node.name != name:
            return node
        return replace(node, attrs=dict(node.attrs) | {"dtype": tensor.dtype, "value": tensor})

    return change


def attribute(op: str, name: str, value: Any) -> Callable[[Node], Node]:
    return lambda node: (
        replace(node, attrs=dict(node.attrs) | {name: value}) if node.op == op else node
    )


@pytest.mark.parametrize(
    "value",
    [np.array([8000], np.int32), np.array(8000, np.int64), [b"8000"], np.float32(8000.0)],
)
def test_metadata_of_every_type_is_read(value: Any, tmp_path: Path) -> None:
    flags = ExportFlags(16, 8, audio_sample_rate=8000, export_language="sw")
    graph = written(tmp_path, const("metadata_sample_rate", value), flags)
    recipe, _ = settled(tmp_path, *of(graph))
    assert recipe.export.audio_sample_rate == 8000
    assert recipe.export.export_language == "sw"


def test_unicode_labels_are_read_and_duplicates_refused(tmp_path: Path) -> None:
    graph = written(tmp_path, lambda node: node, labels="ôaô漢")
    _, source = settled(tmp_path, *of(graph))
    assert source.alphabet.labels == ("ô", "a", "ô", "漢")


def without(prefix: str) -> Callable[[Node], Node | None]:
    return lambda node: None if node.name.startswith(prefix) else node


def test_facts_of_a_graph_without_metadata_come_from_its_nodes(tmp_path: Path) -> None:
    flags = ExportFlags(16, 8, audio_sample_rate=8000, feature_win_step=10, relu_clip=6.0)
    graph = written(tmp_path, without("metadata_"), flags)
    error = refusal(tmp_path, *of(graph))
    assert error.key == "source.alphabet_config_path"
    recipe, _ = settled(tmp_path, *of(graph, "source.alphabet_config_path=demo:alphabet.txt"))
    export = recipe.export
    assert (export.audio_sample_rate, export.feature_win_len, export.feature_win_step) == (
        8000,
        32,
        10,
    )
    assert export.relu_clip == 6.0


@pytest.mark.parametrize(
    ("change", "message", "key"),
    [
        (
            const("metadata_sample_rate", [8000]),
            "the source contradicts itself: "
            "export.audio_sample_rate is 8000 (node metadata_sample_rate of",
            "export.audio_sample_rate",
        ),
        (
            const("metadata_feature_win_len", [25]),
            "the graph computes its features with window_samples 512",
            "export.feature_win_len",
        ),
        (
            attribute("AudioSpectrogram", "stride", 160),
            "the graph computes its features with step_samples 160",
            "export.feature_win_step",
        ),
        (
            attribute("Mfcc", "filterbank_channel_count", 20),
            "the graph computes its features with mel_bands 20",
            "source.path",
        ),
        (
            attribute("AudioSpectrogram", "magnitude_squared", False),
            "the graph computes its features with magnitude_squared false",
            "source.path",
        ),
        (
            const("metadata_sample_rate", [b"fast"]),
            "metadata node metadata_sample_rate is damaged",
            None,
        ),
        (const("metadata_alphabet", [b"\5"]), "metadata node metadata_alphabet is damaged", None),
    ],
)
def test_a_contradictory_graph_is_refused(
    change: Callable[[Node], Node], message: str, key: str | None, tmp_path: Path
) -> None:
    error = refusal(tmp_path, *of(written(tmp_path, change)))
    assert error.message.startswith(message)
    assert error.key == key
    assert error.fix


def test_a_batch_is_refused_with_the_way_to_export_again(tmp_path: Path) -> None:
    graph = written(tmp_path, lambda node: node, ExportFlags(16, 8, batch_size=4))
    error = refusal(tmp_path, *of(graph))
    assert error.message.startswith("the graph takes 4 utterances at a time (shape of input_node)")
    assert "--export_batch_size 1" in error.fix


def test_another_context_is_read_from_the_graph(tmp_path: Path) -> None:
    weights = random_weights(8, n_features=26 * 11)
    made = build_graph(weights, ExportFlags(16, 8, n_context=5), list(ENGLISH))
    write_graph(made, tmp_path / "g.pb")
    recipe, _ = settled(tmp_path, *of(tmp_path / "g.pb"))
    assert (recipe.export.n_context, recipe.export.n_input) == (5, 26)


def test_the_weights_are_those_of_the_named_folder(tmp_path: Path) -> None:
    """The manifest records the digests of the files that are read."""
    original = folder_of("deepspeech-0.9.3", tmp_path / "original")
    copy = with_alphabet(folder_of("deepspeech-0.9.3-8khz", tmp_path / "copy"))
    state = (copy / "best_dev_checkpoint").read_text().replace("/mnt/train/r4k8", str(original))
    (copy / "best_dev_checkpoint").write_text(state)
    _, source = settled(tmp_path, *of(copy))
    assert {path.parent for label, path in source.files.items() if "checkpoint" in label} == {copy}
    assert source.checkpoint == find_checkpoint(copy)
    theirs = read_weights(find_checkpoint(GENUINE / "deepspeech-0.9.3-8khz" / "checkpoint"))
    assert np.array_equal(read_weights(source.checkpoint).layer_1_bias, theirs.layer_1_bias)
