"""Features of each kind as MIL operations, equal to :mod:`asrbuild.speech.features` in float32.

One strided convolution cuts the frames, prepares them (mean, pre-emphasis, window) and computes
their Fourier transform: all of that is linear, so its kernels are one matrix. All operations are
float32: the floors under the logarithm are below half precision, and the power of a loud window
above it.

Shapes: N samples, F frames, W frames in a context window, C values of a frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.speedups.importing import import_coremltools
from asrbuild.speech import mfcc
from asrbuild.speech.features import fbank_kaldi as kaldi, log_mel
from asrbuild.speech.features.kinds import Settings
from asrbuild.speech.mfcc import FeatureSettings

ct = import_coremltools()
mb = ct.converters.mil.Builder

Var = Any
#: The prefix of the operations' names.
PREFIX = "front_end_"


def frames(samples: Var, settings: Settings) -> Var:
    """Samples (1, N) float32 to frames (1, F, C) float32; MFCC without their context."""
    if isinstance(settings, FeatureSettings):
        window = np.diag(log_mel.hann(settings.window, periodic=True))
        power = _power(samples, window, settings.stride, settings.fft_size)
        bands = _linear(mb.sqrt(x=power, name=_name("magnitude")), mfcc.mel_weights(settings))
        return _linear(_log(bands, settings.log_floor), mfcc.dct(settings), "mfcc")
    if isinstance(settings, kaldi.FbankKaldi):
        matrix = kaldi.frame_matrix(settings)
        power = _power(samples, matrix, settings.stride, settings.fft_size)
        return _log(_linear(power, kaldi.mel_weights(settings)), kaldi.LOG_FLOOR)
    if isinstance(settings, log_mel.LogMelWhisper):
        return _whisper(samples, settings)
    if isinstance(settings, log_mel.LogMelNemo):
        return _nemo(samples, settings)
    return samples


def windows(coefficients: Var, settings: FeatureSettings, real: Var | None) -> tuple[Var, Var]:
    """Frames to context windows, with frames of zeros outside the recording.

    Args:
        coefficients: (1, F, C) float32.
        real: (2,) int32, the range [begin, end) of a call's samples inside the recording; a frame
            that is not wholly inside is zeros. None: all samples.

    Returns:
        windows (1, F - W + 1, W, C), and (1,) int32, the number of them inside the recording.
    """
    width, n_context = settings.n_window, settings.n_context
    count = mb.slice_by_index(
        x=mb.shape(x=coefficients, name=_name("shape")),
        begin=[1],
        end=[2],
        squeeze_mask=[True],
        name=_name("frame_count"),
    )
    if real is None:
        rows = mb.sub(x=count, y=np.int32(width - 1), name=_name("row_count"))
        rows = mb.expand_dims(x=rows, axes=[0], name=_name("rows"))
    else:
        first = mb.mul(
            x=mb.range_1d(start=0, end=count, step=1, name=_name("frame")),
            y=np.int32(settings.stride),
            name=_name("first_sample"),
        )
        last = mb.add(x=first, y=np.int32(settings.window), name=_name("past_last_sample"))
        begin, end = mb.split(x=real, num_splits=2, axis=0, name=_name("recording"))
        inside = mb.logical_and(
            x=mb.greater_equal(x=first, y=begin, name=_name("begun")),
            y=mb.less_equal(x=last, y=end, name=_name("complete")),
            name=_name("real_frames"),
        )
        mask = mb.cast(x=inside, dtype="fp32", name=_name("mask"))
        mask = mb.expand_dims(x=mask, axes=[0, 2], name=_name("mask_of_frames"))
        coefficients = mb.mul(x=coefficients, y=mask, name=_name("masked"))
        own = _cut(mask, 1, n_context, n_context, "own_frames")
        total = mb.reduce_sum(x=own, axes=[0, 1, 2], keep_dims=False, name=_name("real_rows"))
        rows = mb.cast(x=total, dtype="int32", name=_name("real_row_count"))
        rows = mb.expand_dims(x=rows, axes=[0], name=_name("rows"))
    channels = mb.transpose(x=coefficients, perm=[0, 2, 1], name=_name("by_coefficient"))
    # Channel c * W + w of the output is channel c, w frames later.
    unit = np.tile(np.eye(width, dtype=np.float32)[:, None], (settings.n_input, 1, 1))
    shifted = mb.conv(
        x=channels, weight=unit, groups=settings.n_input, pad_type="valid", name=_name("context")
    )
    shape = [1, settings.n_input, width, -1]
    shifted = mb.reshape(x=shifted, shape=shape, name=_name("shifted"))
    return mb.transpose(x=shifted, perm=[0, 3, 2, 1], name=_name("windows")), rows


def _power(samples: Var, matrix: Array, stride: int, points: int) -> Var:
    """Powers (1, F, points / 2 + 1) of frames times ``matrix`` (window, window)."""
    bins = points // 2 + 1
    angles = 2.0 * np.pi / points * np.outer(np.arange(len(matrix)), np.arange(bins))
    kernels = np.concatenate([matrix @ np.cos(angles), matrix @ np.sin(angles)], axis=1)
    spectrum = mb.conv(
        x=mb.expand_dims(x=samples, axes=[1], name=_name("channel")),
        weight=np.ascontiguousarray(kernels.T[:, None], np.float32),
        strides=[stride],
        pad_type="valid",
        name=_name("spectrum"),
    )
    parts = mb.split(x=spectrum, num_splits=2, axis=1, name=_name("parts"))
    squares = [mb.square(x=part, name=_name(f"square_{at}")) for at, part in enumerate(parts)]
    power = mb.add(x=squares[0], y=squares[1], name=_name("power"))
    return mb.transpose(x=power, perm=[0, 2, 1], name=_name("by_frame"))


def _whisper(samples: Var, settings: log_mel.LogMelWhisper) -> Var:
    edge = settings.edge
    channel = mb.expand_dims(x=samples, axes=[1], name=_name("one_channel"))
    padded = mb.pad(x=channel, pad=[edge, edge], mode="reflect", name=_name("reflected"))
    padded = mb.squeeze(x=padded, axes=[1], name=_name("padded"))
    window = np.diag(log_mel.hann(settings.window, periodic=True))
    power = _power(padded, window, settings.stride, settings.fft_size)
    power = _cut(power, 1, 0, 1, "whole_strides")
    logs = _log(_linear(power, log_mel.slaney_weights(settings)), log_mel.WHISPER_FLOOR)
    logs = mb.mul(x=logs, y=np.float32(1.0 / np.log(10.0)), name=_name("log10"))
    loudest = mb.reduce_max(x=logs, axes=[1, 2], keep_dims=True, name=_name("loudest"))
    least = mb.sub(x=loudest, y=np.float32(log_mel.WHISPER_RANGE), name=_name("least"))
    logs = mb.maximum(x=logs, y=least, name=_name("in_range"))
    logs = mb.add(x=logs, y=np.float32(4.0), name=_name("raised"))
    return mb.mul(x=logs, y=np.float32(0.25), name=_name("scaled"))


def _nemo(samples: Var, settings: log_mel.LogMelNemo) -> Var:
    before = _cut(samples, 1, 0, 1, "before")
    less = mb.mul(x=before, y=np.float32(settings.preemphasis), name=_name("less"))
    rest = mb.sub(x=_cut(samples, 1, 1, 0, "after"), y=less, name=_name("rest"))
    first = mb.slice_by_index(
        x=samples, begin=[0, 0], end=[1, 1], begin_mask=[True, True], name=_name("first")
    )
    emphasised = mb.concat(values=(first, rest), axis=1, name=_name("emphasised"))
    edge = settings.edge
    padded = mb.pad(
        x=emphasised, pad=[edge, edge], constant_val=np.float32(0), name=_name("padded")
    )
    window = np.diag(log_mel.hann(settings.window, periodic=False))
    power = _power(padded, window, settings.stride, settings.fft_size)
    bands = _linear(_cut(power, 1, 0, 1, "whole_strides"), log_mel.slaney_weights(settings))
    bands = mb.add(x=bands, y=np.float32(settings.log_floor), name=_name("above_floor"))
    logs = mb.log(x=bands, epsilon=0.0, name=_name("log"))
    if settings.normalize == "none":
        return logs
    mean = mb.reduce_mean(x=logs, axes=[1], keep_dims=True, name=_name("mean"))
    centred = mb.sub(x=logs, y=mean, name=_name("centred"))
    count = mb.slice_by_index(
        x=mb.shape(x=centred, name=_name("shape")),
        begin=[1],
        end=[2],
        squeeze_mask=[True],
        name=_name("frame_count"),
    )
    # One frame has no deviation: it is divided by 1, so its square sum of 0 stays 0.
    free = mb.maximum(
        x=mb.sub(x=count, y=np.int32(1), name=_name("freedom")), y=np.int32(1), name=_name("least")
    )
    free = mb.cast(x=free, dtype="fp32", name=_name("degrees"))
    total = mb.reduce_sum(
        x=mb.square(x=centred, name=_name("squares")),
        axes=[1],
        keep_dims=True,
        name=_name("square_sum"),
    )
    deviation = mb.sqrt(x=mb.real_div(x=total, y=free, name=_name("variance")), name=_name("sigma"))
    deviation = mb.add(x=deviation, y=np.float32(log_mel.NEMO_DEVIATION), name=_name("deviation"))
    return mb.real_div(x=centred, y=deviation, name=_name("normalised"))


def _linear(x: Var, weights: Array, name: str = "bands") -> Var:
    """(1, F, A) times (A, B)."""
    stored = np.ascontiguousarray(weights.T, np.float32)
    bias = np.zeros(len(stored), np.float32)
    return mb.linear(x=x, weight=stored, bias=bias, name=_name(name))


def _log(x: Var, floor: float) -> Var:
    floored = mb.maximum(x=x, y=np.float32(floor), name=_name("floor"))
    return mb.log(x=floored, epsilon=0.0, name=_name("log"))


def _cut(x: Var, axis: int, front: int, back: int, name: str) -> Var:
    """Removes the first ``front`` and the last ``back`` places of an axis."""
    begin, end = [0] * x.rank, [0] * x.rank
    begin[axis], end[axis] = front, -back
    return mb.slice_by_index(
        x=x,
        begin=begin,
        end=end,
        begin_mask=[True] * x.rank if not front else [at != axis for at in range(x.rank)],
        end_mask=[at != axis or not back for at in range(x.rank)],
        name=_name(name),
    )


def _name(part: str) -> str:
    return f"{PREFIX}{part}"
