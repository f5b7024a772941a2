"""HTTP requests with limits on the size and the duration of an answer."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.version import __version__
from asrbuild.handover.ship.refusal import Refusal, Refused

#: A server may be silent for this long.
SILENCE_SECONDS = 30.0
#: An answer takes at most this long, and longer in proportion to its size.
LEAST_SECONDS = 60.0
LEAST_BYTES_PER_SECOND = 64 << 10
_BLOCK = 256 << 10
#: Requests that change nothing are repeated after these pauses when a server fails.
PAUSES = (0.2, 0.8, 2.0)
_FAILURES = (500, 502, 503, 504)
#: A server that answers this has done nothing yet, so that a body may be sent again, too.
_BUSY = 429
#: The longest pause that a busy server may ask for.
_LONGEST_PAUSE = 20.0


@dataclass(frozen=True)
class Answer:
    """An HTTP answer whose body is not read yet."""

    status: int
    headers: Mapping[str, str]
    body: BinaryIO
    url: str


class _OnlyWeb(urllib.request.HTTPRedirectHandler):
    """Follows redirects to another host over TLS alone, and never from TLS to plain HTTP.

    Credentials are not sent to another host.
    """

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if not newurl.lower().startswith(("http://", "https://")):
            return None  # the redirect itself is the answer, which is refused
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is None or (new.type, new.host) == (req.type, req.host):
            return new
        new.headers.pop("Authorization", None)
        return new if new.type == "https" else None


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _OnlyWeb,
    ):
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
            if response.status != _BUSY and not (asks and response.status in _FAILURES):
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
            fix="check the address and the network, and try again: finished work is kept",
        ) from error


def _open(request: urllib.request.Request) -> Any:
    if request.type not in ("http", "https"):
        raise AsrbuildError(
            "the server redirects to an address that is neither http nor https",
            file=request.full_url,
        )
    try:
        return _opener().open(request, timeout=SILENCE_SECONDS)
    except urllib.error.HTTPError as error:
        return error


def _retry_after(response: Any) -> float:
    """Seconds that a busy server asks to wait; 0 if it states none, or a date."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_PAUSE) if text.isascii() and text.isdigit() else 0.0


def blocks(answer: Answer, limit: int) -> Iterator[bytes]:
    """The body, refused beyond ``limit`` bytes or if it arrives too slowly.

    Raises:
        Refused: TOO_LARGE or TOO_SLOW.
        AsrbuildError: the connection broke off before the end.
    """
    deadline = time.monotonic() + LEAST_SECONDS + limit / LEAST_BYTES_PER_SECOND
    count = 0
    # read1 returns what has arrived; read would wait for a whole block, however slow.
    while block := answer.body.read1(_BLOCK):  # type: ignore[attr-defined]
        count += len(block)
        if count > limit:
            raise Refused(
                Refusal.TOO_LARGE, f"the answer has more than {limit} bytes", file=answer.url
            )
        if time.monotonic() > deadline:
            raise Refused(Refusal.TOO_SLOW, "the server sends too slowly", file=answer.url)
        yield block
    expected = answer.headers.get("content-length", "")
    if expected.isascii() and expected.isdigit() and count < int(expected):
        raise AsrbuildError(
            f"the connection broke off after {count:,} of {int(expected):,} bytes",
            file=answer.url,
            fix="try again; finished work is kept",
        )


def read_all(answer: Answer, limit: int) -> bytes:
    """The whole of a small body; see :func:`blocks`."""
    return b"".join(blocks(answer, limit))


def unexpected(answer: Answer, doing: str) -> AsrbuildError:
    """The error of an answer with an unexpected status."""
    hint = {
        302: "the server redirects in a circle, to another protocol, or to a host without TLS; "
        "check the address",
        401: "log in: see docs/bundle-format.md, Remotes",
        403: "access is denied; check your credentials",
        404: "check the address",
        413: "the server accepts no file of this size; ask its keeper",
        _BUSY: "it had too many requests; wait a little and try again: finished work is kept",
    }.get(answer.status, "try again; finished work is kept")
    return AsrbuildError(
        f"the server answered {answer.status} while {doing}", file=answer.url, fix=hint
    )
