"""Remotes: folders, buckets, web servers and registries that artifacts are shipped to."""
