"""S3 buckets: settings from the environment, faults of servers, and large files."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.formats.header import File
from asrbuild.handover.ship.pull import pull
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes import s3 as module
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.remotes.objects import ObjectRemote
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust
from tests.handover.ship.conftest import Quiet, serving
from tests.handover.ship.making import make_artifact


@pytest.fixture
def lonely(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without credentials, on a machine without a role."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def answering(body: Callable[[Any], object]) -> type:
    class Handler(Quiet):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body(self)

        do_GET = do_HEAD = do_PUT = do_POST = _answer  # noqa: N815 - what http.server calls

    return Handler


def said(handler: Any, status: int, content: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    fields = {"Content-Length": str(len(content))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    for name, value in fields.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content)


ABOUT = {"Last_Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "ETag": '"x"'}


# Endpoint and credentials ----------------------------------------------------------------------


def test_a_profile_gives_endpoint_and_credentials(lonely: Path, monkeypatch: pytest.MonkeyPatch):
    """The environment precedes the profile, as in other programs for S3."""
    asked = []

    def note(handler: Any) -> None:
        asked.append((handler.path, handler.headers.get("Authorization", "")))
        said(handler, 404)

    with serving(answering(note)) as first, serving(answering(note)) as second:
        (lonely / ".aws").mkdir()
        (lonely / ".aws" / "config").write_text(
            f"[profile team]\nregion = eu-north-1\nendpoint_url = {first}\n"
        )
        (lonely / ".aws" / "credentials").write_text(
            "[team]\naws_access_key_id = TEAM\naws_secret_access_key = x\n"
        )
        monkeypatch.setenv("AWS_PROFILE", "team")
        assert open_remote("s3://models/asr").header("demo", "1.0.0+1") is None
        path, authorization = asked.pop()
        assert path == "/models/asr/artifacts/demo/versions/1.0.0%2B1.json"
        assert re.search(r"Credential=TEAM/\d+/eu-north-1/s3/", authorization)
        monkeypatch.setenv("AWS_REGION", "us-west-2")
        monkeypatch.setenv("AWS_ENDPOINT_URL", second)
        assert open_remote("s3://models").header("demo", "1.0.0+1") is None
        path, authorization = asked.pop()
        assert path.startswith("/models/artifacts/")
        assert "/us-west-2/s3/" in authorization
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(AsrbuildError, match="nobody"):
            open_remote("s3://models/asr")
        monkeypatch.delenv("AWS_PROFILE")
        assert open_remote("s3://models").header("demo", "1.0.0+1") is None
        assert asked.pop()[1] == "", "what is public is read without a name"


# The faults of servers --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["no length", "more than asked for", "another range", "a drip"])
def test_unexpected_answers_of_a_server_are_reported(
    lonely: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    from datetime import timedelta

    monkeypatch.setattr(module, "_TIMEOUT", timedelta(seconds=1.5))
    sent = [0]

    def body(handler: Any) -> None:
        if handler.command == "HEAD":
            said(handler, 200, bytes(200), **ABOUT)
            return
        headers = dict(ABOUT)
        if kind != "no length":
            headers |= {"Content_Range": "bytes 0-199/200"}
        if kind == "another range":
            said(handler, 206, bytes(200), **headers | {"Content_Range": "bytes 5-204/900"})
            return
        handler.send_response(206)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if kind == "a drip":
            handler.send_header("Content-Length", "200")
        else:
            handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            for _ in range(500):
                if kind == "a drip":
                    handler.wfile.write(b"x")
                    time.sleep(0.2)
                else:
                    handler.wfile.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
                    sent[0] += 1
        except OSError:
            handler.close_connection = True

    with serving(answering(body)) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        begun = time.monotonic()
        with pytest.raises(AsrbuildError):
            open_remote("s3://models/asr").header("demo", "1.0.0+1")
        assert time.monotonic() - begun < 30
    assert sent[0] < 100, "MiB were sent"


def test_an_endless_list_is_refused(lonely: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MOST_LISTED", 3000)
    asked = [0]

    def page(handler: Any) -> None:
        asked[0] += 1
        keys = "".join(
            f"<Contents><Key>asr/blobs/{asked[0]:05}{n:05}</Key><Size>1</Size>"
            "<LastModified>2015-10-21T07:28:00.000Z</LastModified></Contents>"
            for n in range(1000)
        )
        xml = (
            f"<ListBucketResult>{keys}<IsTruncated>true</IsTruncated>"
            f"<NextContinuationToken>{asked[0]}</NextContinuationToken></ListBucketResult>"
        )
        said(handler, 200, xml.encode(), Content_Type="application/xml")

    with serving(answering(page)) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        remote = open_remote("s3://models/asr")
        assert isinstance(remote, ObjectRemote)
        for ask in (
            lambda: remote.objects.entries("blobs"),
            lambda: remote.objects.names_in("blobs"),
        ):
            with pytest.raises(Refused, match=r"TOO_LARGE.*objects"):
                ask()
    assert asked[0] < 20


def test_a_store_without_conditional_writes_takes_no_channels(
    lonely: Path,
    artifact: Path,
    signer: Signer,
    trust: Trust,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """It ignores the condition or refuses it; versions can still be shipped to it."""
    objects: dict[str, bytes] = {}
    refuses = [False]

    class Plain(Quiet):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:  # noqa: N802 - what http.server calls
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if refuses[0] and self.headers.get("If-None-Match"):
                said(self, 501, b"<Error><Code>NotImplemented</Code></Error>")
                return
            objects[self.path] = content
            said(self, 200, ETag=f'"{hashlib.md5(content).hexdigest()}"')

        def do_GET(self) -> None:  # noqa: N802
            if "list-type" in self.path:
                said(self, 200, b"<ListBucketResult></ListBucketResult>")
                return
            content = objects.get(self.path)
            if content is None:
                said(self, 404)
                return
            about = ABOUT | {"ETag": f'"{hashlib.md5(content).hexdigest()}"'}
            if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                start, end = int(asked[1]), min(int(asked[2]), len(content) - 1)
                about |= {"Content_Range": f"bytes {start}-{end}/{len(content)}"}
                said(self, 206, content[start : end + 1], **about)
            else:
                said(self, 200, content, **about)

        do_HEAD = do_GET  # noqa: N815

    with serving(Plain) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        for refuses[0] in (False, True):
            objects.clear()
            remote = open_remote("s3://models/asr")
            with pytest.raises(AsrbuildError, match="no conditional writes, so it takes no chan"):
                ship(artifact, remote, signer=signer, trust=trust, channel="stable")
            assert not [path for path in objects if "/versions/" in path or "/channels/" in path]
            assert not ship(artifact, remote, signer=signer, trust=trust).already
            spec = f"demo-dynamic@{artifact.name}"
            (pulled,) = pull(
                spec, remote, tmp_path / f"out{refuses[0]}", trust=trust, config=config
            )
            assert tree_digests(pulled.path) == tree_digests(artifact)


# Large files -----------------------------------------------------------------------------------


def test_a_file_of_several_parts_is_stored_completely_or_not(
    bucket: str, tmp_path: Path, signer: Signer, trust: Trust, config: Path
):
    """The store's tag of the parts shows whether the file is complete."""
    content = os.urandom(1 << 20) * 17 + b"end"
    artifact = make_artifact(tmp_path / "a", content={"model.mlmodel": content})
    remote = open_remote(bucket)
    assert isinstance(remote, ObjectRemote)
    ship(artifact, remote, signer=signer, trust=trust, channel="stable")
    assert ship(artifact, remote, signer=signer, trust=trust).uploaded == 0
    path = f"blobs/{hashlib.sha256(content).hexdigest()}"
    reads: list[str] = []
    real = remote.objects.fetch
    remote.objects.fetch = lambda *a: (reads.append(a[0]), real(*a))[1]  # type: ignore[method-assign]
    file = File("model.mlmodel", len(content), hashlib.sha256(content).hexdigest())
    assert remote.sound("demo-dynamic", file, artifact / "model.mlmodel")
    assert not reads, "the tag alone says so"
    remote.objects.replace(path, content[:-1] + b"!")
    assert not remote.sound("demo-dynamic", file, artifact / "model.mlmodel")
    assert ship(artifact, remote, signer=signer, trust=trust).uploaded == 1
    (pulled,) = pull("demo-dynamic", remote, tmp_path / "out", trust=trust, config=config)
    assert tree_digests(pulled.path) == tree_digests(artifact)
    # A file that changes during the transfer leaves nothing on the remote.
    remote.objects.remove(path)
    other = tmp_path / "changed"
    other.write_bytes(content[:-1] + b"!")
    with pytest.raises(Refused, match="DIGEST_MISMATCH"):
        remote.put("demo-dynamic", file, other)
    assert remote.objects.size(path) is None
