"""Published artifacts: the manifest, its files, the store, and running one."""
