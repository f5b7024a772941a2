"""The front end inside a package: computes features of samples, before any network."""
