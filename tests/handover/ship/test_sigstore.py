"""Signatures of an identity, made and verified by the Sigstore client."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import install_fix
from asrbuild.handover.ship.formats.bundle import write_bundle
from asrbuild.handover.ship.pull import pull, pull_bundle
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.envelope import pae
from asrbuild.handover.ship.signing.keys import Signer, new_key
from asrbuild.handover.ship.signing.sigstore import sign_in
from asrbuild.handover.ship.signing.trust import (
    Trust,
    distrust,
    identity_of,
    read_trust,
    trust_identity,
)
from tests.handover.ship.making import CONTENT, make_artifact, variant_of

WHO, ISSUER = "ci@example.com", "https://issuer.example.com"
#: A Python without the Sigstore library.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "sigstore":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from asrbuild.cli.main import main
main()
"""


@pytest.fixture
def believed(instance: Any, config: Path) -> Trust:
    """Trusts only the identity whose token is set."""
    trust_identity(WHO, ISSUER, None, config)
    return read_trust(config)


def header_of(bundle: Path) -> dict[str, Any]:
    raw = bundle.read_bytes()
    return json.loads(raw[12 : 12 + int.from_bytes(raw[8:12], "little")])


def without_library(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_an_identity_signs_without_a_key(
    instance: Any, artifact: Path, tmp_path: Path, command: Callable, config: Path
):
    """Commands pull without trust, with trust in the identity, then without it again."""
    bundle, there = tmp_path / "demo.asrb", tmp_path / "there"
    code, out, err = command(
        "bundle", artifact, bundle, "--sigstore", "--artifacts", artifact.parent.parent
    )
    assert (code, "signed by ci@example.com" in out) == (0, True), err
    assert "publishes the identity that signs" in err
    assert f"signing as {WHO} of {ISSUER}" in err
    envelope = header_of(bundle)["envelope"]
    assert envelope["signatures"] == []
    pull = ("pull", bundle, "--artifacts", there)
    code, _, err = command(*pull)
    assert code == 1
    assert "UNTRUSTED_SIGNER" in err
    assert f"'{WHO}' of '{ISSUER}'" in err
    code, out, _ = command("key", "trust", "--identity", WHO, "--issuer", ISSUER)
    assert (code, out.split()[:4]) == (0, ["trusted:", WHO, "of", ISSUER])
    code, out, err = command(*pull, "--json")
    assert code == 0, err
    pulled = json.loads(out)
    assert pulled["signer"] == WHO
    assert tree_digests(Path(pulled["path"])) == tree_digests(artifact)
    assert command("key", "distrust", WHO)[0] == 0
    assert "UNTRUSTED_SIGNER" in command(*pull)[2]


def test_the_signature_is_a_standard_sigstore_bundle(
    instance: Any, artifact: Path, tmp_path: Path, believed: Trust
):
    """Sigstore's own command line verifies it, from the header's bytes alone."""
    write_bundle(artifact, tmp_path / "demo.asrb", sign_in(None, print))
    envelope = header_of(tmp_path / "demo.asrb")["envelope"]
    signed = tmp_path / "signed"
    signed.write_bytes(pae(envelope["payloadType"], base64.b64decode(envelope["payload"])))
    (tmp_path / "bundle.json").write_text(json.dumps(envelope["sigstore"]))

    def verify(issuer: str) -> int:
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "sigstore",
                "--trust-config",
                tmp_path / "instance.json",
                "verify",
                "identity",
                "--offline",
                "--bundle",
                tmp_path / "bundle.json",
                "--cert-identity",
                WHO,
                "--cert-oidc-issuer",
                issuer,
                signed,
            ],
            capture_output=True,
            timeout=60,
        ).returncode

    assert verify(ISSUER) == 0
    assert verify("https://other.example.com") == 1
    signed.write_bytes(signed.read_bytes() + b" ")
    assert verify(ISSUER) == 1


def test_signatures_of_a_key_are_unchanged(artifact: Path, tmp_path: Path, signer: Signer):
    """A signature of a key alone has no fields of Sigstore."""
    write_bundle(artifact, tmp_path / "demo.asrb", signer)
    header = header_of(tmp_path / "demo.asrb")
    assert set(header) == {"envelope", "files", "format", "name", "version"}
    assert set(header["envelope"]) == {"payload", "payloadType", "signatures"}


def test_a_key_and_an_identity_sign_together(
    instance: Any, artifact: Path, tmp_path: Path, config: Path
):
    """Trust in one of the two signers is required and sufficient."""
    bundle = tmp_path / "demo.asrb"
    key = new_key("release", tmp_path / "publisher")
    write_bundle(artifact, bundle, sign_in(key, print))
    identity = identity_of(WHO, ISSUER)
    both = {**key.trust, identity.keyid: identity}
    for number, (trust, label) in enumerate(
        [(key.trust, "release"), ({identity.keyid: identity}, WHO), (both, "release")]
    ):
        assert pull_bundle(bundle, tmp_path / str(number), trust=trust).signer == label
    with pytest.raises(AsrbuildError, match="UNTRUSTED_SIGNER") as caught:
        pull_bundle(bundle, tmp_path / "none", trust={})
    assert key.keyid[:12] in str(caught.value)
    assert WHO in str(caught.value)


def test_a_channel_works_without_a_key(
    instance: Any, tmp_path: Path, config: Path, command: Callable, monkeypatch: pytest.MonkeyPatch
):
    """An identity alone ships, moves the channel forth and back, and pulls."""
    store, remote = tmp_path / "artifacts", tmp_path / "remote"
    versions = [
        make_artifact(store, content={**CONTENT, "alphabet.txt": text}) for text in (b"a", b"b")
    ]
    ship = ("ship", "--sigstore", "--artifacts", store, "--channel", "beta")
    code, out, err = command(*ship, versions[0], remote)
    assert code == 0, err
    assert "@beta points at it (record 1)" in out
    # The signer trusts itself during the command only.
    code, out, err = command(*ship, versions[1], remote)
    assert code == 0, err
    assert "@beta points at it (record 2)" in out
    back = ("channel", "rollback", "demo-dynamic", "beta", "--remote", remote, "--sigstore")
    code, out, err = command(*back)
    assert code == 0, err
    assert f"(record 3, rollback, signed by {WHO})" in out
    history = ("channel", "history", "demo-dynamic", "beta", "--remote", remote, "--json")
    assert "UNTRUSTED_SIGNER" in command(*history)[2]
    assert command("key", "trust", "--identity", WHO, "--issuer", ISSUER)[0] == 0
    out = command(*history)[1]
    assert [(r["counter"], r["signer"]) for r in json.loads(out)] == [(3, WHO), (2, WHO), (1, WHO)]
    # A reader on another machine, which trusts only the identity.
    reader = tmp_path / "reader"
    trust_identity(WHO, ISSUER, None, reader)
    monkeypatch.setenv("ASRBUILD_CONFIG", str(reader))
    monkeypatch.delenv("SIGSTORE_ID_TOKEN")
    pull = ("pull", "demo-dynamic@beta", "--remote", remote, "--artifacts", tmp_path / "there")
    code, out, err = command(*pull, "--json")
    assert code == 0, err
    assert json.loads(out)["version"] == versions[0].name


def test_an_existing_version_is_not_signed_again(
    instance: Any, artifact: Path, tmp_path: Path, command: Callable
):
    """An entry in a public log is permanent."""
    store, remote = artifact.parent.parent, tmp_path / "remote"
    ship = ("ship", artifact, remote, "--sigstore", "--artifacts", store)
    before = len(instance.leaves)
    assert command(*ship)[0] == 0
    code, out, _ = command(*ship)
    assert (code, "was there already" in out) == (0, True)
    assert len(instance.leaves) == before + 1


def test_a_set_is_signed_by_an_identity(
    instance: Any, tmp_path: Path, command: Callable, believed: Trust
):
    store, remote = tmp_path / "artifacts", tmp_path / "remote"
    for name, ios in (("new", "18.0"), ("old", "15.0")):
        variant_of(store, name, ios, "15.0", name.encode())
    before = len(instance.leaves)
    ship = ("ship", "new", "old", remote, "--set", "both", "--channel", "stable", "--sigstore")
    code, _, err = command(*ship, "--artifacts", store)
    assert code == 0, err
    logged = len(instance.leaves)
    assert command(*ship, "--artifacts", store)[0] == 0
    assert len(instance.leaves) == logged == before + 4  # headers, set, the channel's record
    pull = ("pull", "both@stable", "--remote", remote, "--os", "iOS17", "--json")
    code, out, err = command(*pull, "--artifacts", tmp_path / "there")
    assert code == 0, err
    assert (json.loads(out)["name"], json.loads(out)["signer"]) == ("old", WHO)


def test_a_bundle_of_variants_is_signed_by_an_identity(
    instance: Any, tmp_path: Path, config: Path, command: Callable, believed: Trust
):
    store = tmp_path / "artifacts"
    for name, ios in (("new", "18.0"), ("old", "15.0")):
        variant_of(store, name, ios, "15.0", name.encode())
    bundle = tmp_path / "both.asrb"
    code, _, err = command("bundle", "new", "old", bundle, "--sigstore", "--artifacts", store)
    assert code == 0, err
    code, out, err = command(
        "pull", bundle, "--os", "iOS17", "--artifacts", tmp_path / "there", "--json"
    )
    assert code == 0, err
    assert (json.loads(out)["name"], json.loads(out)["signer"]) == ("old", WHO)


def test_a_log_of_the_second_version_is_used(
    tmp_path: Path, artifact: Path, config: Path, monkeypatch: pytest.MonkeyPatch
):
    """Rekor 2 has no times, so a timestamp authority gives the time."""
    pytest.importorskip("sigstore.sign", reason="the extra sigstore is not installed")
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to be the timestamp authority")
    from tests.handover.ship.instance import running

    with running(tmp_path, rekor=2) as instance:
        (tmp_path / "instance.json").write_text(json.dumps(instance.trust_config()))
        monkeypatch.setenv("ASRBUILD_SIGSTORE_TRUST", str(tmp_path / "instance.json"))
        monkeypatch.setenv("SIGSTORE_ID_TOKEN", instance.token("https://ci.example.com/release"))
        signer = sign_in(None, print)
        write_bundle(artifact, tmp_path / "demo.asrb", signer)
    # The servers have ended, and verification does not need them.
    material = header_of(tmp_path / "demo.asrb")["envelope"]["sigstore"]["verificationMaterial"]
    assert material["tlogEntries"][0]["kindVersion"]["version"] == "0.0.2"
    pulled = pull_bundle(tmp_path / "demo.asrb", tmp_path / "there", trust=signer.trust)
    assert pulled.signer == "https://ci.example.com/release"


def test_a_trusted_root_verifies_but_does_not_sign(
    instance: Any, artifact: Path, tmp_path: Path, believed: Trust
):
    """Instances publish a trusted_root.json."""
    bundle = tmp_path / "demo.asrb"
    write_bundle(artifact, bundle, sign_in(None, print))
    (tmp_path / "instance.json").write_text(json.dumps(instance.trusted_root()))
    assert pull_bundle(bundle, tmp_path / "there", trust=believed).signer == WHO
    with pytest.raises(AsrbuildError, match="signing in to Sigstore failed") as caught:
        sign_in(None, print)
    assert caught.value.file == str(tmp_path / "instance.json")
    (tmp_path / "instance.json").write_text("{")
    with pytest.raises(AsrbuildError, match="reading Sigstore's keys failed") as caught:
        pull_bundle(bundle, tmp_path / "elsewhere", trust=believed)
    assert "ASRBUILD_SIGSTORE_TRUST" in str(caught.value.fix)


@pytest.mark.parametrize("way", ["job", "browser"])
def test_the_identity_comes_from_the_job_or_the_browser(
    instance: Any, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
):
    """The provider of a CI job gives a token on request; a person must sign in."""
    from tests.handover.ship.instance import JOB, PERSON

    monkeypatch.delenv("SIGSTORE_ID_TOKEN")
    told: list[str] = []
    if way == "job":
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{instance.url}/job")
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of the job")
    else:
        monkeypatch.setattr("sigstore.oidc.detect_credential", lambda: None)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        visit = ThreadPoolExecutor(1)
        monkeypatch.setattr(
            "webbrowser.open", lambda url: bool(visit.submit(urllib.request.urlopen, url))
        )
    signer = sign_in(None, told.append)
    write_bundle(artifact, tmp_path / "demo.asrb", signer)
    assert signer.name == (JOB if way == "job" else PERSON)
    assert any("permanently" in text for text in told)
    assert pull_bundle(tmp_path / "demo.asrb", tmp_path / "there", trust=signer.trust)


def test_signing_without_an_identity_is_refused(instance: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", "no token")
    with pytest.raises(AsrbuildError, match="malformed"):
        sign_in(None, print)
    monkeypatch.delenv("SIGSTORE_ID_TOKEN")
    monkeypatch.setattr("sigstore.oidc.detect_credential", lambda: None)
    with pytest.raises(AsrbuildError, match="no identity token"):
        sign_in(None, print)


def test_signatures_travel_through_every_remote(
    instance: Any, artifact: Path, tmp_path: Path, address: str, believed: Trust, config: Path
):
    """They are part of the header and of the record."""
    remote = open_remote(address)
    ship(artifact, remote, signer=sign_in(None, print), trust=believed, channel="beta")
    (pulled,) = pull("demo-dynamic@beta", remote, tmp_path / "there", trust=believed, config=config)
    assert pulled.signer == WHO
    assert tree_digests(pulled.path) == tree_digests(artifact)


def test_failing_servers_are_reported(
    instance: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifact: Path
):
    """They leave neither a bundle nor a traceback."""
    config = instance.trust_config()
    signer = sign_in(None, print)
    config["signingConfig"]["caUrls"][0]["url"] = "http://127.0.0.1:9"
    (tmp_path / "instance.json").write_text(json.dumps(config))
    with pytest.raises(AsrbuildError, match="signing in to Sigstore failed"):
        sign_in(None, print)
    # The entries of this log cannot be verified; a new signature is checked as a reader would.
    monkeypatch.setattr(instance, "ahead", 3600)
    with pytest.raises(AsrbuildError, match="proving the new signature failed"):
        write_bundle(artifact, tmp_path / "demo.asrb", signer)
    assert not (tmp_path / "demo.asrb").exists()


def test_identities_are_listed_and_exact(config: Path, command: Callable):
    trust_identity(WHO, ISSUER, "the CI", config)
    out = command("key", "ls", "--json")[1]
    rows = [row for row in json.loads(out)["trusted"] if "identity" in row]
    assert rows == [
        {
            "label": "the CI",
            "keyid": identity_of(WHO, ISSUER).keyid,
            "can_sign": False,
            "identity": WHO,
            "issuer": ISSUER,
        }
    ]
    assert f"{WHO} of {ISSUER}" in command("key", "ls")[1]
    for identity, issuer in (
        (f"*{WHO}", ISSUER),
        (WHO, "*"),
        (WHO, "issuer.example.com"),
        ("", ""),
    ):
        with pytest.raises(AsrbuildError, match=r"is not one identity|is not an issuer"):
            trust_identity(identity, issuer, None, config)
    for given in (["--identity", WHO], ["--issuer", ISSUER], []):
        assert command("key", "trust", *given)[0] == 2
    assert distrust("the CI", config).keyid == rows[0]["keyid"]
    trust_identity(WHO, ISSUER, None, config)
    (path,) = (config / "trusted").glob("*.json")
    path.write_text(path.read_text().replace(WHO, "evil@example.com"))
    with pytest.raises(AsrbuildError, match="does not match the file's name"):
        read_trust(config)
    path.write_text("[]")
    with pytest.raises(AsrbuildError, match="not a trusted identity"):
        read_trust(config)


def test_a_missing_extra_is_named(instance: Any, artifact: Path, tmp_path: Path, config: Path):
    """It is one clear error for commands that require it; all others work."""
    identity, key = sign_in(None, print), new_key("release", config)
    write_bundle(artifact, tmp_path / "identity.asrb", identity)
    write_bundle(artifact, tmp_path / "key.asrb", key)
    write_bundle(artifact, tmp_path / "both.asrb", sign_in(key, print))
    place = ("--artifacts", tmp_path / "there")
    for name in ("key", "both"):
        done = without_library("pull", tmp_path / f"{name}.asrb", *place)
        assert done.returncode == 0, done.stderr
    done = without_library("pull", tmp_path / "identity.asrb", *place)
    assert "UNTRUSTED_SIGNER" in done.stderr
    trust_identity(WHO, ISSUER, None, config)
    for command in (
        ("pull", tmp_path / "identity.asrb", *place),
        ("pull", tmp_path / "both.asrb", *place),
        ("bundle", artifact, tmp_path / "new.asrb", "--sigstore"),
    ):
        done = without_library(*command)
        assert done.returncode == 1
        assert "error: signatures through Sigstore require the extra sigstore" in done.stderr
        assert f"fix: {install_fix('sigstore')}" in done.stderr
        assert "Traceback" not in done.stderr
    assert without_library("pull", tmp_path / "key.asrb", *place).returncode == 0
    assert not (tmp_path / "new.asrb").exists()
