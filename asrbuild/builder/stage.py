"""A stage of a build: what it declares that it reads, and the view that gives it nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from asrbuild.builder.recipe import lookup
from asrbuild.builder.sources import group_of

if TYPE_CHECKING:
    from asrbuild.architectures.architecture import Architecture
    from asrbuild.builder.recipe import Recipe
    from asrbuild.builder.sources import Source

Value = TypeVar("Value")
#: A value that follows from several keys of a recipe; it is known by the function's name.
RecipeFact = Callable[["Recipe"], Any]
#: Names, or those of a recipe where they depend on it.
Names = tuple[str, ...] | Callable[["Recipe"], tuple[str, ...]]
Reads = tuple[str | RecipeFact, ...]
#: Group of files -> the attributes of a source that tell of them; else one of the group's name.
_ATTRIBUTES = {"model": ("checkpoint", "graph"), "texts": ("texts", "sample_text")}


def always(recipe: Recipe, source: Source) -> bool:
    """True: the stage is part of every build."""
    del recipe, source
    return True


@dataclass(frozen=True)
class Stage:
    """One stage, as its file in ``stages/`` declares it.

    What it declares is its key in the cache, with the fingerprints of the stages it comes after,
    the name of the network's architecture, and a digest of its code; a change of anything else does
    not run it again. So it may also read what those stages declare.

    Args:
        name: the folder of its results in the cache, ``[a-z0-9_]``.
        title: what it does, for a person who watches; ``{runtime}`` and ``{format}`` are those of
            the architecture's original.
        run: writes its files into the empty folder that it is given.
        reads: dotted keys of the recipe, whole sections, and facts.
        files: groups of the source's files, see :func:`asrbuild.builder.sources.group_of`.
        calls: functions of the architecture that it calls, also through the proof: the code that
            they import counts.
        local: keys that say where something is on this machine, and shape no result.
        after: stages whose folders it is given, of those that this recipe has.
        libraries: distributions whose versions shape its result.
        needed: whether a build has this stage.
        threaded: modules to import before it runs in a thread next to other stages; where none is
            declared, it runs in the caller's thread, the only one that an interrupt reaches.
    """

    name: str
    title: str
    run: Callable[[View, Path], None]
    reads: Reads | Callable[[Recipe], Reads] = ()
    files: Names = ()
    calls: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    after: Names = ()
    libraries: Names = ()
    needed: Callable[[Recipe, Source], bool] = always
    threaded: Names = ()


class UndeclaredError(Exception):
    """A stage read what it does not declare, so a change of that would not run it again.

    No ``AttributeError``: ``getattr`` with a default would take that for an answer.
    """


class Shown:
    """A recipe, a section of it, or a source, of which only declared values are inside."""

    __slots__ = ("_name", "_stage", "_values")

    def __init__(self, stage: str, name: str, values: Mapping[str, Any]) -> None:
        self._stage, self._name, self._values = stage, name, values

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)  # a protocol of Python's that this has no part in
        if attribute not in self._values:
            raise UndeclaredError(
                f"the stage {self._stage} does not declare that it reads {self._name}{attribute}"
            )
        value = self._values[attribute]
        if isinstance(value, _Branch):
            return Shown(self._stage, f"{self._name}{attribute}.", value)
        return value


class _Branch(dict[str, Any]):
    """The declared values of a section that is not declared as a whole."""


@dataclass(frozen=True)
class View:
    """All that a stage is given.

    ``recipe``, ``source`` and ``architecture`` raise :class:`UndeclaredError` on what the stage
    does not declare. ``note`` shows a line to the person who watches.
    """

    recipe: Recipe
    source: Source
    architecture: Architecture
    stage: str
    facts: Mapping[str, Any]
    folders: Mapping[str, Callable[[], Path]]
    note: Callable[[str], None]

    def fact(self, fact: Callable[[Recipe], Value]) -> Value:
        """The value of a declared fact."""
        if fact.__name__ not in self.facts:
            raise UndeclaredError(f"the stage {self.stage} does not declare {fact.__name__}")
        return cast(Value, self.facts[fact.__name__])

    @property
    def config(self) -> Any:
        """The architecture's section of the recipe."""
        return lookup(self.recipe, self.architecture.SECTION)

    def folder(self, stage: str) -> Path:
        """The results of a stage that this one comes after."""
        if stage not in self.folders:
            raise UndeclaredError(f"the stage {self.stage} does not come after {stage}")
        return self.folders[stage]()


def shown_architecture(
    stage: str, architecture: Architecture, calls: tuple[str, ...]
) -> Architecture:
    """These functions of an architecture, and its constants."""
    constants = (name for name in vars(architecture) if name.isupper())
    values = {name: getattr(architecture, name) for name in (*constants, *calls)}
    return cast("Architecture", Shown(stage, "architecture.", values))


def shown_recipe(stage: str, recipe: Recipe, keys: Iterable[str]) -> Recipe:
    """The values of dotted keys alone, behind the attributes of a recipe."""
    values = _Branch()
    for key in sorted(keys):  # a section before what is below it
        branch: Any = values
        value: Any = recipe
        *sections, name = key.split(".")
        for section in sections:
            value = getattr(value, section)
            branch = branch.setdefault(section, _Branch())
            if not isinstance(branch, _Branch):
                break  # the whole section is declared
        else:
            branch[name] = getattr(value, name)
    return cast("Recipe", Shown(stage, "", values))


class _Labels(Mapping[str, Value]):
    """Values by label of a file, of declared groups of files; any other label raises."""

    def __init__(self, stage: str, groups: frozenset[str], values: Mapping[str, Value]) -> None:
        self._stage, self._groups = stage, groups
        self._values = {key: each for key, each in values.items() if group_of(key) in groups}

    def __getitem__(self, label: str) -> Value:
        if group_of(label) not in self._groups:
            raise UndeclaredError(
                f"the stage {self._stage} does not declare that it reads files of {group_of(label)}"
            )
        return self._values[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def shown_source(stage: str, source: Source, groups: frozenset[str]) -> Source:
    """The files of these groups alone, with their digests and what they say."""
    values: dict[str, Any] = {
        "files": _Labels(stage, groups, source.files),
        "digests": _Labels(stage, groups, source.digests),
    }
    for group in groups:
        for attribute in _ATTRIBUTES.get(group, (group,)):
            values[attribute] = getattr(source, attribute)
    return cast("Source", Shown(stage, "source.", values))
