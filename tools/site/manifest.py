"""The reference of manifest.json, from the models that read it."""

from __future__ import annotations

import re
from typing import Any

#: Section -> key -> its meaning, in both versions. A test compares it with the schemas.
MEANINGS: dict[str, dict[str, str]] = {
    "Manifest": {
        "schema_version": "The version of this contract, such as `1.2` or `2.0`.",
        "artifact_id": "`name/version`.",
        "name": "The artifact's name, its folder in a store.",
        "version": "The recipe's version, and twelve digits of the content's digest.",
        "description": "A sentence about the model; may be empty.",
        "author": "The author; may be empty.",
        "license": "The model's licence; may be empty.",
        "languages": "Languages that the model transcribes, as BCP 47 tags.",
        "files": "Every file that the content digest covers.",
        "audio": "The sound that the features are computed from.",
        "features": "The features, and who computes them.",
        "model": "The Core ML package.",
        "state": "States that one call hands to the next; empty where there are none.",
        "streaming": "How an utterance is fed.",
        "decoder": "How outputs become text.",
        "verification": "The proof.",
        "provenance": "Where the artifact came from.",
        "rows": "How many output rows a call has.",
        "context": "What an output row depends on.",
    },
    "FileEntry": {
        "path": "Path in the artifact, with forward slashes.",
        "role": "What the file is for.",
        "bytes": "Its size.",
        "sha256": "Its digest, in hexadecimal.",
    },
    "Audio": {
        "sample_rate": "Samples a second, in Hz; other recordings are resampled to it.",
        "channels": "Channels; recordings with more are mixed.",
        "sample_type": "The type of a sample as it is recorded.",
        "sample_scale": "A sample times this is the input of the features, or of the package.",
    },
    "ReferenceVector": {
        "audio": "The recording, a file of the artifact.",
        "audio_sha256": "The digest of that file.",
        "samples": "Samples of it.",
        "total_frames": "Frames of features that it gives.",
        "first_frame": "Number of the first frame in `frames`.",
        "frames": "The features of these frames, without their neighbours.",
        "tolerance": "The largest difference of a value that a front end may have.",
    },
    "MfccTf": {
        "kind": "The kind of features.",
        "place": "Who computes them.",
        "window_ms": "Length of a window, in ms.",
        "step_ms": "Distance of two windows, in ms.",
        "window_samples": "Length of a window, in samples.",
        "step_samples": "Distance of two windows, in samples.",
        "window_function": "The window that the samples are multiplied with.",
        "fft_size": "Length of the Fourier transform; a shorter window is padded with zeros.",
        "spectrum": "Whether bands add up magnitudes or powers.",
        "mel_bands": "Mel bands.",
        "lower_hz": "Lower edge of the bands, in Hz.",
        "upper_hz": "Upper edge of the bands, in Hz.",
        "coefficients": "Coefficients that are kept of a frame.",
        "log_floor": "The smallest value that a logarithm is taken of.",
        "context_frames": "Frames on each side of a step that its window has.",
        "edge_padding": "What stands for frames beyond the ends of a recording.",
        "reference": "A recording and its features, to test a front end with.",
    },
    "LogMel": {
        "kind": "The recipe that the features follow.",
        "place": "Who computes them.",
        "window_ms": "Length of a window, in ms.",
        "step_ms": "Distance of two windows, in ms.",
        "settings": "The values of that recipe, such as `n_mels`.",
        "reference": "A recording and its features, to test a front end with; null where the "
        "package computes them.",
    },
    "NoFeatures": {
        "kind": "There are no features.",
        "place": "The package takes samples.",
        "step_ms": "The time of one sample, in ms.",
    },
    "RowRule": {
        "steps": "Input steps of one row.",
        "add": "Steps that are added before the division.",
        "most": "Rows that a call has at most; null: no bound.",
        "row_ms": "Time from one row to the next, in ms.",
    },
    "ContextRule": {
        "causal": "Whether no row depends on later steps.",
        "left_steps": "Steps before the new ones that a call is given again.",
        "right_steps": "Steps after the new ones that a call is given.",
        "padding": "Whether zeros past the end leave the rows of a recording as they are.",
        "trimmed": "Whether a call has no rows for its context.",
    },
    "Axis": {
        "name": "The name of the axis; `steps`, `samples` and `rows` count time.",
        "min": "The smallest size.",
        "default": "The size that a call has by default.",
        "max": "The largest size; null: no bound.",
        "enumerated": "The only sizes that are accepted; null: all from `min` to `max`.",
    },
    "Tensor": {
        "name": "Its name in the package.",
        "dtype": "The type of its values.",
        "shape": "Its axes, the outermost first.",
        "meaning": "What it holds.",
        "fill": "How an app fills or reads it, in words.",
    },
    "StreamFunctions": {
        "prime": "The function of the first call; null: `main`.",
        "main": "The function of each further call.",
        "flush": "The function at the end of an utterance; null: `main`.",
    },
    "Streaming": {
        "mode": "Whether an utterance is fed in chunks or as a whole.",
        "steps_per_chunk": "Steps of a call; of `whole` the most; null: no bound.",
        "hop_ms": "Time of one step, in ms.",
        "chunk_ms": "Time of a chunk, in ms; null where an utterance goes in whole.",
        "lookahead_ms": "Sound after a step that its row requires, in ms.",
        "latency_ms": "Time until the first row of a chunk can be computed, in ms; null where an "
        "utterance goes in whole.",
        "tail": "How the last, short chunk is fed.",
        "functions": "Functions that a stream of samples calls; absent where one function does "
        "all.",
    },
    "Function": {
        "name": "Its name in the package.",
        "inputs": "Its inputs.",
        "outputs": "Its outputs.",
        "streaming": "How it is fed.",
    },
    "Model": {
        "format": "The format of the package.",
        "package": "The package, a file or folder of the artifact.",
        "spec_version": "Core ML's specification version.",
        "minimum_os": "System -> the oldest version that loads it.",
        "compute_precision": "The precision in which it computes.",
        "recommended_compute_units": "The units that an app should ask Core ML for.",
        "lstm": "How the LSTM is written; absent in 2.0.",
        "default_function": "The function that runs where none is named.",
        "inputs": "Inputs of the default function.",
        "outputs": "Outputs of the default function.",
        "functions": "Every function of the package.",
    },
    "State": {
        "input": "The input that takes it.",
        "output": "The output that gives it.",
        "kind": "Whether the app feeds it back, or the package keeps it.",
        "shape": "Its shape.",
        "initial": "What an utterance begins with.",
        "reset": "When it begins anew.",
        "valid": "When the value may be carried on; absent in 2.0.",
    },
    "Scorer": {
        "path": "The scorer, a file of the artifact.",
        "sha256": "Its digest.",
        "lm_alpha": "Weight of the language model.",
        "lm_beta": "Reward of a word.",
    },
    "Tuned": {
        "data": "The name of the recordings.",
        "sha256": "Their digest.",
        "recordings": "How many they are.",
        "words": "Words spoken in them.",
        "wer": "The word error rate on them, with these values; 1 is as many errors as words.",
        "trials": "How many values were tried.",
    },
    "Decoder": {
        "type": "The decoder.",
        "alphabet": "The labels, in the order of the classes.",
        "alphabet_file": "The labels as a file of the artifact; null: there is none.",
        "utf8": "Whether a label is a byte of UTF-8.",
        "blank_index": "The class of the CTC blank; in 2.0 null where there is none.",
        "beam_width": "Hypotheses kept at each step.",
        "cutoff_prob": "Labels are looked at until their probabilities add up to this.",
        "cutoff_top_n": "And at most so many.",
        "scorer": "The language model; null: there is none.",
        "hot_words": "Word -> boost.",
        "tuned": "What the values were tuned on; null: they were not.",
        "kind": "What a label is.",
        "boundary_index": "The class that parts words; null: there is none.",
        "silent_indices": "Classes that print nothing.",
    },
    "Execution": {
        "executor": "The program that ran the package.",
        "version": "Its version.",
        "platform": "The system it ran on.",
    },
    "VerifiedInput": {
        "name": "The name of the input; `sample@64` is the sample in calls of 64 steps.",
        "steps": "Its length.",
        "sha256": "Its digest.",
    },
    "Metric": {
        "input": "The input.",
        "output": "The output that was compared.",
        "name": "The measure.",
        "value": "What was measured.",
        "comparison": "How it must compare with the threshold.",
        "threshold": "The gate.",
        "passed": "Whether it does.",
    },
    "Transcript": {
        "input": "The recording.",
        "expected": "The words that were spoken; null: not known.",
        "reference": "The words that the original gives.",
        "package": "The words that the package gives.",
        "match": "Whether these two are equal.",
        "recording": "The original's words for the whole recording in one call.",
        "recording_labels": "Labels of them.",
        "recording_edits": "Labels that the package, as it is fed, has otherwise.",
        "phonemes": "Phoneme errors; absent where the model writes none.",
    },
    "Phonemes": {
        "original": "Phonemes that the original gives.",
        "changed": "Edits of the package's phonemes against these.",
        "expected": "Phonemes that were spoken; null: not known.",
        "package_errors": "Edits of the package's phonemes against these.",
        "original_errors": "Edits of the original's phonemes against these.",
    },
    "Evaluation": {
        "data": "The name of the recordings.",
        "sha256": "Their digest.",
        "recordings": "How many they are.",
        "words": "Words spoken in them.",
        "wer": "The word error rate; 1 is as many errors as words.",
        "wer_low": "Lower end of its 95 % interval.",
        "wer_high": "Upper end of its 95 % interval.",
        "reference": "What it was compared with; null: nothing.",
        "reference_wer": "The rate of that.",
        "phonemes": "Phonemes spoken in them; absent where the model writes none.",
        "per": "The phoneme error rate.",
        "per_low": "Lower end of its 95 % interval.",
        "per_high": "Upper end of its 95 % interval.",
        "reference_per": "The phoneme error rate of what it was compared with.",
        "left_out": "Recordings in no count, since the alphabet cannot spell their words; absent "
        "where there are none.",
    },
    "WitnessMetric": {
        "input": "The input.",
        "output": "The output that was compared.",
        "name": "The measure.",
        "value": "What was measured.",
        "comparison": "How it must compare with the threshold.",
        "threshold": "The gate.",
        "passed": "Whether it does.",
        "computed_by": "The runtime.",
        "compared_with": "What its result was compared with.",
    },
    "Witness": {
        "runtime": "The runtime.",
        "version": "Its version.",
        "platform": "The system it ran on.",
        "arithmetic": "The precision in which it computes.",
        "missing_ops": "Operations that it cannot be given; if there are any, nothing was run.",
        "metrics": "What was measured.",
        "passed": "Whether all gates passed.",
    },
    "Verification": {
        "executed": "Whether the package was run at all.",
        "core_ml_executed": "Whether Core ML itself ran it.",
        "reference": "The original that it was compared with.",
        "executions": "Programs that ran the package.",
        "inputs": "What it was run on.",
        "metrics": "Every gate with its value.",
        "transcripts": "The words of each recording.",
        "evaluation": "Word errors on a set of recordings; null: none was given.",
        "passed": "Whether every gate passed.",
        "witness": "What Apple's Core AI runtime computed; absent where it did not run.",
    },
    "SourceFile": {
        "role": "What it is for.",
        "name": "Its name.",
        "sha256": "Its digest.",
    },
    "SourceFact": {
        "name": "A key of the recipe, or a name.",
        "value": "What the source states.",
        "file": "The file that states it.",
        "place": "The place in it: a node, a line, a variable.",
    },
    "Git": {
        "commit": "The commit.",
        "dirty": "Whether there were changes beside it.",
    },
    "Provenance": {
        "created": "When it was built, UTC, ISO 8601.",
        "platform": "The system it was built on.",
        "git": "The repository that the build was started in; null: none.",
        "recipe": "The whole recipe.",
        "overrides": "What was typed.",
        "sources": "Files that it was built from.",
        "tools": "Library -> version.",
        "parents": "Artifacts that it was made from.",
        "source_facts": "What the source states of itself; absent before 1.1.",
    },
}
#: Sections of 1.x that are shown as a section with the same keys.
MEANINGS["Features"] = MEANINGS["MfccTf"]

HEAD = {
    1: "`manifest.json` is the contract between a build and an app. Artifacts of DeepSpeech models "
    "have this version, 1.x. [Version 2.0](manifest2.md) is written where 1.x cannot say all. "
    "`asrbuild schema` prints the JSON Schema from which this page is made. A reader ignores keys "
    "that a newer minor version added; see [versions](../versioning.md).",
    2: "Artifacts of models that [1.x](manifest.md) cannot describe have this version: rows and "
    "context, features of other kinds, log probabilities, a blank that is not last. "
    "`asrbuild schema --major 2` prints the JSON Schema from which this page is made.",
}


def page(major: int) -> str:
    """Every key of the manifest of a major version, by section."""
    lines = [f"# The manifest, {major}.{'x' if major == 1 else '0'}", "", HEAD[major], ""]
    for name, definition in sections(major).items():
        lines += [f"## {name}", ""]
        if "description" in definition:
            lines += [definition["description"].replace("``", "`"), ""]
        lines += ["| key | meaning | type | required |", "|---|---|---|---|"]
        required = set(definition.get("required", ()))
        for key, value in definition["properties"].items():
            meaning = MEANINGS[plain(name)][key].replace("->", "to")
            needed = "yes" if key in required else ""
            lines.append(f"| `{key}` | {meaning} | {kind(value)} | {needed} |")
        lines.append("")
    return "\n".join(lines)


def sections(major: int) -> dict[str, dict[str, Any]]:
    """Name of a section -> its schema, the manifest itself first."""
    from asrbuild.artifact.reading import json_schema

    schema = json_schema(major)
    found = {"Manifest": schema, **dict(sorted(schema["$defs"].items()))}
    return {title(name): value for name, value in found.items() if "properties" in value}


def title(name: str) -> str:
    """The heading of a section; that of 2.0 names 1.x too if an older section may replace it."""
    module, _, plain_name = name.rpartition("__")
    return f"{plain_name} of 1.x" if module.endswith("__manifest") else plain_name


def plain(name: str) -> str:
    """The name of a section without its version."""
    return name.removesuffix(" of 1.x")


def kind(value: dict[str, Any]) -> str:
    """The type of a value, in words; a section is a link to it."""
    if "$ref" in value:
        name = title(value["$ref"].rpartition("/")[2])
        return f"[{name}](#{re.sub('[^a-z0-9 ]', '', name.lower()).replace(' ', '-')})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    for several in ("anyOf", "oneOf"):
        if several in value:
            return " or ".join(dict.fromkeys(map(kind, value[several])))
    if value.get("type") == "array":
        inner = value.get("items") or (value.get("prefixItems") or [{}])[0]
        return f"list of {kind(inner)}"
    if value.get("type") == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"name to {kind(value['additionalProperties'])}"
    return str(value.get("type", "any")).replace("integer", "whole number")
