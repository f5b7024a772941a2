"""``asrbuild evidence``: from the kit to the store, shown and compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.artifact.evidence import list_evidence
from asrbuild.base.digest import tree_digests
from asrbuild.handover.difference import _devices
from asrbuild.handover.evidence.kept import planned
from asrbuild.handover.ship.signing.keys import Signer, new_key
from asrbuild.handover.ship.signing.trust import Trust
from tests.handover.evidence.making import Change, changed, remake, written

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store with the artifact, which the commands use."""
    root = tmp_path / "store"
    shutil.copytree(published.parents[1], root)
    monkeypatch.setenv("ASRBUILD_ARTIFACTS", str(root))
    monkeypatch.setenv("ASRBUILD_CACHE", str(tmp_path / "cache"))
    return root


def test_evidence_goes_from_the_kit_to_the_store(
    command: Command,
    store: Path,
    published: Path,
    document: dict[str, Any],
    tmp_path: Path,
    trust: Trust,
) -> None:
    name, artifact = published.parent.name, store / published.parent.name / published.name
    before = tree_digests(artifact)
    file = written(tmp_path / "evidence.json", document)
    code, out, err = command("evidence", "add", file, name)
    assert code == 0, err
    assert "signed by default: Mac16,1, macOS 26.1 (25B78), CPU_ONLY, CPU_AND_NE" in out
    assert tree_digests(artifact) == before, "the artifact must not change"
    (kept,) = list_evidence(artifact)
    envelope = json.loads(kept.read_bytes())
    assert envelope["payloadType"] == "application/vnd.asrbuild.evidence+json"
    code, _, err = command("evidence", "add", file, name)
    assert code == 1
    assert "it was added before" in err

    code, out, _ = command("evidence", "ls", "--json")
    (row,) = json.loads(out)["evidence"]
    assert code == 0
    assert (row["signer"], row["digest"]) == ("default", kept.stem)
    code, out, _ = command("evidence", "ls")
    assert "Mac16,1" in out
    code, out, _ = command("evidence", "show", name)
    assert code == 0
    assert "planned" in out
    assert "unanswered" in out
    assert "runs on" not in out
    code, out, _ = command("ls", "--json")
    assert [row["evidence"] for row in json.loads(out)] == [1]
    assert "1 run" in command("ls")[1]
    page = tmp_path / "page.html"
    code, _, err = command("report", name, "-o", page)
    assert code == 0, err
    html = page.read_text()
    assert 'id="devices"' in html
    assert "Mac16,1, macOS 26.1 (25B78)" in html

    code, out, err = command("fit", name, "--json")
    assert code == 0, err
    fit = json.loads(out)
    assert fit["neural_engine"] == "planned"
    assert fit["borne_out"]["R01"] == {"hits": 2, "misses": 0}, "lstm, with two sets of units"
    assert [row["units"] for row in fit["latency"]][:2] == ["CPU_ONLY", "CPU_AND_NE"]
    assert "p95" in command("fit", name)[1]

    unmeasured = tmp_path / "unmeasured"
    shutil.copytree(store, unmeasured, ignore=shutil.ignore_patterns(".evidence"))
    code, out, err = command("diff", unmeasured / name / published.name, name)
    assert code == 0, err
    assert "Mac16,1, macOS 26.1, CPU_AND_NE: planned" in out
    assert "not measured" in out
    rows = planned(store, document["artifact"]["package_sha256"], trust)
    assert [one.units for one in rows] == ["CPU_ONLY", "CPU_AND_NE", "CPU_AND_GPU", "ALL"]
    assert planned(store, "0" * 64, trust) == ()


def test_the_signer_of_evidence_must_be_trusted(
    command: Command,
    store: Path,
    published: Path,
    document: dict[str, Any],
    tmp_path: Path,
    signer: Signer,
) -> None:
    """A signed file keeps its signature; an untrusted or changed one does not count."""
    from asrbuild.handover.evidence.document import Document
    from asrbuild.handover.ship.evidence import seal

    payload = Document.model_validate_json(json.dumps(document)).payload
    stranger = new_key("stranger", tmp_path / "strange")
    name = published.parent.name
    file = tmp_path / "signed.json"
    file.write_bytes(seal(payload, stranger))
    code, _, err = command("evidence", "add", file, name)
    assert code == 1
    assert "UNTRUSTED_SIGNER" in err
    envelope = json.loads(seal(payload, signer))
    other = seal(changed_payload(payload), signer)
    envelope["payload"] = json.loads(other)["payload"]
    file.write_text(json.dumps(envelope, sort_keys=True, separators=(",", ":")))
    code, _, err = command("evidence", "add", file, name)
    assert code == 1
    assert "BAD_SIGNATURE" in err
    file.write_bytes(seal(payload, signer))
    assert command("evidence", "add", file, name)[0] == 0
    artifact = store / name / published.name
    (kept,) = list_evidence(artifact)
    assert kept.read_bytes() == file.read_bytes()

    # A file that was put there without a check does not count, and the output gives the reason.
    kept.write_text(kept.read_text() + " ")
    code, out, _ = command("evidence", "ls", name)
    assert code == 0
    assert "does not count" in out
    code, _, err = command("evidence", "show", name, kept.stem[:8])
    assert code == 1
    assert "this evidence does not count" in err


def changed_payload(payload: bytes) -> bytes:
    return payload.replace(b'"Mac16,1"', b'"Mac16,2"')


def test_runs_are_compared_on_one_device_only(
    command: Command, store: Path, published: Path, document: dict[str, Any], tmp_path: Path
) -> None:
    name = published.parent.name

    def run(factor: float, **device: str) -> Change:
        def change(d: dict[str, Any]) -> None:
            d["device"] |= device
            for one in d["passes"]:
                one["calls_ms"] = [ms * factor for ms in one["calls_ms"]]
            remake(d)

        return change

    shifted = changed(document, run(0.99))
    elsewhere = changed(document, run(0.98, identifier="Mac16,9"))
    digests = []
    for number, one in enumerate((document, shifted, elsewhere)):
        file = written(tmp_path / f"{number}.json", one)
        code, out, err = command("evidence", "add", file, name, "--json")
        assert code == 0, err
        digests.append(json.loads(out)["digest"])
    first, second, third = digests
    code, out, err = command(
        "evidence", "compare", name, name, "--first", first, "--second", second, "--json"
    )
    assert code == 0, err
    assert {row["what"] for row in json.loads(out)} >= {"planned", "first load, ms"}
    code, _, err = command("evidence", "compare", name, name, "--first", first, "--second", third)
    assert code == 1
    assert "the runs have different devices" in err


def test_another_compute_plan_is_reported_to_apps() -> None:
    label = "iPhone16,2, iOS 26.1, CPU_AND_NE"
    changes = _devices({label: ("12 NE", "9 ms")}, {label: ("12 CPU", "8 ms"), "other": ("", "")})
    assert [(c.what, c.before, c.now, c.effect) for c in changes] == [
        (f"{label}: planned", "12 NE", "12 CPU", "must know"),
        (f"{label}: timed", "9 ms", "8 ms", "no action"),
        ("other: planned", "not measured", "", "no action"),
        ("other: timed", "not measured", "", "no action"),
    ]


def test_a_kit_names_its_function_and_folder(
    command: Command, store: Path, published: Path, tmp_path: Path
) -> None:
    name = published.parent.name
    code, _, err = command("evidence", "kit", name, "--out", tmp_path)
    assert code == 1
    assert "this folder exists already" in err
    code, _, err = command("evidence", "kit", name, "--out", tmp_path / "k", "--function", "other")
    assert code == 1
    assert "no function other" in err
    assert not (tmp_path / "k").exists()
    code, _, err = command("evidence", "show", name)
    assert code == 1
    assert "has no evidence" in err
