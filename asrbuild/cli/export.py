"""``asrbuild export``: writes the original of a build as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.options import ConfigDirOption, JsonOption


def export(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Hydra overrides, as for a build: source=checkpoint."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")
    ] = Path("output_graph.pb"),
    config_dir: ConfigDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the frozen graph of a build, the original that its package is compared with.

    TensorFlow and DeepSpeech's client read it. A build with the same recipe does not export it
    again.

    Examples:
        asrbuild export
        asrbuild export source=checkpoint \\
          source.checkpoint_dir=demo:checkpoint -o my.pb
    """
    import filecmp
    import shutil

    from asrbuild.base.disk import disk_errors
    from asrbuild.base.progress import Progress
    from asrbuild.builder.api import compose
    from asrbuild.builder.engine import export_original

    if output.is_dir():
        raise AsrbuildError("this is a folder", key="--output", file=output, fix="name a file")
    graph = export_original(compose(*(overrides or ()), config_dir=config_dir), Progress())
    if output.exists() and not filecmp.cmp(graph, output, shallow=False):
        raise AsrbuildError(
            "another file is there, and is not overwritten",
            key="--output",
            file=output,
            fix=f"remove it, or name another one: --output {output.stem}-new{output.suffix}",
        )
    with disk_errors("writing the graph", output):
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(graph, output)
    size = output.stat().st_size
    if as_json:
        terminal.say_json({"file": str(output), "bytes": size})
    else:
        terminal.say(f"{output}: {size:,} bytes")
