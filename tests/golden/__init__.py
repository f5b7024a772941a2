"""Golden files: records of earlier code's artifacts and answers, compared with those of today's.

A test of an artifact, an error or a JSON answer compares it with a record, and fails with a diff by
path if the record differs from the one in ``tests/golden/*.json``. The tests reach the product
through the command line and files only, so moving its modules does not touch these files.

    uv run python -m tests.golden              makes all records anew and prints what changed
    uv run python -m tests.golden tests/x.py   those of one test file

A changed record means a changed product: its commit names the fields and the reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from asrbuild.artifact.layout import SWIFT_KIT
from asrbuild.handover.app.kit import MADE, TEMPLATES
from asrbuild.handover.app.swift import manifest_swift

FOLDER = Path(__file__).parent
#: Set by ``python -m tests.golden``: the folder where tests leave their records, uncompared.
COLLECT = "ASRBUILD_GOLDEN"
#: A part of a manifest whose JSON is longer than this is stored once for all that have it.
LONG = 160
#: The depth of the search for such parts: manifest.provenance.recipe.verify is the deepest.
DEPTH = 4
#: Manifest field (``*``: every entry of a list) -> why its value is not compared. The presence of
#: the field is compared.
MASKED = {
    "provenance.created": "the time of the build",
    "provenance.platform": "the machine and its Python",
    "provenance.git": "the commit of the folder that the build ran in, if any",
    "provenance.overrides": "they name the test's folders; provenance.recipe has what they gave",
    "provenance.tools.*": "versions of what is installed; where they differ, so does the content",
    "verification.core_ml_executed": "true on a Mac",
    "verification.executions": "a Mac runs Core ML too; names the platform and asrbuild's version",
    "verification.metrics.*.value": "measured, and BLAS kernels round differently; `passed`, the "
    "gate and its limit are compared",
    "verification.inputs.*.sha256": "features, of a BLAS product; name and length are compared",
    "verification.evaluation.*": "measured like the metrics",
    "files.parity.npz.bytes": "outputs of the run, compressed",
    "files.parity.npz.sha256": "outputs of the run",
}


def digest(content: bytes) -> str:
    """SHA-256 as hex."""
    return hashlib.sha256(content).hexdigest()


def check_artifact(name: str, artifact: Path) -> None:
    """Compares an artifact: its content version, the digest of every package file, its manifest."""
    _check("artifacts", name, artifact_record(artifact))


def check_error(name: str, code: int, error: str, folder: Path) -> None:
    """Compares a refusal as printed: exit code, key, file name, whether it has a fix.

    Texts may be reworded, so they are left to the tables of the tests. ``folder`` is the test's.
    """
    # Absolute paths of the project belong to one machine.
    name = re.sub(r"(?<![\w}])/[^ ]*/", "", name)
    _check("errors", name, {"code": code, **error_fields(error, folder)})


def check_refusals(reader: str, refusals: dict[str, str | None]) -> None:
    """Compares the refusals of files that are not of the kind of a command or key (None: taken)."""
    record: dict[str, list[str]] = {}
    for name, error in refusals.items():
        found = error_fields(f"error: {error}", Path(name))
        file = "file" if found["file"] in ("{at}", name) else f"file {found['file']}"
        how = f"key {found['key']}, {file}, fix {found['fix']}" if error else "taken"
        record.setdefault(how, []).append(name)
    _check("kinds", reader, record)


def error_fields(error: str, folder: Path) -> dict[str, Any]:
    """Key, file name and presence of a fix of an error as printed on standard error."""
    start = error.find("error: ")
    lines = re.findall(r"^  (key|file|fix): (.*)$", error[start:] if start >= 0 else "", re.M)
    found = dict(reversed(lines))
    file = found.get("file")
    if file is not None:
        file = "{at}" if Path(file) == folder else Path(file).name
    return {"key": found.get("key"), "file": file, "fix": "fix" in found}


def check_keys(command: str, answer: str) -> None:
    """Compares the dotted key names of a command's ``--json`` output."""
    _check("json_keys", command, sorted(set(_key_names(json.loads(answer), ""))))


def _check(file: str, name: str, record: Any) -> None:
    if folder := os.environ.get(COLLECT):
        entry = json.dumps({"file": file, "name": name, "record": record})
        (Path(folder) / f"{digest(entry.encode())}.json").write_text(entry)
        return
    wanted = read(file).get(name)
    assert wanted is not None, f"{name} has no record: run `uv run python -m tests.golden`"
    changed = list(differences(*_comparable(wanted, record)))
    assert not changed, "\n".join([f"{name} differs from tests/golden/{file}.json:", *changed])


def _comparable(wanted: Any, found: Any) -> tuple[Any, Any]:
    """Both records; without content digests if different libraries made them."""
    tools = [r.get("tools") if isinstance(r, dict) else None for r in (wanted, found)]
    if tools[0] == tools[1]:
        return wanted, found
    warnings.warn(f"digests are not compared: recorded with {tools[0]}", stacklevel=4)
    return tuple(
        {k: v for k, v in record.items() if k not in ("tools", "version", "package")}
        for record in (wanted, found)
    )


def artifact_record(path: Path) -> dict[str, Any]:
    """The compared facts of an artifact: its manifest has the fields of ``MASKED`` masked."""
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    version = manifest.pop("version")
    assert manifest.pop("artifact_id") == f"{manifest['name']}/{version}"
    assert path.name == version
    if manifest["verification"].pop("witness", None) is not None:
        # The other fields, the content version too, do not depend on it.
        assert manifest["schema_version"] == "1.2"
        manifest["schema_version"] = "1.1"
    packages = {f["path"]: f for f in manifest["files"] if f["role"] == "package"}
    for file in packages:
        found = digest((path / file).read_bytes())
        assert found == packages[file]["sha256"], f"the manifest lists another digest of {file}"
    tools = dict(manifest["provenance"]["tools"])
    manifest["files"] = {
        file["path"]: {"role": file["role"]} if file["path"] in packages else file
        for file in manifest["files"]
    }
    for field in MASKED:
        _mask(manifest, field.split("."), field)
    metrics = manifest["verification"]["metrics"]
    manifest["verification"]["metrics"] = [" ".join(map(str, row.values())) for row in metrics]
    files = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    kit = {file for file in files if file.startswith(f"{SWIFT_KIT}/")}
    if kit:
        found = {file: digest((path / file).read_bytes()) for file in kit}
        assert found == _swift_kit(), "the Swift package is not that of every artifact"
        files = files - kit | {f"{SWIFT_KIT}/"}
    return {
        "tools": tools,
        "version": version,
        "package": {name: file["sha256"] for name, file in packages.items()},
        "layout": sorted(files),
        "manifest": manifest,
    }


@cache
def _swift_kit() -> dict[str, str]:
    """Path -> digest of the Swift package's files, which are the same in every artifact."""
    folder = TEMPLATES / SWIFT_KIT
    found = {
        f"{SWIFT_KIT}/{file.relative_to(folder).as_posix()}": digest(file.read_bytes())
        for file in folder.rglob("*")
        if file.is_file()
    }
    return found | {f"{SWIFT_KIT}/{MADE}": digest(manifest_swift().encode())}


def _mask(value: Any, path: Sequence[str], field: str) -> None:
    """Replaces the value at ``path``; a key with dots in it (a file's name) is found, too."""
    if not isinstance(value, (dict, list)):
        return
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for count in range(1, len(path) + 1):
        head = ".".join(path[:count])
        for key in keys:
            if key != head and head != "*":
                continue
            if count < len(path):
                _mask(value[key], path[count:], field)
            else:
                value[key] = "masked"


def _key_names(value: Any, at: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{at}.{key}".lstrip(".")
            yield from _key_names(item, f"{at}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _key_names(item, f"{at}[]")


def differences(wanted: Any, found: Any, at: str = "") -> Iterator[str]:
    """One line for every path at which two JSON values differ."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            here = f"{at}.{key}".lstrip(".")
            if key not in found:
                yield f"  {here}: {_short(wanted[key])} is gone"
            elif key not in wanted:
                yield f"  {here}: {_short(found[key])} is new"
            else:
                yield from differences(wanted[key], found[key], here)
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, pair in enumerate(zip(wanted, found, strict=True)):
            yield from differences(*pair, f"{at}[{index}]")
    elif isinstance(wanted, list) and isinstance(found, list):
        gone, new = ([x for x in a if x not in b] for a, b in ((wanted, found), (found, wanted)))
        counts = f"{len(wanted)} entries -> {len(found)}"
        yield f"  {at}: {counts}; gone {_short(gone)}; new {_short(new)}"
    elif wanted != found or type(wanted) is not type(found):
        yield f"  {at}: {_short(wanted)} -> {_short(found)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}..."


@cache
def read(file: str) -> dict[str, Any]:
    """Name -> record of one golden file."""
    path = FOLDER / f"{file}.json"
    if not path.exists():
        return {}
    stored = json.loads(path.read_text(encoding="utf-8"))
    return {name: _whole(record, stored["shared"]) for name, record in stored["records"].items()}


def write(file: str, records: dict[str, Any]) -> None:
    """Writes one golden file; a long part that several records have is stored once."""
    count = Counter(name for record in records.values() for name in _long_parts(record))
    shared: dict[str, Any] = {}
    stored = {name: _shared(records[name], count, shared) for name in sorted(records)}
    whole = {"records": stored, "shared": dict(sorted(shared.items()))}
    text = json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
    (FOLDER / f"{file}.json").write_text(text, encoding="utf-8")


def _name(value: Any) -> str:
    """The name under which a long part is stored once; empty for a short one."""
    text = json.dumps(value) if isinstance(value, (dict, list)) else ""
    return f"shared {digest(text.encode())[:12]}" if len(text) > LONG else ""


def _long_parts(value: Any, depth: int = 0) -> Iterator[str]:
    if name := _name(value):
        yield name
        if isinstance(value, dict) and depth < DEPTH:
            for item in value.values():
                yield from _long_parts(item, depth + 1)


def _shared(value: Any, count: Counter[str], shared: dict[str, Any], depth: int = 0) -> Any:
    name = _name(value)
    if name in shared:
        return name
    if isinstance(value, dict) and depth < DEPTH:
        value = {key: _shared(item, count, shared, depth + 1) for key, item in value.items()}
    if count[name] < 2 or depth == 0:
        return value
    shared[name] = value
    return name


def _whole(value: Any, shared: dict[str, Any]) -> Any:
    if isinstance(value, str) and value in shared:
        return _whole(shared[value], shared)
    if isinstance(value, dict):
        return {key: _whole(item, shared) for key, item in value.items()}
    return value
