"""Signatures by an identity instead of a key, through Sigstore (the extra ``sigstore``).

The signer proves an identity to an identity provider; a certificate for a key that lives for
minutes, and an entry in a public log, take the place of a stored key. The signed bytes are those
that a key would sign, DSSE's pre-authentication encoding, as a Sigstore bundle v0.3 with a message
signature: https://docs.sigstore.dev/about/bundle/

The library is imported only to sign, and to prove a signature that names an identity that is
trusted here. Proving asks no server.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.base import terminal
from asrbuild.base.disk import disk_errors
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import install_fix
from asrbuild.handover.ship.refusal import Refusal, Refused, shown
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust, TrustedIdentity, identity_of

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore import sign
    from sigstore.models import ClientTrustConfig, TrustedRoot

#: A Sigstore bundle has about 8 KiB.
MAX_SIGSTORE = 32 << 10
#: A file that names another Sigstore instance than the public one.
SETTING = "ASRBUILD_SIGSTORE_TRUST"
_MAX_SETTING = 1 << 20
_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_KEYS = {"mediaType", "messageSignature", "verificationMaterial"}
#: Of Fulcio's certificates, https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
_ISSUER = "1.3.6.1.4.1.57264.1.1"


@dataclass(frozen=True)
class SigstoreSigner:
    """An identity whose certificate lasts for minutes, and a key that signs as well, if any."""

    identity: TrustedIdentity
    key: Signer | None
    session: sign.Signer
    root: TrustedRoot

    @property
    def name(self) -> str:
        """The signers' labels, for a person."""
        return self.identity.label + (f" and {self.key.name}" if self.key else "")

    @property
    def keyid(self) -> str:
        """The identity's id."""
        return self.identity.keyid

    @property
    def trust(self) -> Trust:
        """The identity and the key, as trusted signers."""
        return {**(self.key.trust if self.key else {}), self.keyid: self.identity}

    def sign(self, message: bytes) -> dict[str, Any]:
        """A Sigstore bundle as JSON values, proven as a reader proves it.

        Raises:
            AsrbuildError: Sigstore's servers did not sign, or the signature cannot be proven.
        """
        with _library("signing through Sigstore", "sign in again: a certificate lasts ten minutes"):
            bundle: dict[str, Any] = json.loads(self.session.sign_artifact(message).to_json())
        with _library("proving the new signature", "try again later; no reader could prove it"):
            _verify(bundle, message, self.identity, self.root)
        return bundle


def sign_in(key: Signer | None, note: Callable[[str], object]) -> SigstoreSigner:
    """Signs in, and gets a certificate of the identity from Sigstore.

    The identity token is ``SIGSTORE_ID_TOKEN``, that of the CI job, or from a browser.

    Raises:
        AsrbuildError: there is no token and no terminal to ask at, or a server refused.
    """
    with _library("signing in to Sigstore", "check the network and the identity token"):
        from sigstore.sign import SigningContext

        note("Sigstore publishes the identity that signs and the digest of the content permanently")
        config = _instance(offline=False)
        token = _token(config, note)
        with SigningContext.from_trust_config(config).signer(token) as session:
            # Only the certificate names the identity; the library has no public way to read it
            # before something is signed.
            names = _names(session._signing_cert())
    if not names:
        raise AsrbuildError(
            "Sigstore's certificate names neither an e-mail nor an address",
            key="--sigstore",
            fix="sign in as another identity: this one cannot be trusted",
        )
    note(f"signing as {names[0].identity} of {names[0].issuer}")
    return SigstoreSigner(names[0], key, session, config.trusted_root)


def _token(config: ClientTrustConfig, note: Callable[[str], object]) -> Any:
    from sigstore.oidc import IdentityToken, Issuer, detect_credential

    if raw := os.environ.get("SIGSTORE_ID_TOKEN") or detect_credential():
        return IdentityToken(raw)
    if not terminal.is_terminal(err=True):
        raise AsrbuildError(
            "there is no identity token, and no terminal to sign in at",
            key="--sigstore",
            fix="set SIGSTORE_ID_TOKEN, or give the CI job the permission id-token: write",
        )
    note("sign in in the browser")
    return Issuer(config.signing_config.get_oidc_url()).identity_token()


def claimed(bundle: dict[str, Any]) -> list[TrustedIdentity]:
    """The identities that a Sigstore bundle names as its signers; not checked yet.

    Raises:
        Refused: BAD_SIGNATURE if it is not a bundle of version 0.3.
    """
    from cryptography import x509

    try:
        if set(bundle) != _KEYS or bundle["mediaType"] != _MEDIA_TYPE:
            raise ValueError
        raw = bundle["verificationMaterial"]["certificate"]["rawBytes"]
        return _names(x509.load_der_x509_certificate(base64.b64decode(raw, validate=True)))
    except Exception:  # a hostile certificate can make the parser raise anything
        raise Refused(
            Refusal.BAD_SIGNATURE, "its Sigstore bundle is not one of version 0.3 that can be read"
        ) from None


def _names(certificate: Certificate) -> list[TrustedIdentity]:
    from cryptography import x509

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    issuer = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(_ISSUER)).value
    who = [
        *names.get_values_for_type(x509.RFC822Name),
        *names.get_values_for_type(x509.UniformResourceIdentifier),
    ]
    return [identity_of(name, issuer.value.decode()) for name in who]  # type: ignore[attr-defined]


def prove(bundle: dict[str, Any], message: bytes, identity: TrustedIdentity) -> None:
    """Proves that a trusted identity, which a bundle names, signed the message.

    Raises:
        Refused: BAD_SIGNATURE.
        AsrbuildError: the extra is not installed, or the file in the setting is not readable.
    """
    with _library(
        "reading Sigstore's keys", "check the library's copy of them in your home folder"
    ):
        root = _root()
    try:
        _verify(bundle, message, identity, root)
    except Exception as error:  # a hostile bundle can make the library raise anything
        raise Refused(
            Refusal.BAD_SIGNATURE,
            f"the signature of {identity.label} ({identity.keyid[:12]}) through Sigstore is not "
            f"proven: {shown(str(error))}",
            fix="get it from its origin again; if Sigstore's keys here are old, trust the identity "
            "again, which fetches new ones",
        ) from None


def _verify(
    bundle: dict[str, Any], message: bytes, identity: TrustedIdentity, root: TrustedRoot
) -> None:
    from sigstore.models import Bundle
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity

    policy = Identity(identity=identity.identity, issuer=identity.issuer)
    Verifier(trusted_root=root).verify_artifact(
        message, Bundle.from_json(json.dumps(bundle)), policy
    )


def refresh() -> None:
    """Fetches the public instance's present keys; until then the library's own are used.

    Raises:
        AsrbuildError: there is no network or no library, or the file in the setting is empty.
    """
    with _library("fetching Sigstore's keys", "check the network, and trust the identity again"):
        if os.environ.get(SETTING):
            _root()
        else:
            _instance(offline=False)


def _root() -> TrustedRoot:
    from sigstore.models import TrustedRoot

    path = os.environ.get(SETTING)
    if path and "trustedroot" in str(_setting(Path(path)).get("mediaType")):
        return TrustedRoot.from_file(path)
    return _instance(offline=True).trusted_root


def _instance(*, offline: bool) -> ClientTrustConfig:
    from sigstore.models import ClientTrustConfig

    if path := os.environ.get(SETTING):
        return ClientTrustConfig.from_json(json.dumps(_setting(Path(path))))
    return ClientTrustConfig.production(offline=offline)


def _setting(path: Path) -> dict[str, Any]:
    with disk_errors("reading Sigstore's keys", path), open(path, "rb") as stream:
        raw = stream.read(_MAX_SETTING)
    value = json.loads(raw)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


@contextmanager
def _library(doing: str, fix: str) -> Iterator[None]:
    """Around calls of Sigstore's library: one clear error if it is missing or raises.

    Args:
        fix: what to do if the instance is the public one.
    """
    try:
        import sigstore
    except ImportError:
        raise AsrbuildError(
            "signatures through Sigstore require the extra sigstore, which is not installed",
            fix=install_fix("sigstore"),
        ) from None
    # Its warnings are of intended settings, such as that no server is asked.
    logging.getLogger(sigstore.__name__).setLevel(logging.ERROR)
    try:
        yield
    except AsrbuildError:
        raise
    except Exception as error:  # its exceptions have no common base class
        reason = " ".join(str(error).split()) or type(error).__name__
        setting = os.environ.get(SETTING)
        raise AsrbuildError(
            f"{doing} failed: {reason[:500]}",
            file=setting,
            fix=f"{fix}; or check the file that {SETTING} names, and its servers"
            if setting
            else fix,
        ) from error
