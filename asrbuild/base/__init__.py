"""The foundation of all other rooms: errors, files, digests, locks, the cache, the terminal."""
