"""The inputs of a proof: speech, silence, noise and awkward lengths.

A case has features (T, 2 * n_context + 1, n_input), float32. Everything is deterministic, except
the last digits of a feature, which may differ between processors; so a verification records its
inputs.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.artifact.manifest import VerifiedInput
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.features import kinds
from asrbuild.speech.mfcc import context_windows

#: The inputs that ``verify.inputs`` can name.
INPUTS = ("sample", "second", "silence", "noise", "clipped", "random")
#: Cases with speech: they are decoded and their transcripts compared.
RECORDINGS = ("sample", "second")
SEED = 20_210_708
CLIP_GAIN = 20.0
#: Seconds of a synthetic input: long enough to saturate a feature or a cell; a step of a full-size
#: network takes 13 ms in TensorFlow.
_SHORT_S = 2.0
#: Limit of bytes of a recorded reference in memory: 100 times that of a full-size model.
_MOST_BYTES = 1 << 32
_FETCH = "pull the artifact again from where it came, or build it again"


def build_cases(
    settings: Any,
    recordings: Mapping[str, Array],
    inputs: Iterable[str] = INPUTS,
) -> dict[str, Array]:
    """Makes the cases by name, in a fixed order.

    Args:
        settings: settings of the features; see :mod:`asrbuild.speech.features.kinds`.
        recordings: ``sample``, and ``second`` if there is one: float32 samples in [-1, 1].
        inputs: names from ``INPUTS``.

    Returns:
        name -> float32 (T, ...): MFCC (T, n_window, n_input), samples (T,).

    Raises:
        AsrbuildError: an unknown input, or a recording without a single step.
    """
    cases: dict[str, Array] = {}
    for name in dict.fromkeys(inputs):
        if name in RECORDINGS:
            cases[name] = _features(name, recordings, settings)
        elif name == "clipped":
            start = _recording("sample", recordings)[: round(_SHORT_S * settings.sample_rate)]
            loud = np.clip(start * np.float32(CLIP_GAIN), -1.0, 1.0)
            cases[name] = kinds.compute(loud.astype(np.float32), settings)
        elif name in ("silence", "noise"):
            cases[name] = kinds.compute(_synthetic(name, settings), settings)
        elif name == "random":
            cases[name] = _random(settings)
        else:
            raise AsrbuildError(
                f"unknown verification input {name!r}",
                key="verify.inputs",
                fix=f"choose from: {', '.join(INPUTS)}",
            )
    return cases


def edge_lengths(
    n_steps: int | None = None,
    enumerated: Iterable[int] = (),
    lower: int | None = None,
    upper: int | None = None,
) -> tuple[int, ...]:
    """The awkward lengths of a package: one step, around a chunk, every size, both bounds.

    Args:
        n_steps: steps of a chunk; None if the package takes whole utterances.
        enumerated: the accepted sizes of an enumerated axis.
        lower: the smallest accepted size of a range.
        upper: the largest size; None: unbounded.
    """
    lengths = {1, *enumerated}
    if n_steps is not None:
        lengths |= {n_steps - 1, n_steps, n_steps + 1}
    for bound in (lower, upper):
        if bound is not None:
            lengths.add(bound)
    return tuple(sorted(length for length in lengths if length >= 1))


def verified_inputs(cases: Mapping[str, Array]) -> list[VerifiedInput]:
    """The manifest's record of the cases: name, steps, digest of the float32 bytes."""
    return [
        VerifiedInput(
            name=name,
            steps=len(features),
            sha256=hashlib.sha256(np.ascontiguousarray(features, "<f4").tobytes()).hexdigest(),
        )
        for name, features in cases.items()
    ]


def save_reference(
    path: Path,
    cases: Mapping[str, Array],
    reference: Mapping[str, Mapping[str, Array]],
) -> None:
    """Writes ``parity.npz``: the cases, and the original's outputs for them.

    Windows of neighbouring frames are stored as ``{case}/frames`` (T + 2 * n_context, n_input),
    with the context at both ends, which is 19 times smaller; other features as ``{case}/features``.
    Each output is ``{case}/{output}``.
    """
    arrays: dict[str, Array] = {}
    for name, features in cases.items():
        frames = _neighbouring(features)
        if frames is not None:
            arrays[f"{name}/frames"] = frames
        else:
            arrays[f"{name}/features"] = features
        for output, value in reference[name].items():
            arrays[f"{name}/{output}"] = value
    # other ways to run a case, with calls of their own
    for name in reference.keys() - cases.keys():
        for output, value in reference[name].items():
            arrays[f"{name}/{output}"] = value
    # Through a file handle: given a path numpy would append ".npz" to any other suffix.
    with path.open("wb") as file:
        # numpy's stubs match any unpacked mapping with the flag allow_pickle as well.
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_reference(
    path: Path, n_context: int
) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
    """Reads the file of ``save_reference``: the cases, and the outputs by case and name.

    Raises:
        AsrbuildError: the file is missing or is not such an archive.
    """
    cases: dict[str, Array] = {}
    reference: dict[str, dict[str, Array]] = {}
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                name, part = key.rsplit("/", 1)
                if part == "frames":
                    cases[name] = _windows(archive[key], n_context)
                elif part == "features":
                    cases[name] = archive[key]
                else:
                    reference.setdefault(name, {})[part] = archive[key]
    except FileNotFoundError:
        raise AsrbuildError(
            "the artifact has no recorded reference of its original",
            file=path,
            fix="rebuild the artifact: without it nothing can be proved again",
        ) from None
    except AsrbuildError:
        raise
    # numpy raises errors of zipfile and zlib, ValueError, EOFError ... here
    except Exception as error:
        raise AsrbuildError(
            f"the recorded reference cannot be read: {error}", file=path, fix=_FETCH
        ) from error
    if not cases or not reference.keys() >= cases.keys():
        raise AsrbuildError("the recorded reference is incomplete", file=path, fix=_FETCH)
    return cases, reference


def _check_sizes(path: Path) -> None:
    """Raises if an archive's arrays are larger than those of a proof, or than the archive itself.

    A zip of some kB can claim any number of zeros, and a header any shape: numpy allocates both.
    """
    total = 0
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            total += entry.file_size
            if total > _MOST_BYTES:
                raise AsrbuildError(
                    f"the recorded reference claims more than {_MOST_BYTES:,} bytes",
                    file=path,
                    fix=_FETCH,
                )
            with archive.open(entry) as array:
                # numpy's stubs give the functions of numpy.lib.format no types.
                version = np.lib.format.read_magic(array)  # type: ignore[no-untyped-call]
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(array)  # type: ignore[no-untyped-call]
                if math.prod(shape) * dtype.itemsize != entry.file_size - array.tell():
                    raise AsrbuildError(
                        f"{entry.filename} of the recorded reference is not the array that its "
                        "header describes",
                        file=path,
                        fix=_FETCH,
                    )


def _windows(frames: Array, n_context: int) -> Array:
    """Windows (T, 2 * n_context + 1, n_input) of frames (T + 2 * n_context, n_input)."""
    return context_windows(frames, n_context)[n_context : len(frames) - n_context]


def _recording(name: str, recordings: Mapping[str, Array]) -> Array:
    if name not in recordings:
        raise AsrbuildError(
            f"verification asks for the {name} recording, and the source has none",
            key="verify.inputs",
            fix=f"leave {name} out of verify.inputs, or give the source one",
        )
    return np.asarray(recordings[name], np.float32)


def _neighbouring(windows: Array) -> Array | None:
    """The frames of windows, with the context at both ends; None if they are not such windows."""
    if windows.ndim != 3:
        return None
    n_context = windows.shape[1] // 2
    ends = windows[0, :n_context], windows[-1, n_context + 1 :]
    frames = np.concatenate([ends[0], windows[:, n_context], ends[1]])
    return frames if np.array_equal(_windows(frames, n_context), windows) else None


def _features(name: str, recordings: Mapping[str, Array], settings: Any) -> Array:
    """Features (T, ...) of one recording."""
    frames = kinds.compute(_recording(name, recordings), settings)
    if len(frames) == 0:
        raise AsrbuildError(
            f"the {name} recording has {len(recordings[name])} samples, and one step of the "
            "features requires more",
            key=f"source.{name}.audio",
            fix="give a recording with speech in it",
        )
    return frames


def _synthetic(name: str, settings: Any) -> Array:
    """Digital silence, or white noise at -20 dB of full scale."""
    samples: int = round(_SHORT_S * settings.sample_rate)
    if name == "silence":
        return np.zeros(samples, np.float32)
    rng = np.random.default_rng(SEED)
    return np.clip(0.1 * rng.standard_normal(samples), -1.0, 1.0).astype(np.float32)


def _random(settings: Any) -> Array:
    """Standard normal features, without neighbouring frames and without a recording's scale.

    For samples, which have a scale: white noise at full scale.
    """
    shape: tuple[int, ...] = kinds.compute(_synthetic("silence", settings), settings).shape
    rng = np.random.default_rng(SEED + 1)
    if len(shape) == 1:
        return rng.uniform(-1.0, 1.0, shape).astype(np.float32)
    return rng.standard_normal(shape).astype(np.float32)
