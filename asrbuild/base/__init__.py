"""What everything else stands on: errors, files, digests, locks, the cache, the terminal."""
