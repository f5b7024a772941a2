"""A pytest plugin that records the input and the outcome of every pull of the tests of shipping.

It replaces the functions before the tests import them. A case has the pulls of one reader in one
test, in order. It leaves out pulls that Swift's reader does not have: of a bundle that a test
changes while it is read, of the other kind of bundle, of all variants of a set, or with an expiry
of a version; and pulls after a change of Python's file of channels seen.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import stat
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship import pull as pulling
from asrbuild.handover.ship.formats import bundle as bundles, sets, variants
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.objects import ObjectRemote
from asrbuild.handover.ship.signing.trust import Trust, TrustedKey
from tests.handover.ship import making

#: Bytes beyond this length are zeros at the end of a sparse file.
_MOST_BYTES = 4 << 20
_folder = Path(os.environ["RECORDED_CASES"])
#: Cases by test, and for remotes by the reader's folder.
_cases: dict[str, list[dict[str, Any]]] = {}
#: Python's file of channels seen after the last step of a case.
_remembered: dict[str, str] = {}
_count = 0

# The content is small, because each case has a copy.
making.CONTENT["model.mlmodel"] = b"weights" * 400


def _test() -> str:
    """The running test; its fixtures belong to it."""
    return os.environ["PYTEST_CURRENT_TEST"].partition(" (")[0]


def _copied(source: Path) -> str:
    """Copies a file, folder, pipe or device; returns the path."""
    global _count
    _count += 1
    target = _folder / "kept" / f"{_count}"
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_copy)
    elif source.exists():
        mode = source.stat().st_mode
        if stat.S_ISREG(mode):
            _copy(source, target)
        elif stat.S_ISFIFO(mode):
            os.mkfifo(target)
        else:
            return str(source)
    return str(target)


def _copy(source: Any, target: Any) -> Any:
    with open(source, "rb") as file:
        content = file.read(_MOST_BYTES)
    Path(target).write_bytes(content)
    os.truncate(target, os.stat(source).st_size)
    return target


def _outcome(
    work: Callable[[], Any], step: dict[str, Any], case: str, is_comparable: Callable[[], bool]
) -> Any:
    """Runs the work, and records the step with its refusal, ``error`` or result."""
    given: Sequence[Any] = ()
    step |= {"outcome": "ok", "given": [], "time": time.time()}
    try:
        result = work()
        given = result if isinstance(result, list) else [result]
    except Refused as refused:
        step["outcome"] = refused.reason.value
        raise
    except AsrbuildError:
        step["outcome"] = "error"
        raise
    finally:
        step["given"] = [
            [p.name, p.version, json.dumps(tree_digests(p.path), sort_keys=True)]
            for p in given
            if isinstance(p, pulling.Pulled)
        ]
        if is_comparable():
            _cases.setdefault(case, []).append(step)
    return result


def _keys(trust: Trust) -> list[str]:
    keys = [one for one in trust.values() if isinstance(one, TrustedKey)]
    return [b64encode(key.public.public_bytes_raw()).decode() for key in keys]


def _recorded_bundle(real: Callable[..., Any]) -> Callable[..., Any]:
    of_variants = real.__name__.endswith("variants")

    @functools.wraps(real)
    def run(path: Path, *more: Any, **options: Any) -> Any:
        system = options.get("system")
        keys = _keys(options["trust"] if "trust" in options else more[-1])
        step = {"file": _copied(path), "keys": keys, "system": system or "iOS18"}
        call = functools.partial(real, path, *more, **options)
        before = _start(path)
        holds_variants = _VARIANTS in before
        one = b'"format":"asrbuild-bundle/1","name":' in before
        other_kind = (one and not holds_variants) if of_variants else holds_variants

        def is_comparable() -> bool:
            # Swift takes one variant, Python without a system all of them.
            all_taken = real.__name__ == "pull_variants" and system is None
            faulty = step["outcome"] == "MANIFEST_MISMATCH"
            return before == _start(path) and not other_kind and not (all_taken and faulty)

        return _outcome(call, step, f"{_test()} {step['file']}", is_comparable)

    return run


_VARIANTS = f'"format":"{variants.FORMAT}"'.encode()


def _start(path: Path) -> bytes:
    """The first bytes of a plain file; a test changes its last."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def _recorded_pull(real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def run(spec: str, remote: Any, *more: Any, **options: Any) -> Any:
        call = functools.partial(real, spec, remote, *more, **options)
        folder = Path(remote.address)
        if not isinstance(remote, ObjectRemote) or "://" in remote.address:
            return call()
        name, _, selector = spec.partition("@")
        system, is_version = options.get("system"), selector[:1].isdigit()
        versions = (folder / "artifacts" / name / "versions").glob("*.json")
        several = system is None and any(sets._END in path.read_bytes() for path in versions)
        fresh = options.get("fresh", False)
        # A folder is read to the signed size, and the answer of a web server refused beyond it.
        sparse = any(blob.stat().st_size > _MOST_BYTES for blob in folder.glob("blobs/*"))
        step = {
            "address": remote.address,
            "remote": _copied(folder),
            "identity": remote.required_identity,
            "name": name,
            "version" if is_version else "channel": selector or "stable",
            "keys": _keys(options["trust"]),
            "system": system,
            "fresh": fresh,
        }
        case, memory = f"{_test()} {options['config']}", options["config"] / "seen.json"
        same = _remembered.setdefault(case, _text(memory)) == _text(memory)
        try:
            return _outcome(
                call,
                step,
                case,
                lambda: same and not several and not sparse and not (is_version and fresh),
            )
        finally:
            if same:
                _remembered[case] = _text(memory)

    return run


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


pulling.pull = _recorded_pull(pulling.pull)
pulling.pull_bundle = _recorded_bundle(pulling.pull_bundle)
pulling.pull_variants = _recorded_bundle(pulling.pull_variants)
bundles.check_bundle = _recorded_bundle(bundles.check_bundle)
variants.check_variants = _recorded_bundle(variants.check_variants)


def pytest_sessionfinish() -> None:
    cases = [{"case": case, "steps": steps} for case, steps in _cases.items()]
    (_folder / "cases.json").write_text(json.dumps(cases))
