"""Products for people: reports, the app kit, bundles and remotes."""
