"""Apple's Core AI: converts packages to ``.aimodel`` assets and runs them in Apple's runtime."""
