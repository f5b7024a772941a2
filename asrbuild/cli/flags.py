"""The flags of a build: Hydra's, and asrbuild's own."""

from __future__ import annotations

HYDRA_FLAGS = (
    "-m",
    "--multirun",
    "-r",
    "--run",
    "-c",
    "--cfg",
    "-p",
    "--package",
    "--resolve",
    "--info",
    "-cp",
    "--config-path",
    "-cn",
    "--config-name",
    "-cd",
    "--config-dir",
    "--hydra-help",
    "--experimental-rerun",
    "--trust-config",
    "-sc",
    "--shell-completion",
    "--json",
    "--from",
    "-q",
    "--quiet",
)
