"""The engine: runs the stages of one recipe whose results are not in the cache."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.artifact import store
from asrbuild.base import cache, ownership
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.progress import Progress
from asrbuild.builder import receipt as receipts
from asrbuild.builder.plan import Plan, PlanStep, plan
from asrbuild.builder.receipt import Receipt
from asrbuild.builder.recipe import Recipe, network_of
from asrbuild.builder.rules import check_keys, check_recipe
from asrbuild.builder.sources import Source, settle
from asrbuild.builder.stages import calls, evaluate, prove, reference, vectors

if TYPE_CHECKING:
    from asrbuild.builder.run import Attempt

#: The stages that run the original in a process of its own.
_IN_ORIGINAL = (reference.STAGE, calls.STAGE)


@dataclass(frozen=True)
class Built:
    """A finished build; ``stages`` are those that ran: none if every result existed."""

    receipt: Receipt
    path: Path
    stages: tuple[str, ...]
    seconds: float


def build(
    recipe: Recipe,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
    *,
    move_latest: bool = True,
) -> Built:
    """Builds, proves and publishes one recipe; runs only stages that are not in the cache.

    ``latest`` then names a newly published version; with ``move_latest`` False, as in a sweep, only
    if it named none before.

    Raises:
        AsrbuildError: the recipe is impossible, an input is missing, a stage failed or the package
        failed its gates. Nothing is published then.
    """
    start = time.perf_counter()
    progress = progress or Progress()
    root, artifacts = Path(recipe.paths.cache), Path(recipe.paths.artifacts)
    done: list[str] = []
    _check(recipe)
    # A cache without results has none for this source: the original's runtime is imported while
    # the source is read.
    with _original_begun(recipe, not any((root / stage.name).exists() for stage in _IN_ORIGINAL)):
        recipe, source = settle(recipe, root)
        planned = plan(recipe, source)
        receipt = receipts.claimed(root, artifacts, planned.receipt)
        if receipt is None:
            # A published recipe passed the rules before, which are slow to import.
            receipt = _build(planned, progress, done, overrides, move_latest)
    path = artifacts / receipt.name / receipt.version
    stages = tuple(name for name in planned.keys if name in done)
    return Built(receipt, path, stages, time.perf_counter() - start)


def export_original(recipe: Recipe, progress: Progress) -> Path:
    """Runs the ``export`` stage of a recipe; returns the original's file in the cache.

    Raises:
        AsrbuildError: the recipe is impossible, an input is missing, or the source is the original
            itself, so that nothing is exported.
    """
    from asrbuild.builder.stages import export

    recipe, source = _settled(recipe)
    check_recipe(recipe)
    planned = plan(recipe, source)
    step = next((step for step in planned.steps if step.stage is export.STAGE), None)
    if step is None:
        raise AsrbuildError(
            "nothing is exported: the source is the original itself",
            key="source.kind",
            file=source.graph,
            fix="use that file; a checkpoint is exported, source=checkpoint",
        )
    return _results(planned, [step], progress)[export.STAGE.name] / export.GRAPH


def make_ahead(recipe: Recipe) -> None:
    """Makes what a later build of the recipe proves and publishes, in the cache alone.

    Raises:
        AsrbuildError: as ``build``, but for the proof and the publication.
    """
    from asrbuild.builder.checks import check_files

    recipe, source = _settled(recipe)
    planned = plan(recipe, source)
    root, artifacts = Path(recipe.paths.cache), Path(recipe.paths.artifacts)
    if receipts.published(root, artifacts, planned.receipt) is not None:
        return
    check_recipe(recipe)
    check_files(recipe, source)
    before = takewhile(lambda step: step.stage is not prove.STAGE, planned.steps)
    _results(planned, before, Progress(on_event=lambda _: None))


def _settled(recipe: Recipe) -> tuple[Recipe, Source]:
    """The recipe with all values, and its source."""
    _check(recipe)
    return settle(recipe, Path(recipe.paths.cache))


def _check(recipe: Recipe) -> None:
    """Raises if a key is wrong, or if an untrusted user could have written to cache or store."""
    check_keys(recipe)
    if recipe.paths.trust_shared:
        os.environ[ownership.SHARED] = "1"  # for this process, and its child processes
    ownership.keep_to_oneself()
    cache.require_own(Path(recipe.paths.cache))
    artifacts = Path(recipe.paths.artifacts)
    ownership.require_own(artifacts, artifacts / recipe.name)


def _results(planned: Plan, steps: Iterable[PlanStep], progress: Progress) -> dict[str, Path]:
    """Runs these steps without a publication; returns the folder of each stage's result."""
    from asrbuild.base.threads import workers
    from asrbuild.builder.run import Attempt

    root = Path(planned.recipe.paths.cache)
    with cache.in_use(root) as marks, ExitStack() as limited, workers(3) as threads:
        run = Attempt(planned, progress, marks, [])
        for step in steps:
            _limit(step, limited)
            run.start(step, threads)
        threads.wait(list(run.folders.values()))
        return {name: folder.result() for name, folder in run.folders.items()}


def _build(
    planned: Plan, progress: Progress, done: list[str], overrides: Sequence[str], move_latest: bool
) -> Receipt:
    """Runs every stage, and again if a result was removed from the cache meanwhile (``rm -r``)."""
    from asrbuild.builder.checks import check_files
    from asrbuild.builder.run import Attempt

    root = Path(planned.recipe.paths.cache)
    needed = (step for step in planned.steps if step.stage in _IN_ORIGINAL)
    with _original_begun(
        planned.recipe, not all(cache.is_cached(root, step.key) for step in needed)
    ):
        for remark in check_recipe(planned.recipe):
            progress.note(remark)
        for remark in check_files(planned.recipe, planned.source):
            progress.note(remark)
        for attempts_left in (2, 1, 0):
            with cache.in_use(root) as marks:
                run = Attempt(planned, progress, marks, done)
                try:
                    return _publish(run, overrides, move_latest)
                except Exception:
                    if not attempts_left or all(path.exists() for path in run.results):
                        raise
            progress.note("a result of this build was removed from the cache; making it again")
        raise AssertionError("the last attempt returns or raises")


@contextmanager
def _original_begun(recipe: Recipe, needed: bool) -> Iterator[None]:
    """Starts the original's process before the stage that needs it."""
    if not needed:
        yield
        return
    from asrbuild.architectures import original

    with original.begun(network_of(recipe)[0].WORKER):
        yield


def _limit(step: PlanStep, limited: ExitStack) -> None:
    """Limits BLAS to one thread while the vectors are computed in a thread of their own.

    OpenBLAS takes no limit from that thread, and their bits depend on it.
    """
    if step.stage is vectors.STAGE:
        from asrbuild.coreml.executor.threads import one_thread

        limited.enter_context(one_thread())


def _publish(run: Attempt, overrides: Sequence[str], move_latest: bool) -> Receipt:
    """Runs every stage and publishes the artifact.

    Copies the package while later stages run, imports what assembles the artifact while the
    original still computes, and proves and reports while the conformance vectors are computed.
    """
    from asrbuild.base.threads import workers
    from asrbuild.builder import publish

    planned, progress, recipe = run.planned, run.progress, run.planned.recipe
    with ExitStack() as opened, ExitStack() as limited, workers(4) as threads:
        for step in planned.steps:
            _limit(step, limited)
            if step.stage is evaluate.STAGE:  # it measures time
                threads.wait(list(run.folders.values()))
                limited.close()
            if step.stage is prove.STAGE:
                from asrbuild.builder import assemble
            run.start(step, threads)
            if step.stage.name == "convert":
                # Not earlier: a refused build must not leave an empty store.
                staging = opened.enter_context(store.staging(Path(recipe.paths.artifacts)))
                converted = run.folders["convert"].result()
                copied = threads.submit(publish.copy_package, staging, converted, recipe)
        computed = run.folders.pop(vectors.STAGE.name)
        threads.wait([*run.folders.values(), copied])
        folders = {name: folder.result() for name, folder in run.folders.items()}
        proven = assemble.Proven(folders, computed.result, staging, copied.result())
        with progress.stage(receipts.NAME, receipts.TITLE):
            receipt = publish.publish(
                recipe,
                planned.source,
                overrides,
                proven,
                move_latest=move_latest,
                notify=progress.note,
            )
    receipts.keep(run.root, planned.receipt, receipt, progress.note)
    published = Path(recipe.paths.artifacts) / receipt.name / receipt.version
    for remark in assemble.remarks(published, proven.folders):
        progress.note(remark)
    run.done.append(receipts.NAME)
    return receipt
