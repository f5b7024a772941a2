"""Addresses of remotes, and stores that are missing or refuse a name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import install_fix
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust
from tests.handover.ship.making import make_artifact


def test_addresses_are_normalised():
    with pytest.raises(AsrbuildError, match="cannot ship to or pull from ftp://"):
        open_remote("ftp://example.com/x")
    with pytest.raises(AsrbuildError, match="not the address of a registry"):
        open_remote("oci://Example.com/UPPER")
    with pytest.raises(AsrbuildError, match="names no bucket"):
        open_remote("s3://")
    for same in ("http://Example.com/A/", "HTTP://example.com/A"):
        assert open_remote(same).address == "http://example.com/A"
    assert open_remote("oci://Example.com/a").address == "oci://example.com/a"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "is empty"),
        ("https://", "names no host"),
        ("https://[::1/x", "is not an address"),
        ("oci://127.0.0.1:abc/x", "is not an address"),
        ("https://example.com/x?token=1", "must end with its path"),
        ("oci://example.com/x#y", "must end with its path"),
        ("https://me:secret@example.com/x", "must not contain a user and a password"),
    ],
)
def test_malformed_addresses_are_refused(address: str, message: str):
    with pytest.raises(AsrbuildError, match=message) as refused:
        open_remote(address)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("place", ["artifacts", ".", "artifacts/remote"])
def test_a_remote_inside_or_around_the_store_is_refused(
    artifact: Path, tmp_path: Path, signer: Signer, trust: Trust, place: str
):
    before = tree_digests(tmp_path / "artifacts")
    with pytest.raises(AsrbuildError, match="holds the artifact store, or is in it"):
        ship(artifact, open_remote(str(tmp_path / place)), signer=signer, trust=trust)
    assert tree_digests(tmp_path / "artifacts") == before


def test_the_commands_report_missing_remotes(
    command: Callable[..., tuple[int, str, str]], artifact: Path, tmp_path: Path
):
    remote = tmp_path / "a remote"
    code, _, err = command("channel", "history", "demo", "stable", "--remote", remote)
    assert (code, err.splitlines()[0]) == (1, "error: the remote does not exist")
    code, out, err = command("ship", artifact, remote)
    assert (code, out.splitlines()[-1]) == (
        0,
        f"asrbuild pull demo-dynamic@{artifact.name} --remote '{remote}'",
    )
    assert not err, "small files are no news"
    code, _, err = command("channel", "history", "demo-dynamic", "stable", "--remote", remote)
    assert (code, err.splitlines()[0]) == (
        1,
        "error: the remote has no channel demo-dynamic@stable",
    )
    code, _, err = command("pull", "demo-dynamic", "--remote", remote)
    assert code == 1
    assert (
        f"fix: take a version, `asrbuild pull demo-dynamic@{artifact.name} --remote '{remote}'`"
        in err
    )
    code, _, err = command("pull", "nothing", "--remote", remote)
    assert (code, err.splitlines()) == (
        1,
        [
            "error: the remote has no artifact nothing",
            f"  file: {remote}",
            "  fix: it has: demo-dynamic",
        ],
    )
    elsewhere = ("--artifacts", tmp_path / "elsewhere")
    spec = f"demo-dynamic@{artifact.name}"
    code, _, err = command("pull", spec, "--remote", remote, "--os", "iOS9", *elsewhere)
    assert (code, err.splitlines()[0]) == (1, "error: no variant runs on iOS9")
    assert not list((tmp_path / "elsewhere").glob("[!.]*"))
    code, _, err = command("pull", spec, "--remote", remote, "--os", "macOS26", *elsewhere)
    assert code == 0, err
    code, _, err = command("key", "trust", tmp_path / "nothing.pub")
    assert (code, err.splitlines()[0]) == (1, "error: no such public key")


def test_a_missing_bucket_is_reported(s3: str, artifact: Path, signer: Signer, trust: Trust):
    with pytest.raises(AsrbuildError, match=r"does not exist \(NoSuchBucket\)\n"):
        ship(artifact, open_remote("s3://no-such-bucket/x"), signer=signer, trust=trust)


def test_an_artifact_in_a_registry_is_an_oci_artifact(
    registry: str, artifact: Path, signer: Signer, trust: Trust
):
    """The test reads it as any OCI client would."""
    import urllib.request

    ship(artifact, open_remote(f"{registry}/plain"), signer=signer, trust=trust)
    base = registry.replace("oci://", "http://").replace("/models", "/v2/models/plain/demo-dynamic")
    tag = artifact.name.replace("+", "_")
    ask = urllib.request.Request(
        f"{base}/manifests/{tag}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(ask) as answer:
        assert answer.headers["Content-Type"] == "application/vnd.oci.image.manifest.v1+json"
        manifest = json.load(answer)
    titles = {
        layer["annotations"]["org.opencontainers.image.title"]: layer
        for layer in manifest["layers"]
    }
    assert {t: layer["digest"].removeprefix("sha256:") for t, layer in titles.items()} == (
        tree_digests(artifact)
    )
    weights = titles["model.mlmodel"]
    with urllib.request.urlopen(f"{base}/blobs/{weights['digest']}") as answer:
        assert answer.read() == (artifact / "model.mlmodel").read_bytes()


def test_a_name_that_registries_refuse_is_reported(
    registry: str, tmp_path: Path, signer: Signer, trust: Trust
):
    artifact = make_artifact(tmp_path / "a", name="Demo")
    with pytest.raises(AsrbuildError, match="lower-case"):
        ship(artifact, open_remote(registry), signer=signer, trust=trust)


def test_uploads_to_google_require_that_the_object_is_new(
    artifact: Path, gcs: Path, signer: Signer, trust: Trust
):
    """The emulator does not refuse, but its log shows the condition of every new object."""
    before = gcs.read_text().count("\n")
    ship(artifact, open_remote("gs://models/asked"), signer=signer, trust=trust, channel="beta")
    requests = gcs.read_text().splitlines()[before:]
    uploads = [line for line in requests if "POST /upload" in line]
    asked = [line for line in uploads if "ifGenerationMatch=0" in line]
    # Files, header and record are new; current.json and index.json are replaced.
    assert len(asked) == len(tree_digests(artifact)) + 2
    assert len(uploads) == len(asked) + 2


@pytest.mark.parametrize(
    ("address", "package", "fix"),
    [("s3://bucket/asr", "obstore", "s3"), ("gs://bucket/asr", "gcsfs", "gcs")],
)
def test_a_missing_package_of_a_store_is_named(
    address: str, package: str, fix: str, monkeypatch: pytest.MonkeyPatch
):
    for name in (package, f"{package}.store", "fsspec"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(AsrbuildError, match=package) as caught:
        open_remote(address)
    assert caught.value.fix == install_fix(fix)


@pytest.mark.parametrize("address", ["az://container/asr", "hf://owner/models"])
def test_untested_kinds_of_stores_are_refused(address: str):
    with pytest.raises(AsrbuildError, match="cannot ship to or pull from"):
        open_remote(address)


@pytest.mark.parametrize("address", ["s3://", "gs:///"])
def test_an_address_without_a_place_is_refused(address: str):
    with pytest.raises(AsrbuildError, match="names no"):
        open_remote(address)


@pytest.mark.parametrize(
    "command_line", [("ls", "--remote"), ("ship", "ARTIFACT"), ("gc", "--remote")]
)
def test_an_impossible_path_is_refused(
    command: Callable[..., tuple[int, str, str]], command_line: tuple[str, str], artifact: Path
):
    arguments = [artifact if word == "ARTIFACT" else word for word in command_line]
    code, _, err = command(*arguments, "/tmp/" + "x" * 300)
    assert code == 1
    assert err.startswith("error: the remote cannot be read: File name too long"), err
