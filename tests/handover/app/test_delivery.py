"""ASRDelivery: artifacts that asrbuild ships, fetched in Swift as asrbuild itself fetches them."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.artifact.reading import read_manifest
from asrbuild.artifact.runtime import transcribe
from asrbuild.base.digest import tree_digests
from asrbuild.handover.ship.formats.header import MAX_HEADER
from asrbuild.handover.ship.pull import pull
from asrbuild.handover.ship.push import ship, ship_set
from asrbuild.handover.ship.refusal import Refusal
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import Signer, new_key
from asrbuild.handover.ship.signing.trust import Trust, read_trust
from asrbuild.speech.audio import read_audio
from tests.handover.app.delivery import record
from tests.handover.app.package import Built, needs_swift
from tests.handover.app.stand_in import serving as executor
from tests.handover.ship.attacks.serving import answering, endless, respond
from tests.handover.ship.conftest import Quiet, serving
from tests.handover.ship.making import CONTENT, make_artifact
from tests.paths import DEMO

pytestmark = [needs_swift]
NAME = "demo-dynamic"
CASES = "DeliveryCases"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("delivery")


@pytest.fixture(scope="module")
def signer(place: Path) -> Signer:
    return new_key("publisher", place / "config")


@pytest.fixture(scope="module")
def trust(place: Path, signer: Signer) -> Trust:
    return read_trust(place / "config")


@pytest.fixture(scope="module")
def remote(place: Path, signer: Signer, trust: Trust) -> Path:
    """A folder with an artifact of a large file, to which stable points."""
    version = make_artifact(place / "artifacts")
    ship(version, open_remote(str(place / "remote")), signer=signer, trust=trust, channel="stable")
    return place / "remote"


def key_of(signer: Signer) -> str:
    return b64encode(signer.private.public_key().public_bytes_raw()).decode()


def passes(built: Built, tests: str, **env: str) -> None:
    done = built.swift("test", "--skip-build", "--filter", tests, **env)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert re.search(r"Executed [1-9]\d* tests?, with 0 failures", done.stdout + done.stderr)


def outcomes(built: Built, folder: Path, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases as Swift's reader sees them."""
    (folder / "cases.json").write_text(json.dumps(cases))
    passes(built, f"{CASES}.testOutcomes", ASRKIT_DELIVERY=str(folder))
    found: list[dict[str, Any]] = json.loads((folder / "found.json").read_text())
    return found


def test_swift_refuses_what_python_refuses_for_the_same_reason(
    built: Built, tmp_path: Path
) -> None:
    """Every bundle, set, remote and channel of the tests of shipping, honest and hostile."""
    folder = tmp_path / "recorded"
    record(folder)
    cases = json.loads((folder / "cases.json").read_text())
    seen: dict[str, int] = {}
    for case, found in zip(cases, outcomes(built, folder, cases), strict=True):
        for step, repeated in zip(case["steps"], found["steps"], strict=True):
            assert repeated["outcome"] == step["outcome"], case["case"]
            seen[step["outcome"]] = seen.get(step["outcome"], 0) + 1
            if step["given"]:
                ((name, version, path),) = repeated["given"]
                digests = json.dumps(tree_digests(Path(path)), sort_keys=True)
                assert [name, version, digests] in step["given"], case["case"]
    # A slow server is tested in DeliveryTests.swift.
    assert {*seen} >= {reason.value for reason in Refusal} - {"TOO_SLOW"} | {"ok"}
    assert sum(seen.values()) > 800


class Shown(Quiet):
    """A folder over HTTP, from any byte on; ``asked`` takes each path with its range."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:  # noqa: N802 - what http.server calls
        begin = self.headers["Range"]
        self.asked.append((self.path, begin))
        path = Path(self.translate_path(self.path))
        if begin is None or not path.is_file():
            return super().do_GET()
        start, size = int(begin.removeprefix("bytes=").removesuffix("-")), path.stat().st_size
        content = path.read_bytes()[start:]
        where = {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
        return respond(self, 206, where, content)


def shown(folder: Path, base: type[Shown] = Shown) -> tuple[Any, list[tuple[str, str | None]]]:
    asked: list[tuple[str, str | None]] = []
    handler = type("Handler", (base,), {"asked": asked})
    return functools.partial(handler, directory=str(folder)), asked


def largest(remote: Path) -> Path:
    return max((remote / "blobs").iterdir(), key=lambda path: path.stat().st_size)


class Stops(Shown):
    """Breaks off in the middle of a large file unless it is asked for the rest."""

    def do_GET(self) -> None:  # noqa: N802 - what http.server calls
        path = Path(self.translate_path(self.path))
        if self.headers["Range"] is None and path.is_file() and path.stat().st_size > 100_000:
            self.asked.append((self.path, None))
            content = path.read_bytes()
            half = content[: len(content) // 2]
            return respond(self, 200, {"Content-Length": str(len(content))}, half)
        return super().do_GET()


class Lies(Shown):
    """Says that the rest of a file begins somewhere else."""

    def do_GET(self) -> None:  # noqa: N802 - what http.server calls
        if self.headers["Range"] is None:
            return super().do_GET()
        self.asked.append((self.path, self.headers["Range"]))
        return respond(self, 206, {"Content-Range": "bytes 7-9/10"}, b"abc")


class Busy(Shown):
    """Fails twice for each file."""

    def do_GET(self) -> None:  # noqa: N802 - what http.server calls
        if [path for path, _ in self.asked].count(self.path) < 2:
            self.asked.append((self.path, None))
            return respond(self, 503, {"Retry-After": "0"})
        return super().do_GET()


class Moved(Shown):
    """Has everything elsewhere on the same server."""

    def do_GET(self) -> None:  # noqa: N802 - what http.server calls
        if self.path.startswith("/new"):
            self.path = self.path.removeprefix("/new")
            return super().do_GET()
        return respond(self, 302, {"Location": f"/new{self.path}"})


def changed(remote: Path, to: Path, change: Callable[[bytes], bytes]) -> Path:
    """A copy of the remote whose largest file is another."""
    shutil.copytree(remote, to)
    largest(to).write_bytes(change(largest(to).read_bytes()))
    return to


def test_servers_that_are_strange_or_hostile(
    built: Built, remote: Path, signer: Signer, tmp_path: Path
) -> None:
    def away(location: str) -> Any:
        return answering(lambda handler: respond(handler, 302, {"Location": location}))

    elsewhere = "http://localhost:9"
    large = MAX_HEADER * 8 + 1
    handlers: dict[str, tuple[Any, list[str]]] = {
        "whole": (shown(remote)[0], ["ok", "ok"]),
        "busy": (shown(remote, Busy)[0], ["ok"]),
        "moved": (shown(remote, Moved)[0], ["ok"]),
        "stops": (shown(remote, Stops)[0], ["error", "ok"]),
        "endless": (answering(endless), ["TOO_LARGE"]),
        "large": (
            answering(lambda handler: respond(handler, 200, {}, b" " * large)),
            ["TOO_LARGE"],
        ),
        "page": (
            answering(lambda handler: respond(handler, 200, {}, b"<html>welcome</html>")),
            ["RECORD_MALFORMED"],
        ),
        "forbidden": (answering(lambda handler: respond(handler, 403, {})), ["error"]),
        "nothing": (answering(lambda handler: respond(handler, 404, {})), ["error"]),
        "file": (away("file:///etc/passwd"), ["error"]),
        "other host": (away(elsewhere), ["error"]),
        "circle": (away("/"), ["error"]),
        "cut": (
            shown(changed(remote, tmp_path / "cut", lambda data: data[:-1]))[0],
            ["TRUNCATED", "TRUNCATED"],
        ),
        "longer": (
            shown(changed(remote, tmp_path / "longer", lambda data: data + b"!"))[0],
            ["TOO_LARGE"],
        ),
        "flipped": (
            shown(changed(remote, tmp_path / "flipped", lambda data: b"!" + data[1:]))[0],
            ["DIGEST_MISMATCH", "DIGEST_MISMATCH"],
        ),
    }
    without = changed(remote, tmp_path / "without", lambda data: data)
    largest(without).unlink()
    for name, (source, expected) in {
        "whole": (remote, ["ok", "ok"]),
        "cut": (tmp_path / "cut", ["TRUNCATED", "TRUNCATED"]),
        "longer": (tmp_path / "longer", ["TOO_LARGE"]),
        "without": (without, ["FILE_MISSING"]),
        "arrived": (without, ["ok"]),
    }.items():
        handlers[f"background {name}"] = shown(source)[0], expected
    # A large file that the system fetched after the app was ended.
    arrived = tmp_path / "stores" / f"{[*handlers].index('background arrived')}.arrived"
    arrived.mkdir(parents=True)
    shutil.copy(largest(remote), arrived)
    asked = {
        name: handler.func.asked
        for name, (handler, _) in handlers.items()
        if isinstance(handler, functools.partial)
    }
    step = {"name": NAME, "channel": "stable", "keys": [key_of(signer)], "system": "iOS18"}
    step |= {"time": 0.0, "given": []}
    servers = {name: serving(handler) for name, (handler, _) in handlers.items()}
    addresses = {name: server.__enter__() for name, server in servers.items()}
    cases = [
        {
            "case": name,
            "steps": [
                step
                | {"address": addresses[name], "outcome": outcome}
                | {"background": name.startswith("background")}
                for outcome in expected
            ],
        }
        for name, (_, expected) in handlers.items()
    ]
    closed = step | {"address": "http://127.0.0.1:9", "outcome": "error"}
    found = outcomes(built, tmp_path, [*cases, {"case": "closed", "steps": [closed]}])
    for server in servers.values():
        server.__exit__()
    for case in found:
        expected = ["error"] if case["case"] == "closed" else handlers[case["case"]][1]
        assert [one["outcome"] for one in case["steps"]] == expected, case
    assert list(arrived.iterdir()) == []
    # What is here and whole asks for no blob, and a plus is none to a server that means a space.
    paths = [path for path, _ in asked["whole"]]
    blobs = [path for path in paths if "/blobs/" in path]
    assert len(blobs) == len(set(blobs)) > 3
    assert any("%2B" in path for path in paths)
    # What broke off went on at its middle, and nothing was fetched twice.
    size = largest(remote).stat().st_size
    big = f"/blobs/{largest(remote).name}"
    assert asked["stops"].count((big, None)) == 1
    assert (big, f"bytes={size // 2}-") in asked["stops"]
    assert all(asked["stops"].count((blob, None)) <= 1 for blob in blobs)


def test_a_store_over_its_life(
    built: Built, remote: Path, signer: Signer, trust: Trust, place: Path, tmp_path: Path
) -> None:
    """Versions that come and go, damage, cancelling, two pulls at once: see DeliveryCases.swift."""
    after = tmp_path / "after"
    shutil.copytree(remote, after)
    new = make_artifact(place / "artifacts", content={**CONTENT, "alphabet.txt": b"c\n"})
    ship(new, open_remote(str(after)), signer=signer, trust=trust, channel="stable")
    life = {"key": key_of(signer), "name": NAME, "before": str(remote), "after": str(after)}
    (tmp_path / "life.json").write_text(json.dumps(life))
    passes(built, CASES, ASRKIT_DELIVERY_LIFE=str(tmp_path / "life.json"))


def asrkit(built: Built, *words: object) -> subprocess.Popen[str]:
    """The kit's command line, in processes of its own."""
    folders = ["--package-path", built.package, "--scratch-path", built.build]
    command = ["swift", "run", *folders, "--skip-build", "--ignore-lock", "asrkit", *words]
    return subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_pull_that_is_killed_goes_on(
    built: Built, remote: Path, place: Path, tmp_path: Path
) -> None:
    """SIGKILL in the middle of the largest file: nothing is visible, and the rest is fetched."""
    reached, over = threading.Event(), threading.Event()
    big = largest(remote)

    class Waits(Shown):
        def do_GET(self) -> None:  # noqa: N802 - what http.server calls
            if not self.path.endswith(big.name) or reached.is_set():
                return super().do_GET()
            content = big.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            time.sleep(0.5)  # the small files come meanwhile
            reached.set()
            over.wait(30)
            return None

    handler, asked = shown(remote, Waits)
    store = tmp_path / "store"
    key = place / "config" / "keys" / "publisher.pub"
    with serving(handler) as address:
        words = ("pull", NAME, "--remote", address, "--key", key, "--to", store, "--os", "iOS18")
        killed = asrkit(built, *words)
        assert reached.wait(60), killed.communicate()
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        over.set()
        assert (
            not list((store / "artifacts").rglob("*")) if (store / "artifacts").exists() else True
        )
        held = (store / "incoming" / big.name).stat().st_size
        assert 0 < held <= big.stat().st_size // 2
        before = len(asked)
        again = asrkit(built, *words)
        out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "signed by publisher" in err
    (version,) = (remote / "artifacts" / NAME / "versions").iterdir()
    files = json.loads(version.read_text())["files"]
    assert tree_digests(Path(out.strip())) == {file["path"]: file["sha256"] for file in files}
    blobs = [one for one in asked[before:] if "/blobs/" in one[0]]
    assert blobs == [(f"/blobs/{big.name}", f"bytes={held}-")]
    assert list((store / "incoming").iterdir()) == []


def test_a_set_is_pulled_and_says_the_words(
    built: Built,
    published: dict[str, Path],
    signer: Signer,
    trust: Trust,
    place: Path,
    tmp_path: Path,
) -> None:
    """Real artifacts over HTTP: the variant of a system, byte for byte, and its words."""
    from tests.handover.app.package import asrkit as said

    several = [published["stateful"], published["whole"]]
    folder = tmp_path / "remote"
    ship_set(
        several,
        open_remote(str(folder)),
        "prompts",
        signer=signer,
        trust=trust,
        channel="stable",
    )
    handler, _ = shown(folder)
    key = place / "config" / "keys" / "publisher.pub"
    with serving(handler) as address:
        for system, artifact in (("iOS18", several[0]), ("iOS17", several[1])):
            store = tmp_path / system
            words = ("pull", "prompts@stable", "--remote", address, "--key", key, "--to", store)
            process = asrkit(built, *words, "--os", system)
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            (pulled,) = pull(
                "prompts@stable",
                open_remote(address),
                tmp_path / f"python-{system}",
                trust=trust,
                config=tmp_path / "seen",
                system=system,
            )
            digests = tree_digests(Path(out.strip()))
            assert digests == tree_digests(pulled.path) == tree_digests(artifact)
    recording = DEMO / "second.wav"
    expected = transcribe(artifact, read_audio(recording, 16_000)).hypotheses[0].text
    fetched = Path(out.strip())
    with executor(fetched, read_manifest(fetched), tmp_path / "pipes"):
        done = said(
            built,
            *("transcribe", recording, "--artifact", fetched),
            ASRKIT_EXECUTOR=str(tmp_path / "pipes"),
        )
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr
