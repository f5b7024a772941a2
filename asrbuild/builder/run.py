"""One run of a plan's steps: each through the cache, in the caller's thread or next to it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from asrbuild.base import cache, interrupts
from asrbuild.base.progress import Progress
from asrbuild.base.threads import Workers
from asrbuild.builder.plan import Plan, PlanStep, declared


@dataclass(frozen=True)
class Attempt:
    """One attempt at a plan, with a line for each stage to the person who watches.

    Args:
        planned: the plan.
        progress: where the lines go.
        marks: the build's marks, see :func:`asrbuild.base.cache.in_use`.
        done: the names of the stages that did work are added to it.
        folders: the results of each stage that has begun.
        results: the results that were there or made.
    """

    planned: Plan
    progress: Progress
    marks: Path | None
    done: list[str]
    folders: dict[str, Future[Path]] = field(default_factory=dict)
    results: list[Path] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The cache."""
        return Path(self.planned.recipe.paths.cache)

    def start(self, step: PlanStep, threads: Workers) -> None:
        """Runs a stage here, or begins it in a thread."""
        earlier = {name: folder.result for name, folder in self.folders.items()}
        modules = declared(step.stage.threaded, self.planned.recipe)
        if modules:
            # A thread imports nothing: it would hang if Ctrl-C interrupted this thread's import of
            # the same module.
            for module in modules:
                if module == "coremltools":  # without TensorFlow, which it imports where it can
                    from asrbuild.coreml.speedups.importing import import_coremltools

                    import_coremltools()
                else:
                    importlib.import_module(module)
            self.folders[step.stage.name] = threads.submit(self._run, step, earlier)
            return
        threads.wait([self.folders[name] for name in step.after])
        finished: Future[Path] = Future()
        self.folders[step.stage.name] = finished
        finished.set_result(self._run(step, earlier))

    def _run(self, step: PlanStep, folders: Mapping[str, Callable[[], Path]]) -> Path:
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
