"""The proof: a package compared with its original on recordings and synthetic inputs."""
