"""Names of files and folders in an artifact, in the store, and in the results of stages.

An artifact is a directory ``<store>/<name>/<version>``; its manifest names its package.
"""

from __future__ import annotations

#: The contract between an artifact and an app; see :mod:`asrbuild.artifact.manifest`.
MANIFEST = "manifest.json"
#: The list with the SHA-256 of every other file.
SUMS = "SHA256SUMS"
#: The labels of the model, one a line.
ALPHABET = "alphabet.txt"
#: A short recording for testing an app's front end.
REFERENCE_AUDIO = "reference.wav"
#: Inputs and outputs of the original network, for proving the artifact again.
PARITY = "parity.npz"
REPORT_TEXT, REPORT_PAGE = "report.md", "report.html"
#: For app teams: how to use the artifact, the Swift package, and tests of an app's own code.
README, SWIFT_KIT, CONFORMANCE_KIT = "README.md", "ASRKit", "conformance"
#: Files that may differ between two builds of one version: facts of one run, and files made from
#: them. A name that ends in a slash is a folder.
VOLATILE = (
    MANIFEST,
    SUMS,
    PARITY,
    REPORT_TEXT,
    REPORT_PAGE,
    README,
    f"{SWIFT_KIT}/",
    f"{CONFORMANCE_KIT}/",
)

#: In the store, below an artifact's name: the version that was published last.
LATEST = "latest"
#: In the store: the signed headers of versions that were pulled.
SIGNED = ".signed"
#: In the store: signed evidence of devices, by artifact name and version.
EVIDENCE = ".evidence"
#: In the store: prefix of directories in which artifacts are assembled or removed.
STAGING = ".staging-"
#: In the store: the patterns of versions that a clean-up keeps.
PINNED = "pinned"

#: In the cache, in the result of the last stage: the receipt of the publication.
RECEIPT = "receipt.json"
#: In the cache: the folder of probabilities that evaluations keep.
PROBABILITIES_FOLDER = "probabilities"


def is_volatile(path: str) -> bool:
    """Whether a relative path may differ between two builds of one version."""
    return any(path == name or (name[-1] == "/" and path.startswith(name)) for name in VOLATILE)
