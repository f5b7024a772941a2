"""Answers requests from a pipe, one after the other; :mod:`asrbuild.coreai.process` sends them.

A message is a little-endian uint32, that many bytes of JSON, and as many bytes of arrays as the
JSON's ``payload`` says.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import IO, Any

import numpy as np


def main() -> None:
    """Serves until the pipe ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of the runtime must not mix with the replies
    served: Any = None
    while True:
        message = _read(sys.stdin.buffer)
        if message is None:
            return
        request, arrays = message
        try:
            if served is None:
                from .commands import Commands

                served = Commands()
            reply, results = served.answer(request, arrays)
        except Exception as error:
            reply, results = {"error": _words(error)} | getattr(error, "facts", {}), {}
        _write(replies, reply, results)


def _words(error: Exception) -> str:
    text = str(error).strip() or "no message"
    return f"{type(error).__name__}: {text}" if not hasattr(error, "facts") else text


def _read(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    request = json.loads(stream.read(struct.unpack("<I", head)[0]).decode("utf-8"))
    payload = stream.read(request.pop("payload"))
    arrays: dict[str, Any] = {}
    start = 0
    for name, dtype, shape in request.pop("arrays"):
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(payload, dtype, count, start).reshape(shape)
        arrays[name] = array
        start += array.nbytes
    return request, arrays


def _write(stream: IO[bytes], reply: dict[str, Any], arrays: dict[str, Any]) -> None:
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    layout = [[name, array.dtype.name, list(array.shape)] for name, array in whole.items()]
    payload = b"".join(array.tobytes() for array in whole.values())
    text = json.dumps(reply | {"arrays": layout, "payload": len(payload)}).encode("utf-8")
    stream.write(struct.pack("<I", len(text)) + text + payload)
    stream.flush()
