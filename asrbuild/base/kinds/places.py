"""The places that take files (arguments, recipe keys), and the kinds that each takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from asrbuild.base.kinds.table import KINDS


@dataclass(frozen=True)
class Place:
    """A place that takes files: an argument of a command or a key of a recipe.

    Args:
        wants: the expected file, with an article.
        takes: keys of the kinds that it takes.
        fix: the file to give.
        instead: key of a kind -> what to do with it here, instead of the kind's own advice.
    """

    wants: str
    takes: frozenset[str]
    fix: str
    instead: Mapping[str, str] = field(default_factory=dict)


_AUDIO = frozenset({"wav", "flac", "ogg", "mp3", "audio"})
_FOLDERS = frozenset(
    {"folder", "saved-model", "checkpoint", "mlpackage", "mlmodelc", "aimodel", "artifact"}
)
_CHECKPOINT_FILES = ("meta-graph", "checkpoint-index", "checkpoint-data", "checkpoint-state")

#: The .tflite of DeepSpeech alone is read; of other networks the weights are often 8-bit integers.
_LITE = {
    "tflite": "build the SavedModel or the ONNX file that it was converted from, with "
    "source=saved_model or source=onnx; a .tflite of DeepSpeech is source=frozen_graph"
}

GRAPH = Place(
    "a TensorFlow graph",
    frozenset({"graph", "graph-unfrozen", "pbmm"}),
    "give a frozen graph (output_graph.pb)",
)
GRAPH_TO_RUN = Place(
    "a frozen TensorFlow graph",
    frozenset({"graph", "pbmm"}),
    "give a frozen graph (output_graph.pb)",
)
TENSORFLOW_GRAPH = Place(
    GRAPH_TO_RUN.wants,
    GRAPH_TO_RUN.takes,
    GRAPH_TO_RUN.fix,
    {"saved-model": "set source=saved_model source.path={file}"} | _LITE,
)
GRAPH_SOURCE = Place(
    "a frozen TensorFlow graph",
    frozenset({"graph", "pbmm", "tflite"}),
    "give a frozen graph (output_graph.pb), a .pbmm or a .tflite of DeepSpeech",
    dict.fromkeys(_CHECKPOINT_FILES, "set source=checkpoint source.checkpoint_dir={folder}")
    | {"checkpoint": "set source=checkpoint source.checkpoint_dir={file}"},
)
SAVED_MODEL = Place(
    "a TensorFlow SavedModel",
    frozenset({"saved-model"}),
    "give the folder that holds saved_model.pb and variables/",
    {"graph": "set source=tensorflow_graph source.path={file}"} | _LITE,
)
ONNX = Place("an ONNX model", frozenset({"onnx"}), "give a .onnx file", _LITE)
TORCH = Place(
    "a program of torch.export or TorchScript",
    frozenset({"pytorch", "pytorch-exported"}),
    "give a .pt2 of torch.export.save, or a .pt of torch.jit.save",
)
LITE = Place(
    "a TensorFlow Lite model", frozenset({"tflite"}), "give the .tflite of a DeepSpeech model"
)
CHECKPOINT = Place(
    "a TensorFlow checkpoint",
    frozenset({"checkpoint", "folder", *_CHECKPOINT_FILES}),
    "give the folder that DeepSpeech's --checkpoint_dir wrote",
    dict.fromkeys(("graph", "pbmm", "tflite"), "set source=frozen_graph source.path={file}"),
)
PACKAGE = Place(
    "a Core ML package",
    frozenset({"mlmodel", "mlpackage"}),
    "give a .mlpackage directory or a .mlmodel file that coremltools or asrbuild wrote",
)
ARTIFACT = Place(
    "an artifact",
    frozenset({"artifact", "manifest"}),
    "give an artifact's directory, or a name that `asrbuild ls` lists",
)
BUNDLE = Place("a bundle", frozenset({"asrb"}), "give a .asrb file of `asrbuild bundle`")
RECORDING = Place(
    "a recording", _AUDIO | {"binary"}, "give a WAV, FLAC, OGG or MP3 file"
)  # libsndfile knows more containers than are listed here
#: A recording without a header can begin with any bytes.
SAMPLES = Place(
    "samples without a header",
    frozenset(KINDS)
    - _FOLDERS
    - {"pipe", "device", "empty", "lfs-pointer", "annex-pointer", "html"},
    "give mono 16-bit PCM, little-endian",
)
CHECKPOINT_INDEX = Place(
    "the index of a checkpoint", frozenset({"checkpoint-index"}), "copy the checkpoint again"
)
#: Weights may begin with any bytes; a pointer to a file that was never fetched is refused.
CHECKPOINT_DATA = Place(
    "the data file of a checkpoint",
    SAMPLES.takes - {"annex-pointer", "xml", "answer", "pipe", "device"},
    "copy the checkpoint again",
)
CHECKPOINT_STATE = Place(
    "the state file of a checkpoint folder",
    frozenset({"checkpoint-state", "text", "csv", "empty", "binary"}),
    "copy it again, or name the checkpoint: source.checkpoint_dir=folder/best_dev-1234",
)
FLAGS = Place(
    "the flags of a training run",
    frozenset({"text", "csv", "json", "empty", "binary"}),
    "copy the flags.txt of the training run again, or move this file out of the folder",
)
SCORER = Place(
    "a scorer package",
    frozenset({"scorer"}),
    "give a DeepSpeech .scorer package; `asrbuild scorer build` makes one",
)
ARPA = Place(
    "an ARPA file", frozenset({"arpa"}), "give an ARPA file, for instance from KenLM's lmplz"
)
ALPHABET = Place(
    "an alphabet",
    frozenset({"text", "csv"}),
    "give DeepSpeech's alphabet.txt, one label a line",
)
TEXT = Place("a text", frozenset({"text", "csv"}), "give a text file in UTF-8")
DATASET = Place(
    "a data set",
    frozenset({"csv", "text", "folder", "checkpoint"}),
    "give a CSV with wav_filename and transcript, or a folder of a.wav with a.txt",
)
ARRAY = Place("a numpy array", frozenset({"npy"}), "write it with numpy.save, one array a file")
PUBLIC_KEY = Place(
    "a public key", frozenset({"public-key"}), "give the .pub file that `asrbuild key new` wrote"
)

#: Recipe key that names a file -> its place.
KEYS = {
    "source.path": GRAPH_SOURCE,
    "source.checkpoint_dir": CHECKPOINT,
    "source.alphabet_config_path": ALPHABET,
    "source.sample.audio": RECORDING,
    "source.sample.text": TEXT,
    "source.second.audio": RECORDING,
    "source.second.text": TEXT,
    "decoder.scorer_path": SCORER,
    "verify.evaluation": DATASET,
    "tune.data": DATASET,
}
