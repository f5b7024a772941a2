"""One sweep over both demo models, hama and QuartzNet: every shape, format and precision.

    uv run --group dev benchmarks/cells.py [--only demo,hama] [--whole] [--folder FOLDER]

Prints a line for each cell, as Markdown: its largest errors, the package's size and the seconds of
its build, or its refusal. hama comes from a wheel, and QuartzNet has random weights; both are built
from the drafts of their recipes. Fails if a cell is neither published nor refused with a key and a
fix. ``--whole``: with the whole proof, not two recordings alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCES = ("demo", "demo_conv", "hama", "quartznet")
SHAPES = ("static", "enumerated", "dynamic", "dynamic_to_static", "multifunction")
SHORT = ("verify.inputs=[sample,second]", "verify.edge_lengths=false")


def swept(sources: list[str], folder: Path, short: tuple[str, ...]) -> list[dict[str, Any]]:
    """The record of each cell, in their order."""
    from tests.architectures.recipes import MODELS, write_recipe

    for source in sources:
        if source in MODELS:
            write_recipe(source, folder / "recipes")
    (folder / "recipes").mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "asrbuild.cli.main",
        "--config-dir",
        "recipes",
        "-m",
        f"source={','.join(sources)}",
        f"model={','.join(SHAPES)}",
        "coreml=mlprogram,neuralnetwork",
        "coreml.precision=fp16,fp32",
        *short,
    ]
    environment = os.environ | {
        "ASRBUILD_ARTIFACTS": "artifacts",
        "ASRBUILD_CACHE": "cache",
        "OPENBLAS_NUM_THREADS": "1",
    }
    subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False)
    files = sorted(folder.glob(".asrbuild/sweeps/*/*.json"))
    return [json.loads(path.read_text("utf-8")) for path in files]


def row(cell: dict[str, Any]) -> tuple[str, bool]:
    """A line of the table, and whether the cell is published or refused by name."""
    given = dict(text.split("=", 1) for text in cell["overrides"])
    form = "program" if given["coreml"] == "mlprogram" else "network"
    names = [given["source"], f"{form} {given['coreml.precision']}", given["model"]]
    seconds = f"{cell['seconds']:.1f}"
    if cell["status"] == "failed":
        message = cell["error"].splitlines()[0].rstrip(":")
        named = dict(re.findall(r"^ *(key|fix): (.*)$", cell["error"], re.MULTILINE))
        refusal = f"`{named.get('key')}`: {message}; {named.get('fix')}"
        return f"| {' | '.join([*names, '', '', '', seconds, refusal])} |", len(named) == 2
    figures = cell["figures"]
    numbers = [
        f"{figures['max_abs_error']:.1e}",
        f"{figures['psnr_db']:.0f}",
        f"{cell['package_bytes'] / 1e6:.2f}",
        seconds,
    ]
    return f"| {' | '.join([*names, *numbers])} | |", True


def main() -> int:
    description, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", default=",".join(SOURCES))
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as scratch:
        folder = (chosen.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        cells = swept(chosen.only.split(","), folder, () if chosen.whole else SHORT)
    rows = [row(cell) for cell in cells]
    print("| model | package | shape | max error | PSNR dB | MB | s | refused with |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(text for text, _ in rows))
    built = sum(cell["status"] != "failed" for cell in cells)
    print(f"\n{built} of {len(cells)} cells are published, the others refused")
    return 0 if cells and all(named for _, named in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
