"""A stand-in for Slurm's ``sbatch``, ``srun`` and ``sacct``, as far as submitit uses them.

The script is linked under each of these names. ``sbatch`` runs the batch script it is given once
for each task of its array concurrently, with the variables that Slurm sets. The folder
$SLURM_STAND_IN holds ``batch.json``, the ``#SBATCH`` parameters, and the state of each task.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

JOB = "4711"


def sbatch(script: str) -> None:
    """Starts every task and returns, as Slurm does."""
    lines = [line for line in Path(script).read_text().splitlines() if line.startswith("#SBATCH")]
    parameters = dict(line.split("--", 1)[1].split("=", 1) for line in lines if "=" in line)
    home = Path(os.environ["SLURM_STAND_IN"])
    (home / "batch.json").write_text(json.dumps(parameters))
    first, last = (int(bound) for bound in parameters["array"].split("%")[0].split("-"))
    for task in range(first, last + 1):
        environment = {
            "SLURM_JOB_ID": f"{int(JOB) + task}",
            "SLURM_ARRAY_JOB_ID": JOB,
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_NTASKS": "1",
            "SLURM_LOCALID": "0",
            "SLURM_PROCID": "0",
            "SLURM_NODEID": "0",
            "SLURM_JOB_NUM_NODES": "1",
        }
        state = home / f"{JOB}_{task}"
        state.write_text("RUNNING")
        # Renamed into place: sacct must never read a state that is half written.
        finish = (
            f'bash "$0"; test $? = 0 && s=COMPLETED || s=FAILED; '
            f'printf $s > "{home}/next_{task}"; mv "{home}/next_{task}" "{state}"'
        )
        with open(os.devnull, "w") as nowhere:
            subprocess.Popen(
                ["bash", "-c", finish, script],
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=nowhere,
                stderr=nowhere,
            )
    print(f"Submitted batch job {JOB}")


def srun(arguments: list[str]) -> None:
    """Runs a task with its output in the files of ``--output`` and ``--error``."""
    names = {"%A": JOB, "%a": os.environ["SLURM_ARRAY_TASK_ID"], "%t": "0", "%j": JOB}
    for stream, flag in ((1, "--output"), (2, "--error")):
        path = arguments[arguments.index(flag) + 1]
        for mark, text in names.items():
            path = path.replace(mark, text)
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    command = arguments[arguments.index("--error") + 2 :]
    os.execvp(command[0], command)


def sacct() -> None:
    """Prints the state of every task in the form of ``--parsable2``."""
    print("JobID|State|NodeList")
    for state in sorted(Path(os.environ["SLURM_STAND_IN"]).glob(f"{JOB}_*")):
        print(f"{state.name}|{state.read_text()}|here")


if __name__ == "__main__":
    name = Path(sys.argv[0]).name
    if name == "sbatch":
        sbatch(sys.argv[-1])
    elif name == "srun":
        srun(sys.argv[1:])
    else:
        sacct()
