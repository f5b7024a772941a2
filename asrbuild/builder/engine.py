"""The engine: runs the stages of one recipe, each only where its result is not in the cache."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.artifact import store
from asrbuild.base import cache, interrupts, ownership, threads
from asrbuild.base.progress import Progress
from asrbuild.builder import receipt as receipts
from asrbuild.builder.plan import Plan, Step, plan
from asrbuild.builder.receipt import Receipt
from asrbuild.builder.recipe import Recipe
from asrbuild.builder.rules import check_keys, check_recipe
from asrbuild.builder.sources import settle

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor


@dataclass(frozen=True)
class Built:
    """A finished build. ``stages`` names those that did work: none when all was there already."""

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
    """Builds, proves and publishes one recipe, doing only what has not been done before.

    ``latest`` then names what was published, if that was new; where ``move_latest`` is False, as
    in a sweep, only if it named nothing before.

    Raises:
        AsrbuildError: the recipe is impossible, an input is missing, a stage failed or the package
            did not pass its gates. Nothing is published then.
    """
    start = time.perf_counter()
    progress = progress or Progress()
    check_keys(recipe)
    root, artifacts = Path(recipe.paths.cache), Path(recipe.paths.artifacts)
    _require_own(recipe)
    recipe, source = settle(recipe, root)
    planned = plan(recipe, source)
    done: list[str] = []
    receipt = receipts.claimed(root, artifacts, planned.receipt)
    if receipt is None:
        # A published recipe has passed these rules, which are slow to import.
        for remark in check_recipe(recipe):
            progress.note(remark)
        receipt = _build(planned, progress, done, overrides, move_latest)
    path = artifacts / receipt.name / receipt.version
    stages = tuple(name for name in planned.keys if name in done)
    return Built(receipt, path, stages, time.perf_counter() - start)


def _require_own(recipe: Recipe) -> None:
    """Only the user, or whom he trusts, may have written what a build finds."""
    if recipe.paths.trust_shared:
        os.environ[ownership.SHARED] = "1"  # for this process, and those it starts
    ownership.keep_to_oneself()
    cache.require_own(Path(recipe.paths.cache))
    artifacts = Path(recipe.paths.artifacts)
    ownership.require_own(artifacts, artifacts / recipe.name)


def _build(
    planned: Plan, progress: Progress, done: list[str], overrides: Sequence[str], move_latest: bool
) -> Receipt:
    """Every stage; once more where a result vanished from the cache under the build (``rm -r``)."""
    from asrbuild.builder.checks import check_files

    for remark in check_files(planned.recipe, planned.source):
        progress.note(remark)
    for attempts_left in (2, 1, 0):
        with cache.in_use(Path(planned.recipe.paths.cache)) as marks:
            run = _Run(planned, progress, done, marks)
            try:
                return _publish(run, overrides, move_latest)
            except Exception:
                if not attempts_left or all(path.exists() for path in run.results):
                    raise
        progress.note("a result of this build was removed from the cache; making it again")
    raise AssertionError("the last attempt returns or raises")


def _publish(run: _Run, overrides: Sequence[str], move_latest: bool) -> Receipt:
    """Runs every stage and publishes what passed; the package is copied next to the stages."""
    from contextlib import ExitStack

    from asrbuild.builder import publish

    recipe, root = run.planned.recipe, Path(run.planned.recipe.paths.artifacts)
    with ExitStack() as opened:
        with threads.pool(3) as pool:
            folders: dict[str, Future[Path]] = {}
            for step in run.planned.steps:
                run.start(step, folders, pool)
                if step.stage.name == "convert":
                    # Not before: a build that is refused leaves not even an empty store.
                    staging = opened.enter_context(store.staging(root))
                    converted = folders["convert"].result()
                    copied = pool.submit(publish.copy_package, staging, converted, recipe)
                    run.threaded.append(copied)
            run.wait([*folders.values(), copied])
        proven = publish.Proven(
            {name: folder.result() for name, folder in folders.items()}, staging, copied.result()
        )
        with run.progress.stage(receipts.NAME, receipts.TITLE):
            receipt = publish.publish(
                recipe,
                run.planned.source,
                overrides,
                proven,
                move_latest=move_latest,
                notify=run.progress.note,
            )
    receipts.keep(run.root, run.planned.receipt, receipt, run.progress.note)
    for remark in publish.remarks(root / receipt.name / receipt.version, proven.folders):
        run.progress.note(remark)
    run.done.append(receipts.NAME)
    return receipt


@dataclass(frozen=True)
class _Run:
    """One attempt at a plan: stages through the cache, with a line for each to who watches.

    ``threaded``: the work next to the caller's; what fails there ends the rest.
    """

    planned: Plan
    progress: Progress
    done: list[str]
    marks: Path | None
    results: list[Path] = field(default_factory=list)
    threaded: list[Future[Any]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return Path(self.planned.recipe.paths.cache)

    def start(self, step: Step, folders: dict[str, Future[Path]], pool: ThreadPoolExecutor) -> None:
        """Runs a stage here, or begins it in a thread; its folder comes as a future."""
        from concurrent.futures import Future

        before = [folders[name] for name in step.after]
        results = {name: folder.result for name, folder in folders.items()}
        if step.threaded:
            # A thread imports nothing: it would hang if Ctrl-C interrupted this thread's import of
            # the same module.
            for module in step.threaded:
                importlib.import_module(module)
            folders[step.stage.name] = pool.submit(self._run, step, results)
            self.threaded.append(folders[step.stage.name])
            return
        if before:
            self.wait(before)
        finished: Future[Path] = Future()
        folders[step.stage.name] = finished
        finished.set_result(self._run(step, results))

    def wait(self, needed: Sequence[Future[Any]]) -> None:
        """Until all of these are done; raises what any thread failed with in the meantime."""
        from concurrent.futures import FIRST_COMPLETED, wait

        while True:
            for future in self.threaded:
                if future.done():
                    future.result()
            if all(future.done() for future in needed):
                return
            wait((f for f in self.threaded if not f.done()), return_when=FIRST_COMPLETED)

    def _run(self, step: Step, folders: Mapping[str, Callable[[], Path]]) -> Path:
        for name in step.after:
            folders[name]()
        stage, key, note = step.stage, step.key, self.progress.note
        work = partial(stage.run, self.planned.view(step, folders, note))
        if cache.is_cached(self.root, key):
            result = cache.run_stage(self.root, key, work, notify=note, marks=self.marks)
            self.progress.line(stage.name, f"{step.title}: already there")
        else:
            with self.progress.stage(stage.name, step.title):
                result = cache.run_stage(self.root, key, work, notify=note, marks=self.marks)
        self.results.append(result.path)
        if not result.hit:
            self.done.append(stage.name)
        interrupts.check()
        return result.path
