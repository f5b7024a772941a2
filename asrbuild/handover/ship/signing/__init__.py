"""Signatures: keys, identities, who is trusted, and the envelope that is signed."""
