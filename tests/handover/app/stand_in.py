"""A stand-in for Core ML: its interface in Swift, and asrbuild's executor, which answers it.

Core ML is Apple's alone. On other systems the stand-in passes every call on through two pipes, so
that Swift runs the whole way from samples to words on the real package.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.artifact.manifest import Manifest
from asrbuild.coreml import executor
from asrbuild.coreml.inspect import inspect_model
from asrbuild.handover.ship.signing.keys import Signer

STAND_IN = Path(__file__).parent / "coreml_stand_in"


def add_stand_in(package: Path) -> None:
    """Adds the module CoreML to the Swift package of the kit."""
    shutil.copytree(STAND_IN, package / "Sources" / "CoreML")
    settings = (package / "Package.swift").read_text()
    place = '.target(name: "ASRCoreML", dependencies: ["ASRCore"'
    core_ml = f'.target(name: "CoreML"),\n        {place}, "CoreML"'
    assert place in settings
    (package / "Package.swift").write_text(settings.replace(place, core_ml))


def described(package: Path, function: str | None) -> dict[str, Any]:
    """Core ML's description of a function: its arrays, its states, the package's notes."""
    summary = inspect_model(package)
    (found,) = (f for f in summary.functions if f.name == (function or summary.default_function))
    arrays = {
        kind: {
            feature.name: {"kind": feature.dtype, "shape": list(feature.default or ())}
            for feature in getattr(found, kind)
        }
        for kind in ("inputs", "outputs", "states")
    }
    return arrays | {"metadata": summary.user_metadata}


@contextlib.contextmanager
def serving(
    artifact: Path, manifest: Manifest, pipes: Path, signer: Signer | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Answers the stand-in's requests with the executor; yields the requests without their arrays.

    ``signer``: the key that signs for a device.
    """
    pipes.mkdir()
    for name in ("requests", "answers"):
        os.mkfifo(pipes / name)
    asked: list[dict[str, Any]] = []
    states: list[Any] = []
    models: dict[str | None, Any] = {}

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        if question["ask"] == "sign" and signer is not None:
            signature = signer.private.sign(base64.b64decode(question["bytes"]))
            return {"signature": base64.b64encode(signature).decode()}
        function = question["function"]
        path = artifact / manifest.model.package
        if question["ask"] == "describe":
            return described(path, function)
        model = models.setdefault(function, executor.load(path, function=function))
        asked.append({key: question.get(key) for key in ("ask", "function", "state")})
        if question["ask"] == "state":
            states.append(model.make_state())
            return {"state": len(states) - 1}
        arrays = {
            name: np.frombuffer(base64.b64decode(given["numbers"]), "<f8")
            .astype(given["kind"])
            .reshape(given["sizes"])
            for name, given in question["inputs"].items()
        }
        held = [] if question["state"] is None else [states[question["state"]]]
        outputs = model.predict(arrays, *held)
        return {
            "outputs": {
                name: {
                    "sizes": list(array.shape),
                    "numbers": base64.b64encode(array.astype("<f8").tobytes()).decode(),
                }
                for name, array in outputs.items()
            }
        }

    def serve() -> None:
        # Opened for reading and writing, so that a disconnected reader or writer does not end it.
        with open(os.open(pipes / "requests", os.O_RDWR), "rb", buffering=0) as requests:
            buffered = bytearray()
            answers = os.open(pipes / "answers", os.O_RDWR)
            while True:
                buffered += requests.read(1 << 16)
                while b"\n" in buffered:
                    line, _, rest = bytes(buffered).partition(b"\n")
                    buffered = bytearray(rest)
                    if line == b"end":
                        return
                    try:
                        found = answer(json.loads(line))
                    except Exception as error:
                        found = {"error": f"{type(error).__name__}: {error}"}
                    sent = json.dumps(found).encode() + b"\n"
                    while sent:
                        sent = sent[os.write(answers, sent) :]

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        yield asked
    finally:
        with open(pipes / "requests", "wb") as requests:
            requests.write(b"end\n")
        server.join(10)
