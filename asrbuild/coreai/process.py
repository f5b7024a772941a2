"""Starts the process that lowers packages and runs assets, and talks to it through a pipe.

A message is a little-endian uint32, that many bytes of JSON, and as many bytes of arrays as the
JSON's ``payload`` says. If a fatal error of Apple's runtime or the time limit ends the process, an
``AsrbuildError`` has its last words; the next call starts a new process.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.base import interrupts, processes
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError

#: Seconds that one reply may take; lowering the largest model takes ten.
TIME_LIMIT = 600.0
_START = "import sys; sys.path.insert(0, sys.argv[1]); from worker.main import main; main()"
_FIX = "run `asrbuild coreai install` again; verify.witness=off builds without Apple's runtime"
#: Milliseconds between two checks for cancellation.
_AT_ONCE_MS = 100
#: Limit of bytes of last words in an error.
_LAST_WORDS = 300


class RefusedError(Exception):
    """The worker refused a request, and still runs; ``reply`` is its reply."""

    def __init__(self, reply: Mapping[str, Any]) -> None:
        super().__init__(reply["error"])
        self.reply = reply


@dataclass
class RuntimeProcess:
    """A process of the isolated Python; calls from several threads run in turn.

    Args:
        python: the interpreter that has coreai-core.
        time_limit: seconds that one reply may take.
    """

    python: Path
    time_limit: float = TIME_LIMIT
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _folder: Path | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def pid(self) -> int | None:
        """The identifier of the running process; None while none runs."""
        return None if self._process is None else self._process.pid

    def call(
        self, command: str, arrays: Mapping[str, Array] | None = None, **request: Any
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Sends a request with arrays by name; returns the reply and its arrays.

        Raises:
            RefusedError: the worker refused the request, with its reason.
            AsrbuildError: the process ended, or did not answer in time.
        """
        layout, payload = pack(arrays or {})
        message = {"command": command, "arrays": layout, "payload": len(payload), **request}
        with self._lock:
            self._start()
            reply, body = self._exchange(command, message, payload)
        if "error" in reply:
            raise RefusedError(reply)
        return reply, unpack(reply.pop("arrays", []), body)

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                processes.end(process)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._folder = Path(tempfile.mkdtemp(prefix="asrbuild-coreai-"))
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
        with (self._folder / "log").open("wb") as log:
            # A session of its own: Ctrl-C must not reach the worker, which ends when its pipe
            # closes.
            self._process = subprocess.Popen(
                [str(self.python), "-I", "-c", _START, str(Path(__file__).parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=clean | {"TMPDIR": str(self._folder)},
                start_new_session=True,
            )
        self.starts += 1

    def _exchange(
        self, command: str, message: Mapping[str, Any], payload: bytes
    ) -> tuple[dict[str, Any], bytes]:
        process = self._process
        assert process is not None
        text = json.dumps(message).encode("utf-8")
        deadline = time.monotonic() + self.time_limit
        try:
            self._write(struct.pack("<I", len(text)) + text + payload, deadline)
            (size,) = struct.unpack("<I", self._read(4, deadline))
            reply: dict[str, Any] = json.loads(self._read(size, deadline))
            return reply, self._read(reply.get("payload", 0), deadline)
        except TimeoutError:
            raise self._ended(command, f"no answer in {self.time_limit:g} seconds") from None
        except (BrokenPipeError, ConnectionResetError, EOFError):
            raise self._ended(command, None) from None
        except BaseException:
            # An interrupted exchange leaves the rest of a reply in the pipe.
            process.kill()
            self.close()
            raise

    def _write(self, data: bytes, deadline: float) -> None:
        """Sends all of ``data``, in pieces that the pipe has room for."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        descriptor = process.stdin.fileno()
        left = memoryview(data)
        while left:
            _wait(descriptor, select.POLLOUT, deadline)
            left = left[os.write(descriptor, left[: select.PIPE_BUF]) :]

    def _read(self, size: int, deadline: float) -> bytes:
        """Reads exactly ``size`` bytes of the reply."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        parts: list[bytes] = []
        while size > 0:
            _wait(descriptor, select.POLLIN, deadline)
            part = os.read(descriptor, min(size, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _ended(self, command: str, reason: str | None) -> AsrbuildError:
        """The error for a process that ended or was ended, with its last words."""
        process, folder = self._process, self._folder
        assert process is not None
        assert folder is not None
        if reason is not None:
            process.kill()
        code = process.wait()
        if reason is None:
            reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        log = (folder / "log").read_bytes().decode("utf-8", "replace")
        words = " ".join(log.split())[-_LAST_WORDS:]
        self.close()
        last = f": {words}" if words else ""
        doing = command.replace("_", " ")
        return AsrbuildError(
            f"the process of Apple's Core AI ended at {doing} ({reason}){last}", fix=_FIX
        )


def _wait(descriptor: int, event: int, deadline: float) -> None:
    """Waits until a pipe is ready to read or write; cancellation ends the wait in any thread.

    Raises:
        TimeoutError: the deadline has passed.
    """
    poll = select.poll()
    poll.register(descriptor, event)
    while not poll.poll(_AT_ONCE_MS):
        interrupts.check()
        if time.monotonic() > deadline:
            raise TimeoutError


def pack(arrays: Mapping[str, Array]) -> tuple[list[Any], bytes]:
    """Packs arrays: their layout, ``[name, type, shape]`` each, and their bytes in that order."""
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    layout = [[name, array.dtype.name, list(array.shape)] for name, array in whole.items()]
    return layout, b"".join(array.tobytes() for array in whole.values())


def unpack(layout: list[Any], payload: bytes) -> dict[str, Array]:
    """Unpacks the arrays of a layout, each into memory of its own."""
    found: dict[str, Array] = {}
    start = 0
    for name, dtype, shape in layout:
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(payload, dtype, count, start).reshape(shape).copy()
        found[name] = array
        start += array.nbytes
    return found
