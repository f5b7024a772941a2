"""Runs ds-ctcdecoder in a process of its own, which is restarted if it dies, or in this process."""

from __future__ import annotations

import json
import struct
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.base import processes
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.decoder import LabelPath

START_TRIES = 3
SCRIPT = Path(__file__).with_name("worker.py")


class WorkerDiedError(Exception):
    """The process has ended, and its streams are lost; ``last_words`` is the end of its stderr."""

    def __init__(self, last_words: str) -> None:
        super().__init__(last_words)
        self.last_words = last_words


@dataclass
class DecoderProcess:
    """A process with one open decoder; calls from several threads run in turn.

    Args:
        python: the interpreter that has ds_ctcdecoder.
        opening: the ``open`` message, sent to every new process.
    """

    python: Path
    opening: Mapping[str, Any]
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _stderr: Any = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def pid(self) -> int | None:
        """The process's identifier; None while no process runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the process, unless it runs.

        Raises:
            AsrbuildError: the process cannot open this decoder.
        """
        with self._lock:
            for attempt in range(START_TRIES):
                if self._process is not None and self._process.poll() is None:
                    return
                self.close()
                self._launch()
                try:
                    self._exchange(self.opening, b"")
                except WorkerDiedError as death:
                    if attempt + 1 == START_TRIES:
                        raise AsrbuildError(
                            f"the ds-ctcdecoder process ended while it started: {death.last_words}",
                            key="decoder.type",
                            fix="run `asrbuild decoder install` again, or use decoder=beam",
                        ) from death

    def reopen(self, opening: Mapping[str, Any]) -> None:
        """Opens another decoder in the process, or in the next one."""
        with self._lock:
            self.opening = opening
            if self._process is not None and self._process.poll() is None:
                try:
                    self._exchange(opening, b"")
                except WorkerDiedError:
                    self.start()

    def _launch(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        # A session of its own: Ctrl-C must not reach the worker, which ends when its pipe closes.
        self._process = subprocess.Popen(
            [str(self.python), "-I", "-u", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
        )
        self.starts += 1

    def call(self, request: Mapping[str, Any], rows: Array | None = None) -> list[LabelPath]:
        """Sends a request, with probabilities (steps, classes) where it needs them.

        Raises:
            WorkerDiedError: the process ended; the next call starts a new one.
        """
        with self._lock:
            self.start()
            payload = b"" if rows is None else np.ascontiguousarray(rows, np.float32).tobytes()
            shape = {} if rows is None else {"shape": list(rows.shape)}
            reply = self._exchange({**request, **shape, "payload": len(payload)}, payload)
        return _label_paths(reply)

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                processes.end(process)
            if self._stderr is not None:
                self._stderr.close()
                self._stderr = None

    def _exchange(self, request: Mapping[str, Any], payload: bytes) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise WorkerDiedError("it was closed")
        text = json.dumps(request).encode("utf-8")
        try:
            process.stdin.write(struct.pack("<I", len(text)) + text + payload)
            process.stdin.flush()
            head = process.stdout.read(4)
            size = struct.unpack("<I", head)[0] if len(head) == 4 else 0
            body = process.stdout.read(size)
        except (BrokenPipeError, ConnectionResetError):
            body, size = b"", 1
        if not body or len(body) < size:
            raise WorkerDiedError(self._last_words(process))
        reply: dict[str, Any] = json.loads(body)
        if "error" in reply:
            raise _refused(reply["error"])
        return reply

    def _last_words(self, process: subprocess.Popen[bytes]) -> str:
        process.kill()
        code = process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{lines[-1].strip()} ({ended})" if lines else ended


class InProcess:
    """The interface of ``DecoderProcess`` without a process, so without protection from crashes."""

    starts = 1

    def __init__(self, opening: Mapping[str, Any]) -> None:
        self.reopen(opening)

    def start(self) -> None:
        """Does nothing: the decoder is open."""

    def reopen(self, opening: Mapping[str, Any]) -> None:
        """Opens another decoder; open streams are lost."""
        from asrbuild.speech.deepspeech_decoder import worker

        try:
            self._decoder = worker.OpenDecoder(opening)
        except ValueError as error:
            raise _refused(error) from error

    def call(self, request: Mapping[str, Any], rows: Array | None = None) -> list[LabelPath]:
        """Runs a request as ``DecoderProcess.call`` does."""
        payload = b"" if rows is None else np.ascontiguousarray(rows, np.float32).tobytes()
        shape = {} if rows is None else {"shape": list(rows.shape)}
        return _label_paths(self._decoder.answer({**request, **shape}, payload))

    def close(self) -> None:
        """Does nothing: no process runs."""


def _label_paths(reply: Mapping[str, Any]) -> list[LabelPath]:
    return [
        LabelPath(tuple(path["tokens"]), tuple(path["steps"]), path["score"])
        for path in reply["paths"]
    ]


def _refused(error: object) -> AsrbuildError:
    return AsrbuildError(f"ds-ctcdecoder refused the request: {error}", key="decoder.type")
