"""Each hostile bundle is refused for its exact reason, before a file is written."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from asrbuild.base.digest import canonical_json
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.formats.bundle import check_bundle, write_bundle
from asrbuild.handover.ship.formats.frame import MAGIC
from asrbuild.handover.ship.formats.header import MAX_FILES, MAX_HEADER, MAX_MANIFEST, MAX_TOTAL
from asrbuild.handover.ship.pull import pull_bundle
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust
from tests.handover.ship.making import CONTENT, Forgery, assemble, make_artifact

Refuse = Callable[..., Refused]
R = Refusal


def test_a_bundle_without_a_fault_is_accepted(
    forgery: Forgery, signer: Signer, tmp_path: Path, trust: Trust
):
    """Otherwise the tests below could fail for a mistake of the forgery instead of the attack."""
    forgery.add("zz/extra.txt", b"harmless")
    forgery.subjects()
    (tmp_path / "good.asrb").write_bytes(forgery.bytes(signer))
    pulled = pull_bundle(tmp_path / "good.asrb", tmp_path / "store", trust=trust)
    assert (pulled.path / "zz" / "extra.txt").read_bytes() == b"harmless"


HOSTILE_PATHS = {
    "traversal": "../precious",
    "deep traversal": "a/../../../precious",
    "dot": "./precious",
    "absolute": "/etc/passwd",
    "double slash": "a//b",
    "trailing slash": "a/",
    "empty": "",
    "backslash": "..\\precious",
    "drive": "C:precious",
    "drive path": "C:\\precious",
    "share": "\\\\server\\share",
    "stream": "alphabet.txt:hidden",
    "NUL": "a\x00b",
    "newline": "a\nb",
    "terminal": "\x1b]0;owned\x07\x1b[2J",
    "right-to-left": "model\u202egpj.exe",
    "look-alike slash": "..\u2215precious",
    "composed accents": "e\u0301",
    "lone surrogate": "\ud800",
    "device": "nul",
    "device with suffix": "dir/COM1.txt",
    "tilde": "~/precious",
    "option": "-rf",
    "hidden": ".bashrc",
    "trailing dot": "alphabet.txt.",
    "trailing space": "alphabet.txt ",
    "too long": "a" * 128,
    "too long in all": "/".join(["a" * 100] * 6),
    "too deep": "/".join("a" * 17),
    "shell": "$(touch precious)",
    "glob": "*",
}


@pytest.mark.parametrize("path", HOSTILE_PATHS.values(), ids=HOSTILE_PATHS.keys())
def test_hostile_paths_are_refused(forgery: Forgery, signer: Signer, attack: Callable, path: str):
    forgery.add(path)
    forgery.sort()
    forgery.subjects()
    attack(R.UNSAFE_PATH, forgery.bytes(signer))


def test_duplicate_names_are_refused(forgery: Forgery, signer: Signer, attack: Callable):
    forgery.add("alphabet.txt")
    forgery.sort()
    forgery.subjects()
    attack(R.DUPLICATE_PATH, forgery.bytes(signer))


@pytest.mark.parametrize("path", ["ALPHABET.TXT", "Manifest.json", "MODEL.mlpackage/Data/x"])
def test_names_that_differ_only_in_case_are_refused(
    forgery: Forgery, signer: Signer, attack: Callable, path: str
):
    forgery.add(path)
    forgery.sort()
    forgery.subjects()
    attack(R.CASE_CLASH, forgery.bytes(signer))


@pytest.mark.parametrize("path", ["alphabet.txt/x", "model.mlpackage"])
def test_a_file_that_is_also_a_folder_is_refused(
    forgery: Forgery, signer: Signer, attack: Callable, path: str
):
    forgery.add(path)
    forgery.sort()
    forgery.subjects()
    attack(R.PATH_CONFLICT, forgery.bytes(signer))


def test_another_order_of_files_is_refused(forgery: Forgery, signer: Signer, attack: Callable):
    forgery.files.reverse()
    forgery.contents.reverse()
    forgery.subjects()
    attack(R.UNSORTED, forgery.bytes(signer))


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "x", "link": "/etc/passwd", "bytes": 0, "sha256": "0" * 64},
        {"path": "x", "mode": 0o4755, "bytes": 0, "sha256": "0" * 64},
        {"path": "x", "type": "block", "major": 8, "minor": 0, "bytes": 0, "sha256": "0" * 64},
        {"path": "x", "bytes": -1, "sha256": "0" * 64},
        {"path": "x", "bytes": True, "sha256": "0" * 64},
        {"path": "x", "bytes": 0.5, "sha256": "0" * 64},
        {"path": "x", "bytes": "0", "sha256": "0" * 64},
        {"path": "x", "bytes": 0, "sha256": "0" * 63 + "G"},
        {"path": "x", "bytes": 0, "sha256": ("0" * 64) + "\n"},
        {"path": ["x"], "bytes": 0, "sha256": "0" * 64},
        {"path": "x", "bytes": 0},
        "x",
        None,
    ],
    ids=str,
)
def test_links_devices_and_other_entries_are_refused(
    forgery: Forgery, signer: Signer, attack: Callable, entry: object
):
    header = forgery.header(signer) | {"files": [*forgery.files, entry]}
    attack(R.HEADER_MALFORMED, assemble(canonical_json(header).encode(), b""))


def test_claimed_sizes_without_content_are_refused(
    forgery: Forgery, signer: Signer, attack: Callable
):
    """The file's own size refutes them, without an allocation."""
    forgery.add("zeros", b"")
    forgery.files[-1]["bytes"] = MAX_TOTAL // 2
    forgery.subjects()
    attack(R.TRUNCATED, forgery.bytes(signer))


@pytest.mark.parametrize("size", [MAX_TOTAL, 10**18, 10**300])
def test_sizes_beyond_the_bounds_are_refused(
    forgery: Forgery, signer: Signer, attack: Callable, size: int
):
    forgery.add("zeros", b"")
    forgery.files[-1]["bytes"] = size
    forgery.subjects()
    attack(R.TOO_LARGE, forgery.bytes(signer))


def test_a_sparse_bundle_of_a_terabyte_is_refused(
    forgery: Forgery, signer: Signer, tmp_path: Path, trust: Trust, refused: Refuse
):
    path = tmp_path / "sparse.asrb"
    path.write_bytes(forgery.bytes(signer))
    os.truncate(path, 1 << 40)
    refused(R.TRAILING_BYTES, lambda: check_bundle(path, trust))


def test_too_many_files_are_refused(forgery: Forgery, signer: Signer, attack: Callable):
    for number in range(MAX_FILES):
        forgery.add(f"zz/{number:05}", b"")
    # The list is not signed, because it is refused before the signature is read.
    attack(R.TOO_MANY_FILES, forgery.bytes(signer))


def test_a_huge_manifest_is_refused(forgery: Forgery, signer: Signer, attack: Callable):
    at = next(n for n, file in enumerate(forgery.files) if file["path"] == "manifest.json")
    forgery.files[at]["bytes"] = MAX_MANIFEST + 1
    attack(R.TOO_LARGE, forgery.bytes(signer))


@pytest.mark.parametrize("needed", ["manifest.json", "SHA256SUMS"])
def test_a_bundle_without_a_required_file_is_refused(
    forgery: Forgery, signer: Signer, attack: Callable, needed: str
):
    at = next(n for n, file in enumerate(forgery.files) if file["path"] == needed)
    del forgery.files[at], forgery.contents[at]
    forgery.subjects()
    attack(R.FILE_MISSING, forgery.bytes(signer))


HOSTILE_HEADERS = {
    "empty": b"",
    "not JSON": b"{" * 100,
    "deep lists": b"[" * (MAX_HEADER - 1),
    "deep objects": b'{"a":' * (MAX_HEADER // 5 - 1),
    "many lists": b"[" + b"[]," * (MAX_HEADER // 3 - 2) + b"0]",
    "a number without end": b"9" * (MAX_HEADER - 1),
    "an exponent": b"1e999999999",
    "NaN": b"NaN",
    "infinity": b"[1e400]",
    "a whole fraction": b"[1.0]",
    "a list": b"[]",
    "null": b"null",
    "no UTF-8": b"\xff\xfe{}",
    "no ASCII": '{"format":"ü"}'.encode(),
    "no format": b'{"name":"x"}',
    "a format that is no text": b'{"format":1}',
    "spaces": b'{"format": "asrbuild-bundle/1"}',
    "a key twice": b'{"format":"asrbuild-bundle/1","format":"asrbuild-bundle/1"}',
    "byte order mark": b"\xef\xbb\xbf{}",
}


@pytest.mark.parametrize("header", HOSTILE_HEADERS.values(), ids=HOSTILE_HEADERS.keys())
def test_hostile_headers_are_refused(attack: Callable, header: bytes):
    attack(R.HEADER_MALFORMED, assemble(header, b""))


def test_a_header_with_a_duplicate_key_is_refused(
    forgery: Forgery, signer: Signer, attack: Callable
):
    """Two readers could read two names from it."""
    raw = canonical_json(forgery.header(signer)).replace('"name":', '"name":"other","name":', 1)
    attack(R.HEADER_MALFORMED, assemble(raw.encode(), b"".join(forgery.contents)))


def test_wrong_header_lengths_are_refused(attack: Callable):
    attack(R.HEADER_TOO_LARGE, MAGIC + struct.pack("<I", 0xFFFFFFFF) + b"{}")
    attack(R.HEADER_TOO_LARGE, MAGIC + struct.pack("<I", MAX_HEADER + 1) + bytes(MAX_HEADER + 1))
    attack(R.TRUNCATED, MAGIC + struct.pack("<I", 100) + b"{}")
    attack(R.TRUNCATED, MAGIC + b"\x00")


def test_other_files_and_formats_are_refused(forgery: Forgery, signer: Signer, attack: Callable):
    attack(R.NOT_A_BUNDLE, b"")
    attack(R.NOT_A_BUNDLE, b"PK\x03\x04 and so on")
    attack(R.NOT_A_BUNDLE, b"\x89ASR\n\x1a\n" + bytes(20))  # after a transfer in text mode
    forgery.format = "asrbuild-bundle/2\x1b[2J"
    attack(R.UNKNOWN_FORMAT, forgery.bytes(signer))


def test_links_pipes_and_folders_are_refused(tmp_path: Path, trust: Trust, refused: Refuse):
    os.mkfifo(tmp_path / "pipe.asrb")
    (tmp_path / "folder.asrb").mkdir()
    for path in (tmp_path / "pipe.asrb", Path("/dev/zero"), Path("/dev/null")):
        refused(R.NOT_A_BUNDLE, lambda path=path: check_bundle(path, trust))
    with pytest.raises(AsrbuildError):
        check_bundle(tmp_path / "folder.asrb", trust)


@pytest.mark.parametrize("kind", ["link", "folder link", "pipe"])
def test_an_artifact_with_a_link_or_a_device_is_not_bundled(
    tmp_path: Path, signer: Signer, kind: str
):
    artifact = make_artifact(tmp_path / "artifacts")
    artifact.chmod(0o755)
    if kind == "pipe":
        os.mkfifo(artifact / "pipe")
    else:
        (artifact / "link").symlink_to("/etc" if kind == "folder link" else "/etc/passwd")
    with pytest.raises(AsrbuildError, match="link or a device"):
        write_bundle(artifact, tmp_path / "out.asrb", signer)
    assert not (tmp_path / "out.asrb").exists()


@pytest.mark.parametrize(
    "name",
    ["../../etc", "a/b", "", "..", "latest", "nul", "x" * 101, "a\x1b[2J", "a\nb", "a b", 7, None],
    ids=repr,
)
def test_hostile_names_and_versions_are_refused(
    forgery: Forgery, signer: Signer, attack: Callable, name: object
):
    good = forgery.name
    forgery.name = name
    attack(R.UNSAFE_NAME, forgery.bytes(signer))
    forgery.name, forgery.version = good, name
    attack(R.UNSAFE_NAME, forgery.bytes(signer))


# Signatures ------------------------------------------------------------------------------------


def test_an_untrusted_signer_is_refused(forgery: Forgery, stranger: Signer, attack: Callable):
    error = attack(R.UNTRUSTED_SIGNER, forgery.bytes(stranger))
    assert stranger.keyid[:12] in str(error)


def test_an_untrusted_signature_under_a_trusted_id_is_refused(
    forgery: Forgery, signer: Signer, stranger: Signer, attack: Callable
):
    header = forgery.header(stranger)
    header["envelope"]["signatures"][0]["keyid"] = signer.keyid
    attack(R.BAD_SIGNATURE, assemble(canonical_json(header).encode(), b"".join(forgery.contents)))


def test_a_wrong_signature_beside_a_right_one_is_refused(
    forgery: Forgery, signer: Signer, attack: Callable
):
    header = forgery.header(signer)
    right = header["envelope"]["signatures"][0]
    header["envelope"]["signatures"] = [right, {**right, "sig": "AAAA"}]
    attack(R.BAD_SIGNATURE, assemble(canonical_json(header).encode(), b"".join(forgery.contents)))


def test_an_unsigned_bundle_is_refused(forgery: Forgery, signer: Signer, attack: Callable):
    header = forgery.header(signer)
    header["envelope"]["signatures"] = []
    attack(R.NOT_SIGNED, assemble(canonical_json(header).encode(), b"".join(forgery.contents)))


def test_a_thousand_signatures_are_refused(forgery: Forgery, signer: Signer, attack: Callable):
    header = forgery.header(signer)
    header["envelope"]["signatures"] *= 1000
    attack(R.HEADER_MALFORMED, assemble(canonical_json(header).encode(), b""))


def test_a_signature_of_another_type_is_refused(forgery: Forgery, signer: Signer, attack: Callable):
    """A signature of the key on another type, such as a channel's record, is not a statement."""
    from asrbuild.handover.ship.signing.envelope import sign

    header = forgery.header(signer)
    payload = canonical_json(forgery.statement).encode()
    header["envelope"] = sign("application/vnd.asrbuild.channel+json", payload, signer)
    body = b"".join(forgery.contents)
    attack(R.HEADER_MALFORMED, assemble(canonical_json(header).encode(), body))
    header["envelope"]["payloadType"] = "application/vnd.in-toto+json"
    attack(R.BAD_SIGNATURE, assemble(canonical_json(header).encode(), body))


def test_a_statement_about_another_artifact_is_refused(
    forgery: Forgery, signer: Signer, attack: Callable
):
    """The signature is moved to an artifact with one more byte."""
    forgery.add("zz.sh")
    attack(R.STATEMENT_MISMATCH, forgery.bytes(signer))


def test_a_signed_version_under_a_newer_name_is_refused(
    forgery: Forgery, signer: Signer, attack: Callable
):
    forgery.version = "9.9.9+0123456789ab"
    attack(R.STATEMENT_MISMATCH, forgery.bytes(signer))


# Contents --------------------------------------------------------------------------------------


def test_a_swapped_manifest_is_refused(
    forgery: Forgery, signer: Signer, tmp_path: Path, attack: Callable
):
    """The manifest of another artifact is first only swapped in, then signed as well."""
    other = make_artifact(tmp_path / "others", name="other")
    at = next(n for n, file in enumerate(forgery.files) if file["path"] == "manifest.json")
    content = (other / "manifest.json").read_bytes()
    padding = len(forgery.contents[at]) - len(content)
    forgery.contents[at] = content + b" " * padding
    attack(R.DIGEST_MISMATCH, forgery.bytes(signer))
    forgery.files[at]["sha256"] = hashlib.sha256(forgery.contents[at]).hexdigest()
    attack(R.STATEMENT_MISMATCH, forgery.bytes(signer))
    forgery.subjects()
    attack(R.IDENTITY_MISMATCH, forgery.bytes(signer))


def test_swapped_weights_are_refused_even_if_signed(
    forgery: Forgery, signer: Signer, attack: Callable
):
    """The manifest still lists the old weights."""
    at = next(n for n, file in enumerate(forgery.files) if file["path"] == "model.mlmodel")
    forgery.contents[at] = b"other weights"
    forgery.files[at] |= {"bytes": 13, "sha256": hashlib.sha256(forgery.contents[at]).hexdigest()}
    forgery.subjects()
    attack(R.MANIFEST_MISMATCH, forgery.bytes(signer))


def test_a_version_that_contradicts_the_contents_is_refused(
    forgery: Forgery, signer: Signer, attack: Callable
):
    """Manifest, header and signature agree on a version with the digest of another content."""
    at = next(n for n, file in enumerate(forgery.files) if file["path"] == "manifest.json")
    manifest = json.loads(forgery.contents[at])
    forgery.version = manifest["version"] = "1.0.0+0123456789ab"
    forgery.contents[at] = json.dumps(manifest).encode()
    forgery.files[at] |= {
        "bytes": len(forgery.contents[at]),
        "sha256": hashlib.sha256(forgery.contents[at]).hexdigest(),
    }
    forgery.subjects()
    attack(R.IDENTITY_MISMATCH, forgery.bytes(signer))


def test_a_bundle_that_changes_between_two_readings_is_refused(
    artifact: Path, tmp_path: Path, signer: Signer, trust: Trust, refused: Refuse, monkeypatch
):
    """The second reading verifies the bytes again."""
    from asrbuild.handover.ship.formats import bundle

    path = tmp_path / "hostile.asrb"
    write_bundle(artifact, path, signer)
    (tmp_path / "victim" / "store").mkdir(parents=True)
    real = bundle._check

    def check_then_change(*given: object) -> object:
        opened = real(*given)
        with open(path, "r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(b"!")
        return opened

    monkeypatch.setattr(bundle, "_check", check_then_change)
    refused(
        R.DIGEST_MISMATCH, lambda: pull_bundle(path, tmp_path / "victim" / "store", trust=trust)
    )


# Chance ----------------------------------------------------------------------------------------

GENTLE = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Trust, Path]:
    from asrbuild.handover.ship.signing.keys import new_key
    from asrbuild.handover.ship.signing.trust import read_trust

    folder = tmp_path_factory.mktemp("small")
    key = new_key("k", folder / "config")
    artifact = make_artifact(folder / "artifacts", content={"model.mlmodel": b"w" * 50})
    write_bundle(artifact, folder / "good.asrb", key)
    good = (folder / "good.asrb").read_bytes()
    return good, read_trust(folder / "config"), folder


@GENTLE
@given(data=st.data())
def test_every_truncation_is_refused(small: tuple[bytes, Trust, Path], data: st.DataObject):
    good, trust, folder = small
    cut = data.draw(st.integers(0, len(good) - 1))
    (folder / "cut.asrb").write_bytes(good[:cut])
    with pytest.raises(Refused) as caught:
        check_bundle(folder / "cut.asrb", trust)
    assert caught.value.reason is (R.TRUNCATED if cut else R.NOT_A_BUNDLE)


@GENTLE
@given(data=st.data())
def test_every_flipped_bit_is_refused(small: tuple[bytes, Trust, Path], data: st.DataObject):
    good, trust, folder = small
    at, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
    bad = bytearray(good)
    bad[at] ^= 1 << bit
    (folder / "bad.asrb").write_bytes(bad)
    with pytest.raises(Refused):
        check_bundle(folder / "bad.asrb", trust)


@GENTLE
@given(
    change=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
    key=st.sampled_from(["envelope", "files", "format", "name", "version", "more"]),
)
def test_any_value_in_any_place_is_refused(
    small: tuple[bytes, Trust, Path], change: object, key: str
):
    good, trust, folder = small
    (length,) = struct.unpack("<I", good[8:12])
    header = json.loads(good[12 : 12 + length])
    if header.get(key) == change:
        return
    try:
        raw = canonical_json({**header, key: change}).encode()
    except AsrbuildError:
        return  # infinity: not JSON
    (folder / "odd.asrb").write_bytes(assemble(raw, good[12 + length :]))
    with pytest.raises(Refused):
        check_bundle(folder / "odd.asrb", trust)


def test_the_tests_cover_empty_and_large_files_and_folders():
    """The artifacts above have an empty file, a large one and a folder."""
    assert {len(data) for data in CONTENT.values()} > {0}
    assert any("/" in path for path in CONTENT)
