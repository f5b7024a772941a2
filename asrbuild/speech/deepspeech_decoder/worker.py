"""DeepSpeech's own decoder, ds_ctcdecoder, behind a pipe.

:mod:`asrbuild.speech.deepspeech_decoder.process` starts it under Python 3.9, where it imports
nothing of asrbuild, or imports it where this interpreter has ds_ctcdecoder. A message is a
little-endian uint32, that many bytes of JSON, and as many bytes of payload as the JSON's
``payload`` says. Probabilities are float32 rows. The library aborts the process on some bad input;
the parent process checks the input first, and starts a new worker after an abort.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, Any

import ds_ctcdecoder
import numpy as np
from ds_ctcdecoder import swigwrapper


def main() -> None:
    """Answers requests from standard input until it ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of the library must not mix with the replies
    decoder: OpenDecoder | None = None
    while True:
        message = _read(sys.stdin.buffer)
        if message is None:
            return
        request, payload = message
        try:
            if request["op"] == "open":
                decoder = OpenDecoder(request)
                reply: dict[str, Any] = {"version": ds_ctcdecoder.__version__}
            else:
                assert decoder is not None
                reply = decoder.answer(request, payload)
        except Exception as error:
            reply = {"error": "%s: %s" % (type(error).__name__, error)}  # noqa: UP031
        _write(replies, reply)


class OpenDecoder:
    """A decoder of the library, with its alphabet, scorer, settings and open streams."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.alphabet = _alphabet(request["alphabet"])
        self.settings = (request["beam_width"], request["cutoff_prob"], request["cutoff_top_n"])
        self.scorer = None
        if request["scorer"] is not None:
            self.scorer = ds_ctcdecoder.Scorer(
                request["lm_alpha"], request["lm_beta"], request["scorer"], self.alphabet
            )
        # SWIG takes bytes only.
        self.hot_words = {word.encode(): boost for word, boost in request["hot_words"].items()}
        self.streams: dict[int, Any] = {}

    def answer(self, request: Mapping[str, Any], payload: bytes) -> dict[str, Any]:
        """The reply to a request; ``payload`` are its float32 probabilities."""
        if request["op"] == "decode":
            found = swigwrapper.ctc_beam_search_decoder(
                _rows(request, payload),
                self.alphabet,
                *self.settings,
                self.scorer,
                self.hot_words,
                request["n_best"],
            )
            return {"paths": _paths(found)}
        stream = self._stream(request["stream"])
        if request["op"] == "feed":
            stream.next(_rows(request, payload))
            return {"paths": _paths(stream.decode(1))}
        if request["op"] == "finish":
            del self.streams[request["stream"]]
            return {"paths": _paths(stream.decode(request["n_best"]))}
        raise ValueError("unknown op " + request["op"])

    def _stream(self, name: int) -> Any:
        if name not in self.streams:
            stream = swigwrapper.DecoderState()
            stream.init(self.alphabet, *self.settings, self.scorer, self.hot_words)
            self.streams[name] = stream
        return self.streams[name]


def _alphabet(text: str | None) -> Any:
    """The library's alphabet for the text of an alphabet.txt; None: UTF-8 mode."""
    if text is None:
        return ds_ctcdecoder.UTF8Alphabet()
    with tempfile.NamedTemporaryFile("wb", suffix=".txt") as file:
        file.write(text.encode("utf-8"))
        file.flush()
        return ds_ctcdecoder.Alphabet(file.name)


def _rows(request: Mapping[str, Any], payload: bytes) -> Any:
    return np.frombuffer(payload, np.float32).reshape(request["shape"]).astype(np.float64)


def _paths(outputs: Any) -> list[dict[str, Any]]:
    return [
        {
            "tokens": [int(token) for token in output.tokens],
            "steps": [int(step) for step in output.timesteps],
            "score": float(output.confidence),
        }
        for output in outputs
    ]


def _read(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    request = json.loads(stream.read(struct.unpack("<I", head)[0]).decode("utf-8"))
    return request, stream.read(request.get("payload", 0))


def _write(stream: IO[bytes], reply: dict[str, Any]) -> None:
    text = json.dumps(reply).encode("utf-8")
    stream.write(struct.pack("<I", len(text)) + text)
    stream.flush()


if __name__ == "__main__":
    main()
