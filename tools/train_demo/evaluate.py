# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "scipy", "tensorflow-cpu==2.21.0"]
# ///
"""Error rates of a demo checkpoint, run by TensorFlow alone: greedy, and beams with no scorer."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from corpus import ALPHABET, load_units
from features import N_CONTEXT, N_INPUT, mfcc
from scoring import greedy, score
from sets import Said, split

CELL = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"
RELU_CLIP = 20.0
CHUNK = 16  # steps
HERE = Path(__file__).resolve().parent
Weights = dict[str, np.ndarray]


def read_weights(folder: Path) -> Weights:
    """The variables of the best checkpoint in a folder, by name."""
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(folder, "best_dev_checkpoint"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def windows(audio: np.ndarray) -> np.ndarray:
    """Samples [N] to feature windows [time, 19 * 26], zero frames beyond both ends."""
    padded = np.pad(mfcc(audio), ((N_CONTEXT, N_CONTEXT), (0, 0)))
    framed = np.lib.stride_tricks.sliding_window_view(padded, 2 * N_CONTEXT + 1, axis=0)
    return np.ascontiguousarray(framed.transpose(0, 2, 1)).reshape(-1, framed.shape[2] * N_INPUT)


def run(weights: Weights, inputs: np.ndarray, cell: np.ndarray, hidden: np.ndarray) -> tuple:
    """Windows [time, 494] and state [1, H] to probabilities [time, 29] and the new state."""

    def dense(number: int, values: tf.Tensor) -> tf.Tensor:
        return values @ weights[f"layer_{number}/weights"] + weights[f"layer_{number}/bias"]

    def clipped(number: int, values: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(dense(number, values), 0.0, RELU_CLIP)

    values = clipped(3, clipped(2, clipped(1, tf.constant(inputs))))
    peephole = tf.zeros(cell.shape[1])
    lstm = tf.raw_ops.BlockLSTM(
        seq_len_max=len(inputs),
        x=values[:, None],
        cs_prev=cell,
        h_prev=hidden,
        w=weights[f"{CELL}/kernel"],
        wci=peephole,
        wcf=peephole,
        wco=peephole,
        b=weights[f"{CELL}/bias"],
        forget_bias=0.0,
        cell_clip=-1.0,
        use_peephole=False,
    )
    outputs = tf.nn.softmax(dense(6, clipped(5, lstm.h[:, 0])))
    return outputs.numpy(), lstm.cs[-1].numpy(), lstm.h[-1].numpy()


def whole(weights: Weights, audio: np.ndarray) -> np.ndarray:
    """Probabilities [time, 29] in one go."""
    zeros = np.zeros((1, weights["layer_3/bias"].size), np.float32)
    return run(weights, windows(audio), zeros, zeros)[0]


def chunked(weights: Weights, audio: np.ndarray) -> np.ndarray:
    """Probabilities [time, 29] in chunks of 16 steps with carried state."""
    cell = hidden = np.zeros((1, weights["layer_3/bias"].size), np.float32)
    inputs, rows = windows(audio), []
    for start in range(0, len(inputs), CHUNK):
        outputs, cell, hidden = run(weights, inputs[start : start + CHUNK], cell, hidden)
        rows.append(outputs)
    return np.concatenate(rows)


def beams(probabilities: np.ndarray, width: int) -> str:
    """Prefix beam search with no scorer."""
    logits = np.log(np.maximum(probabilities, 1e-30))[:, None]
    [best], _ = tf.nn.ctc_beam_search_decoder(logits, [len(logits)], width)
    return "".join(ALPHABET[label] for label in best.values.numpy())


def half(weights: Weights) -> Weights:
    """The weights rounded to 16 bits."""
    return {
        name: value.astype(np.float16).astype(np.float32) if value.dtype == np.float32 else value
        for name, value in weights.items()
    }


def row(name: str, said: list[Said], hear: Callable[[np.ndarray], str]) -> list[tuple[str, str]]:
    """Prints one line of the table; returns the (expected, recognized) pairs."""
    pairs = [(text, hear(audio)) for audio, text in said]
    result = score(pairs)
    print(
        f"| {name} | {result.utterances} | {result.cer:.1f} ({result.character_errors}"
        f"/{result.characters}) | {result.wer:.1f} ({result.word_errors}/{result.words}) |",
        flush=True,
    )
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transcripts", type=Path, required=True, help="core-sounds-en.txt")
    parser.add_argument(
        "--sounds", type=Path, default=Path("/usr/share/asterisk/sounds/en_US_f_Allison")
    )
    parser.add_argument("--demo", type=Path, default=HERE.parent.parent / "asrbuild" / "demo")
    parser.add_argument("--beam-width", type=int, default=500)
    parser.add_argument("--errors", action="store_true", help="print what was misheard")
    options = parser.parse_args()
    weights = read_weights(options.demo / "checkpoint")
    halved = half(weights)
    sets = split(load_units(options.sounds, options.transcripts)).named()
    ways: dict[str, Callable[[np.ndarray], str]] = {
        "greedy": lambda audio: greedy(whole(weights, audio)),
        "greedy, fp16 weights, 16-step chunks": lambda audio: greedy(chunked(halved, audio)),
        f"{options.beam_width} beams": lambda audio: beams(
            whole(weights, audio), options.beam_width
        ),
    }
    print("| set and decoding | utterances | CER % | WER % |\n|---|---|---|---|")
    for name, said in sets.items():
        for way, hear in ways.items():
            pairs = row(f"{name}, {way}", said, hear)
            if options.errors and way == "greedy":
                print(*(f"  {a!r}\n  {b!r}" for a, b in pairs if a != b), sep="\n")
    for name in ("sample", "second"):
        [(audio, _)] = sets[name]
        ordered = np.sort(whole(weights, audio), axis=-1)
        lead = np.sort(ordered[:, -1] - ordered[:, -2])
        print(f"{name}: leads of the best label over the next, smallest first: {lead[:5].round(3)}")


if __name__ == "__main__":
    main()
