# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "scipy", "torch==2.13.0", "tensorflow-cpu==2.21.0"]
# ///
"""Trains the demo model on the Asterisk core sounds and writes its checkpoint and recordings."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import align
import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from corpus import ALPHABET, Unit, load_units
from features import mfcc
from joins import Joiner, plain_join
from network import BLANK, Network, deepspeech_weights
from scoring import distance, greedy, score
from sets import Said, Sets, split, write_recordings
from torch.nn import functional

BATCH_SECONDS = 45.0
RATE_FLAT, RATE_LAST = 2e-3, 4e-5  # learning rate; flat for half the time, then cosine
WARM_UP = 200  # steps
CLIP = 5.0
DROPOUT = 0.05
AVERAGE = 0.998  # moving average of the weights
LENGTHS = (2.5, 4.0, 6.0, 9.0, 13.0, 17.0, 22.0)  # seconds of the buckets
CUT_AT = 0.35  # part of the training after which long prompts are cut at their pauses
HERE = Path(__file__).resolve().parent


@dataclass
class Clock:
    """The finished share of the training, 0 to 1: by steps if given, else by minutes."""

    minutes: float
    steps: int | None
    started: float

    def done(self, step: int) -> float:
        if self.steps:
            return step / self.steps
        return (time.time() - self.started) / (60.0 * self.minutes)


def statistics(units: list[Unit]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each coefficient over the units; float32 [26] each."""
    frames = np.concatenate([mfcc(unit.audio) for unit in units])
    return frames.mean(0).astype(np.float32), frames.std(0).astype(np.float32)


def batch(joiner: Joiner, seconds: float, total: float) -> tuple[torch.Tensor, ...]:
    """Features [batch, time, 26], their lengths, all labels in a row, and their lengths."""
    said = [joiner.utterance(seconds) for _ in range(max(1, round(total / seconds)))]
    features = [torch.from_numpy(mfcc(audio)) for audio, _ in said]
    labels = [[ALPHABET.index(char) for char in text] for _, text in said]
    return (
        torch.nn.utils.rnn.pad_sequence(features, batch_first=True),
        torch.tensor([len(one) for one in features]),
        torch.tensor([label for line in labels for label in line]),
        torch.tensor([len(line) for line in labels]),
    )


@torch.no_grad()
def scores(network: Network, audio: np.ndarray) -> np.ndarray:
    """Log probabilities [time, 29] of samples [N]."""
    network.eval()
    logits = network(torch.from_numpy(mfcc(audio))[None])[:, 0]
    network.train()
    return logits.log_softmax(-1).numpy()


def average(slow: Network, fast: Network, step: int) -> None:
    """Moves the averaged weights towards the trained ones."""
    decay = min(AVERAGE, (1 + step) / (10 + step))
    with torch.no_grad():
        for mine, theirs in zip(slow.parameters(), fast.parameters(), strict=True):
            mine.lerp_(theirs, 1.0 - decay)


def cut_prompts(network: Network, units: list[Unit]) -> list[Unit]:
    """Pieces of the phrases, cut at pauses; only those with almost correct transcripts."""
    kept = []
    for unit in units:
        if unit.seconds < 2.5:
            continue
        for piece in align.pieces(unit, scores(network, unit.audio)):
            heard = greedy(scores(network, plain_join([piece], np.random.default_rng(0))[0]))
            if piece.seconds > 0.3 and distance(piece.text, heard) <= 0.3 * len(piece.text):
                kept.append(piece)
    return kept


def report(network: Network, sets: Sets) -> str:
    """Greedy CER and WER of each set on one line, and the transcript of the sample."""
    parts = []
    for name, said in sets.named().items():
        result = score([(text, greedy(scores(network, audio))) for audio, text in said])
        parts.append(f"{name} {result.cer:.1f}/{result.wer:.1f}")
    return " | ".join(parts) + "\n  " + greedy(scores(network, sets.sample[0]))


def margin(network: Network, said: Said) -> float:
    """Smallest lead of the best label over the second, in probability, over all steps."""
    ordered = np.sort(np.exp(scores(network, said[0])), axis=-1)
    return float((ordered[:, -1] - ordered[:, -2]).min())


def save(network: Network, step: int, demo: Path) -> None:
    """Writes the checkpoint; TensorFlow runs in a separate process."""
    archive = demo / "weights.npz"
    np.savez(archive, global_step=step, **deepspeech_weights(network))
    command = [sys.executable, str(HERE / "export.py"), str(archive), str(demo / "checkpoint")]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    archive.unlink()


def learning_rate(done: float, step: int) -> float:
    fade = min(1.0, max(0.0, 2.0 * done - 1.0))
    rate = RATE_LAST + (RATE_FLAT - RATE_LAST) * 0.5 * (1.0 + math.cos(math.pi * fade))
    return rate * min(1.0, (step + 1) / WARM_UP)


def pick_length(rng: np.random.Generator, done: float) -> float:
    """Draws a bucket; the longest allowed grows over the first quarter."""
    longest = 4.0 + (LENGTHS[-1] - 4.0) * min(1.0, done / 0.25)
    return float(rng.choice([length for length in LENGTHS if length <= longest]))


def shared_progress(clock: Clock, step: int) -> float:
    """The first worker's progress, so that all stop at the same step."""
    done = torch.tensor(clock.done(step))
    dist.broadcast(done, 0)
    return done.item()


def share_gradients(network: Network) -> None:
    """Replaces every worker's gradients by their mean."""
    gradients = [parameter.grad for parameter in network.parameters()]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def train(worker: int, options: argparse.Namespace, sets: Sets, store: str) -> None:
    """Trains to the end of the clock in one of the workers; the first one saves and reports."""
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=worker, world_size=options.workers
    )
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    mean, scale = statistics(sets.units)
    network = Network(options.width, mean, scale, DROPOUT)
    slow = Network(options.width, mean, scale, 0.0)
    slow.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters())
    joiner = Joiner(sets.units, sets.forbidden(), 1000 * options.seed + worker)
    step, heard, spent = 0, 0.0, 0.0
    if options.state and options.state.is_file():
        state = torch.load(options.state, weights_only=True)
        step, heard, spent = state["step"], state["heard"], state["spent"]
        network.load_state_dict(state["network"])
        slow.load_state_dict(state["slow"])
        if state["optimizer"]:
            optimizer.load_state_dict(state["optimizer"])
    begun = step
    clock = Clock(options.minutes, options.steps, time.time() - spent)
    saved, cut, losses = time.time(), False, []
    while (done := shared_progress(clock, step)) < 1.0:
        if not cut and done >= CUT_AT:
            cut = True
            fresh = cut_prompts(slow, sets.units)
            joiner.add(fresh)
            print(f"cut {len(fresh)} pieces, {sum(u.seconds for u in fresh):.0f} s", flush=True)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, step - begun)
        features, frames, labels, counts = batch(
            joiner, pick_length(rng, done), BATCH_SECONDS / options.workers
        )
        log_probs = network(features).log_softmax(-1)
        loss = functional.ctc_loss(
            log_probs, labels, frames, counts, BLANK, reduction="sum", zero_infinity=True
        )
        loss = loss / frames.sum()
        optimizer.zero_grad()
        loss.backward()
        share_gradients(network)
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        step += 1
        average(slow, network, step)
        losses.append(loss.item())
        heard += float(frames.sum()) * 0.02 * options.workers
        if worker == 0 and step % 100 == 0:
            minutes = (time.time() - clock.started) / 60.0
            speed = heard / (60.0 * minutes)
            print(
                f"step {step} done {done:.3f} {minutes:.1f} min {speed:.0f}x "
                f"loss {np.mean(losses[-100:]):.4f}",
                flush=True,
            )
        if worker == 0 and time.time() - saved > 60.0 * options.save_every:
            saved = time.time()
            save(slow, step, options.out)
            if options.state:
                torch.save(
                    {
                        "network": network.state_dict(),
                        "slow": slow.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "step": step,
                        "heard": heard,
                        "spent": time.time() - clock.started,
                    },
                    options.state,
                )
            print(report(slow, sets), flush=True)
    if worker == 0:
        save(slow, step, options.out)
        print(f"{step} steps, {heard / 3600:.1f} h of speech, {time.time() - clock.started:.0f} s")
        print(report(slow, sets))
        print(f"smallest lead in the sample: {margin(slow, sets.sample):.3f}")
    dist.destroy_process_group()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transcripts", type=Path, required=True, help="core-sounds-en.txt")
    parser.add_argument(
        "--sounds",
        type=Path,
        default=Path("/usr/share/asterisk/sounds/en_US_f_Allison"),
        help="folder of the .g722 prompts",
    )
    parser.add_argument("--out", type=Path, default=HERE.parent.parent / "asrbuild" / "demo")
    parser.add_argument("--tests", type=Path, help="also write the test recordings here")
    parser.add_argument("--corpus", type=Path, help="also write the training transcripts here")
    parser.add_argument("--width", type=int, default=256, help="n_hidden")
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--steps", type=int, help="a budget of steps instead of minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, help="file to save to and to resume from")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--save-every", type=float, default=5.0, help="minutes")
    return parser.parse_args()


def main() -> None:
    options = parse()
    sets = split(load_units(options.sounds, options.transcripts))
    options.out.mkdir(parents=True, exist_ok=True)
    write_recordings(sets, options.out, options.tests)
    if options.corpus:
        lines = dict.fromkeys(unit.text for unit in sets.units)
        options.corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
    seconds = sum(unit.seconds for unit in sets.units)
    print(f"{len(sets.units)} units, {seconds / 60:.1f} min; sample: {sets.sample[1]}")
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(train, (options, sets, f"{folder}/store"), nprocs=options.workers)


if __name__ == "__main__":
    main()
