"""The kinds of file that asrbuild knows, and what to do with each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Args:
        key: its short name.
        what: its name for a person, with an article.
        why: the reason why it cannot replace another kind; may be empty.
        instead: what to do with such a file; ``{file}`` is its path, ``{folder}`` its folder.
        suffixes: the usual ends of its name; none where any name is usual.
    """

    key: str
    what: str
    why: str = ""
    instead: str = ""
    suffixes: tuple[str, ...] = ()


_SOURCE_PATH = "build it with `asrbuild source=frozen_graph source.path={file}`"
_CHECKPOINT = (
    "build from its folder with `asrbuild source=checkpoint source.checkpoint_dir={folder}`"
)
_INSPECT_MODEL = "look at it with `asrbuild inspect model {file}`"
_NOT_CONVERTED = "export the model to ONNX, and build that with `asrbuild source=onnx`"
_TORCH = (
    "build a program of torch.export or TorchScript with `asrbuild source=torch_export "
    "source.path={file}`; a file of weights alone holds no network: export the model to ONNX"
)
_SAVED_MODEL = "build it with `asrbuild source=saved_model source.path={}`"
_ONNX = (
    "write its recipe with `asrbuild inspect {file} --recipe`, or build it with "
    "`asrbuild source=onnx source.path={file}`"
)
_DOWNLOAD = "open the file to see what the server says, then download the file again"

KINDS = {
    kind.key: kind
    for kind in (
        Kind("graph", "a frozen TensorFlow graph (GraphDef)",
             instead="look at it with `asrbuild inspect graph {file}`", suffixes=(".pb",)),
        Kind("graph-unfrozen", "a TensorFlow graph that is not frozen",
             "its weights are variables, which are not in the file",
             "freeze it, or build from the checkpoint that has its weights", (".pb",)),
        Kind("pbmm", "a memory-mapped TensorFlow graph (.pbmm)", instead=_SOURCE_PATH,
             suffixes=(".pbmm",)),
        Kind("tflite", "a TensorFlow Lite model", instead=_SOURCE_PATH, suffixes=(".tflite",)),
        Kind("meta-graph", "a TensorFlow MetaGraphDef (.meta)",
             "it holds the graph of a training, without weights", _CHECKPOINT, (".meta",)),
        Kind("graph-text", "a TensorFlow graph as text (.pbtxt)",
             "asrbuild reads graphs in the binary form",
             "parse it with google.protobuf.text_format, and write SerializeToString()",
             (".pbtxt", ".prototxt")),
        Kind("saved-model-file", "the saved_model.pb of a TensorFlow SavedModel",
             "its weights are in the folder beside it",
             _SAVED_MODEL.format("{folder}"), (".pb",)),
        Kind("saved-model", "a folder with a TensorFlow SavedModel",
             instead=_SAVED_MODEL.format("{file}")),
        Kind("checkpoint-index", "the index of a TensorFlow checkpoint",
             "it is one of the files of a checkpoint", _CHECKPOINT, (".index",)),
        Kind("checkpoint-data", "the data file of a TensorFlow checkpoint",
             "it is one of the files of a checkpoint", _CHECKPOINT),
        Kind("checkpoint-state", "the state file of a TensorFlow checkpoint folder",
             "it names a checkpoint", _CHECKPOINT),
        Kind("checkpoint", "a folder with a TensorFlow checkpoint",
             instead="build it with `asrbuild source=checkpoint source.checkpoint_dir={file}`"),
        Kind("mlmodel", "a Core ML model (.mlmodel)", instead=_INSPECT_MODEL,
             suffixes=(".mlmodel",)),
        Kind("mlpackage", "a Core ML package (.mlpackage)", instead=_INSPECT_MODEL,
             suffixes=(".mlpackage",)),
        Kind("mlpackage-zip", "a zipped Core ML package", "a package is read as a folder",
             "unpack it with `unzip {file}`", (".zip",)),
        Kind("mlmodelc", "a compiled Core ML model (.mlmodelc)",
             "compiled models cannot be read back",
             "use the .mlpackage or .mlmodel that it was compiled from", (".mlmodelc",)),
        Kind("aimodel", "a Core AI model (.aimodel)",
             instead="use the .mlpackage of the same model", suffixes=(".aimodel",)),
        Kind("onnx", "an ONNX model", instead=_ONNX, suffixes=(".onnx",)),
        Kind("ort", "an ONNX Runtime model (.ort)",
             "onnxruntime has rewritten it for itself", "build from the .onnx that it was made of",
             (".ort",)),
        Kind("keras-h5", "an HDF5 file (a Keras model or its weights)", instead=_NOT_CONVERTED,
             suffixes=(".h5", ".hdf5", ".keras", ".he5")),
        Kind("keras", "a Keras model (.keras)", instead=_NOT_CONVERTED, suffixes=(".keras",)),
        Kind("pytorch", "a PyTorch file (zip form)", instead=_TORCH,
             suffixes=(".pt", ".pth", ".bin", ".ckpt", ".ptl", ".pkl")),
        Kind("pytorch-exported", "a PyTorch exported program (.pt2)", instead=_TORCH,
             suffixes=(".pt2",)),
        Kind("pytorch-legacy", "a PyTorch file (the form before 1.6)",
             "it is a pickle, which asrbuild never opens", _NOT_CONVERTED,
             (".pt", ".pth", ".bin", ".ckpt", ".tar", ".pkl")),
        Kind("pickle", "a Python pickle", "a pickle can run any code and is never opened",
             "save the data in another form"),
        Kind("safetensors", "a safetensors file", instead=_NOT_CONVERTED,
             suffixes=(".safetensors",)),
        Kind("scorer", "a DeepSpeech or Coqui scorer package",
             instead="look at it with `asrbuild inspect scorer {file}`", suffixes=(".scorer",)),
        Kind("kenlm", "a bare KenLM binary model",
             "it ends without the word trie of a scorer package, as one that is cut off does",
             "make a scorer of its ARPA file or text with `asrbuild scorer build`",
             (".binary", ".klm", ".bin", ".mmap", ".kenlm")),
        Kind("arpa", "an ARPA language model",
             instead="make a scorer of it with `asrbuild scorer build --arpa`",
             suffixes=(".arpa",)),
        Kind("wav", "a WAV recording", suffixes=(".wav", ".wave")),
        Kind("flac", "a FLAC recording", suffixes=(".flac", ".oga")),
        Kind("ogg", "an Ogg recording", suffixes=(".ogg", ".oga", ".opus")),
        Kind("mp3", "an MP3 recording", suffixes=(".mp3",)),
        Kind("audio", "a recording", suffixes=()),
        Kind("mp4", "an MP4 file (AAC or ALAC audio, or a film)",
             "the library that decodes recordings does not read MP4",
             "convert it with `ffmpeg -i {file} recording.wav`",
             (".mp4", ".m4a", ".mov", ".m4b", ".3gp", ".aac")),
        Kind("film", "a Matroska, WebM, AMR or WMA file",
             "the library that decodes recordings does not read it",
             "convert it with `ffmpeg -i {file} recording.wav`",
             (".mkv", ".webm", ".amr", ".wma", ".asf")),
        Kind("csv", "a table (CSV)", suffixes=(".csv", ".tsv", ".txt", ".tab")),
        Kind("npy", "a numpy array (.npy)", suffixes=(".npy",)),
        Kind("npz", "an archive of numpy arrays (.npz)", instead="save one array with numpy.save",
             suffixes=(".npz",)),
        Kind("manifest", "the manifest of an asrbuild artifact",
             instead="look at the artifact with `asrbuild show {folder}`", suffixes=(".json",)),
        Kind("artifact", "the folder of an asrbuild artifact",
             instead="look at it with `asrbuild show {file}`"),
        Kind("json", "a JSON document", suffixes=(".json", ".jsonl", ".txt", ".ipynb")),
        Kind("asrb", "an asrbuild bundle (.asrb)",
             instead="unpack it with `asrbuild pull {file}`", suffixes=(".asrb",)),
        Kind("asrb-as-text", "an asrbuild bundle whose line ends a transfer as text has changed",
             instead="transfer it again, as binary"),
        Kind("public-key", "a public key of `asrbuild key new`",
             instead="trust it with `asrbuild key trust {file}`", suffixes=(".pub",)),
        Kind("private-key", "a private key", "it must stay with its owner",
             "give the .pub file that lies beside it"),
        Kind("lfs-pointer", "a Git LFS pointer", "the content itself was never fetched",
             "run `git lfs pull` in its repository"),
        Kind("annex-pointer", "a git-annex pointer", "the content itself was never fetched",
             "run `git annex get {file}`"),
        Kind("html", "an HTML page", "a server answered with a page, often an error or a login",
             _DOWNLOAD, (".html", ".htm", ".xhtml")),
        Kind("xml", "an XML document", "storage servers answer so when they refuse",
             _DOWNLOAD, (".xml", ".plist")),
        Kind("answer", "a short answer of a server", "it is an error message in place of the file",
             _DOWNLOAD),
        Kind("gzip", "a gzip archive", "", "unpack it with `gunzip -k {file}`",
             (".gz", ".tgz")),
        Kind("zip", "a ZIP archive", "", "unpack it with `unzip {file}`", (".zip",)),
        Kind("tar", "a tar archive", "", "unpack it with `tar -xf {file}`", (".tar",)),
        Kind("archive", "a compressed archive (bzip2, xz, zstd, 7z or RAR)", "", "unpack it first",
             (".bz2", ".xz", ".zst", ".7z", ".rar")),
        Kind("picture", "a picture or a PDF", suffixes=(".png", ".jpg", ".jpeg", ".gif", ".pdf")),
        Kind("program", "a program or a library", suffixes=(".so", ".dylib", ".exe", ".dll")),
        Kind("empty", "an empty file (0 bytes)", "a copy or a download did not finish",
             "copy or download it again"),
        Kind("zeros", "a file of zeros", "a copy or a download did not finish",
             "copy or download it again"),
        Kind("text", "a text", suffixes=(".txt", ".csv", ".tsv", ".json")),
        Kind("binary", "a file of no kind that asrbuild knows"),
        Kind("folder", "a folder"),
        Kind("pipe", "a pipe", "asrbuild reads plain files",
             "write it to a file first"),
        Kind("device", "a device or a socket", "asrbuild reads plain files",
             "write it to a file first"),
    )
}  # fmt: skip
