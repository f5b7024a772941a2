"""Shipping: an artifact as one signed file, and remotes that app teams pull it from."""
