"""asrbuild: a declarative build system for speech recognition models.

A Hydra config becomes a versioned Core ML artifact with a runtime manifest, executed and compared
with its original before it is published. From Python::

    import asrbuild

    recipe = asrbuild.compose("model=static", "coreml.precision=fp32")
    built = asrbuild.build(recipe)
    with asrbuild.open_artifact(built.path) as model:
        print(model.transcribe_file("hello.wav").text)

``asrbuild.plan(recipe)`` gives the stages that a build would run, each with its reasons.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asrbuild.base.version import __version__

if TYPE_CHECKING:
    from asrbuild.artifact.runtime import Transcriber as Transcriber
    from asrbuild.base.errors import AsrbuildError as AsrbuildError
    from asrbuild.base.progress import Event as Event
    from asrbuild.builder.api import (
        build as build,
        compose as compose,
        open_artifact as open_artifact,
        plan as plan,
    )
    from asrbuild.builder.engine import Built as Built
    from asrbuild.builder.recipe import Recipe as Recipe

#: Public name -> its module, imported at the first use: `import asrbuild` costs nothing.
_PUBLIC = {
    "AsrbuildError": "base.errors",
    "Built": "builder.engine",
    "Event": "base.progress",
    "Recipe": "builder.recipe",
    "Transcriber": "artifact.runtime",
    "build": "builder.api",
    "compose": "builder.api",
    "open_artifact": "builder.api",
    "plan": "builder.api",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'asrbuild' has no attribute {name!r}")
    return getattr(import_module(f"asrbuild.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
