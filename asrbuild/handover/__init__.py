"""The hand-over of artifacts: reports, the app kit, evidence of devices, bundles and remotes."""
