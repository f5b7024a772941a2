"""What is signed and how it is stored: headers, bundles, bundles of variants, and sets."""
