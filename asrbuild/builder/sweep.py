"""Builds from the command line through Hydra: one build, or a sweep with a table of its jobs."""

from __future__ import annotations

import json
import math
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.base import terminal
from asrbuild.base.disk import disk_errors, write_atomically
from asrbuild.base.errors import AsrbuildError, GatesError, MisuseError
from asrbuild.base.progress import Event, Progress
from asrbuild.builder import ahead
from asrbuild.builder.api import build_or_tune
from asrbuild.builder.compose import compose_recipe, run_hydra, swept_in_config, to_recipe
from asrbuild.builder.composed import composed, remember
from asrbuild.builder.config_folders import check_folders
from asrbuild.builder.naming import told_apart
from asrbuild.builder.overrides import is_plain
from asrbuild.builder.record import published_overrides
from asrbuild.builder.sweep_jobs import RECORDS, about, count, done

if TYPE_CHECKING:
    from asrbuild.builder.engine import Built
    from asrbuild.handover.report.sweep import JobRecord

#: The variable for the output of a build, ``--json`` or ``--quiet``; inherited likewise.
OUTPUT = "ASRBUILD_BUILD_OUTPUT"
_QUIET = ("-q", "--quiet")
_JSON = "--json"
FROM = "--from"
_INTERRUPTED = "interrupted"
_LOST = (
    "its process ended without a word: it was killed, or its machine had no memory left\n"
    "  fix: run the sweep again with fewer jobs at a time; what is finished is not done again"
)
#: The page of a sweep and its table, in ``hydra.sweep.dir``.
PAGE, TABLE = "sweep.html", "sweep.csv"
_MULTIRUN = ("-m", "--multirun", "hydra.mode=MULTIRUN")


def build_from_command_line(argv: list[str]) -> int:
    """Runs ``asrbuild [flags] key=value ...``; returns the exit code, 0 if every job succeeded.

    With ``--json`` each event is one line of standard output, a JSON object: the start or end of a
    stage, a remark, a failure, and finally the result.
    """
    os.environ[OUTPUT] = _JSON if _JSON in argv else next((f for f in _QUIET if f in argv), "")
    argv = check_folders([argument for argument in argv if argument not in (_JSON, *_QUIET)])
    try:
        return _build(argv)
    except AsrbuildError as error:
        if os.environ[OUTPUT] == _JSON:
            _say_event("failed", None, error.fields)
        raise


def _build(argv: list[str]) -> int:
    if FROM in argv:
        _build_again(argv)
        return 0
    if is_plain(argv):
        known = composed(argv)
        recipe = known or compose_recipe(argv)
        _tell(build_or_tune(recipe, argv, _progress()))
        if known is None:
            remember(argv, recipe)
        return 0
    if not any(flag in argv for flag in _MULTIRUN) and not swept_in_config(argv):
        run_hydra(_single_job, argv)
        return 0
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    records = Path(".asrbuild", "sweeps", f"{stamp}-{secrets.token_hex(3)}").absolute()
    os.environ[RECORDS] = str(records)
    # Launchers start `python -m`; from Python 3.11 on, this keeps the current folder off its path.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    try:
        records.mkdir(parents=True)
    except OSError as error:
        raise AsrbuildError(
            f"the sweep cannot keep its records: {error.strerror}",
            file=records,
            fix="run it in a folder you may write to",
        ) from error
    start = time.perf_counter()
    stopped: BaseException | None = None
    try:
        run_hydra(_sweep_job, argv)
    except BaseException as error:
        stopped = error
        if not any(records.glob("*.json")):
            raise
    finally:
        ahead.end()
    jobs = read_records(records, _INTERRUPTED if isinstance(stopped, KeyboardInterrupt) else _LOST)
    _tell_all(jobs, records, time.perf_counter() - start)
    if stopped is not None:
        raise _stop(stopped)
    failed = [job for job in jobs if job.status == "failed"]
    return 1 if failed or not jobs else 0


def _build_again(argv: list[str]) -> None:
    """Runs ``--from ARTIFACT key=value ...``: builds its manifest's recipe with these values."""
    from asrbuild.builder.again import recipe_of

    at = argv.index(FROM)
    rest = argv[:at] + argv[at + 2 :]
    if at + 1 == len(argv) or not is_plain(rest):
        raise MisuseError(
            f"{FROM} takes one artifact, and no flag beside it",
            key=FROM,
            fix=f"write `asrbuild build {FROM} NAME key=value`",
        )
    recipe, overrides = recipe_of(argv[at + 1], rest)
    _tell(build_or_tune(recipe, overrides, _progress()))


def _stop(error: BaseException) -> BaseException:
    """The error for a sweep whose launcher failed after its jobs had begun."""
    cause = error.__cause__
    if not isinstance(error, AsrbuildError) or cause is None or isinstance(cause, AsrbuildError):
        return error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    stopped = AsrbuildError(
        f"the launcher lost jobs: {lines[0]}",
        key="hydra/launcher",
        fix="run the sweep again; what is finished is not done again",
    )
    stopped.__cause__ = cause
    return stopped


def _tell_all(jobs: list[JobRecord], records: Path, seconds: float) -> None:
    """Prints the table of a sweep and the address of its page."""
    from asrbuild.handover.report.comparison import csv_text, job_rows, swept_columns, write_page
    from asrbuild.handover.report.sweep import print_table

    sweep = about(records)
    folder = Path(sweep.folder)
    total = max(len(jobs), sweep.jobs or 0)  # an interrupted sweep has no record of later jobs
    page, title = folder / PAGE, f"Sweep of {count(total)}"
    table = write_page(page, title, job_rows(jobs), swept_columns(jobs), sweep.better)
    with disk_errors("writing the table of the sweep", folder / TABLE):
        (folder / TABLE).write_text(csv_text(table), encoding="utf-8", newline="")
    if os.environ.get(OUTPUT) == _JSON:
        rows = [asdict(job) for job in jobs]
        _say_event("swept", None, {"jobs": rows, "page": page, "seconds": round(seconds, 3)})
        return
    print_table(jobs, count(total), seconds)
    terminal.say(f"page: {os.path.relpath(page)}")
    terminal.say(f"csv: {os.path.relpath(folder / TABLE)}")


def _progress(job: int | None = None) -> Progress:
    """The progress of a build, or of a job of a sweep."""
    prefix = "" if job is None else f"[{job}] "
    asked = os.environ.get(OUTPUT)
    if asked == _JSON:
        return Progress(prefix, lambda event: _say_event(event.kind, job, _values(event)))
    if asked in _QUIET:
        spoken = Progress(prefix)
        return Progress(
            prefix, lambda event: spoken.note(event.text) if event.kind == "note" else None
        )
    return Progress(prefix)


def _values(event: Event) -> dict[str, Any]:
    values = {"stage": event.stage, "text": event.text, "seconds": event.seconds}
    return {name: value for name, value in values.items() if value not in ("", None)}


def _say_event(kind: str, job: int | None, values: Mapping[str, Any]) -> None:
    terminal.say_json(
        {"event": kind, **({} if job is None else {"job": job}), **values}, indent=None
    )


def _single_job(config: Any) -> Returned:
    recipe = to_recipe(config)
    built = build_or_tune(recipe, _task_overrides(), _progress())
    _tell(built)
    return _returned(recipe.tune.returns, _figures(built))


#: The value that a job returns to Hydra's sweeper: None, one figure, or several.
Returned = float | list[float] | None


def _figures(built: Built) -> dict[str, float | None]:
    """Figure -> value, for every figure that ``tune.returns`` can name."""
    receipt = built.receipt
    rates = {"wer": receipt.wer, "set_wer": receipt.set_wer}
    sizes = {"bytes": receipt.bytes, "package_bytes": receipt.package_bytes}
    return {**rates, "seconds": built.seconds, **sizes, **receipt.figures}


def _returned(names: Sequence[str], figures: Mapping[str, float | None]) -> Returned:
    """The figures with these names; for one name, the figure itself.

    Raises:
        AsrbuildError: the build does not have a figure.
    """
    values = []
    for name in names:
        value = figures.get(name)
        if value is None:
            known = ", ".join(key for key, each in figures.items() if each is not None)
            raise AsrbuildError(
                f"this build has no figure {name}",
                key="tune.returns",
                fix=f"choose of {known}; wer requires recordings with known words, and set_wer "
                "requires verify.evaluation",
            )
        values.append(float(value))
    return values[0] if len(values) == 1 else values or None


def _sweep_job(config: Any) -> Returned:
    """Runs one job of a sweep and records its end; a failure does not stop the other jobs."""
    from hydra.core.hydra_config import HydraConfig

    from asrbuild.handover.report.sweep import JobRecord

    start = time.perf_counter()
    number = int(HydraConfig.get().job.num)
    asked = _task_overrides()
    overrides = tuple(published_overrides(asked))
    progress = _progress(number)
    sweep = about(Path(os.environ[RECORDS]))
    of = "" if sweep.jobs is None else f"{number + 1} of {sweep.jobs}: "
    shown = [each for each in overrides if each.lstrip("+~").partition("=")[0] in sweep.varied]
    progress.line("job", of + " ".join(shown or overrides), kind="started")
    # This record remains if the job's process is killed.
    _write(_unfinished(number, overrides, "running", 0.0, ""))
    try:
        recipe = told_apart(to_recipe(config), asked, sweep.varied)
        # A sweep cannot decide which of its jobs becomes the latest.
        built = build_or_tune(recipe, asked, progress, move_latest=False)
        returned = _returned(recipe.tune.returns, _figures(built))
    except KeyboardInterrupt:
        seconds = time.perf_counter() - start
        _write(_unfinished(number, overrides, "failed", seconds, _INTERRUPTED))
        raise
    except Exception as error:
        if not isinstance(error, AsrbuildError) and os.environ.get("ASRBUILD_DEBUG"):
            raise
        text = (
            str(error) if isinstance(error, AsrbuildError) else f"{type(error).__name__}: {error}"
        )
        progress.note(f"failed: {text}")
        seconds = time.perf_counter() - start
        failed = _unfinished(number, overrides, "failed", seconds, text)
        if isinstance(error, GatesError) and error.package is not None:
            from asrbuild.builder.publish import package_figures

            figures = package_figures(error.verification, error.package, recipe.coreml)
            failed = replace(failed, **figures)
        _end(failed, progress)
        # For a sweeper that optimises, this is a failed trial.
        nothing = [math.nan] * len(config.tune.returns)
        return nothing[0] if len(nothing) == 1 else nothing or None
    receipt = built.receipt
    record = JobRecord(
        number,
        overrides,
        "built" if built.stages else "unchanged",
        receipt.name,
        receipt.version,
        str(built.path.absolute()),
        receipt.bytes,
        receipt.figures,
        receipt.transcripts_match,
        built.seconds,
        "",
        receipt.compress,
        receipt.package_bytes,
        receipt.wer,
    )
    _end(record, progress)
    if built.stages:
        ahead.begin(number, receipt.package_bytes, sweep.varied)
    return returned


def _unfinished(
    number: int, overrides: tuple[str, ...], status: str, seconds: float, error: str
) -> JobRecord:
    from asrbuild.handover.report.sweep import JobRecord

    return JobRecord(number, overrides, status, "", "", "", 0, {}, False, seconds, error)


def _task_overrides() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)


def _write(record: JobRecord) -> None:
    target = Path(os.environ[RECORDS], f"{record.number:04d}.json")
    with disk_errors("keeping a record of the sweep", target):
        write_atomically(target, json.dumps(asdict(record), indent=2) + "\n")


def _end(record: JobRecord, progress: Progress) -> None:
    """Writes the record of a job that has ended, and reports the progress of the sweep."""
    _write(record)
    state, asked = done(Path(os.environ[RECORDS])), os.environ.get(OUTPUT)
    if asked == _JSON:
        _say_event("job", record.number, {"status": record.status, **asdict(state)})
    elif asked not in _QUIET:
        progress.line("job", f"{record.status}; {state}", record.seconds)


def read_records(folder: Path, lost: str = _LOST) -> list[JobRecord]:
    """Reads the records of a finished sweep's jobs, in the order of the jobs.

    A job whose record says that it runs has failed; ``lost`` is the reason.
    """
    from asrbuild.handover.report.sweep import JobRecord

    jobs = []
    for path in sorted(folder.glob("*.json")):
        fields = json.loads(path.read_text(encoding="utf-8"))
        job = JobRecord(**fields | {"overrides": tuple(fields["overrides"])})
        jobs.append(replace(job, status="failed", error=lost) if job.status == "running" else job)
    return jobs


def _tell(built: Built) -> None:
    """Prints the result of one build."""
    receipt = built.receipt
    if os.environ.get(OUTPUT) == _JSON:
        values = {"path": built.path, "stages": built.stages, "seconds": round(built.seconds, 3)}
        _say_event("built", None, asdict(receipt) | values)
        return
    lines = [
        f"{receipt.name} {receipt.version}",
        f"  artifact    {built.path}  ({receipt.bytes / 1e6:.1f} MB)",
        f"  parity      {receipt.parity}",
    ]
    for name, words in receipt.transcripts.items():
        lines.append(f"  {name:<11} {words!r}")
        expected = receipt.expected.get(name)
        if expected is not None:
            lines.append(f"              {_judge(words, expected)}")
    if not receipt.expected:
        lines.append(
            "  words       no known words were checked: the proof compares the package with the "
            "original; give some with source.sample.text=words.txt"
        )
    if not receipt.core_ml_executed:
        also = " and by Apple's Core AI runtime" if receipt.witnessed else ""
        lines.append(
            f"  executed    by asrbuild's executor{also}; Core ML itself runs on macOS only"
        )
    if receipt.also is not None:
        lines.append(f"  also        {'/'.join(receipt.also)}, for Core AI (iOS 27, macOS 27)")
    if built.stages:
        lines.append(f"  done        {', '.join(built.stages)} in {built.seconds:.1f} s")
    else:
        lines.append("  done        nothing to do: this recipe is built and published already")
    terminal.say("\n".join(lines))


def _judge(words: str, expected: str) -> str:
    if words == expected:
        return "as spoken, word for word"
    if not set(words.split()) & set(expected.split()):
        return f"WRONG: no word is as spoken: {expected!r}"
    return f"spoken: {expected!r}"
