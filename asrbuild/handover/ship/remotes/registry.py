"""Requests to an OCI registry, and logging in if it requires that."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.remotes.http import Answer, ask, read_all
from asrbuild.handover.ship.remotes.remote import MAX_RECORD

#: A host as it may appear in a message.
_HOST = re.compile(r"[a-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9a-f:]+\](?::[0-9]{1,5})?")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Registry:
    """The distribution API of one host, over TLS unless that is this machine."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.address = address
        self._host = parts.netloc.lower()
        plain = parts.hostname in _LOOPBACK
        self.base = f"{'http' if plain else 'https'}://{self._host}/v2/"
        # A token for reading may not write, so the two do not replace each other.
        self._authorization: dict[bool, str] = {}

    @contextmanager
    def ask(
        self,
        method: str,
        where: str,
        body: bytes | BinaryIO | None = None,
        headers: dict[str, str] | None = None,
    ) -> Iterator[Answer]:
        """Sends a request, and logs in if the registry requires it; a stream is sent only then."""
        url = urljoin(self.base, where)
        if self.base.startswith("https:") and url.lower().startswith("http:"):
            raise AsrbuildError(
                "the registry redirects to an address without TLS",
                file=self.address,
                fix="ask its keeper",
            )
        reads = method in ("GET", "HEAD")
        login = self._login(url, self._authorization.get(reads))
        with ask(method, url, headers={**(headers or {}), **login}, body=body) as answer:
            if answer.status != 401:
                yield answer
                return
            challenge = answer.headers.get("www-authenticate", "")
        authorization = self._answer_to(challenge)
        if body is not None and not isinstance(body, bytes):
            body.seek(0)
        self._authorization[reads] = authorization
        login = self._login(url, authorization)
        with ask(method, url, headers={**(headers or {}), **login}, body=body) as answer:
            yield answer

    def _login(self, url: str, authorization: str | None) -> dict[str, str]:
        # An upload may go to another host, which must not get the credentials; they are not sent
        # over plain HTTP either.
        same = urljoin(url, "/v2/") == self.base
        return {"Authorization": authorization} if authorization and same else {}

    def _answer_to(self, challenge: str) -> str:
        """The authorization that answers a registry's challenge.

        Raises:
            AsrbuildError: there is no password for the registry, or for the host of its tokens.
        """
        if challenge.lower().startswith("basic"):
            if (basic := _credentials(self._host, self._host)) is None:
                raise self._no_login(self._host)
            return f"Basic {basic}"
        fields = dict(_CHALLENGE.findall(challenge))
        realm = urlsplit(fields.pop("realm", ""))
        host = realm.netloc.lower()
        plain = self.base.startswith("http:") and realm.hostname in _LOOPBACK
        safe = _HOST.fullmatch(host) and (realm.scheme == "https" or plain)
        if not challenge.lower().startswith("bearer") or not safe:
            raise self._no_login(self._host)
        basic = _credentials(host, self._host)
        url = urlunsplit(realm._replace(query=urlencode(fields)))
        # Without a password, too: a public repository requires none.
        with ask(
            "GET", url, headers={"Authorization": f"Basic {basic}"} if basic else {}
        ) as answer:
            try:
                token = json.loads(read_all(answer, MAX_RECORD)) if answer.status == 200 else {}
                return f"Bearer {token.get('token') or token['access_token']}"
            except (ValueError, KeyError, AttributeError, RecursionError):
                raise self._no_login(host) from None

    def _no_login(self, host: str) -> AsrbuildError:
        hosts = self._host if host == self._host else f"{self._host},{host}"
        to = "" if host == self._host else f", at {host}"
        return AsrbuildError(
            f"the registry requires authentication{to}",
            file=self.address,
            fix=f"`docker login {host}` if you trust it, or set ASRBUILD_OCI_USER, "
            f"ASRBUILD_OCI_PASSWORD and ASRBUILD_OCI_HOST={hosts}, the hosts that they are for; "
            "Docker's credential helpers are not read",
        )


def _credentials(host: str, registry: str) -> str | None:
    """Base64 of user:password for a host: the registry itself, or the host of its tokens.

    From the environment for the hosts that ``ASRBUILD_OCI_HOST`` lists; from Docker's configuration
    for the host itself, and the registry's credentials for the listed hosts.
    """
    listed = {one.strip().lower() for one in os.environ.get("ASRBUILD_OCI_HOST", "").split(",")}
    user = os.environ.get("ASRBUILD_OCI_USER")
    if user is not None and host in listed:
        password = os.environ.get("ASRBUILD_OCI_PASSWORD", "")
        return base64.b64encode(f"{user}:{password}".encode()).decode()
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    for of in (host, *((registry,) if host in listed else ())):
        try:
            auths = json.loads((folder / "config.json").read_text(encoding="utf-8"))["auths"]
            return str(auths[of]["auth"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # there are no credentials for this host
    return None
