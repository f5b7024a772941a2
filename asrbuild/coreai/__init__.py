"""Apple's Core AI: packages as ``.aimodel`` assets, run by Apple's own runtime."""
