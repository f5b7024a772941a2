"""Hostile web servers: endless, slow, silent and lying ones."""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes import http as wire
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.remotes.remote import MAX_INDEX, MAX_RECORD
from tests.handover.ship.attacks.serving import SECRET, answering, endless, respond
from tests.handover.ship.conftest import Quiet, serving

R = Refusal
Refuse = Callable[..., Refused]
NAME = "demo-dynamic"
BETA = Path("artifacts", NAME, "channels", "beta")


def test_an_endless_answer_is_refused(fetch: Any, refused: Refuse):
    with serving(answering(endless)) as address:
        refused(R.TOO_LARGE, lambda: fetch(f"{NAME}@beta", address))
        refused(R.TOO_LARGE, lambda: open_remote(address).names())


def test_a_slow_answer_is_ended(fetch: Any, refused: Refuse, monkeypatch: pytest.MonkeyPatch):
    """Single bytes keep a connection open only up to a limit."""

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
    with serving(answering(drip)) as address:
        refused(R.TOO_SLOW, lambda: fetch(f"{NAME}@beta", address))


def test_a_silent_server_is_given_up(fetch: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire, "SILENCE_SECONDS", 0.3)
    with (
        serving(answering(lambda _: time.sleep(2))) as address,
        pytest.raises(AsrbuildError, match="did not answer: timed out"),
    ):
        fetch(f"{NAME}@beta", address)


@pytest.mark.parametrize("scheme", ["http", "oci"])
@pytest.mark.parametrize(
    ("status", "fix"),
    [(403, "check your credentials"), (429, "wait a little"), (500, "try again")],
)
def test_refusals_of_a_server_are_reported(
    fetch: Any, monkeypatch: pytest.MonkeyPatch, scheme: str, status: int, fix: str
):
    monkeypatch.setattr(wire, "PAUSES", (0.01,))
    with (
        serving(answering(lambda handler: respond(handler, status, {}))) as address,
        pytest.raises(AsrbuildError, match=rf"answered {status} while(?s:.*){fix}"),
    ):
        fetch(f"{NAME}@beta", address.replace("http", scheme))


def test_a_redirect_is_followed_to_web_addresses_only():
    import urllib.request

    def led(of: str, to: str) -> Any:
        request = urllib.request.Request(of, headers={"Authorization": SECRET})
        return wire._OnlyWeb().redirect_request(request, None, 302, "", {}, to)

    assert led("https://a.example/x", "https://a.example/y").get_header("Authorization") == SECRET
    for to in ("https://b.example/y", "https://a.example:8443/y"):
        assert led("https://a.example/x", to).get_header("Authorization") is None
    assert led("http://a.example/x", "https://a.example/y").get_header("Authorization") is None
    for of, to in (
        ("https://a.example/x", "http://a.example/y"),
        ("http://a.example/x", "http://b.example/y"),
        ("http://a.example/x", "http://a.example:81/y"),
    ):
        assert led(of, to) is None


def test_a_busy_server_is_asked_again_and_gets_the_whole_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A server that answers 429 has done nothing, so an upload can be sent again as well."""
    monkeypatch.setattr(wire, "PAUSES", (0.01, 0.01))
    got: list[bytes] = []

    class Busy(Quiet):
        def do_PUT(self) -> None:  # noqa: N802 - what http.server calls
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            respond(self, 429 if len(got) < 3 else 201, {"Retry-After": "0"})

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


def test_a_server_with_a_page_for_every_address_is_refused(fetch: Any, refused: Refuse):
    """Servers of web apps do that; each answer would lead to a request for one more record."""
    asked = []

    def welcome(handler: Any) -> None:
        asked.append(handler.path)
        respond(handler, 200, {}, b"<html>welcome</html>")

    with serving(answering(welcome)) as address:
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


def test_files_are_fetched_concurrently(remote: Path, versions: list[Path], fetch: Any):
    """A distant remote then takes as long as its largest file, not the sum of all round trips.

    The server answers only after all files are requested, except for the manifest, which comes
    first.
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


def test_a_broken_connection_is_reported(fetch: Any):
    def half(handler: Any) -> None:
        respond(handler, 200, {"Content-Length": "5000"}, b'{"counter": 1}')

    with (
        serving(answering(half)) as address,
        pytest.raises(AsrbuildError, match="broke off after 14 of 5,000 bytes"),
    ):
        fetch(f"{NAME}@beta", address)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_to_another_scheme_is_refused(fetch: Any, target: str):
    def away(handler: Any) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with (
        serving(answering(away)) as address,
        pytest.raises(AsrbuildError, match="the server answered 302"),
    ):
        fetch(f"{NAME}@beta", address)


def test_a_circular_redirect_is_refused(fetch: Any):
    def around(handler: Any) -> None:
        handler.send_response(302)
        handler.send_header("Location", handler.path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with (
        serving(answering(around)) as address,
        pytest.raises(AsrbuildError, match="the server answered 302"),
    ):
        fetch(f"{NAME}@beta", address)


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"[]",
        b"[" * 9999,
        b'{"format": "asrbuild-index/1", "artifacts": 5}',
        b'{"format": "asrbuild-index/2", "artifacts": {}}',
        b'{"format": "asrbuild-index/1", "artifacts": {"a": {"versions": {}, "channels": []}}}',
    ],
)
def test_malformed_indexes_are_refused(refused: Refuse, web: tuple[Path, str], index: bytes):
    folder, address = web
    (folder / "index.json").write_bytes(index)
    refused(R.RECORD_MALFORMED, lambda: open_remote(address).names())


def test_hostile_names_of_an_index_are_not_listed(web: tuple[Path, str]):
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


def test_a_huge_index_is_refused(refused: Refuse, web: tuple[Path, str]):
    folder, address = web
    (folder / "index.json").write_bytes(b" " * (MAX_INDEX + 1))
    refused(R.TOO_LARGE, lambda: open_remote(address).names())
