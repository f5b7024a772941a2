"""Runs the steps of a plan through the cache, in the caller's thread or concurrently."""

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
    """One attempt to run a plan; reports each stage to ``progress``.

    Args:
        planned: the plan.
        progress: receives the progress of the stages.
        marks: the build's marks, see :func:`asrbuild.base.cache.in_use`.
        done: receives the names of the stages that ran.
        folders: stage -> the future folder of its results, for each stage that has begun.
        results: results of the stages, from the cache or new.
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
        """Runs a stage in this thread, or starts it in another one."""
        earlier = {name: folder.result for name, folder in self.folders.items()}
        modules = declared(step.stage.threaded, self.planned.recipe)
        if modules:
            # The thread must not import: it would hang if Ctrl-C interrupted this thread's import
            # of the same module.
            for module in modules:
                if module == "coremltools":  # without TensorFlow, which it imports if it can
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
