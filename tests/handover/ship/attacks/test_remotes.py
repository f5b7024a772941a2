"""Hostile remotes: an attacker can write to one, or answer in its place, but has no key."""

from __future__ import annotations

import functools
import http.client
import http.server
import itertools
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.base.digest import canonical_json, tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.channels.chain import history
from asrbuild.handover.ship.channels.record import FORMAT, PAYLOAD_TYPE, parse_record
from asrbuild.handover.ship.formats.header import File
from asrbuild.handover.ship.pull import Pulled, pull
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes import http as wire
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.remotes.remote import MAX_INDEX, MAX_RECORD
from asrbuild.handover.ship.signing.envelope import sign
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust, read_trust
from tests.handover.ship.conftest import Quiet, serving
from tests.handover.ship.making import CONTENT, make_artifact

R = Refusal
Refuse = Callable[..., Refused]
NAME = "demo-dynamic"
BETA = Path("artifacts", NAME, "channels", "beta")


@pytest.fixture
def versions(tmp_path: Path) -> list[Path]:
    return [
        make_artifact(tmp_path / "artifacts", content={**CONTENT, "alphabet.txt": b"%d" % n})
        for n in range(3)
    ]


@pytest.fixture
def remote(tmp_path: Path, versions: list[Path], signer: Signer, trust: Trust) -> Path:
    """A folder to which two versions were shipped; beta has pointed at each."""
    folder = tmp_path / "remote"
    for version in versions[:2]:
        ship(version, open_remote(str(folder)), signer=signer, trust=trust, channel="beta")
    return folder


@pytest.fixture
def fetch(tmp_path: Path, trust: Trust, config: Path) -> Callable[..., Pulled]:
    """Pulls into ``victim/store``."""
    (tmp_path / "victim" / "store").mkdir(parents=True, exist_ok=True)

    def run(spec: str, address: object) -> Pulled:
        store = tmp_path / "victim" / "store"
        (pulled,) = pull(spec, open_remote(str(address)), store, trust=trust, config=config)
        return pulled

    return run


# Channels --------------------------------------------------------------------------------------


@pytest.fixture
def have_seen(fetch: Any, remote: Path, tmp_path: Path) -> None:
    """Somebody has pulled, and then empties the store."""
    fetch(f"{NAME}@beta", remote)
    shutil.rmtree(tmp_path / "victim" / "store")
    (tmp_path / "victim" / "store").mkdir()


def test_a_stranger_is_refused_by_the_name_of_the_place(
    remote: Path, versions: list[Path], stranger: Signer, config: Path, tmp_path: Path
):
    trust = read_trust(tmp_path / "strange")
    there = open_remote(str(remote))
    version = versions[0].name
    for attempt in (
        lambda: pull(f"{NAME}@beta", there, tmp_path / "s", trust=trust, config=config),
        lambda: pull(f"{NAME}@{version}", there, tmp_path / "s", trust=trust, config=config),
        lambda: ship(versions[0], there, signer=stranger, trust=trust),
        lambda: history(there, NAME, "beta", trust),
    ):
        with pytest.raises(Refused, match="UNTRUSTED_SIGNER") as refused:
            attempt()
        assert refused.value.file == str(remote)


@pytest.mark.usefixtures("have_seen")
@pytest.mark.parametrize("how", ["newest deleted", "all deleted", "old one in its place"])
def test_an_old_state_put_back(remote: Path, fetch: Any, refused: Refuse, how: str):
    if how == "all deleted":
        shutil.rmtree(remote / BETA)
        reason = R.REPLAYED
    elif how == "newest deleted":
        (remote / BETA / "2.json").unlink()
        (remote / BETA / "current.json").write_text('{"counter": 1}')
        reason = R.REPLAYED
    else:
        shutil.copy(remote / BETA / "1.json", remote / BETA / "2.json")
        reason = R.IDENTITY_MISMATCH
    refused(reason, lambda: fetch(f"{NAME}@beta", remote))


@pytest.mark.usefixtures("have_seen")
def test_an_old_version_through_a_channel_moved_back(
    remote: Path, versions: list[Path], fetch: Any, refused: Refuse, stranger: Signer, trust: Trust
):
    """A new record for the old version is what only the key could sign."""
    old = json.loads((remote / BETA / "1.json").read_text())
    payload = parse_record(
        canonical_json(old).encode(), NAME, "beta", 1, trust
    )  # genuine, and of counter 1
    fields = {
        "channel": "beta", "counter": 3, "format": FORMAT, "header": payload.header,
        "name": NAME, "previous": "0" * 64, "time": "", "version": versions[0].name,
        "why": "rollback",
    }  # fmt: skip
    forged = sign(PAYLOAD_TYPE, canonical_json(fields).encode(), stranger)
    (remote / BETA / "3.json").write_text(canonical_json(forged))
    refused(R.UNTRUSTED_SIGNER, lambda: fetch(f"{NAME}@beta", remote))
    forged["signatures"][0]["keyid"] = old["signatures"][0]["keyid"]
    (remote / BETA / "3.json").write_text(canonical_json(forged))
    refused(R.BAD_SIGNATURE, lambda: fetch(f"{NAME}@beta", remote))
    forged["signatures"] = old["signatures"]
    (remote / BETA / "3.json").write_text(canonical_json(forged))
    refused(R.BAD_SIGNATURE, lambda: fetch(f"{NAME}@beta", remote))


@pytest.mark.usefixtures("have_seen")
def test_one_channels_record_as_another_channels(remote: Path, fetch: Any, refused: Refuse):
    shutil.copytree(remote / BETA, remote / BETA.parent / "stable")
    refused(R.IDENTITY_MISMATCH, lambda: fetch(f"{NAME}@stable", remote))


@pytest.mark.usefixtures("have_seen")
def test_two_truths_for_one_place(
    remote: Path, versions: list[Path], fetch: Any, refused: Refuse, signer: Signer, trust: Trust
):
    """Even the key's holder cannot say two things about one record."""
    for name in ("2.json", "current.json"):
        (remote / BETA / name).unlink()
    ship(versions[2], open_remote(str(remote)), signer=signer, trust=trust, channel="beta")
    refused(R.FORKED, lambda: fetch(f"{NAME}@beta", remote))


def test_a_history_with_a_hole_or_a_broken_link(
    remote: Path, versions: list[Path], refused: Refuse, signer: Signer, trust: Trust
):
    place = open_remote(str(remote))
    ship(versions[2], place, signer=signer, trust=trust, channel="beta")
    (remote / BETA / "2.json").unlink()
    refused(R.FORKED, lambda: history(place, NAME, "beta", trust))
    (remote / BETA / "current.json").unlink()
    fields = {
        "channel": "beta", "counter": 2, "format": FORMAT, "header": "1" * 64,
        "name": NAME, "previous": "0" * 64, "time": "", "version": "1.0.0", "why": "set",
    }  # fmt: skip
    broken = sign(PAYLOAD_TYPE, canonical_json(fields).encode(), signer)
    (remote / BETA / "2.json").write_text(canonical_json(broken))
    refused(R.FORKED, lambda: history(place, NAME, "beta", trust))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", R.RECORD_MALFORMED),
        (b"{}", R.RECORD_MALFORMED),
        (b"[" * 9999, R.RECORD_MALFORMED),
        (b'{"payload": "", "payloadType": "x", "signatures": []}', R.RECORD_MALFORMED),
        (b"x" * (MAX_RECORD + 1), R.TOO_LARGE),
    ],
    ids=["empty", "no envelope", "deep", "spaces", "huge"],
)
def test_records(remote: Path, fetch: Any, refused: Refuse, content: bytes, reason: Refusal):
    (remote / BETA / "3.json").write_bytes(content)
    refused(reason, lambda: fetch(f"{NAME}@beta", remote))


def test_a_record_that_is_signed_and_says_nothing(
    remote: Path, fetch: Any, refused: Refuse, signer: Signer
):
    for fields in ({}, [], {"counter": True}, "x"):
        raw = canonical_json(sign(PAYLOAD_TYPE, canonical_json(fields).encode(), signer))
        (remote / BETA / "3.json").write_text(raw)
        refused(R.RECORD_MALFORMED, lambda: fetch(f"{NAME}@beta", remote))


@pytest.mark.parametrize(
    "hint",
    [b"", b"null", b"[]", b'{"counter": -5}', b'{"counter": 1e99}', b"[" * 9999, b'{"counter": 7}'],
)
def test_hints_are_not_trusted(remote: Path, versions: list[Path], fetch: Any, hint: bytes):
    (remote / BETA / "current.json").write_bytes(hint)
    assert fetch(f"{NAME}@beta", remote).version == versions[1].name


def test_the_memory_of_channels_is_not_lost_silently(remote: Path, fetch: Any, config: Path):
    fetch(f"{NAME}@beta", remote)
    (config / "seen.json").write_text("{")
    with pytest.raises(AsrbuildError, match="old states are not noticed"):
        fetch(f"{NAME}@beta", remote)


def test_a_memory_of_channels_that_is_something_else(remote: Path, fetch: Any, config: Path):
    fetch(f"{NAME}@beta", remote)
    (config / "seen.json").write_text("[]")
    with pytest.raises(AsrbuildError, match="old states are not noticed"):
        fetch(f"{NAME}@beta", remote)


def test_a_channel_that_is_hidden_so_that_an_old_version_is_taken_for_it(
    remote: Path, versions: list[Path], fetch: Any, refused: Refuse, signer: Signer, trust: Trust
):
    """The name begins an old version's digest; a reader that knows the channel refuses it."""
    old = versions[0].name.partition("+")[2]
    while not old[0].isalpha():
        old = old[1:]
    channel = next(old[:n] for n in range(1, 12) if any(c.isdigit() for c in old[:n]))
    place = open_remote(str(remote))
    ship(versions[2], place, signer=signer, trust=trust, channel=channel)
    start = versions[0].name[: versions[0].name.index(channel)]
    assert fetch(f"{NAME}@{channel}", remote).version == versions[2].name
    shutil.rmtree(remote / BETA.parent / channel)
    refused(R.REPLAYED, lambda: fetch(f"{NAME}@{channel}", remote))
    assert start


# Versions and blobs ----------------------------------------------------------------------------


def _header(remote: Path, version: Path) -> Path:
    return remote / "artifacts" / NAME / "versions" / f"{version.name}.json"


def test_one_version_in_anothers_place(
    remote: Path, versions: list[Path], fetch: Any, refused: Refuse
):
    shutil.copy(_header(remote, versions[0]), _header(remote, versions[1]))
    refused(R.IDENTITY_MISMATCH, lambda: fetch(f"{NAME}@{versions[1].name}", remote))
    refused(R.IDENTITY_MISMATCH, lambda: fetch(f"{NAME}@beta", remote))


def test_another_signed_build_in_the_place_of_the_one_meant(
    remote: Path, tmp_path: Path, versions: list[Path], fetch: Any, refused: Refuse, signer: Signer
):
    """Same name, same version, signed by the key: but not the one the channel was pointed at."""
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.handover.ship.formats.header import make_header

    other = make_artifact(
        tmp_path / "others",
        content={**CONTENT, "alphabet.txt": b"1"},
        change=lambda m: m["provenance"].update(created="1999-01-01T00:00:00+00:00"),
    )
    assert other.name == versions[1].name
    raw = make_header(other, read_manifest(other), signer).raw
    _header(remote, versions[1]).write_bytes(raw)
    refused(R.IDENTITY_MISMATCH, lambda: fetch(f"{NAME}@beta", remote))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1], R.TRUNCATED),
        (lambda data: b"", R.TRUNCATED),
        (lambda data: b"!" + data[1:], R.DIGEST_MISMATCH),
    ],
    ids=["short", "empty", "flipped"],
)
def test_blobs(
    remote: Path, versions: list[Path], fetch: Any, refused: Refuse, change: Any, reason: Refusal
):
    blob = remote / "blobs" / tree_digests(versions[1])["model.mlmodel"]
    blob.write_bytes(change(blob.read_bytes()))
    refused(reason, lambda: fetch(f"{NAME}@beta", remote))


def test_a_blob_that_goes_on_is_cut_off(
    remote: Path, versions: list[Path], fetch: Any, tmp_path: Path
):
    """What follows the signed size is never read."""
    blob = remote / "blobs" / tree_digests(versions[1])["model.mlmodel"]
    os.truncate(blob, 1 << 40)
    pulled = fetch(f"{NAME}@beta", remote)
    assert tree_digests(pulled.path) == tree_digests(versions[1])


def test_a_missing_header(remote: Path, versions: list[Path], fetch: Any, refused: Refuse):
    _header(remote, versions[1]).unlink()
    refused(R.FILE_MISSING, lambda: fetch(f"{NAME}@beta", remote))


@pytest.mark.parametrize("spec", ["../x@beta", f"{NAME}@../1", "a/b", f"{NAME}@BETA/..", "\x1b[2J"])
def test_names_that_a_user_is_talked_into(remote: Path, fetch: Any, refused: Refuse, spec: str):
    refused(R.UNSAFE_NAME, lambda: fetch(spec, remote))


def test_planted_names_are_not_listed(remote: Path):
    for name in ("..evil", "a\x1b[2Jb", "-rf", "con"):
        (remote / "artifacts" / name / "versions").mkdir(parents=True)
    (_header(remote, Path("x")).parent / "$(id).json").write_text("{}")
    (remote / BETA.parent / "EVIL").mkdir()
    place = open_remote(str(remote))
    assert place.names() == [NAME]
    assert len(place.versions(NAME)) == 2
    assert place.channels(NAME) == ["beta"]


def test_a_planted_header_is_not_built_upon(
    remote: Path, versions: list[Path], signer: Signer, stranger: Signer, trust: Trust
):
    """Before the owner ships a version, somebody puts one of the same name there."""
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.handover.ship.formats.header import make_header

    raw = make_header(versions[2], read_manifest(versions[2]), stranger).raw
    _header(remote, versions[2]).write_bytes(raw)
    with pytest.raises(Refused, match="UNTRUSTED_SIGNER"):
        ship(versions[2], open_remote(str(remote)), signer=signer, trust=trust, channel="beta")


def test_a_blob_of_another_size_is_mended_by_shipping_again(
    remote: Path, versions: list[Path], signer: Signer, trust: Trust, fetch: Any
):
    digests = tree_digests(versions[2])
    (remote / "blobs" / digests["alphabet.txt"]).write_bytes(b"short or long")
    ship(versions[2], open_remote(str(remote)), signer=signer, trust=trust, channel="beta")
    assert tree_digests(fetch(f"{NAME}@beta", remote).path) == digests


# Web servers -----------------------------------------------------------------------------------


def _answering(body: Callable[[http.server.BaseHTTPRequestHandler], None]) -> type:
    class Handler(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - what http.server calls
            body(self)

    return Handler


def _endless(handler: Any, length: str | None = None) -> None:
    handler.send_response(200)
    if length:
        handler.send_header("Content-Length", length)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        return  # the reader has left


def test_a_server_that_never_ends(fetch: Any, refused: Refuse):
    with serving(_answering(_endless)) as address:
        refused(R.TOO_LARGE, lambda: fetch(f"{NAME}@beta", address))
        refused(R.TOO_LARGE, lambda: open_remote(address).names())


def test_a_server_that_drips(fetch: Any, refused: Refuse, monkeypatch: pytest.MonkeyPatch):
    """A byte now and then keeps a connection open, but not for ever."""

    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(1000):
                handler.wfile.write(b" ")
                time.sleep(0.02)
        except OSError:
            return

    monkeypatch.setattr(wire, "LEAST_SECONDS", 0.5)
    monkeypatch.setattr(wire, "LEAST_BYTES_PER_SECOND", MAX_RECORD * 10)
    with serving(_answering(drip)) as address:
        refused(R.TOO_SLOW, lambda: fetch(f"{NAME}@beta", address))


def test_a_server_that_is_silent(fetch: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire, "SILENCE_SECONDS", 0.3)
    with (
        serving(_answering(lambda _: time.sleep(2))) as address,
        pytest.raises(AsrbuildError, match="did not answer: timed out"),
    ):
        fetch(f"{NAME}@beta", address)


def _status(handler: Any, status: int, headers: dict[str, str], content: bytes = b"") -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


@pytest.mark.parametrize("scheme", ["http", "oci"])
@pytest.mark.parametrize(
    ("status", "fix"),
    [(403, "check your credentials"), (429, "wait a little"), (500, "try again")],
)
def test_a_server_that_says_no(
    fetch: Any, monkeypatch: pytest.MonkeyPatch, scheme: str, status: int, fix: str
):
    monkeypatch.setattr(wire, "PAUSES", (0.01,))
    with (
        serving(_answering(lambda handler: _status(handler, status, {}))) as address,
        pytest.raises(AsrbuildError, match=rf"answered {status} while(?s:.*){fix}"),
    ):
        fetch(f"{NAME}@beta", address.replace("http", scheme))


@pytest.mark.parametrize(
    ("challenge", "message"),
    [
        ('Basic realm="x"', "the registry requires authentication"),
        ('Bearer realm="http://evil.example/token"', "the registry requires authentication"),
        ("", "the registry requires authentication"),
    ],
)
def test_a_registry_that_wants_a_login(
    fetch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, challenge: str, message: str
):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nobody"))
    headers = {"WWW-Authenticate": challenge} if challenge else {}
    with (
        serving(_answering(lambda handler: _status(handler, 401, headers))) as address,
        pytest.raises(AsrbuildError, match=message),
    ):
        fetch(f"{NAME}@beta", address.replace("http", "oci"))


def test_a_password_that_is_wrong(fetch: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ASRBUILD_OCI_USER", "me")
    monkeypatch.setenv("ASRBUILD_OCI_PASSWORD", "wrong")
    asked = []

    def closed(handler: Any) -> None:
        asked.append(handler.headers.get("Authorization"))
        _status(handler, 401, {"WWW-Authenticate": 'Basic realm="x"'})

    with serving(_answering(closed)) as address:
        monkeypatch.setenv("ASRBUILD_OCI_HOST", address.removeprefix("http://"))
        with pytest.raises(AsrbuildError, match=r"answered 401(?s:.*)log in") as refused:
            fetch(f"{NAME}@beta", address.replace("http", "oci"))
    assert asked == [None, "Basic bWU6d3Jvbmc="]
    assert "wrong" not in str(refused.value)


SECRET = "Basic bWU6c2VjcmV0"  # me:secret


@pytest.fixture
def listening() -> Any:
    """Servers that record the ``Authorization`` of every request and give the chosen answer."""
    noted: list[str | None] = []

    def server(answer: Callable[[Any], object]) -> Any:
        def body(handler: Any) -> None:
            noted.append(handler.headers.get("Authorization"))
            answer(handler)

        return serving(_answering(body))

    server.noted = noted  # type: ignore[attr-defined]
    return server


def _challenge(text: str) -> Callable[[Any], object]:
    return lambda handler: _status(handler, 401, {"WWW-Authenticate": text})


@pytest.mark.parametrize("hosts", [None, "", "registry.example.com", "127.0.0.1", "localhost:1"])
def test_a_password_of_the_environment_goes_to_its_host_alone(
    fetch: Any, listening: Any, monkeypatch: pytest.MonkeyPatch, hosts: str | None
):
    monkeypatch.setenv("ASRBUILD_OCI_USER", "me")
    monkeypatch.setenv("ASRBUILD_OCI_PASSWORD", "secret")
    if hosts is not None:
        monkeypatch.setenv("ASRBUILD_OCI_HOST", hosts)
    with listening(_challenge('Basic realm="x"')) as address:
        host = address.removeprefix("http://")
        with pytest.raises(
            AsrbuildError, match=rf"requires authentication(?s:.*)ASRBUILD_OCI_HOST={host}"
        ):
            fetch(f"{NAME}@beta", address.replace("http", "oci"))
        assert listening.noted == [None]
        monkeypatch.setenv("ASRBUILD_OCI_HOST", f"{hosts},{host}")
        with pytest.raises(AsrbuildError, match="answered 401"):
            fetch(f"{NAME}@beta", address.replace("http", "oci"))
        assert listening.noted == [None, None, SECRET]


@pytest.mark.parametrize("kept", ["docker", "environment"])
def test_a_registry_that_sends_us_elsewhere_for_a_token(
    fetch: Any, listening: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
):
    """Its password goes along where that host is listed; what is public needs none."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    answers = [lambda handler: _status(handler, 401, {})]
    with listening(lambda handler: answers[0](handler)) as elsewhere:
        realm = f"{elsewhere.replace('127.0.0.1', 'localhost')}/token"
        with listening(_challenge(f'Bearer realm="{realm}",service="x"')) as address:
            host, other = address.removeprefix("http://"), realm.split("/")[2]
            if kept == "docker":
                auths = {host: {"auth": SECRET.removeprefix("Basic ")}}
                (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
            else:
                monkeypatch.setenv("ASRBUILD_OCI_USER", "me")
                monkeypatch.setenv("ASRBUILD_OCI_PASSWORD", "secret")
                monkeypatch.setenv("ASRBUILD_OCI_HOST", host)
            with pytest.raises(
                AsrbuildError, match=f"requires authentication, at {other}"
            ) as refused:
                fetch(f"{NAME}@beta", address.replace("http", "oci"))
            assert f"ASRBUILD_OCI_HOST={host},{other}" in str(refused.value)
            assert set(listening.noted) == {None}
            answers[0] = lambda handler: _status(handler, 200, {}, b'{"token": "t"}')
            with pytest.raises(AsrbuildError, match="answered 401"):
                fetch(f"{NAME}@beta", address.replace("http", "oci"))
            assert set(listening.noted) == {None, "Bearer t"}
            monkeypatch.setenv("ASRBUILD_OCI_HOST", f"{host}, {other}")
            with pytest.raises(AsrbuildError, match="answered 401"):
                fetch(f"{NAME}@beta", address.replace("http", "oci"))
            assert set(listening.noted) == {None, "Bearer t", SECRET}


@pytest.mark.parametrize(
    "realm",
    ["http://example.com/t", "http://127.0.0.1:1/t", "https://a@example.com/t", "x\x1b://y"],
)
def test_a_registry_with_tls_sends_us_to_nothing_less(realm: str):
    remote: Any = open_remote("oci://example.com/models")
    with pytest.raises(AsrbuildError, match="requires authentication"):
        remote._registry._answer_to(f'Bearer realm="{realm}"')
    with (
        pytest.raises(AsrbuildError, match="without TLS"),
        remote._registry.ask("GET", "http://example.com/"),
    ):
        pass


@pytest.mark.parametrize("kind", ["another host", "another port"])
def test_a_redirect_takes_no_password_along(
    fetch: Any, listening: Any, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setenv("ASRBUILD_OCI_USER", "me")
    monkeypatch.setenv("ASRBUILD_OCI_PASSWORD", "secret")
    asked: list[str] = []
    with serving(_answering(lambda handler: asked.append(handler.path))) as elsewhere:
        target = (
            elsewhere.replace("127.0.0.1", "localhost") if kind == "another host" else elsewhere
        )

        def away(handler: Any) -> None:
            if handler.headers.get("Authorization") is None:
                _challenge('Basic realm="x"')(handler)
            else:
                _status(handler, 302, {"Location": f"{target}/admin/delete?x=1"})

        with listening(away) as address:
            monkeypatch.setenv("ASRBUILD_OCI_HOST", address.removeprefix("http://"))
            with pytest.raises(AsrbuildError, match=r"answered 302(?s:.*)a host without TLS"):
                fetch(f"{NAME}@beta", address.replace("http", "oci"))
        with (
            listening(lambda handler: _status(handler, 302, {"Location": target})) as address,
            pytest.raises(AsrbuildError, match="answered 302"),
        ):
            fetch(f"{NAME}@beta", address)
    assert not asked


def test_what_a_redirect_may_lead_to():
    import urllib.request

    def led(of: str, to: str) -> Any:
        request = urllib.request.Request(of, headers={"Authorization": SECRET})
        return wire._OnlyWeb().redirect_request(request, None, 302, "", {}, to)

    assert led("https://a.example/x", "https://a.example/y").get_header("Authorization") == SECRET
    for to in ("https://b.example/y", "https://a.example:8443/y"):
        assert led("https://a.example/x", to).get_header("Authorization") is None
    assert led("http://a.example/x", "https://a.example/y").get_header("Authorization") is None
    for of, to in (
        ("https://a.example/x", "http://a.example/y"), ("http://a.example/x", "http://b.example/y"),
        ("http://a.example/x", "http://a.example:81/y"),
    ):  # fmt: skip
        assert led(of, to) is None


def test_a_busy_server_is_asked_again_and_gets_the_whole_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Who answers 429 has done nothing yet, so that an upload can be sent again as well."""
    monkeypatch.setattr(wire, "PAUSES", (0.01, 0.01))
    got: list[bytes] = []

    class Busy(Quiet):
        def do_PUT(self) -> None:  # noqa: N802 - what http.server calls
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            _status(self, 429 if len(got) < 3 else 201, {"Retry-After": "0"})

    content = os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)
    headers = {"Content-Length": str(len(content))}
    with (
        serving(Busy) as address,
        open(tmp_path / "file", "rb") as stream,
        wire.ask("PUT", f"{address}/x", body=stream, headers=headers) as answer,
    ):
        assert answer.status == 201
    assert got == [content] * 3


def test_a_page_for_every_address(fetch: Any, refused: Refuse):
    """As servers of web apps do; without end there would be one more record to ask for."""
    asked = []

    def welcome(handler: Any) -> None:
        asked.append(handler.path)
        _status(handler, 200, {}, b"<html>welcome</html>")

    with serving(_answering(welcome)) as address:
        refused(R.RECORD_MALFORMED, lambda: fetch(f"{NAME}@beta", address))
    assert len(asked) < 5


@pytest.mark.parametrize("which", ["hint", "record", "header", "blob"])
def test_a_pipe_is_not_waited_for(
    remote: Path, versions: list[Path], fetch: Any, refused: Refuse, which: str
):
    place = {
        "hint": remote / BETA / "current.json",
        "record": remote / BETA / "2.json",
        "header": remote / f"artifacts/{NAME}/versions/{versions[1].name}.json",
        "blob": remote / "blobs" / tree_digests(versions[1])["alphabet.txt"],
    }[which]
    place.unlink()
    os.mkfifo(place)
    refused(R.RECORD_MALFORMED, lambda: fetch(f"{NAME}@beta", remote))


def test_files_are_fetched_side_by_side(remote: Path, versions: list[Path], fetch: Any):
    """So that a far remote takes as long as its largest file, not as all the ways there and back.

    No answer comes before all are asked for, but the manifest's, which is looked at first.
    """
    digests = tree_digests(versions[0])
    all_asked = threading.Barrier(len(digests) - 1)

    class Together(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - what http.server calls
            if "/blobs/" in self.path and not self.path.endswith(digests["manifest.json"]):
                all_asked.wait(20)
            super().do_GET()

    with serving(functools.partial(Together, directory=str(remote))) as address:
        pulled = fetch(f"{NAME}@{versions[0].name}", address)
    assert not all_asked.broken
    assert tree_digests(pulled.path) == digests


def test_a_connection_that_breaks_off(fetch: Any):
    def half(handler: Any) -> None:
        _status(handler, 200, {"Content-Length": "5000"}, b'{"counter": 1}')

    with (
        serving(_answering(half)) as address,
        pytest.raises(AsrbuildError, match="broke off after 14 of 5,000 bytes"),
    ):
        fetch(f"{NAME}@beta", address)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_away_from_the_web(fetch: Any, target: str):
    def away(handler: Any) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with (
        serving(_answering(away)) as address,
        pytest.raises(AsrbuildError, match="the server answered 302"),
    ):
        fetch(f"{NAME}@beta", address)


def test_a_redirect_in_a_circle(fetch: Any):
    def around(handler: Any) -> None:
        handler.send_response(302)
        handler.send_header("Location", handler.path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with (
        serving(_answering(around)) as address,
        pytest.raises(AsrbuildError, match="the server answered 302"),
    ):
        fetch(f"{NAME}@beta", address)


@pytest.mark.parametrize(
    "index",
    [
        b"", b"[]", b"[" * 9999, b'{"format": "asrbuild-index/1", "artifacts": 5}',
        b'{"format": "asrbuild-index/2", "artifacts": {}}',
        b'{"format": "asrbuild-index/1", "artifacts": {"a": {"versions": {}, "channels": []}}}',
    ],
)  # fmt: skip
def test_indexes(refused: Refuse, web: tuple[Path, str], index: bytes):
    folder, address = web
    (folder / "index.json").write_bytes(index)
    refused(R.RECORD_MALFORMED, lambda: open_remote(address).names())


def test_an_index_with_hostile_names(web: tuple[Path, str]):
    folder, address = web
    entry = {
        "versions": ["1.0.0", "../x", 7, None, "a\x1b[2J"],
        "channels": ["beta", "../y", 7, []],
    }
    index = {
        "format": "asrbuild-index/1",
        "artifacts": {"good": entry, "../evil": entry, "": entry},
    }
    (folder / "index.json").write_text(json.dumps(index))
    remote = open_remote(address)
    assert remote.names() == ["good"]
    assert remote.versions("good") == ["1.0.0"]
    assert remote.channels("good") == ["beta"]


def test_a_huge_index(refused: Refuse, web: tuple[Path, str]):
    folder, address = web
    (folder / "index.json").write_bytes(b" " * (MAX_INDEX + 1))
    refused(R.TOO_LARGE, lambda: open_remote(address).names())


def test_a_registry_that_answers_with_something_else(refused: Refuse, trust: Trust):
    """Manifests that are not ours, point elsewhere or claim to be huge."""
    answers: dict[str, bytes] = {}

    def body(handler: Any) -> None:
        content = answers["manifest"]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    kind = "application/vnd.asrbuild.header.v1+json"
    digest = "sha256:" + "0" * 64
    with serving(_answering(body)) as address:
        remote = open_remote(address.replace("http", "oci") + "/models")
        for config, reason in (
            ({"mediaType": kind, "digest": "sha256:../../x", "size": 5}, R.RECORD_MALFORMED),
            ({"mediaType": "text/plain", "digest": digest, "size": 5}, R.RECORD_MALFORMED),
            ({"mediaType": kind, "digest": digest, "size": "5"}, R.RECORD_MALFORMED),
            ({"mediaType": kind, "digest": digest, "size": 1 << 40}, R.TOO_LARGE),
            ([], R.RECORD_MALFORMED),
        ):
            answers["manifest"] = json.dumps({"config": config}).encode()
            refused(reason, lambda: remote.header("demo", "1.0.0"))
        answers["manifest"] = b"[" * 9999
        refused(R.RECORD_MALFORMED, lambda: remote.header("demo", "1.0.0"))


@pytest.mark.parametrize("elsewhere", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_registry_that_names_an_address_off_the_web(
    tmp_path: Path, refused: Refuse, elsewhere: str
):
    """As the next page of a list, as where to upload, and as who hands out tokens."""

    class Away(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - what http.server calls
            _status(self, 200, {"Link": f'<{elsewhere}>; rel="next"'}, b'{"repositories": []}')

        def do_POST(self) -> None:  # noqa: N802
            _status(self, 202, {"Location": elsewhere})

    (tmp_path / "file").write_bytes(b"x")
    with serving(Away) as address:
        remote = open_remote(address.replace("http", "oci") + "/models")
        with pytest.raises(AsrbuildError, match="neither http nor https"):
            remote.names()
        with pytest.raises(AsrbuildError, match="neither http nor https"):
            remote.put("demo", File("file", 1, "0" * 64), tmp_path / "file")
    token = {"WWW-Authenticate": f'Bearer realm="{elsewhere}"'}
    with (
        serving(_answering(lambda handler: _status(handler, 401, token))) as address,
        pytest.raises(AsrbuildError, match=r"requires authentication|neither http nor https"),
    ):
        open_remote(address.replace("http", "oci")).header("demo", "1.0.0")


def test_pages_without_end(refused: Refuse):
    """Each within its limit; together they are not."""
    content = json.dumps({"repositories": ["x" * 100] * 40_000}).encode()

    def page(handler: Any) -> None:
        _status(handler, 200, {"Link": '</v2/_catalog>; rel="next"'}, content)

    with serving(_answering(page)) as address:
        refused(R.TOO_LARGE, lambda: open_remote(address.replace("http", "oci")).names())


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://example.com/v2/x", True),
        ("https://example.com:443/v2/x", False),
        ("https://other.example/v2/x", False),
        ("http://example.com/v2/x", False),
    ],
)
def test_where_a_token_is_sent(url: str, told: bool):
    """To the registry itself, and never past TLS, wherever it says that uploads go."""
    remote: Any = open_remote("oci://example.com/models")
    assert bool(remote._registry._login(url, "Bearer secret")) is told


def test_tokens_of_files_that_are_sent_side_by_side(
    registry: str, versions: list[Path], signer: Signer, trust: Trust
):
    """One that may only read does not take the place of one that may write, in another thread.

    All expire when the first file is looked for; one thread then begins to upload, and goes on
    when the others have got their new tokens to read with.
    """
    upstream = registry.removeprefix("oci://").partition("/")[0]
    valid: set[str] = set()
    numbers = itertools.count()
    expired, pushing, reading = threading.Event(), threading.Event(), threading.Event()
    refused_uploads = []

    class Guarded(Quiet):
        def _answer(self) -> None:
            if self.path.startswith("/token"):
                kind = "push" if "push" in self.path else "pull"
                later = kind == "pull" and any(token.startswith("pull") for token in valid)
                token = f"{kind}-{next(numbers)}"
                valid.add(token)
                if later:
                    pushing.wait(20)
                _status(self, 200, {}, json.dumps({"token": token}).encode())
                if later:
                    time.sleep(0.2)  # until the client has kept it
                    reading.set()
                if kind == "push":
                    pushing.set()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            wanted = "pull" if self.command in ("GET", "HEAD") else "push"
            if self.command == "HEAD" and not expired.is_set():
                expired.set()
                valid.clear()
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if token not in valid or not token.startswith(("push", wanted)):
                if self.command == "PUT" and "/blobs/" in self.path:
                    refused_uploads.append(self.path)
                scope = "pull" if wanted == "pull" else "pull,push"
                realm = f"http://{self.headers['Host']}/token"
                challenge = f'Bearer realm="{realm}",scope="repository:x:{scope}"'
                _status(self, 401, {"WWW-Authenticate": challenge})
                return
            if self.command == "POST":
                reading.wait(20)
            elif self.command == "HEAD" and pushing.is_set():
                time.sleep(0.5)  # the others come to upload, and to write, only after the first
            asked = http.client.HTTPConnection(upstream)
            asked.request(self.command, self.path, body, dict(self.headers))
            answer = asked.getresponse()
            content = answer.read()
            headers = {k: v for k, v in answer.getheaders() if k.lower() != "transfer-encoding"}
            self.send_response_only(answer.status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815 - what http.server calls

    with serving(Guarded) as address:
        place = open_remote(address.replace("http", "oci") + "/models/guarded")
        shipped = ship(versions[0], place, signer=signer, trust=trust)
        assert shipped.uploaded == len(tree_digests(versions[0]))
        assert not refused_uploads
