"""A package compared with its original: cases, execution, gates, verdict."""
