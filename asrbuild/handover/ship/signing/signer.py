"""The signer of this machine: a key, an identity through Sigstore, or both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asrbuild.handover.ship.signing.keys import Signer, find_signer
from asrbuild.handover.ship.signing.sigstore import SigstoreSigner, sign_in

AnySigner = Signer | SigstoreSigner


def choose_signer(
    key: str | None, sigstore: bool, config: Path, note: Callable[[str], object]
) -> AnySigner:
    """The key to sign with; or an identity that signs in now, together with the named key, if any.

    Args:
        key: the key's name; None: the only key, or the one named ``default``.
        sigstore: sign as an identity through Sigstore.
        config: the configuration folder.
        note: takes a line about what Sigstore will publish.

    Raises:
        AsrbuildError: there is no such key, or the sign-in failed.
    """
    if not sigstore:
        return find_signer(key, config)
    return sign_in(None if key is None else find_signer(key, config), note)
