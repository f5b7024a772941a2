# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "scipy", "soundfile", "torch==2.13.0", "onnx"]
# ///
"""Trains the streaming demo model on the Asterisk core sounds and writes its ONNX file."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "train_demo"), str(HERE.parents[1])]

from corpus import load_units  # noqa: E402  (tools/train_demo)
from joins import Joiner  # noqa: E402
from scoring import distance, score  # noqa: E402
from sets import Sets, split  # noqa: E402
from streaming import BLANK, LABELS, STRIDE, Network  # noqa: E402

from asrbuild.speech.features.fbank_kaldi import FbankKaldi, fbank_kaldi  # noqa: E402

FEATURES = FbankKaldi(n_mels=40)
BATCH_SECONDS = 45.0
RATE_FLAT, RATE_LAST = 3e-3, 5e-5  # learning rate; flat for half the time, then cosine
WARM_UP, CLIP, AVERAGE = 100, 5.0, 0.998
LENGTHS = (2.5, 4.0, 6.0, 9.0, 13.0)  # seconds of the buckets
LABEL_OF = {label: at for at, label in enumerate(LABELS)}


def features(audio: np.ndarray) -> torch.Tensor:
    """float32 (frames, bands), cut to whole rows."""
    found = fbank_kaldi(audio, FEATURES)
    return torch.from_numpy(found[: len(found) // STRIDE * STRIDE])


def statistics(sets: Sets) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each band over the units; float32 each."""
    frames = np.concatenate([fbank_kaldi(unit.audio, FEATURES) for unit in sets.units])
    return frames.mean(0).astype(np.float32), frames.std(0).astype(np.float32)


def batch(joiner: Joiner, seconds: float) -> tuple[torch.Tensor, ...]:
    """Features, rows of each, all labels in one vector, and the number of labels of each."""
    said = [joiner.utterance(seconds) for _ in range(max(1, round(BATCH_SECONDS / seconds)))]
    frames = [features(audio) for audio, _ in said]
    return (
        torch.nn.utils.rnn.pad_sequence(frames, batch_first=True),
        torch.tensor([len(one) // STRIDE for one in frames]),
        torch.tensor([LABEL_OF[letter] for _, text in said for letter in text]),
        torch.tensor([len(text) for _, text in said]),
    )


@torch.no_grad()
def transcribe(network: Network, audio: np.ndarray) -> str:
    """Greedy text of samples (n,)."""
    network.eval()
    rows, *_ = network(features(audio)[None], *network.states(1))
    network.train()
    best = rows[0].argmax(-1).numpy()
    kept = best[np.flatnonzero(np.diff(best, prepend=BLANK))]
    return "".join(LABELS[label] for label in kept if label != BLANK)


def report(network: Network, sets: Sets) -> str:
    """Character and word error rates of each set, and the text of the sample."""
    parts = []
    for name, said in sets.named().items():
        found = score([(text, transcribe(network, audio)) for audio, text in said])
        parts.append(f"{name} {found.cer:.1f}/{found.wer:.1f}")
    return " | ".join(parts) + "\n  " + transcribe(network, sets.sample[0])


def export(network: Network, path: Path) -> None:
    """The ONNX file; its time axis has any multiple of ``STRIDE`` frames."""
    network.eval()
    states = network.states(1)
    inputs = ["features", "state_frames", "state_rows_1", "state_rows_2", "state_gru"]
    outputs = ["log_probabilities", *(f"new_{name}" for name in inputs[1:])]
    torch.onnx.export(
        network,
        (torch.zeros(1, 8 * STRIDE, FEATURES.n_mels), *states),
        str(path),
        input_names=inputs,
        output_names=outputs,
        dynamic_axes={"features": {1: "frames"}, "log_probabilities": {1: "rows"}},
        opset_version=17,
        dynamo=False,
    )
    network.train()


def learning_rate(done: float, step: int) -> float:
    fade = min(1.0, max(0.0, 2.0 * done - 1.0))
    rate = RATE_LAST + (RATE_FLAT - RATE_LAST) * 0.5 * (1.0 + math.cos(math.pi * fade))
    return rate * min(1.0, (step + 1) / WARM_UP)


def train(options: argparse.Namespace, sets: Sets) -> Network:
    """Trains for the given minutes of processor time; returns the averaged network."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    mean, scale = statistics(sets)
    network = Network(options.width, options.hidden, mean, scale)
    slow = Network(options.width, options.hidden, mean, scale)
    slow.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    joiner = Joiner(sets.units, sets.forbidden(), 1000 * options.seed)
    step, losses, begun, saved = 0, [], time.process_time(), 0.0
    while (spent := (time.process_time() - begun) / 60.0) < options.minutes:
        done = spent / options.minutes
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, step)
        longest = 4.0 + (LENGTHS[-1] - 4.0) * min(1.0, done / 0.25)
        seconds = float(rng.choice([length for length in LENGTHS if length <= longest]))
        frames, rows, labels, counts = batch(joiner, seconds)
        scores, *_ = network(frames, *network.states(len(frames)))
        loss = (
            functional.ctc_loss(
                scores.transpose(0, 1),
                labels,
                rows,
                counts,
                BLANK,
                reduction="sum",
                zero_infinity=True,
            )
            / rows.sum()
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        step += 1
        decay = min(AVERAGE, (1 + step) / (10 + step))
        with torch.no_grad():
            for mine, theirs in zip(slow.parameters(), network.parameters(), strict=True):
                mine.lerp_(theirs, 1.0 - decay)
        losses.append(loss.item())
        if step % 50 == 0:
            print(f"step {step} {spent:.1f} min loss {np.mean(losses[-50:]):.4f}", flush=True)
        if spent - saved > 2.0:
            saved = spent
            export(slow, options.out)
            print(report(slow, sets), flush=True)
    return slow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transcripts", type=Path, required=True, help="core-sounds-en.txt")
    parser.add_argument(
        "--sounds",
        type=Path,
        default=Path("/usr/share/asterisk/sounds/en_US_f_Allison"),
        help="folder of the .g722 prompts",
    )
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=14.0, help="processor time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sets = split(load_units(options.sounds, options.transcripts))
    seconds = sum(unit.seconds for unit in sets.units)
    print(f"{len(sets.units)} units, {seconds / 60:.1f} min", flush=True)
    network = train(options, sets)
    export(network, options.out)
    print(report(network, sets))
    closest = distance(sets.sample[1], transcribe(network, sets.sample[0]))
    print(f"{closest} letters of the sample are wrong")


if __name__ == "__main__":
    main()
