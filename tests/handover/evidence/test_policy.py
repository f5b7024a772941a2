"""Channels that move on evidence: policies, refusals, and signed reasons."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.artifact.evidence import list_evidence
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.evidence.document import Document
from asrbuild.handover.evidence.kept import Kept
from asrbuild.handover.evidence.policy import Policy, missing, read_policy
from tests.handover.evidence.making import Change, changed, written

Command = Callable[..., tuple[int, str, str]]
NOW = datetime(2099, 1, 1, tzinfo=timezone.utc)


def kept(document: dict[str, Any], change: Change = lambda _: None) -> Kept:
    made = Document.model_validate_json(json.dumps(changed(document, change)))
    return Kept("0" * 64, "", "default", made)


def words(document: dict[str, Any], published: Path) -> dict[str, str]:
    book = json.loads((published / "conformance" / "steps.json").read_text())
    return {one["name"]: one["text"] for one in book["recordings"]}


ENOUGH: dict[str, Any] = {"devices": ["Mac16,*"], "systems": ["macOS 26"], "units": "CPU_AND_NE"}
LACKS: dict[str, tuple[dict[str, Any], str | None]] = {
    "enough": ({}, None),
    "every limit kept": (
        {"p95_ms": 1e6, "first_load_ms": 1e6, "peak_memory_mb": 1e5, "max_age": "40000d"},
        None,
    ),
    "another device": (
        {"devices": ["Mac16,*", "iPhone16,2"], "systems": ["macOS 26", "iOS 26"]},
        "iPhone16,2 with iOS 26: no evidence",
    ),
    "another system": (
        {"systems": ["macOS 26", "macOS 15"]},
        r"Mac16,* with macOS 15: no evidence",
    ),
    "a later system": ({"systems": ["macOS 26.2"]}, r"Mac16,* with macOS 26.2: no evidence"),
    "slower than allowed": ({"p95_ms": 1e-6}, "ms per second of audio, at most 1e-06 are allowed"),
    "a long first load": ({"first_load_ms": 1e-3}, "at most 0.001 are allowed"),
    "old": ({"max_age": "30d"}, "over 30d ago"),
}


@pytest.mark.parametrize("what", LACKS)
def test_a_refusal_lists_missing_evidence(
    what: str, document: dict[str, Any], published: Path
) -> None:
    more, lacks = LACKS[what]
    policy = Policy.model_validate(ENOUGH | more)
    found, used = missing(
        policy, read_manifest(published), [kept(document)], words(document, published), NOW
    )
    if lacks is None:
        assert (found, used) == ([], {"0" * 64})
    else:
        (line,) = found
        assert lacks in line, line


def test_a_policy_checks_words_caches_and_units(document: dict[str, Any], published: Path) -> None:
    manifest, texts = read_manifest(published), words(document, published)
    policy = Policy.model_validate(ENOUGH | {"first_load_ms": 1e6, "peak_memory_mb": 10.0})

    def silence(d: dict[str, Any]) -> None:
        for one in d["outputs"]:
            rows = np.zeros((one["steps"], one["classes"]), "<f4")
            rows[:, -1] = 1
            one["probabilities"] = base64.b64encode(rows.tobytes()).decode()

    for change, lacks in (
        (silence, "the words of reference with CPU_AND_NE are others"),
        (lambda d: [o.update(cache="unknown") for o in d["loads"]], "was not with a cleared cache"),
        (
            lambda d: d["memory"].update(peak_bytes=d["memory"]["before_bytes"] + 20_000_000),
            "it takes 20 MB, at most 10 are allowed",
        ),
        (lambda d: d["statistics"].pop(1), "CPU_AND_NE was not timed"),
        (lambda d: d.update(outputs=d["outputs"][:1]), "has not run every recording"),
    ):
        found, _ = missing(policy, manifest, [kept(document, change)], texts, NOW)
        assert lacks in found[0], found
    old = Policy.model_validate(ENOUGH | {"systems": ["macOS 10"]})
    found, _ = missing(old, manifest, [kept(document)], texts, NOW)
    assert found == ["the package loads on none of the policy's systems"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("devices: ['iPhone16,2']\n", "systems: Field required"),
        ("devices: [iPhone16,2]\nsystems: [iOS 26]\n", "quote a model"),
        ("devices: ['Mac1,1']\nsystems: [iOS 26]\n", "has no system for Mac1,1"),
        ("devices: ['*']\nsystems: [Windows 11]\n", "systems.0"),
        ("devices: ['*']\nsystems: [iOS 26]\nspeed: 3\n", "speed: Extra inputs"),
        ("devices: ['*']\nsystems: [iOS 26]\nmax_age: soon\n", "max_age"),
        ("devices: ['*']\nsystems: [iOS 26]\np95_ms: -1\n", "p95_ms"),
        ("devices: ['*']\ndevices: ['x']\n", "not YAML"),
        ("[1, 2", "not YAML"),
        ("", "cannot be used"),
        ("devices: ${oc.env:HOME}\nsystems: [iOS 26]\n", "devices"),
    ],
)
def test_a_policy_is_strict(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(AsrbuildError) as refused:
        read_policy(file)
    assert message in str(refused.value)
    assert refused.value.fix


def test_a_channel_moves_on_evidence(
    command: Command,
    published: Path,
    document: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, remote, name = tmp_path / "store", tmp_path / "remote", published.parent.name
    shutil.copytree(published.parents[1], store)
    remote.mkdir()
    monkeypatch.setenv("ASRBUILD_ARTIFACTS", str(store))
    policy = tmp_path / "policy.yaml"
    policy.write_text("devices: ['Mac16,*']\nsystems: [macOS 26]\nunits: CPU_AND_NE\np95_ms: 1e6\n")
    version = published.name
    move = ("channel", "set", name, "stable", version, "--remote", remote, "--allow-unproven")
    assert command("ship", name, remote)[0] == 0
    code, _, err = command(*move, "--require", policy)
    assert code == 1
    assert "Mac16,* with macOS 26: no evidence" in err

    file = written(tmp_path / "evidence.json", document)
    spec = f"{remote}#{name}@{version}"
    code, out, err = command("evidence", "add", file, spec, "--json")
    assert code == 0, err
    digest = json.loads(out)["digest"]
    code, _, err = command("evidence", "add", file, spec)
    assert "it was added before" in err
    code, out, err = command(*move, "--require", policy, "--json")
    assert code == 0, err
    record = json.loads(out)
    assert record["evidence"]["digests"] == [digest]
    assert record["evidence"]["without"] is None

    # The same target again needs nothing; another one needs evidence, or a signed reason.
    assert command(*move)[0] == 0
    policy.write_text(policy.read_text().replace("1e6", "1e-6"))
    code, _, err = command(*move, "--require", policy)
    assert code == 1
    assert "at most 1e-06 are allowed" in err
    code, _, err = command(*move, "--without-evidence", "line\none")
    assert "not a reason that can be signed" in err
    reason = "the phone is in the post"
    code, out, err = command(*move, "--require", policy, "--without-evidence", reason)
    assert code == 0, err
    code, out, _ = command("channel", "history", name, "stable", "--remote", remote)
    assert f"without evidence: {reason}" in out
    records = sorted((remote / "artifacts" / name / "channels" / "stable").glob("[0-9]*.json"))
    payload = json.loads(base64.b64decode(json.loads(records[-1].read_bytes())["payload"]))
    assert (payload["format"], payload["evidence"]["without"]) == ("asrbuild-channel/2", reason)

    # Each artifact of a set must satisfy the policy.
    policy.write_text(policy.read_text().replace("1e-6", "1e6"))
    code, out, err = command("ship", name, remote, "--set", "both", "--json")
    assert code == 0, err
    line = ("channel", "set", "both", "beta", json.loads(out)["version"], "--remote", remote)
    code, out, err = command(*line, "--allow-unproven", "--require", policy, "--json")
    assert code == 0, err
    assert json.loads(out)["evidence"]["digests"] == [digest]

    # Evidence travels with a shipped artifact and arrives in the store of the reader.
    monkeypatch.setenv("ASRBUILD_ARTIFACTS", str(tmp_path / "other"))
    code, _, err = command("pull", f"{name}@stable", "--remote", remote)
    assert code == 0, err
    (pulled,) = list_evidence(tmp_path / "other" / name / published.name)
    assert pulled.stem == digest
    (tmp_path / "second").mkdir()
    code, _, err = command("ship", name, tmp_path / "second")
    assert code == 0, err
    code, out, _ = command("evidence", "ls", f"{tmp_path / 'second'}#{name}@{version}")
    assert digest[:12] in out
    assert code == 0


def test_a_channel_with_a_policy_keeps_it(tmp_path: Path, signer: Any, trust: Any) -> None:
    from asrbuild.handover.ship.channels.move import point, rollback, rotate
    from asrbuild.handover.ship.channels.record import Accepted
    from asrbuild.handover.ship.push import ship
    from asrbuild.handover.ship.remotes.address import open_remote
    from asrbuild.handover.ship.signing.keys import new_key
    from tests.handover.ship.making import make_versions

    (tmp_path / "remote").mkdir()
    remote = open_remote(str(tmp_path / "remote"))
    versions = make_versions(tmp_path / "store", 2)
    shipped = [ship(one, remote, signer=signer, trust=trust) for one in versions]
    first, second = ((remote, one.name, "stable", one.version, one.header) for one in shipped)
    on = Accepted("a" * 64, ("b" * 64,), None)
    assert point(*first, signer=signer, trust=trust, accepted=on).evidence == on
    again = point(*first, signer=signer, trust=trust, seconds=60)
    assert (again.counter, again.evidence) == (2, on)
    with pytest.raises(AsrbuildError, match="moves on evidence of devices"):
        point(*second, signer=signer, trust=trust)
    assert (
        point(*second, signer=signer, trust=trust, accepted=Accepted(None, (), "why")).counter == 3
    )
    back = rollback(remote, shipped[0].name, "stable", signer=signer, trust=trust)
    assert (back.why, back.evidence) == ("rollback", on)
    assert point(*second, signer=signer, trust=trust, accepted=on).counter == 5
    to = new_key("next", tmp_path / "config")
    handed = rotate(remote, shipped[0].name, "stable", signer=signer, to=to, trust=trust)
    assert (handed.why, handed.evidence) == ("rotate", on)
