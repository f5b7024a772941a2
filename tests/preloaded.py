"""The imports of all commands, for the process whose forks run them (see ``forking``)."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import hydra  # noqa: F401

import asrbuild.builder
import asrbuild.cli
import asrbuild.proof
from asrbuild.coreml import executor  # noqa: F401
from asrbuild.coreml.speedups.importing import import_coremltools

import_coremltools()
for _package in (asrbuild.builder, asrbuild.cli, asrbuild.proof):
    for _module in pkgutil.walk_packages(_package.__path__, f"{_package.__name__}."):
        import_module(_module.name)
