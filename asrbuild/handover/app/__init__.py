"""What an app team gets beside the package: Swift, conformance vectors, and how to use both."""
