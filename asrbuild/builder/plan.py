"""The plan of a build: the stages of one recipe, their keys, and the values that each may read.

    export ─┬► reference ─┐
    cases  ─┤             ├► prove ─┐
    convert ┴► execute ───┤         ├► the artifact
       ├──────► witness ──┘         │
       ├──────► vectors ────────────┤
       └──────► evaluate ───────────┘

If the original runs call by call, ``calls`` replaces ``reference``, after ``convert``. A sweep over
``coreml.*`` shares export, cases and reference; a sweep over ``decoder.*`` shares all but prove.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrbuild.base.cache import StageKey, fingerprint
from asrbuild.base.code import code_digest
from asrbuild.base.libraries import check_installed, library_version
from asrbuild.builder import receipt
from asrbuild.builder.recipe import Recipe, network_of
from asrbuild.builder.record import record
from asrbuild.builder.sources import Source
from asrbuild.builder.stage import (
    Stage,
    Value,
    View,
    shown_architecture,
    shown_recipe,
    shown_source,
)
from asrbuild.builder.stages import (
    calls,
    cases,
    convert,
    evaluate,
    execute,
    export,
    lower,
    prove,
    reference,
    vectors,
    witness,
)

#: The stages in the order in which they begin.
STAGES = (
    export.STAGE,
    cases.STAGE,
    reference.STAGE,
    convert.STAGE,
    witness.STAGE,
    lower.STAGE,
    calls.STAGE,
    execute.STAGE,
    vectors.STAGE,
    prove.STAGE,
    evaluate.STAGE,
)
#: Its code is not part of any stage's key; the values that it gives to a stage are.
_GIVEN = ("builder/stage.py",)
#: Names of stages for commands; the artifact is the end of a build.
STAGE_NAMES = (*(stage.name for stage in STAGES), receipt.NAME)


@dataclass(frozen=True)
class PlanStep:
    """One stage of a recipe, with its key.

    ``after``: the stages it waits for. ``keys``, ``facts``, ``files`` and ``folders``: the values
    that it may read, by its own declarations and those of all stages before it.
    """

    stage: Stage
    title: str
    key: StageKey
    after: tuple[str, ...]
    keys: frozenset[str]
    facts: Mapping[str, Any]
    files: frozenset[str]
    folders: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """A recipe's steps in the order in which they run, and the key of its receipt."""

    recipe: Recipe
    source: Source
    steps: tuple[PlanStep, ...]
    receipt: StageKey

    @property
    def keys(self) -> dict[str, StageKey]:
        """Stage -> key; the last one is that of the receipt."""
        return {step.stage.name: step.key for step in self.steps} | {receipt.NAME: self.receipt}

    def view(
        self, step: PlanStep, folders: Mapping[str, Callable[[], Path]], note: Callable[[str], None]
    ) -> View:
        """The view of the recipe and the source for a step's stage."""
        name = step.stage.name
        return View(
            shown_recipe(name, self.recipe, step.keys),
            shown_source(name, self.source, step.files),
            shown_architecture(name, network_of(self.recipe)[0], step.stage.calls),
            name,
            step.facts,
            {earlier: folders[earlier] for earlier in step.folders},
            note,
        )


def plan(recipe: Recipe, source: Source) -> Plan:
    """Plans a recipe: its steps and their keys, from the digests of its inputs.

    Raises:
        AsrbuildError: a library that a step requires is not installed.
    """
    recorded = record(recipe)
    steps: dict[str, PlanStep] = {}
    for stage in STAGES:
        if stage.needed(recipe, source):
            steps[stage.name] = _step(stage, recipe, source, recorded, steps)
    read = {name for step in steps.values() for name in step.after}
    proofs = [fingerprint(step.key) for name, step in steps.items() if name not in read]
    end = receipt.key(recorded, source.digests, proofs)
    return Plan(recipe, source, tuple(steps.values()), end)


def titles(recipe: Recipe) -> dict[str, str]:
    """Stage -> its title, for a person."""
    return {stage.name: _title(stage, recipe) for stage in STAGES} | {receipt.NAME: receipt.TITLE}


def _title(stage: Stage, recipe: Recipe) -> str:
    architecture = network_of(recipe)[0]
    return stage.title.format(runtime=architecture.RUNTIME, format=architecture.FORMAT)


def _step(
    stage: Stage,
    recipe: Recipe,
    source: Source,
    recorded: Mapping[str, Any],
    earlier: Mapping[str, PlanStep],
) -> PlanStep:
    files = declared(stage.files, recipe)
    reads = declared(stage.reads, recipe)
    after = tuple(name for name in declared(stage.after, recipe) if name in earlier)
    keys = tuple(read for read in reads if isinstance(read, str))
    facts = {read.__name__: read(recipe) for read in reads if not isinstance(read, str)}
    digests: dict[str, str] = {}
    for group in files:
        digests |= source.digests_of(group)
    libraries = {name: library_version(name) for name in declared(stage.libraries, recipe)}
    check_installed(libraries, "a build")
    architecture = recipe.architecture
    key = StageKey(
        stage.name,
        code_digest(
            f"builder/stages/{stage.name}.py",
            f"architectures/{architecture}/architecture.py",
            without=_GIVEN,
            calls=stage.calls,
        ),
        {"architecture": architecture}
        | {name: _recorded(recorded, name) for name in keys}
        | facts
        | {name: fingerprint(earlier[name].key) for name in after},
        digests,
        libraries,
    )
    before = [earlier[name] for name in after]
    return PlanStep(
        stage,
        _title(stage, recipe),
        key,
        after,
        frozenset({*keys, *stage.local}).union(*(step.keys for step in before)),
        {name: value for step in before for name, value in step.facts.items()} | facts,
        frozenset(files).union(*(step.files for step in before)),
        frozenset(after).union(*(step.folders for step in before)),
    )


def declared(names: Value | Callable[[Recipe], Value], recipe: Recipe) -> Value:
    """The value of a stage's declaration for this recipe."""
    return names(recipe) if callable(names) else names


def _recorded(recorded: Mapping[str, Any], key: str) -> Any:
    value: Any = recorded
    for part in key.split("."):
        value = value.get(part)  # a record omits newer keys that have no value
    return value
