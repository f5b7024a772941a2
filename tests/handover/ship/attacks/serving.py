"""Handlers of hostile web servers."""

from __future__ import annotations

import http.client
import http.server
from collections.abc import Callable
from typing import Any

from tests.handover.ship.conftest import Quiet

SECRET = "Basic bWU6c2VjcmV0"  # me:secret


def answering(body: Callable[[http.server.BaseHTTPRequestHandler], None]) -> type:
    class Handler(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - what http.server calls
            body(self)

    return Handler


def endless(handler: Any, length: str | None = None) -> None:
    handler.send_response(200)
    if length:
        handler.send_header("Content-Length", length)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        return  # the reader has disconnected


def respond(handler: Any, status: int, headers: dict[str, str], content: bytes = b"") -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)
