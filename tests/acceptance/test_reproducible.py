"""A recipe gives the same bytes on another day, with another hash seed and in another folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asrbuild.artifact.reading import read_manifest
from tests import kernels
from tests.acceptance.conftest import Workshop, run_asrbuild

#: Runs the command line forty days from now, on a given number of processors.
LATER = (
    "import os\n"
    "if 'PROCESSORS' in os.environ and hasattr(os, 'sched_setaffinity'):\n"
    "    usable = sorted(os.sched_getaffinity(0))\n"
    "    os.sched_setaffinity(0, usable[:int(os.environ['PROCESSORS'])])\n"
    "import datetime, time_machine\n"
    "then = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=40)\n"
    "time_machine.travel(then).start()\n"
    "from asrbuild.cli.main import main\n"
    "main()\n"
)
#: The settings of another machine: its Python, clock, language and libraries.
ELSEWHERE = {
    "PYTHONHASHSEED": "4242",
    "TZ": "Asia/Kathmandu",
    "LC_ALL": "POSIX",
    "OMP_NUM_THREADS": "3",
}
#: Format -> the BLAS kernel of the other machine.
THREADS = {
    "mlprogram": {"OPENBLAS_NUM_THREADS": "1", "PROCESSORS": "1"},
    "neuralnetwork": {"OPENBLAS_NUM_THREADS": "1"},
}
#: Files with facts of one run; SHA256SUMS covers them, so it differs too.
FACTS_OF_ONE_RUN = {"manifest.json", "report.md", "report.html", "SHA256SUMS"}


def _digests(artifact: Path) -> dict[str, str]:
    return {
        path.relative_to(artifact).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(artifact.rglob("*"))
        if (path.is_file() and path.name not in FACTS_OF_ONE_RUN)
        or (path.relative_to(artifact).as_posix().startswith("model.") and path.is_file())
    }


@pytest.mark.parametrize("coreml", THREADS)
def test_bytes_do_not_depend_on_day_seed_or_folder(
    workshop: Workshop, coreml: str, tmp_path: Path
) -> None:
    first = workshop.artifact("enumerated", coreml)
    done = subprocess.run(
        [sys.executable, "-c", LATER, "model=enumerated", f"coreml={coreml}"],
        cwd=tmp_path,
        env=os.environ | ELSEWHERE | THREADS[coreml],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    again = tmp_path / "artifacts" / first.parent.name / first.name
    assert again.is_dir(), "another version came out"
    digests = _digests(first)
    assert len(digests) >= 4
    assert _digests(again) == digests
    pages = [
        (path / "report.html").read_text("utf-8").partition('<section id="provenance">')
        for path in (first, again)
    ]
    assert pages[0][0] == pages[1][0], "before its provenance a page is the same"
    assert pages[0][2]
    created = [
        (path / "manifest.json").read_text().split('"created": "')[1][:10]
        for path in (first, again)
    ]
    assert created[0] < created[1]
    # A machine with a correct clock uses the other one's cache entries as its own.
    nothing = run_asrbuild("model=enumerated", f"coreml={coreml}", cwd=tmp_path)
    assert nothing.code == 0, nothing.err
    assert "nothing to do" in nothing.out
    for listing in (("cache", "ls"), ("ls",)):
        listed = run_asrbuild(*listing, cwd=tmp_path)
        assert listed.code == 0, listed.err
        assert " -" not in listed.out, "an age below zero"


def test_the_version_does_not_depend_on_the_kernel(tmp_path: Path) -> None:
    """Neither the version nor the transcripts depend on the rounding of the processor's BLAS."""
    chosen = [name for name in kernels.supported() if name != "Sandybridge"]
    if len(chosen) < 2:
        pytest.skip(kernels.why_not() or "this processor runs only one of the kernels")
    found = {}
    for kernel in chosen:
        (tmp_path / kernel).mkdir()
        done = run_asrbuild(
            "model=static",
            "verify=quick",
            "coreml.compress=palettize_6",
            cwd=tmp_path / kernel,
            env={kernels.VARIABLE: kernel},
        )
        assert done.code == 0, done.err
        (path,) = (tmp_path / kernel / "artifacts").glob("*/1.0.0+*")
        transcripts = read_manifest(path).verification.transcripts
        found[kernel] = path.name, [(words.input, words.package) for words in transcripts]
    first = found[chosen[0]]
    assert first[1], "no words were compared"
    assert found == dict.fromkeys(chosen, first)
