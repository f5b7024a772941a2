"""A stage of a build: its declaration, and the view that gives it only the declared values."""

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
#: A fact: a value computed from several keys of a recipe; its name is the function's.
RecipeFact = Callable[["Recipe"], Any]
#: Names, or a function that gives the names for a recipe.
Names = tuple[str, ...] | Callable[["Recipe"], tuple[str, ...]]
Reads = tuple[str | RecipeFact, ...]
#: Group of files -> attributes of a source about them; else one with the group's name.
_ATTRIBUTES = {"model": ("checkpoint", "graph"), "texts": ("texts", "sample_text")}


def always(recipe: Recipe, source: Source) -> bool:
    """True: the stage is part of every build."""
    del recipe, source
    return True


@dataclass(frozen=True)
class Stage:
    """One stage, as its file in ``stages/`` declares it.

    Its key in the cache consists of the declared values, the fingerprints of the stages in
    ``after``, the name of the architecture, and a digest of its code; a change of anything else
    does not run it again. It may also read the values that those stages declare.

    Args:
        name: the folder of its results in the cache, ``[a-z0-9_]``.
        title: its progress message; ``{runtime}`` and ``{format}`` are those of the architecture's
            original.
        run: writes the stage's files into an empty folder.
        reads: dotted keys of the recipe, whole sections, and facts.
        files: groups of the source's files, see :func:`asrbuild.builder.sources.group_of`.
        calls: functions of the architecture that it calls, directly or through the proof; the code
            that they import counts.
        local: keys with a path on this machine, which do not shape the result.
        after: stages whose folders it reads, if the recipe has them.
        libraries: distributions whose versions shape its result.
        needed: whether a build has this stage.
        threaded: modules to import before it runs in a thread, concurrent with other stages; empty:
            it runs in the caller's thread, the only one that an interrupt reaches.
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
    """A stage read a value that it does not declare, whose change would not run it again.

    It is not an ``AttributeError``, which ``getattr`` with a default would catch.
    """


class Shown:
    """A recipe, a section of it, or a source, reduced to declared values."""

    __slots__ = ("_name", "_stage", "_values")

    def __init__(self, stage: str, name: str, values: Mapping[str, Any]) -> None:
        self._stage, self._name, self._values = stage, name, values

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)  # a protocol of Python that this does not implement
        if attribute not in self._values:
            raise UndeclaredError(
                f"the stage {self._stage} does not declare that it reads {self._name}{attribute}"
            )
        value = self._values[attribute]
        if isinstance(value, _Branch):
            return Shown(self._stage, f"{self._name}{attribute}.", value)
        return value


class _Branch(dict[str, Any]):
    """The declared values of a section that is not declared as a whole, by key."""


@dataclass(frozen=True)
class View:
    """The recipe, source and folders for a stage, limited to the values that it declares.

    ``recipe``, ``source`` and ``architecture`` raise :class:`UndeclaredError` for undeclared
    values. ``note`` shows a line to the user.
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
        """The folder with the results of a stage in ``after``."""
        if stage not in self.folders:
            raise UndeclaredError(f"the stage {self.stage} does not come after {stage}")
        return self.folders[stage]()


def shown_architecture(
    stage: str, architecture: Architecture, calls: tuple[str, ...]
) -> Architecture:
    """An architecture reduced to its constants and the functions ``calls``."""
    constants = (name for name in vars(architecture) if name.isupper())
    values = {name: getattr(architecture, name) for name in (*constants, *calls)}
    return cast("Architecture", Shown(stage, "architecture.", values))


def shown_recipe(stage: str, recipe: Recipe, keys: Iterable[str]) -> Recipe:
    """A recipe reduced to the values of these dotted keys."""
    values = _Branch()
    for key in sorted(keys):  # a section before its keys
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
    """Values by label of a file; the labels of undeclared groups raise."""

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
    """A source reduced to the files of these groups, their digests and their facts."""
    values: dict[str, Any] = {
        "files": _Labels(stage, groups, source.files),
        "digests": _Labels(stage, groups, source.digests),
    }
    for group in groups:
        for attribute in _ATTRIBUTES.get(group, (group,)):
            values[attribute] = getattr(source, attribute)
    return cast("Source", Shown(stage, "source.", values))
