"""The inputs of verification: content, lengths, and their file."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.proof.cases import (
    INPUTS,
    build_cases,
    edge_lengths,
    load_reference,
    save_reference,
    verified_inputs,
)
from asrbuild.proof.prefixes import edge_cases
from asrbuild.speech.mfcc import FeatureSettings, context_windows, features, mfcc

SETTINGS = FeatureSettings()
SECONDS = 16_000


@pytest.fixture(scope="module")
def recordings():
    """Half a second of quiet, then a tone with vibrato, so that the beginning is distinct."""
    time = np.arange(2 * SECONDS) / SECONDS
    tone = 0.3 * np.sin(2 * np.pi * (300 + 100 * np.sin(9 * time)) * time)
    sample = np.where(time < 0.5, 1e-4 * np.sin(7000 * time), tone).astype(np.float32)
    return {"sample": sample, "second": sample[::-1].copy()}


def test_every_input_has_the_form_and_order_of_the_network(recordings):
    cases = build_cases(SETTINGS, recordings)
    assert tuple(cases) == INPUTS
    for name, windows in cases.items():
        assert windows.dtype == np.float32, name
        assert windows.shape[1:] == (19, 26), name
        assert np.isfinite(windows).all(), name
    assert np.array_equal(cases["sample"], features(recordings["sample"], SETTINGS))
    assert np.array_equal(cases["second"], features(recordings["second"], SETTINGS))


def test_the_inputs_match_their_names(recordings):
    cases = build_cases(SETTINGS, recordings)
    # In silence every band is at the floor, so all frames are equal.
    frames = cases["silence"][:, 9]
    assert np.ptp(frames, axis=0).max() < 1e-6
    clipped = np.clip(recordings["sample"][:32_000] * np.float32(20.0), -1, 1)
    assert (np.abs(clipped) == 1.0).mean() > 0.3
    assert np.array_equal(cases["clipped"][:, 9], mfcc(clipped, SETTINGS))
    assert abs(cases["random"].std() - 1.0) < 0.02
    frames = cases["random"][:, 9]
    assert not np.array_equal(context_windows(frames, 9), cases["random"])


def test_inputs_are_deterministic(recordings):
    first = verified_inputs(build_cases(SETTINGS, recordings))
    second = verified_inputs(build_cases(SETTINGS, recordings))
    assert first == second
    assert len({entry.sha256 for entry in first}) == len(first)
    sample = build_cases(SETTINGS, recordings)["sample"]
    assert first[0].sha256 == hashlib.sha256(sample.astype("<f4").tobytes()).hexdigest()
    assert first[0].steps == len(sample)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"n_steps": 16}, (1, 15, 16, 17)),
        ({"n_steps": 1}, (1, 2)),
        ({"n_steps": 16, "enumerated": [16, 32, 64]}, (1, 15, 16, 17, 32, 64)),
        ({"lower": 4, "upper": 3000}, (1, 4, 3000)),
        ({"lower": 1, "upper": None}, (1,)),
    ],
)
def test_edge_lengths_follow_from_the_steps(arguments, expected):
    assert edge_lengths(**arguments) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": ["sample", "music"]}, "unknown verification input 'music'"),
        ({"recordings": {"sample": np.ones(SECONDS, np.float32)}}, "asks for the second recording"),
        (
            {"recordings": {"sample": np.ones(100, np.float32)}},
            "the sample recording has 100 samples",
        ),
    ],
)
def test_impossible_inputs_are_refused(recordings, change, message):
    arguments = {"settings": SETTINGS, "recordings": recordings, **change}
    with pytest.raises(AsrbuildError, match=message):
        build_cases(**arguments)


def test_the_reference_on_disk_has_the_same_cases(recordings, tmp_path):
    cases = build_cases(SETTINGS, recordings)
    cases |= edge_cases(cases, [1, 40], 3000)
    rng = np.random.default_rng(0)
    reference = {
        name: {
            "logits": rng.random((len(windows), 29), dtype=np.float32),
            "new_state_c": rng.random((1, 8), dtype=np.float32),
        }
        for name, windows in cases.items()
    }
    path = tmp_path / "parity.npz"
    save_reference(path, cases, reference)
    found_cases, found = load_reference(path, 9)
    assert list(found_cases) == list(cases)
    for name, windows in cases.items():
        assert np.array_equal(found_cases[name], windows), name
        for output, value in reference[name].items():
            assert np.array_equal(found[name][output], value), (name, output)
    with np.load(path) as archive:
        # Windows overlap: only values that frames cannot rebuild are stored whole.
        assert archive["sample/frames"].shape == (len(cases["sample"]) + 18, 26)
        assert archive["steps_40/frames"].shape == (40 + 18, 26)
        assert "random/features" in archive.files
    first = path.read_bytes()
    save_reference(path, cases, reference)
    assert path.read_bytes() == first


def test_a_damaged_or_missing_reference_is_an_error_not_a_traceback(recordings, tmp_path):
    cases = build_cases(SETTINGS, recordings, inputs=["sample"])
    path = tmp_path / "parity.npz"
    with pytest.raises(AsrbuildError, match="no recorded reference of its original"):
        load_reference(path, 9)
    save_reference(path, cases, {"sample": {"logits": np.zeros((len(cases["sample"]), 29))}})
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"not an archive" * 10):
        path.write_bytes(damaged)
        with pytest.raises(AsrbuildError, match="cannot be read"):
            load_reference(path, 9)
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0x10
    path.write_bytes(bytes(flipped))
    with pytest.raises(AsrbuildError):
        load_reference(path, 9)
