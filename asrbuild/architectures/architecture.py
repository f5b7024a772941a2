"""The protocol of an architecture, and the search for one.

An architecture is a folder next to this file with a module ``architecture.py`` that has the names
of :class:`Architecture`. No list names it: the folder is found. Its section of the recipe comes
from its own ``conf/source/<kind>.yaml``. A build calls its functions in this order:

    settle ► front_end, signature ► export ► start ─┐
                                  └► convert ────────┴► proof ► landmarks, if a gate fails

This module does not import numpy, and an ``architecture.py`` imports nothing heavy at its top: a
build with nothing to do requires only keys and files.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

from asrbuild.base.errors import AsrbuildError

if TYPE_CHECKING:
    from asrbuild.architectures.original import OriginalRun, Result
    from asrbuild.base.array import Array
    from asrbuild.coreml.compression import Layers
    from asrbuild.coreml.request import ConversionRequest
    from asrbuild.coreml.signature import Signature
    from asrbuild.speech.tokens import Tokens

_FOLDER = Path(__file__).parent
_MODULE = "architecture.py"


@dataclass(frozen=True)
class Fact:
    """A fact that a source states about its model.

    Args:
        name: the recipe's key for the value; for a fact without a key, a name without a dot.
        value: a number, text, truth value, or the labels of the alphabet in order.
        file: the file that states it.
        place: the place in the file: a node, a line, a variable.
    """

    name: str
    value: Any
    file: str
    place: str

    def __str__(self) -> str:
        return f"{shown(self.value)} ({self.place} of {self.file})"


def shown(value: Any) -> str:
    """A fact's value in one line; for an alphabet, the quoted labels in order."""
    if isinstance(value, (list, tuple)):
        labels = " ".join(repr(label) for label in value)
        return f"{len(value)} labels: {labels}"
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Found:
    """The model that an architecture found in a source.

    Args:
        files: label -> file; ``graph`` is a source that the original runtime runs itself, and
            labels of other weights begin with ``checkpoint``.
        facts: the facts that the source states.
        alphabet: the labels of the model.
        values: dotted key of the recipe -> its value, for keys that were null.
        repeated: keys of the recipe that repeat facts of the source.
        steps: the only number of steps that a call can have; None: any.
    """

    files: Mapping[str, Path]
    facts: tuple[Fact, ...]
    alphabet: Tokens
    values: Mapping[str, Any] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()
    steps: int | None = None


@dataclass(frozen=True)
class Original:
    """The model that the original runtime runs.

    Args:
        file: the model in that runtime's own format.
        made_of: the source of an exported ``file``, which the runtime's own reader also reads and
            compares; None if ``file`` is the source itself.
    """

    file: Path
    made_of: Path | None = None


@dataclass(frozen=True)
class FrontEnd:
    """The front end of a network, which computes features; durations in ms, as in the recipe.

    Args:
        settings: the settings of the features, or
            :class:`asrbuild.speech.features.kinds.Samples` if the network takes samples.
        window_ms, step_ms: those of a frame; for samples, 0 and the duration of a sample.
        place: the place of the computation: the app, or the package, which then takes samples.
    """

    settings: Any
    window_ms: float
    step_ms: float
    place: Literal["app", "package"] = "app"

    @property
    def fed(self) -> Any:
        """The settings of the package's input: features or samples."""
        if self.place == "app":
            return self.settings
        from asrbuild.speech.features.kinds import Samples

        return Samples(self.settings.sample_rate)


@dataclass(frozen=True)
class Card:
    """The texts of a package about its model; ``language`` is empty if it is unknown."""

    author: str
    license: str
    description: str
    language: str = ""


@dataclass(frozen=True)
class Landmark:
    """An inner value of the original that a package has too; ``rows``: (steps, width) of a case."""

    node: str
    layer: str
    rows: Array = field(repr=False)


@dataclass(frozen=True)
class OwnSection:
    """A section at the recipe's root that one architecture owns, like DeepSpeech's ``export``.

    Args:
        schema: its dataclass.
        steps: its key with the steps of a call of the exported original: -1 for any number, null
            for those of the package.
        silent: keys, and prefixes of keys, without a word in a default name, because they do not
            change the package.
        later: keys that older recipes lack; they are not recorded with their default.
    """

    schema: Callable[[], Any]
    steps: str
    silent: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


class SourceFiles(Protocol):
    """A source's files and their SHA-256 by label, and the model's labels."""

    @property
    def files(self) -> Mapping[str, Path]: ...

    @property
    def digests(self) -> Mapping[str, str]: ...

    @property
    def alphabet(self) -> Any: ...  # the Tokens of Found, with the architecture's own type


class Architecture(Protocol):
    """The protocol of an architecture: the names that its ``architecture.py`` must have.

    ``config`` is the architecture's section of the recipe (``SECTION``), with every value known.
    """

    #: Values of ``source.kind``.
    KINDS: tuple[str, ...]
    #: The recipe's section that is ``config``: ``source.config``, or ``OWN`` at the recipe's root.
    SECTION: str
    OWN: OwnSection | None
    #: Keys of ``source.config`` that name files; a manifest records the file's name alone.
    FILE_KEYS: tuple[str, ...]
    #: Keys of the recipe that decide the features, the exported original, and the network.
    FEATURE_KEYS: tuple[str, ...]
    ORIGINAL_KEYS: tuple[str, ...]
    NETWORK_KEYS: tuple[str, ...]
    #: Modules that ``export``, ``start`` and ``read`` import. Threads call these functions, and a
    #: thread hangs if Ctrl-C interrupts the main thread's import of the same module.
    THREAD_MODULES: tuple[str, ...]
    #: The layers that ``coreml.compress_layers`` can name.
    LAYERS: Layers
    #: Names for messages: the original (``TensorFlow graph``), its runtime (``TensorFlow``) and the
    #: format of its file (``frozen graph``).
    ORIGINAL: str
    RUNTIME: str
    FORMAT: str
    #: The module that runs the original in a process; see :mod:`asrbuild.architectures.original`.
    WORKER: str
    #: Stage (``convert``, ``reference``) -> distributions whose versions shape its result, in
    #: addition to those of every architecture.
    LIBRARIES: Mapping[str, tuple[str, ...]]
    #: Whether the original runs call by call, like the package, with padding and states, and not
    #: once a recording. A network that is not causal requires it: the rows of its padded calls
    #: differ from those of the recording. See :mod:`asrbuild.proof.calls` for its cases.
    CALLS: bool
    #: Whether the package is always made from the original that :meth:`export` wrote.
    CONVERTS_EXPORTED: bool
    #: Keys of the recipe that :meth:`card` reads.
    CARD_KEYS: tuple[str, ...]

    def settle(self, recipe: Any, cache_root: Path, keep: bool) -> Found:
        """Finds the model of a composed recipe, and the values for keys that are null.

        Args:
            cache_root: keeps digests and facts; ``keep``: whether to write there.

        Raises:
            AsrbuildError: a file is missing or damaged, or a key contradicts it.
        """
        ...

    def question(self, recipe: Any, cache_root: Path) -> tuple[Path, tuple[Fact, ...], list[str]]:
        """The source's file, its facts, and the keys that it does not state."""
        ...

    def signature(self, config: Any) -> Signature:
        """The signature of the network; sizes that only the weights have are None."""
        ...

    def front_end(self, config: Any) -> FrontEnd:
        """The front end of the network."""
        ...

    def card(self, recipe: Any) -> Card:
        """The package's texts about its model."""
        ...

    def problems(self, config: Any) -> Iterator[AsrbuildError]:
        """Yields an error for each impossible value of the section.

        Before the source is read ``config`` has nulls, which are valid.
        """
        ...

    def check_request(self, request: ConversionRequest, frontend: str) -> None:
        """Raises if this network cannot become the package of a request.

        Raises:
            AsrbuildError: naming the key of the recipe.
        """
        ...

    def check_source(
        self, source: SourceFiles, outputs: Sequence[str], lengths: Sequence[int | None]
    ) -> None:
        """Raises, before the conversion, if a source cannot become the package of a recipe.

        Args:
            outputs: the outputs of the package.
            lengths: every number of steps that a call can have; None: any.

        Raises:
            AsrbuildError: naming the key of the recipe.
        """
        ...

    def convert(
        self,
        source: SourceFiles,
        config: Any,
        request: ConversionRequest,
        destination: Path,
        frontend: str,
        exported: Callable[[], Path],
    ) -> None:
        """Writes the package; ``exported()`` waits for the original's file and returns it."""
        ...

    def original(self, source: SourceFiles) -> Original | None:
        """The source, if the original runtime runs it itself; None: the original is exported."""
        ...

    def export(self, source: SourceFiles, config: Any, file: Path) -> None:
        """Writes the original's file from the weights."""
        ...

    def exported(self, source: SourceFiles, file: Path) -> Original:
        """The original that :meth:`export` wrote."""
        ...

    def recover(
        self,
        recipe: Mapping[str, Any],
        alphabet: Tokens,
        graph: Path | None,
        checkpoint: Path | None,
        folder: Path,
    ) -> Original:
        """The original of a published artifact, to bisect it.

        Args:
            recipe: the recipe in the manifest.
            graph: the original's file, if the user gives it.
            checkpoint: the weights that it was exported from, if the user gives them.
            folder: a folder for exporting it again.

        Raises:
            AsrbuildError: the original is neither given nor found.
        """
        ...

    def start(self, original: Original, config: Any, cases: Path, out: Path) -> OriginalRun:
        """Runs the original in a process of its own.

        Args:
            cases: an npz, name -> (steps, ...); with ``CALLS``, its arrays are those of calls.
        """
        ...

    def read(self, out: Path) -> dict[str, Result]:
        """Reads the results of that process: case -> result."""
        ...

    def landmarks(
        self, original: Original, features: Array
    ) -> tuple[Sequence[Landmark], Mapping[str, Array]]:
        """Inner values of the original in order, and its states after each step; both may be empty.

        States have the shape (steps, width), by name of the output.

        Raises:
            AsrbuildError: the original does not have the structure of this architecture.
        """
        ...

    def landmarks_of_call(
        self, original: Original, config: Any, call: Mapping[str, Array]
    ) -> Sequence[Landmark]:
        """With ``CALLS``: the inner values of the original in one call, in the order of its nodes.

        They have the original's own names; empty if its runtime does not give them.

        Args:
            call: name -> value of every input of the package.
        """
        ...


Section = TypeVar("Section")


def section(schema: type[Section], values: Mapping[str, Any], key: str) -> Section:
    """An architecture's section of the recipe as its own dataclass.

    Args:
        schema: the dataclass, with a default for every optional key.
        values: the section in the recipe.
        key: the section's own key, for errors.

    Raises:
        AsrbuildError: a key is unknown or missing, or a value has another type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), dict(values))
        return cast(Section, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        wrong = f"{key}.{error.full_key}" if error.full_key else key
        known = (f"{key}.{own.name}" for own in fields(cast(Any, schema)))
        raise AsrbuildError(
            f"{wrong}: {str(error.msg or error).splitlines()[0]}",
            key=wrong,
            fix=f"its keys are {', '.join(known)}",
        ) from error


@functools.cache
def names() -> tuple[str, ...]:
    """The names of all architectures, which are folders."""
    return tuple(sorted(path.parent.name for path in _FOLDER.glob(f"*/{_MODULE}")))


@functools.cache
def architecture(name: str) -> Architecture:
    """The architecture of this name."""
    return cast(
        Architecture, importlib.import_module(f"asrbuild.architectures.{name}.architecture")
    )


def kinds() -> tuple[str, ...]:
    """Every value that ``source.kind`` can have."""
    return tuple(kind for name in names() for kind in architecture(name).KINDS)


def name_of_kind(kind: str) -> str:
    """The name of the architecture for sources of a kind.

    Raises:
        AsrbuildError: there is no such architecture.
    """
    found = next((name for name in names() if kind in architecture(name).KINDS), None)
    if found is None:
        raise AsrbuildError(
            f"no architecture of this asrbuild takes a source of kind {kind}",
            key="source.kind",
            fix=f"choose one of {', '.join(kinds())}",
        )
    return found


def own_sections() -> dict[str, tuple[str, OwnSection]]:
    """Section at the recipe's root -> the architecture that owns it, and the section."""
    each = {name: architecture(name) for name in names()}
    return {one.SECTION: (name, one.OWN) for name, one in each.items() if one.OWN is not None}


@functools.cache
def layer_defaults() -> Mapping[str, str | None]:
    """Every layer of any architecture -> its default compression.

    Raises:
        ValueError: two architectures have a layer of the same name with different defaults.
    """
    found: dict[str, str | None] = {}
    for name in names():
        own = architecture(name).LAYERS.defaults
        if differ := [layer for layer in own if found.get(layer, own[layer]) != own[layer]]:
            raise ValueError(f"{name}: {differ[0]} is another architecture's, with another default")
        found |= own
    return found


def to_record(architecture: Architecture, config: Any) -> dict[str, Any]:
    """The part of a recorded recipe that :func:`of_recorded` reads, for an incomplete manifest."""
    source = {"kind": architecture.KINDS[0]}
    return {"source": source | ({"config": config} if isinstance(config, Mapping) else {})}


def of_recorded(recipe: Mapping[str, Any]) -> tuple[Architecture, Any]:
    """The architecture of a recorded recipe, and its section of that recipe."""
    kind = recipe.get("source", {}).get("kind", "checkpoint")
    found = architecture(name_of_kind(kind))
    section: Any = recipe
    for part in found.SECTION.split("."):
        section = section.get(part, {})
    return found, section
