"""Every reader gives a result or one error with a fix for a randomly damaged file.

A failure prints the seed of the damage. ASRBUILD_FUZZ_SEED sets another seed, and
ASRBUILD_FUZZ_ROUNDS the number of rounds.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.lite import read_lite
from asrbuild.architectures.deepspeech.lite_summary import inspect_lite
from asrbuild.architectures.deepspeech.training_flags import read_flags
from asrbuild.architectures.tensorflow.inspect import inspect_graph
from asrbuild.artifact.integrity import verify_files
from asrbuild.artifact.manifest import to_json
from asrbuild.artifact.reading import read_manifest
from asrbuild.base import cache, cache_cleanup
from asrbuild.base.cache import StageKey, run_stage
from asrbuild.base.digest import file_digest, forget_missing, remember_digest
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor.package import read_spec
from asrbuild.handover.ship.formats.bundle import check_bundle
from asrbuild.handover.ship.origin import prove_origin
from asrbuild.handover.ship.signing.trust import read_key_file, read_trust, trust_key
from asrbuild.proof.cases import build_cases, load_reference, save_reference
from asrbuild.speech.alphabet import read_alphabet
from asrbuild.speech.audio import read_audio
from asrbuild.speech.dataset import read_dataset
from asrbuild.speech.mfcc import FeatureSettings
from asrbuild.speech.scorer.package import inspect_scorer
from tests.other_files import memory_mapped
from tests.paths import DEMO, GENUINE

SEED = int(os.environ.get("ASRBUILD_FUZZ_SEED", "20261126"))
ROUNDS = int(os.environ.get("ASRBUILD_FUZZ_ROUNDS", "60"))
#: A limit that no reader reaches on a busy machine: a reader that hangs ends here.
SECONDS = 60
#: Memory that a reader may allocate in addition: a claim of terabytes fails.
MEMORY = 4 << 30
#: Numbers that readers multiply, allocate and loop by.
NUMBERS = [
    b"\xff" * 4,
    b"\xff" * 8,
    b"\x00" * 8,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80" * 9,
]


@dataclass(frozen=True)
class Reader:
    """A reader: ``read`` gets a folder with the damaged file ``name`` and all that it requires.

    ``only_saves_time``: a damaged file is ignored and its content computed again, without an error.
    """

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    only_saves_time: bool = False


def copied(source: Path) -> Callable[[Path], object]:
    return lambda folder: shutil.copyfile(source, folder / source.name)


def mapped(folder: Path) -> None:
    memory_mapped(GENUINE / "deepspeech-0.9.3" / "x_r1_16.pb", folder / "x.pbmm")


def checkpoint(folder: Path) -> None:
    for file in (GENUINE / "deepspeech-0.9.3" / "checkpoint").iterdir():
        shutil.copyfile(file, folder / file.name)


def reference(folder: Path) -> None:
    settings = FeatureSettings(16_000, 512, 320, 26, 9)
    cases = build_cases(settings, {}, ("silence",))
    outputs = {"logits": np.zeros((len(cases["silence"]), 29), np.float32)}
    save_reference(folder / "parity.npz", cases, {"silence": outputs})


def manifest(folder: Path) -> None:
    from asrbuild.artifact.manifest import Manifest
    from tests.manifests import MANIFEST

    (folder / "manifest.json").write_text(to_json(Manifest.model_validate(MANIFEST)))


def sums(folder: Path) -> None:
    from asrbuild.artifact.integrity import write_sums

    manifest(folder)
    write_sums(folder)


def table(folder: Path) -> None:
    shutil.copyfile(DEMO / "second.wav", folder / "a.wav")
    rows = "a.wav,1,you have five new messages\n" * 3
    (folder / "t.csv").write_text(f"wav_filename,wav_filesize,transcript\n{rows}")


def key(folder: Path) -> None:
    from asrbuild.handover.ship.signing.keys import new_key

    new_key("k", folder)
    shutil.move(folder / "keys" / "k.pub", folder / "k.pub")


def whole(folder: Path) -> None:
    problems = list(verify_files(folder))
    if problems:
        raise AsrbuildError(str(problems[0]))


def shipped(folder: Path) -> None:
    """A remote ``r`` with a channel, the artifact pulled from it, and a bundle."""
    from asrbuild.handover.ship.formats.bundle import write_bundle
    from asrbuild.handover.ship.push import ship
    from asrbuild.handover.ship.remotes.address import open_remote
    from asrbuild.handover.ship.signing.keys import new_key
    from tests.handover.ship.making import make_artifact

    signer = new_key("k", folder / "config")
    trust = read_trust(folder / "config")
    artifact = make_artifact(
        folder / "a", content={"model.mlmodel": b"weights" * 300, "reference.wav": b"RIFF"}
    )
    ship(artifact, open_remote(str(folder / "r")), signer=signer, trust=trust, channel="beta")
    write_bundle(artifact, folder / "x.asrb", signer)
    pulled(folder, folder / "pulled", folder / "config")


def pulled(folder: Path, to: Path | None = None, config: Path | None = None) -> Path:
    """Pulls the artifact as a new reader, or as one that has seen the channel."""
    from asrbuild.handover.ship.pull import pull
    from asrbuild.handover.ship.remotes.address import open_remote

    to = to or Path(tempfile.mkdtemp(dir=folder))
    trust = read_trust(folder / "config")
    remote = open_remote(str(folder / "r"))
    (got,) = pull("demo-dynamic@beta", remote, to, trust=trust, config=config or to / "config")
    assert not verify_files(got.path)
    return got.path


def proven(folder: Path) -> None:
    (artifact,) = (folder / "pulled").glob("demo-dynamic/1*")
    if prove_origin(artifact, read_trust(folder / "config")) is None:
        raise AsrbuildError("no signature of a trusted key")


_STAGE = StageKey("convert", 1, {"n": 1}, {}, {})


def stage(folder: Path) -> None:
    run_stage(
        folder / "cache",
        _STAGE,
        lambda at: (at / "x").write_bytes(b"x") and None,
        notify=lambda _: None,
    )


def cached(folder: Path) -> None:
    list(cache_cleanup.list_entries(folder / "cache"))
    if not cache.is_cached(folder / "cache", _STAGE):
        raise AsrbuildError("not there, so it is made again")
    assert (
        cache.entry_problem(
            folder / "cache", cache.entry_path(folder / "cache", _STAGE), verify=True
        )
        is None
    )


_LARGE = bytes(2 << 20)


def memo(folder: Path) -> None:
    (folder / "x").write_bytes(_LARGE)
    remember_digest(folder / "x", folder / "cache", hashlib.sha256(_LARGE).hexdigest())


def digest(folder: Path) -> None:
    """A memo's digest. A wrong one counts as damage of the file that the memo names."""
    found = file_digest(folder / "x", folder / "cache")
    forget_missing(folder / "cache")
    if found != hashlib.sha256(_LARGE).hexdigest():
        raise AsrbuildError("the file is taken for damaged")


def package(folder: Path) -> None:
    from asrbuild.architectures.deepspeech.from_weights import convert_weights
    from asrbuild.architectures.deepspeech.network import random_weights
    from asrbuild.coreml.request import ConversionRequest, FixedSteps

    request = ConversionRequest(format="mlprogram", steps=FixedSteps(16))
    convert_weights(random_weights(8), request, folder / "p.mlpackage")


READERS = [
    Reader("x.asrb", shipped, lambda at: check_bundle(at / "x.asrb", read_trust(at / "config"))),
    Reader("r/artifacts/*/channels/beta/1.json", shipped, pulled),
    Reader("r/artifacts/*/channels/beta/current.json", shipped, pulled, only_saves_time=True),
    Reader("r/artifacts/*/versions/*.json", shipped, pulled),
    Reader("config/seen.json", shipped, lambda at: pulled(at, config=at / "config")),
    Reader("config/trusted/*.pub", shipped, proven),
    Reader("pulled/.signed/*/*.json", shipped, proven),
    Reader("cache/convert/*/stage.json", stage, cached),
    Reader("cache/.digests/*.json", memo, digest, only_saves_time=True),
    Reader("p.mlpackage/Manifest.json", package, lambda at: read_spec(at / "p.mlpackage")),
    Reader(
        "x_r1_16.pb",
        copied(GENUINE / "deepspeech-0.9.3" / "x_r1_16.pb"),
        lambda at: inspect_graph(at / "x_r1_16.pb"),
    ),
    Reader("x.pbmm", mapped, lambda at: inspect_graph(at / "x.pbmm")),
    Reader(
        "x_q1t.tflite",
        copied(GENUINE / "coqui-1.4.0" / "x_q1t.tflite"),
        lambda at: (inspect_lite(at / "x_q1t.tflite"), read_lite(at / "x_q1t.tflite")),
    ),
    Reader("best_dev-590.index", checkpoint, lambda at: read_weights(find_checkpoint(at))),
    Reader("best_dev_checkpoint", checkpoint, lambda at: find_checkpoint(at)),
    Reader("flags.txt", checkpoint, lambda at: read_flags(at / "flags.txt")),
    Reader(
        "alphabet.txt", copied(DEMO / "alphabet.txt"), lambda at: read_alphabet(at / "alphabet.txt")
    ),
    Reader(
        "second.wav", copied(DEMO / "second.wav"), lambda at: read_audio(at / "second.wav", 16_000)
    ),
    Reader(
        "prompts.scorer",
        copied(DEMO / "prompts.scorer"),
        lambda at: inspect_scorer(at / "prompts.scorer"),
    ),
    Reader("t.csv", table, lambda at: read_dataset(at / "t.csv")),
    Reader("parity.npz", reference, lambda at: load_reference(at / "parity.npz", 9)),
    Reader("manifest.json", manifest, lambda at: read_manifest(at)),
    Reader("SHA256SUMS", sums, whole),
    Reader("k.pub", key, lambda at: trust_key(read_key_file(at / "k.pub"), "k", at / "config")),
]


def damaged(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """``data`` with one to three changes, most of them near its beginning or its end."""
    changed, said = bytearray(data), []
    for _ in range(chance.randrange(1, 4)):
        size = len(changed)
        near = min(size, 512)
        at = chance.choice(
            (
                chance.randrange(near or 1),
                max(0, size - 1 - chance.randrange(near or 1)),
                chance.randrange(size or 1),
            )
        )
        how = chance.choice(("flip", "cut", "number", "remove", "repeat", "digits"))
        if how == "flip" and size:
            changed[at] ^= 1 << chance.randrange(8)
        elif how == "cut":
            del changed[at:]
        elif how == "number":
            number = chance.choice(NUMBERS)
            changed[at : at + len(number)] = number
        elif how == "remove":
            del changed[at : at + chance.randrange(1, 64)]
        elif how == "repeat":
            changed[at:at] = bytes(changed[at : at + 64]) * chance.randrange(1, 50)
        else:
            changed[at:at] = b"9" * chance.choice((3, 20, 5000))
        said.append(f"{how} at {at}")
    return bytes(changed), ", ".join(said)


@pytest.fixture
def bounded() -> Any:
    """Ends a reader that hangs or allocates more than such a file can hold."""
    if sys.platform != "linux":
        yield
        return
    import resource

    def ended(number: int, frame: object) -> None:
        raise AssertionError(f"took longer than {SECONDS} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, ended)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_damaged_file_is_read_or_refused(reader: Reader, tmp_path: Path, bounded: None) -> None:
    reader.make(tmp_path)
    reader.read(tmp_path)
    (file,) = tmp_path.glob(reader.name)
    whole = file.read_bytes()
    chance = random.Random(f"{SEED} {reader.name}")
    refused = 0
    for number in range(ROUNDS):
        data, how = damaged(whole, chance)
        file.write_bytes(data)
        told = f"seed {SEED}, round {number}: {how}"
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            reader.read(tmp_path)
        except AsrbuildError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{told}: {error!r}") from error
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert refused or reader.only_saves_time, "no damage was noticed"
