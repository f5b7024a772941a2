"""Time of each decoder, and the overhead of running ds-ctcdecoder in a process of its own.

    python benchmarks/decoding.py [--rounds 15] [--beam-width 500] [--json]

The utterance is the demo's sample, 11.8 s, as probabilities of a demo package. "In process" calls
the ds-ctcdecoder in a loop inside its own Python 3.9, with the matrix in memory and without using
the result. "Isolated" is what asrbuild does: check, send over the pipe, decode, send back, make
words with times. The two take turns, so that a busy machine slows both, and both processes are
warm. The overhead is a ratio of medians and a ratio of the fastest rounds; the processor time that
this process adds is shown as well, because other work on the machine hardly changes it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.artifact.runtime import open_artifact
from asrbuild.base.array import Array
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.engine import build
from asrbuild.speech.alphabet import Alphabet
from asrbuild.speech.audio import read_audio
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.deepspeech_decoder.decoder import DeepSpeechDecoder
from asrbuild.speech.deepspeech_decoder.environment import decoder_python

DEMO = Path(__file__).resolve().parents[1] / "asrbuild" / "demo"
LIMIT = 1.10

#: Decodes once for every line of input, and answers with the seconds.
IN_PROCESS = """
import sys, time
import numpy as np
from ds_ctcdecoder import Alphabet, Scorer, ctc_beam_search_decoder
rows = np.load(sys.argv[1]).astype("float64")
alphabet = Alphabet(sys.argv[2])
scorer = Scorer(0.75, 1.85, sys.argv[4], alphabet) if sys.argv[4] else None
for _ in sys.stdin:
    start = time.perf_counter()
    ctc_beam_search_decoder(rows, alphabet, int(sys.argv[3]), 1.0, 40, scorer)
    print(time.perf_counter() - start, flush=True)
"""


def probabilities(folder: Path) -> tuple[Array, Alphabet, float]:
    """(steps, classes) of the sample by a demo package, its labels, and the sample's seconds."""
    places = [f"paths.artifacts={folder / 'artifacts'}", f"paths.cache={folder / 'cache'}"]
    built = build(compose_recipe(["model=static", "verify=quick", *places]), ())
    with open_artifact(built.path) as transcriber:
        samples = read_audio(DEMO / "sample.wav", transcriber.sample_rate)
        rows = transcriber.probabilities(samples).probabilities
        assert isinstance(transcriber.alphabet, Alphabet)
        return rows, transcriber.alphabet, len(samples) / transcriber.sample_rate


def overhead(
    rows: Array,
    alphabet: Alphabet,
    folder: Path,
    beam_width: int,
    scorer: Path | None,
    rounds: int,
) -> dict[str, float]:
    """Seconds of both ways, and their ratios."""
    np.save(folder / "rows.npy", rows)
    (folder / "alphabet.txt").write_text(alphabet.file_text())
    arguments = [folder / "rows.npy", folder / "alphabet.txt", beam_width, scorer or ""]
    server = subprocess.Popen(
        [decoder_python(), "-c", IN_PROCESS, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    settings = DecoderSettings(
        "ds_ctcdecoder", beam_width, scorer=scorer, lm_alpha=0.75, lm_beta=1.85
    )
    inside, isolated, own = [], [], []
    with DeepSpeechDecoder(settings, alphabet, 0.02, processes=1) as decoder:
        for turn in range(rounds + 2):
            server.stdin.write("\n")
            took = float(server.stdout.readline())
            start, processor = time.perf_counter(), time.process_time()
            decoder.decode(rows)
            if turn >= 2:  # the first two warm both up
                inside.append(took)
                isolated.append(time.perf_counter() - start)
                own.append(time.process_time() - processor)
    server.stdin.close()
    server.wait()
    medians = statistics.median(inside), statistics.median(isolated)
    return {
        "in_process_s": medians[0],
        "isolated_s": medians[1],
        "own_cpu_s": statistics.median(own),
        "ratio_of_medians": medians[1] / medians[0],
        "ratio_of_fastest": min(isolated) / min(inside),
    }


def batches(rows: Array, alphabet: Alphabet, beam_width: int) -> dict[str, float]:
    """Seconds for twelve utterances by one process and by one for each core."""
    settings = DecoderSettings("ds_ctcdecoder", beam_width)
    batch = [rows] * 12
    seconds = {}
    for name, count in (("one_process_s", 1), ("all_cores_s", os.cpu_count())):
        with DeepSpeechDecoder(settings, alphabet, 0.02, processes=count) as decoder:
            decoder.decode_batch(batch[: count or 1])
            seconds[name] = timed(partial(decoder.decode_batch, batch))
    return seconds | {"speed_up": seconds["one_process_s"] / seconds["all_cores_s"]}


def factors(rows: Array, alphabet: Alphabet, audio_s: float, beam_width: int) -> dict[str, float]:
    """Seconds of decoding for a second of sound, the best of three, each decoder."""
    scorer = DEMO / "prompts.scorer"
    wanted = {
        "greedy": DecoderSettings("greedy"),
        "beam": DecoderSettings("beam", beam_width),
        "ds_ctcdecoder": DecoderSettings("ds_ctcdecoder", beam_width),
        "ds_ctcdecoder + scorer": DecoderSettings("ds_ctcdecoder", beam_width, scorer=scorer),
    }
    found = {}
    for name, settings in wanted.items():
        with open_decoder(settings, alphabet, 20.0) as decoder:
            work = lambda decoder=decoder: decoder.decode(rows)  # noqa: E731
            found[name] = min(timed(work) for _ in range(4)) / audio_s
    return found


def timed(work: Callable[[], Any]) -> float:
    """The seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--beam-width", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="asrbuild-decoding-") as name:
        folder = Path(name)
        rows, alphabet, audio_s = probabilities(folder)
        width, rounds = options.beam_width, options.rounds
        result = {
            "utterance_s": audio_s,
            "beam_width": width,
            "overhead": overhead(rows, alphabet, folder, width, None, rounds),
            "overhead_with_scorer": overhead(
                rows, alphabet, folder, width, DEMO / "prompts.scorer", rounds
            ),
            "batch_of_12": batches(rows, alphabet, width),
            "seconds_per_second_of_sound": factors(rows, alphabet, audio_s, width),
        }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{audio_s:.1f} s utterance, {width} beams")
    for key in ("overhead", "overhead_with_scorer"):
        found = result[key]
        verdict = "within" if found["ratio_of_medians"] <= LIMIT else "ABOVE"
        print(
            f"{key.replace('_', ' '):<21} in process {1000 * found['in_process_s']:7.1f} ms, "
            f"isolated {1000 * found['isolated_s']:7.1f} ms, x {found['ratio_of_medians']:.3f} "
            f"({verdict} {LIMIT:g}; fastest rounds x {found['ratio_of_fastest']:.3f}; "
            f"this side's processor {1000 * found['own_cpu_s']:.1f} ms)"
        )
    found = result["batch_of_12"]
    print(f"batch of 12           {found['speed_up']:.2f} times as fast on {os.cpu_count()} cores")
    for name, factor in result["seconds_per_second_of_sound"].items():
        print(f"{name:<23} {factor:.4f} s for a second of sound")


if __name__ == "__main__":
    main()
