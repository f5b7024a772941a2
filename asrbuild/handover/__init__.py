"""What people are given: reports, the app kit, bundles and remotes."""
