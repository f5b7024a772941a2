"""The app kit: Swift code, conformance vectors, and a guide to both."""
