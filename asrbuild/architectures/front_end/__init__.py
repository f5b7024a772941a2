"""The audio front end inside a package: it takes samples, and any network follows."""
