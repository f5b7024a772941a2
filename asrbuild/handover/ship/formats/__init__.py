"""Signed formats: headers, bundles, bundles of variants, and sets."""
