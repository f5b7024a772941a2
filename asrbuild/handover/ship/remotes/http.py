"""HTTP with bounds: how large an answer may be, and how long it may take to come."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from asrbuild import __version__
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.refusal import Refusal, Refused

#: A server may be silent for this long.
SILENCE_SECONDS = 30.0
#: An answer takes at most this long, and this much more for its size.
LEAST_SECONDS = 60.0
LEAST_BYTES_PER_SECOND = 64 << 10
_BLOCK = 256 << 10
#: What only asks is asked again when a server stumbles, after these pauses.
PAUSES = (0.2, 0.8, 2.0)
_STUMBLES = (500, 502, 503, 504)
#: Whoever says so has done nothing yet, so that a body may be sent again, too.
_BUSY = 429
#: The longest that a busy server's own wish to be left alone is followed.
_LONGEST_PAUSE = 20.0


@dataclass(frozen=True)
class Answer:
    """An HTTP answer whose body is not read yet."""

    status: int
    headers: Mapping[str, str]
    body: BinaryIO
    url: str


class _OnlyWeb(urllib.request.HTTPRedirectHandler):
    """Follows redirects on the web: to another host over TLS alone, and from TLS to nothing less.

    Credentials go to the server they are for.
    """

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if not newurl.lower().startswith(("http://", "https://")):
            return None  # it stays a redirect, which is no answer
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is None or (new.type, new.host) == (req.type, req.host):
            return new
        new.headers.pop("Authorization", None)
        return new if new.type == "https" else None


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor, _OnlyWeb,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


@contextmanager
def ask(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | BinaryIO | None = None,
) -> Iterator[Answer]:
    """Sends a request and opens its answer, whatever its status.

    Raises:
        AsrbuildError: there is no answer.
    """
    request = urllib.request.Request(url, data=body, method=method, headers=dict(headers or {}))
    request.add_header("User-Agent", f"asrbuild/{__version__}")
    asks = method in ("GET", "HEAD")
    try:
        response = _open(request)
        for pause in PAUSES:
            if response.status != _BUSY and not (asks and response.status in _STUMBLES):
                break
            response.close()
            time.sleep(max(pause, _retry_after(response)))
            if body is not None and not isinstance(body, bytes):
                body.seek(0)
            response = _open(request)
        with response:
            lower = {name.lower(): value for name, value in response.headers.items()}
            yield Answer(response.status, lower, response, response.url or url)
    except AsrbuildError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise AsrbuildError(
            f"the server did not answer: {reason}",
            file=url,
            fix="check the address and the network, and try again: what is done stays done",
        ) from error


def _open(request: urllib.request.Request) -> Any:
    if request.type not in ("http", "https"):
        raise AsrbuildError(
            "the server sends us to an address that is not on the web", file=request.full_url
        )
    try:
        return _opener().open(request, timeout=SILENCE_SECONDS)
    except urllib.error.HTTPError as error:
        return error


def _retry_after(response: Any) -> float:
    """Seconds that a busy server asks for; 0 where it says none, or a date."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_PAUSE) if text.isascii() and text.isdigit() else 0.0


def blocks(answer: Answer, limit: int) -> Iterator[bytes]:
    """The body, refused beyond ``limit`` bytes and when it comes too slowly.

    Raises:
        Refused: TOO_LARGE or TOO_SLOW.
        AsrbuildError: the connection broke off before all had come.
    """
    deadline = time.monotonic() + LEAST_SECONDS + limit / LEAST_BYTES_PER_SECOND
    count = 0
    # read1 gives what has come; read would wait for a whole block, however slowly it drips.
    while block := answer.body.read1(_BLOCK):  # type: ignore[attr-defined]
        count += len(block)
        if count > limit:
            raise Refused(Refusal.TOO_LARGE, f"more than {limit} bytes come", file=answer.url)
        if time.monotonic() > deadline:
            raise Refused(Refusal.TOO_SLOW, "the server sends too slowly", file=answer.url)
        yield block
    promised = answer.headers.get("content-length", "")
    if promised.isascii() and promised.isdigit() and count < int(promised):
        raise AsrbuildError(
            f"the connection broke off after {count:,} of {int(promised):,} bytes",
            file=answer.url,
            fix="try again; what is done stays done",
        )


def read_all(answer: Answer, limit: int) -> bytes:
    """The whole of a small body; see :func:`blocks`."""
    return b"".join(blocks(answer, limit))


def unexpected(answer: Answer, doing: str) -> AsrbuildError:
    """An answer that is neither what was asked for nor a plain no."""
    hint = {
        302: "the server sends us in a circle, away from the web, or to another host without TLS; "
        "check the address",
        401: "log in: see docs/bundle-format.md, Remotes",
        403: "you may not do this there; check your credentials",
        404: "check the address",
        413: "the server takes no file of this size; ask who keeps it",
        _BUSY: "too much was asked of it; wait a little and try again: what is done stays done",
    }.get(answer.status, "try again; what is done stays done")
    return AsrbuildError(
        f"the server answered {answer.status} while {doing}", file=answer.url, fix=hint
    )
