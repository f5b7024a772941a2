"""Keys, artifacts and real servers on loopback for the tests of shipping."""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from asrbuild.handover.ship.remotes import oci
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.remotes.remote import Remote
from asrbuild.handover.ship.signing.keys import Signer, new_key
from asrbuild.handover.ship.signing.trust import Trust, read_trust
from tests.command import run_main
from tests.handover.ship.making import make_artifact

if TYPE_CHECKING:
    from tests.handover.ship.instance import Instance

SETTLE_SECONDS = oci.SETTLE_SECONDS


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the short wait for other writers to a registry's channel: there are none."""
    monkeypatch.setattr(oci, "SETTLE_SECONDS", 0.05)


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    """Restores the full wait for other writers to a registry's channel."""
    monkeypatch.setattr(oci, "SETTLE_SECONDS", SETTLE_SECONDS)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty configuration folder."""
    path = tmp_path / "config"
    monkeypatch.setenv("ASRBUILD_CONFIG", str(path))
    return path


@pytest.fixture
def signer(config: Path) -> Signer:
    return new_key("default", config)


@pytest.fixture
def trust(signer: Signer, config: Path) -> Trust:
    return read_trust(config)


@pytest.fixture
def stranger(tmp_path: Path) -> Signer:
    """A key that is not trusted."""
    return new_key("stranger", tmp_path / "strange")


@pytest.fixture
def command(
    config: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process: exit code, output, errors."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        return run_main(arguments, monkeypatch, capfd)

    return run


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "artifacts")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            assert process.poll() is None, f"the server of {url} ended"
            time.sleep(0.05)
    raise AssertionError(f"no server at {url}")


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real OCI registry (CNCF Distribution)."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        pytest.skip("no OCI registry is installed (Debian: docker-registry)")
    folder = tmp_path_factory.mktemp("registry")
    port = free_port()
    (folder / "config.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with _served([program, "serve", str(folder / "config.yml")], f"http://127.0.0.1:{port}/v2/"):
        yield f"oci://127.0.0.1:{port}/models"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an S3-compatible server; the environment is set for it."""
    pytest.importorskip("moto.server", reason="the S3 server of moto is not installed")
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    endpoint = f"http://127.0.0.1:{free_port()}"
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    port = endpoint.rpartition(":")[2]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    with _environment(settings), _served(command, f"{endpoint}/moto-api/"):
        yield endpoint


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Sets variables for the block."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


#: Its queue of five would turn connections away, which then come again a second later.
_EMULATOR = """\
import runpy, socketserver
socketserver.TCPServer.request_queue_size = 128
runpy.run_module("gcp_storage_emulator", run_name="__main__")
"""


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Google Cloud Storage emulator; the environment is set for it. The log of its requests.

    It is a real HTTP server, but knows no preconditions: a second writer overwrites.
    """
    for module in ("gcp_storage_emulator", "gcsfs"):
        # gcsfs is not imported, because it reads its settings at the import.
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed (the extra gcs, and an emulator)")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("gcs") / "log"
    command = [
        sys.executable,
        "-c",
        _EMULATOR,
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--in-memory",
        "--default-bucket",
        "models",
    ]
    with (
        _environment({"STORAGE_EMULATOR_HOST": endpoint}),
        _served(command, f"{endpoint}/storage/v1/b/models", log),
    ):
        yield log


@pytest.fixture(params=["folder", "s3", "gs", "oci"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty remote of each kind."""
    if request.param == "folder":
        (tmp_path / "remote").mkdir()
        return str(tmp_path / "remote")
    if request.param == "s3":
        return request.getfixturevalue("bucket")
    place = "".join(c for c in request.node.name.lower() if c.isalnum())
    if request.param == "gs":
        request.getfixturevalue("gcs")
        return f"gs://models/{place}"
    return f"{request.getfixturevalue('registry')}/{place}"


@pytest.fixture
def remote(address: str) -> Remote:
    return open_remote(address)


@pytest.fixture
def bucket(s3: str, request: pytest.FixtureRequest) -> str:
    """An empty bucket's address."""
    name = f"bucket{abs(hash(request.node.nodeid)) % 10**10}"
    put = urllib.request.Request(f"{s3}/{name}", method="PUT")
    with urllib.request.urlopen(put) as answer:
        assert answer.status == 200
    return f"s3://{name}/asr"


class _served:  # noqa: N801 - reads as a verb
    """Runs a server during the block."""

    def __init__(self, command: list[str], url: str, log: Path = Path(os.devnull)) -> None:
        self.command, self.url, self.log = command, url, log

    def __enter__(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        _await(self.url, self.process)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="session")
def running_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    pytest.importorskip("sigstore.sign", reason="the extra sigstore is not installed")
    from tests.handover.ship.instance import running

    with running(tmp_path_factory.mktemp("sigstore")) as instance:
        yield instance


@pytest.fixture
def instance(
    running_instance: Instance, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Instance:
    """A Sigstore instance that this process uses, and an identity token of ``ci@example.com``."""
    path = tmp_path / "instance.json"
    path.write_text(json.dumps(running_instance.trust_config()))
    monkeypatch.setenv("ASRBUILD_SIGSTORE_TRUST", str(path))
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", running_instance.token("ci@example.com"))
    return running_instance


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which a plain web server serves it."""
    folder = tmp_path / "shown"
    folder.mkdir()
    with serving(functools.partial(Quiet, directory=str(folder))) as address:
        yield folder, address


class Server(http.server.ThreadingHTTPServer):
    """A web server that turns no connection away; a client would come again a second later."""

    daemon_threads = True
    request_queue_size = 128


class serving:  # noqa: N801 - reads as a verb
    """A web server in a thread, with the handler given; its address."""

    def __init__(self, handler: object) -> None:
        self.server = Server(("127.0.0.1", 0), handler)  # type: ignore[arg-type]

    def __enter__(self) -> str:
        # It looks this often whether it is to end.
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
