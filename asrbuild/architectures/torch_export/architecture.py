"""Any network that PyTorch exported: source=torch_export source.path=model.pt2.

It implements :class:`asrbuild.architectures.architecture.Architecture`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.architecture import Fact, Found, Landmark, Original, SourceFiles
from asrbuild.architectures.onnx.architecture import (
    CARD_KEYS as CARD_KEYS,
    FEATURE_KEYS as FEATURE_KEYS,
    FILE_KEYS as FILE_KEYS,
    LAYERS as LAYERS,
    NETWORK_KEYS as NETWORK_KEYS,
    ORIGINAL_KEYS as ORIGINAL_KEYS,
    OWN as OWN,
    SECTION as SECTION,
    card as card,
    check_package,
    export as export,
    exported as exported,
    front_end as front_end,
    landmarks as landmarks,
    original as original,
    problems as problems,
    read as read,
    recover as recover,
    signature as signature,
)
from asrbuild.architectures.onnx.inside import start_calls
from asrbuild.architectures.onnx.section import read_section
from asrbuild.architectures.torch_export import WORKER

if TYPE_CHECKING:
    from asrbuild.architectures.original import OriginalRun
    from asrbuild.base.array import Array
    from asrbuild.coreml.request import ConversionRequest

KINDS = ("torch_export",)
THREAD_MODULES = ("asrbuild.architectures.original", "asrbuild.architectures.torch_export.settle")
ORIGINAL, RUNTIME, FORMAT = "PyTorch program", "PyTorch", "PyTorch program"
LIBRARIES = {"convert": ("torch",), "reference": ("torch",)}
CALLS, CONVERTS_EXPORTED = True, False


def settle(recipe: Any, cache_root: Path, keep: bool) -> Found:
    """Finds the model: from the program, the section, and measurements of the running program."""
    from asrbuild.architectures.torch_export.settle import settle

    return settle(recipe, cache_root, keep)


def question(recipe: Any, cache_root: Path) -> tuple[Path, tuple[Fact, ...], list[str]]:
    """The facts of the model: roles of inputs and outputs, rows and context."""
    from asrbuild.architectures.onnx.settle import question_of
    from asrbuild.architectures.torch_export.settle import program_file, settled

    return question_of(program_file(recipe), settled, recipe, cache_root)


def check_request(request: ConversionRequest, frontend: str) -> None:
    """Raises for packages that ``coremltools.convert`` does not support."""
    check_package(request, frontend, "a PyTorch file", ("auto",))


def check_source(
    source: SourceFiles, outputs: Sequence[str], lengths: Sequence[int | None]
) -> None:
    """Does nothing: ``settle`` checks the program."""


def convert(
    source: SourceFiles,
    config: Any,
    request: ConversionRequest,
    destination: Path,
    frontend: str,
    exported: Callable[[], Path],
) -> None:
    """Writes the package from the program."""
    from asrbuild.architectures.torch_export.convert import convert_program

    convert_program(source.files["graph"], read_section(config), request, destination)


def start(original: Original, config: Any, cases: Path, out: Path) -> OriginalRun:
    """Runs PyTorch on calls."""

    return start_calls(WORKER, RUNTIME, original.file, read_section(config), cases, out)


def landmarks_of_call(
    original: Original, config: Any, call: Mapping[str, Array]
) -> Sequence[Landmark]:
    """Empty: coremltools gives other names than PyTorch."""
    return []
