"""The chain of stages for one recipe: what ``asrbuild model=dynamic`` does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.artifact import integrity, store
from asrbuild.artifact.layout import RECEIPT
from asrbuild.base import disk, interrupts, threads
from asrbuild.base.cache import (
    StageKey,
    StageResult,
    claim,
    entry_path,
    in_use,
    is_cached,
    require_own,
    run_stage,
)
from asrbuild.base.digest import remember_digest
from asrbuild.base.disk import SHARED, full_disk_errors, keep_to_oneself, read_plain
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.progress import Progress
from asrbuild.build.recipe import Recipe, network_of, validate
from asrbuild.build.sources import Source, settle
from asrbuild.build.stages import DOING, Chain, chain

if TYPE_CHECKING:
    from concurrent.futures import Future

    from asrbuild.build.assembly import Proven
    from asrbuild.build.work import Inputs


@dataclass(frozen=True)
class Receipt:
    """What was published.

    ``parity``: the proof in one line; ``figures``: the worst value of each metric of the
    probabilities over all inputs. ``transcripts``: recording -> the package's words;
    ``expected``: recording -> what was said, where that is known and the alphabet can spell it.
    ``wer``: the word error rate over all recordings whose words are known, 1.0 is as many errors as
    words. ``compress``: the ways in which
    weights are compressed, joined by a plus. ``bytes`` are the artifact's, ``package_bytes`` the
    Core ML package's.
    """

    name: str
    version: str
    bytes: int
    parity: str
    figures: dict[str, float]
    transcripts: dict[str, str]
    expected: dict[str, str]
    transcripts_match: bool
    core_ml_executed: bool
    compress: str
    package_bytes: int
    wer: float | None


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
    validate(recipe)
    cache, artifacts = Path(recipe.paths.cache), Path(recipe.paths.artifacts)
    _require_own(recipe)
    recipe, source = settle(recipe, cache)
    validate(recipe)
    keys = chain(recipe, source)
    receipt = _kept(cache, artifacts, keys.artifact)
    done: list[str] = []
    if receipt is None:
        # Not before: what it reads takes longer to import than all else of a build with nothing to
        # do, and a published recipe has passed it.
        from asrbuild.build.describe import check_recipe

        for remark in check_recipe(recipe):
            progress.note(remark)
        receipt = _work_in(
            cache,
            progress,
            done,
            lambda run: _work(_Job(recipe, source, keys, run, move_latest), overrides),
        )
    path = artifacts / receipt.name / receipt.version
    stages = tuple(key.stage for key in keys.ordered() if key.stage in done)
    return Built(receipt, path, stages, time.perf_counter() - start)


def _require_own(recipe: Recipe) -> None:
    """Nobody but the user, or whom he trusts, may have written what a build finds."""
    if recipe.paths.trust_shared:
        os.environ[SHARED] = "1"  # for this process, and those it starts
    keep_to_oneself()
    require_own(Path(recipe.paths.cache))
    artifacts = Path(recipe.paths.artifacts)
    disk.require_own(artifacts, artifacts / recipe.name)


def _work_in(
    cache: Path, progress: Progress, done: list[str], work_with: Callable[[_Stages], Receipt]
) -> Receipt:
    """Every stage; once more where a result that was there vanished under the build (``rm -r``)."""
    for attempts_left in (2, 1, 0):
        with in_use(cache) as marks:
            run = _Stages(cache, progress, done, marks)
            try:
                return work_with(run)
            except Exception:
                if not attempts_left or all(path.exists() for path in run.given):
                    raise
        progress.note("a result of this build was removed from the cache; making it again")
    raise AssertionError("the last attempt returns or raises")


@dataclass(frozen=True)
class _Job:
    """What every step of one build needs."""

    recipe: Recipe
    source: Source
    keys: Chain
    run: _Stages
    move_latest: bool


@dataclass(frozen=True)
class _Executed:
    """Both sides of a proof.

    ``inputs``: directories of the stages; ``outputs``: what the package gave. ``staging``: where
    the artifact is put together, ``copied`` the package's files there, path -> SHA-256.
    """

    inputs: Inputs
    outputs: Path
    staging: Path
    copied: dict[str, str]


def _work(job: _Job, overrides: Sequence[str]) -> Receipt:
    """Every stage, and then the artifact."""
    # Imported where there is work to do: a build with nothing to do is told so without numpy.
    from contextlib import ExitStack
    from functools import partial

    from asrbuild.build import work

    work.check_decoder(job.recipe, job.source)
    if job.source.graph is not None:
        work.check_graph(job.recipe, job.source.graph)
    for remark in work.remarks(job.recipe, job.source):
        job.run.progress.note(remark)
    with ExitStack() as opened:
        # Not before there is a package: a build that is refused leaves not even an empty store.
        store_root = Path(job.recipe.paths.artifacts)
        staging = partial(opened.enter_context, store.staging(store_root))
        return _publish(job, overrides, _prove(job, staging))


def _prove(job: _Job, staging: Callable[[], Path]) -> Proven:
    """Every stage up to the proof and the word errors; the package is copied beside them."""
    from asrbuild.build import assembly, work

    recipe, source, keys, run = job.recipe, job.source, job.keys, job.run
    cases = run(keys.cases, lambda at: work.cases(at, recipe, source))
    found = _execute(job, cases, staging)
    inputs, graph = found.inputs, found.inputs.graph
    proof = run(keys.prove, lambda at: work.prove(at, recipe, source, inputs, found.outputs))
    evaluated = None
    if keys.evaluate is not None:
        evaluated = run(
            keys.evaluate,
            lambda at: work.evaluate(
                at, recipe, source, graph, inputs.converted, run.progress.note
            ),
        )
    return assembly.Proven(inputs.converted, proof, evaluated, found.staging, found.copied)


def _execute(job: _Job, cases: Path, staging: Callable[[], Path]) -> _Executed:
    """Executes the package and the graph.

    The graph is written, and run by TensorFlow in its own process, and the package is copied,
    beside what this thread does with it. What fails here ends those, too; what failed there is told
    before the next stage.
    """
    import importlib
    from concurrent.futures import FIRST_EXCEPTION, wait
    from functools import partial

    # The threads must import nothing: were Ctrl-C to break an import off in this one, they would
    # wait for that module for ever.
    import asrbuild.proof.prefixes  # noqa: F401
    from asrbuild.build import assembly, work

    recipe, source, keys, run = job.recipe, job.source, job.keys, job.run
    for module in network_of(recipe)[0].THREAD_MODULES:
        importlib.import_module(module)

    def export() -> Path:
        if source.graph is not None:
            return source.graph
        assert keys.export is not None
        return run(keys.export, lambda at: work.export(at, recipe, source)) / work.GRAPH

    def reference() -> Path:
        original = work.original_of(recipe, source, exported.result())
        body = partial(
            work.reference, architecture=network_of(recipe)[0], original=original, cases=cases
        )
        return run(keys.reference, body)

    def copy() -> dict[str, str]:
        artifacts = Path(recipe.paths.artifacts)
        with full_disk_errors("putting the artifact together", artifacts):
            return assembly.copy_package(put_together, recipe, converted)

    with threads.pool(3) as pool:
        exported = pool.submit(export)
        referred = pool.submit(reference)
        body = partial(work.convert, recipe=recipe, source=source, exported=exported.result)
        converted = run(keys.convert, body)
        put_together = staging()
        copied = pool.submit(copy)
        side = (exported, referred, copied)
        _raise_failure(side)
        executed = run(keys.execute, lambda at: work.execute(at, recipe, source, converted, cases))
        wait(side, return_when=FIRST_EXCEPTION)
        _raise_failure(side)
        inputs = work.Inputs(converted, cases, referred.result(), exported.result())
    return _Executed(inputs, executed, put_together, copied.result())


def _raise_failure(running: Sequence[Future[Any]]) -> None:
    """Raises what one of these failed with, if one has by now."""
    for future in running:
        if future.done():
            future.result()


def _publish(job: _Job, overrides: Sequence[str], proven: Proven) -> Receipt:
    """Puts the artifact together in the store, moves it into place, and keeps a receipt."""
    from asrbuild.build import assembly, work

    recipe, source, keys, run = job.recipe, job.source, job.keys, job.run
    artifacts = Path(recipe.paths.artifacts)
    with run.progress.stage("artifact", DOING["artifact"]):
        with full_disk_errors("putting the artifact together", artifacts):
            manifest = assembly.assemble(recipe, source, overrides, proven)
        # Of the directory that nobody else knows.
        receipt = Receipt(**assembly.receipt_fields(manifest, proven.staging, recipe))
        path = store.publish(
            artifacts,
            manifest.name,
            proven.staging,
            manifest.version,
            digests={file.path: file.sha256 for file in manifest.files},
            known=proven.copied,
            move_latest=job.move_latest,
        )
        # With the list of digests, unless a clean-up took it at once.
        receipt = replace(receipt, bytes=work.tree_bytes(path) or receipt.bytes)
    for file in manifest.files:
        # A clean-up may have taken it at once, if its clock says so: it was published all the same.
        with suppress(AsrbuildError):
            remember_digest(path / file.path, run.cache, file.sha256)
    text = json.dumps(asdict(receipt), indent=2, ensure_ascii=False) + "\n"
    run_stage(
        run.cache,
        keys.artifact,
        lambda at: work.write_text(at / RECEIPT, text),
        notify=run.progress.note,
    )
    run.done.append("artifact")
    return receipt


def published(cache: Path, artifacts: Path, key: StageKey) -> Receipt | None:
    """The receipt of an earlier build of the same recipe whose artifact is still there."""
    if not is_cached(cache, key):
        return None
    try:
        receipt = Receipt(**json.loads(read_plain(entry_path(cache, key) / RECEIPT)))
    except OSError:
        return None  # removed at this moment
    there = artifacts / receipt.name / receipt.version
    return receipt if integrity.is_published(there, cache) else None


def _kept(cache: Path, artifacts: Path, key: StageKey) -> Receipt | None:
    """The receipt of what is published already, which from now on no clean-up removes."""
    receipt = published(cache, artifacts, key) if claim(cache, key) else None
    # Nothing was built, so a pointer that is there stays; a receipt is written after the pointer.
    if receipt and store.point_latest(artifacts, receipt.name, receipt.version, move=False):
        return receipt
    return None


@dataclass(frozen=True)
class _Stages:
    """Runs stages through the cache and tells the person watching."""

    cache: Path
    progress: Progress
    done: list[str]
    marks: Path | None
    given: list[Path] = field(default_factory=list)

    def __call__(self, key: StageKey, body: Callable[[Path], None]) -> Path:
        doing = DOING[key.stage]
        if is_cached(self.cache, key):
            result = self._run(key, body)
            self.progress.line(key.stage, f"{doing}: already there")
        else:
            with self.progress.stage(key.stage, doing):
                result = self._run(key, body)
        self.given.append(result.path)
        if not result.hit:
            self.done.append(key.stage)
        interrupts.check()
        return result.path

    def _run(self, key: StageKey, body: Callable[[Path], None]) -> StageResult:
        return run_stage(self.cache, key, body, notify=self.progress.note, marks=self.marks)
