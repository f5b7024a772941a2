"""What is published: the manifest, its files, the store, and running an artifact."""
