"""Each password and token is sent to its own host only."""

from __future__ import annotations

import http.client
import http.server
import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.formats.header import File
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust
from tests.handover.ship.attacks.serving import SECRET, answering, respond
from tests.handover.ship.conftest import Quiet, serving

R = Refusal
Refuse = Callable[..., Refused]
NAME = "demo-dynamic"


@pytest.mark.parametrize(
    ("challenge", "message"),
    [
        ('Basic realm="x"', "the registry requires authentication"),
        ('Bearer realm="http://evil.example/token"', "the registry requires authentication"),
        ("", "the registry requires authentication"),
    ],
)
def test_a_registry_that_requires_a_login_is_used_with_a_password(
    fetch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, challenge: str, message: str
):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nobody"))
    headers = {"WWW-Authenticate": challenge} if challenge else {}
    with (
        serving(answering(lambda handler: respond(handler, 401, headers))) as address,
        pytest.raises(AsrbuildError, match=message),
    ):
        fetch(f"{NAME}@beta", address.replace("http", "oci"))


def test_a_wrong_password_is_reported(fetch: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ASRBUILD_OCI_USER", "me")
    monkeypatch.setenv("ASRBUILD_OCI_PASSWORD", "wrong")
    asked = []

    def closed(handler: Any) -> None:
        asked.append(handler.headers.get("Authorization"))
        respond(handler, 401, {"WWW-Authenticate": 'Basic realm="x"'})

    with serving(answering(closed)) as address:
        monkeypatch.setenv("ASRBUILD_OCI_HOST", address.removeprefix("http://"))
        with pytest.raises(AsrbuildError, match=r"answered 401(?s:.*)log in") as refused:
            fetch(f"{NAME}@beta", address.replace("http", "oci"))
    assert asked == [None, "Basic bWU6d3Jvbmc="]
    assert "wrong" not in str(refused.value)


@pytest.fixture
def listening() -> Any:
    """Servers that record the ``Authorization`` of every request and give the chosen answer."""
    noted: list[str | None] = []

    def server(answer: Callable[[Any], object]) -> Any:
        def body(handler: Any) -> None:
            noted.append(handler.headers.get("Authorization"))
            answer(handler)

        return serving(answering(body))

    server.noted = noted  # type: ignore[attr-defined]
    return server


def _challenge(text: str) -> Callable[[Any], object]:
    return lambda handler: respond(handler, 401, {"WWW-Authenticate": text})


@pytest.mark.parametrize("hosts", [None, "", "registry.example.com", "127.0.0.1", "localhost:1"])
def test_a_password_of_the_environment_is_sent_to_its_host_only(
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
def test_a_token_server_gets_a_password_only_if_listed(
    fetch: Any, listening: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
):
    """A host without a listed password gets none, which is enough for public artifacts."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    answers = [lambda handler: respond(handler, 401, {})]
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
            answers[0] = lambda handler: respond(handler, 200, {}, b'{"token": "t"}')
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
def test_a_registry_with_tls_cannot_name_a_token_server_without(realm: str):
    remote: Any = open_remote("oci://example.com/models")
    with pytest.raises(AsrbuildError, match="requires authentication"):
        remote._registry._answer_to(f'Bearer realm="{realm}"')
    with (
        pytest.raises(AsrbuildError, match="without TLS"),
        remote._registry.ask("GET", "http://example.com/"),
    ):
        pass


@pytest.mark.parametrize("kind", ["another host", "another port"])
def test_a_redirect_does_not_carry_a_password(
    fetch: Any, listening: Any, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setenv("ASRBUILD_OCI_USER", "me")
    monkeypatch.setenv("ASRBUILD_OCI_PASSWORD", "secret")
    asked: list[str] = []
    with serving(answering(lambda handler: asked.append(handler.path))) as elsewhere:
        target = (
            elsewhere.replace("127.0.0.1", "localhost") if kind == "another host" else elsewhere
        )

        def away(handler: Any) -> None:
            if handler.headers.get("Authorization") is None:
                _challenge('Basic realm="x"')(handler)
            else:
                respond(handler, 302, {"Location": f"{target}/admin/delete?x=1"})

        with listening(away) as address:
            monkeypatch.setenv("ASRBUILD_OCI_HOST", address.removeprefix("http://"))
            with pytest.raises(AsrbuildError, match=r"answered 302(?s:.*)a host without TLS"):
                fetch(f"{NAME}@beta", address.replace("http", "oci"))
        with (
            listening(lambda handler: respond(handler, 302, {"Location": target})) as address,
            pytest.raises(AsrbuildError, match="answered 302"),
        ):
            fetch(f"{NAME}@beta", address)
    assert not asked


def test_unexpected_answers_of_a_registry_are_refused(refused: Refuse, trust: Trust):
    """The answers are foreign manifests, or point elsewhere, or claim to be huge."""
    answers: dict[str, bytes] = {}

    def body(handler: Any) -> None:
        content = answers["manifest"]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    kind = "application/vnd.asrbuild.header.v1+json"
    digest = "sha256:" + "0" * 64
    with serving(answering(body)) as address:
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
def test_addresses_of_a_registry_that_are_not_http_are_refused(
    tmp_path: Path, refused: Refuse, elsewhere: str
):
    """The registry names them as a list's next page, the place of an upload or a token server."""

    class Away(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - what http.server calls
            respond(self, 200, {"Link": f'<{elsewhere}>; rel="next"'}, b'{"repositories": []}')

        def do_POST(self) -> None:  # noqa: N802
            respond(self, 202, {"Location": elsewhere})

    (tmp_path / "file").write_bytes(b"x")
    with serving(Away) as address:
        remote = open_remote(address.replace("http", "oci") + "/models")
        with pytest.raises(AsrbuildError, match="neither http nor https"):
            remote.names()
        with pytest.raises(AsrbuildError, match="neither http nor https"):
            remote.put("demo", File("file", 1, "0" * 64), tmp_path / "file")
    token = {"WWW-Authenticate": f'Bearer realm="{elsewhere}"'}
    with (
        serving(answering(lambda handler: respond(handler, 401, token))) as address,
        pytest.raises(AsrbuildError, match=r"requires authentication|neither http nor https"),
    ):
        open_remote(address.replace("http", "oci")).header("demo", "1.0.0")


def test_endless_pages_are_refused(refused: Refuse):
    """Each page is within its limit, but not all together."""
    content = json.dumps({"repositories": ["x" * 100] * 40_000}).encode()

    def page(handler: Any) -> None:
        respond(handler, 200, {"Link": '</v2/_catalog>; rel="next"'}, content)

    with serving(answering(page)) as address:
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
def test_a_token_is_sent_to_its_registry_only(url: str, told: bool):
    """It is not sent without TLS, nor to other hosts that the registry names for uploads."""
    remote: Any = open_remote("oci://example.com/models")
    assert bool(remote._registry._login(url, "Bearer secret")) is told


def test_concurrent_uploads_keep_their_write_tokens(
    registry: str, versions: list[Path], signer: Signer, trust: Trust
):
    """A token for reading does not replace one for writing in another thread.

    All tokens expire with the first request; one thread then begins to upload, and continues when
    the others have new tokens for reading.
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
                respond(self, 200, {}, json.dumps({"token": token}).encode())
                if later:
                    time.sleep(0.2)  # until the client has stored the token
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
                respond(self, 401, {"WWW-Authenticate": challenge})
                return
            if self.command == "POST":
                reading.wait(20)
            elif self.command == "HEAD" and pushing.is_set():
                time.sleep(0.5)  # the others upload only after the first
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
