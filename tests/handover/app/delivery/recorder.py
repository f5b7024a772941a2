"""A pytest plugin that records every pull of the tests of shipping: its input, and its outcome.

It replaces the functions before the tests import them. A case is what one reader, who remembers, is
given one after the other in one test.
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

#: More bytes than this are zeros at the end of a file that is not there in full.
_MOST_BYTES = 4 << 20
_folder = Path(os.environ["RECORDED_CASES"])
#: By test, and for remotes by the reader's folder.
_cases: dict[str, list[dict[str, Any]]] = {}
_count = 0

# Smaller, since each case keeps a copy.
making.CONTENT["model.mlmodel"] = b"weights" * 400


def _test() -> str:
    """The running test; its fixtures belong to it."""
    return os.environ["PYTEST_CURRENT_TEST"].partition(" (")[0]


def _copied(source: Path) -> str:
    """A copy of a file, folder, pipe or device as it is now; its path."""
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


def _outcome(work: Callable[[], Any], step: dict[str, Any], case: str) -> Any:
    """Does the work, and records the step with its refusal, ``error`` or what it gave."""
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
        if step.pop("comparable", True):
            _cases.setdefault(case, []).append(step)
    return result


def _keys(trust: Trust) -> list[str]:
    keys = [one for one in trust.values() if isinstance(one, TrustedKey)]
    return [b64encode(key.public.public_bytes_raw()).decode() for key in keys]


def _recorded_bundle(real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def run(path: Path, *more: Any, **options: Any) -> Any:
        system = options.get("system")
        keys = _keys(options["trust"] if "trust" in options else more[-1])
        step = {"file": _copied(path), "keys": keys, "system": system or "iOS18"}
        # One variant is taken in Swift, all of them in Python without a system.
        both = real.__name__ == "pull_variants" and system is None
        call = functools.partial(real, path, *more, **options)
        case = f"{_test()} {step['file']}"
        try:
            return _outcome(call, step, case)
        finally:
            if both and step["outcome"] == "MANIFEST_MISMATCH":
                del _cases[case]

    return run


def _recorded_pull(real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def run(spec: str, remote: Any, *more: Any, **options: Any) -> Any:
        call = functools.partial(real, spec, remote, *more, **options)
        folder = Path(remote.address)
        if not isinstance(remote, ObjectRemote) or "://" in remote.address:
            return call()
        name, _, selector = spec.partition("@")
        system = options.get("system")
        versions = (folder / "artifacts" / name / "versions").glob("*.json")
        # One variant is taken in Swift, all of them in Python without a system.
        several = system is None and any(sets._END in path.read_bytes() for path in versions)
        step = {
            "address": remote.address,
            "remote": _copied(folder),
            "identity": remote.required_identity,
            "name": name,
            "version" if selector[:1].isdigit() else "channel": selector or "stable",
            "keys": _keys(options["trust"]),
            "system": system,
            "fresh": options.get("fresh", False),
            # In Swift a version cannot be asked for an expiry.
            "comparable": not several and not (selector[:1].isdigit() and options.get("fresh")),
        }
        return _outcome(call, step, f"{_test()} {options['config']}")

    return run


pulling.pull = _recorded_pull(pulling.pull)
pulling.pull_bundle = _recorded_bundle(pulling.pull_bundle)
pulling.pull_variants = _recorded_bundle(pulling.pull_variants)
bundles.check_bundle = _recorded_bundle(bundles.check_bundle)
variants.check_variants = _recorded_bundle(variants.check_variants)


def pytest_sessionfinish() -> None:
    cases = [{"case": case, "steps": steps} for case, steps in _cases.items()]
    (_folder / "cases.json").write_text(json.dumps(cases))
