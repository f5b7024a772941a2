"""``asrbuild build``: builds one recipe, or a sweep of several."""

from __future__ import annotations

from typing import Annotated

import typer


def build(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Hydra overrides and flags: key=value, group=choice, -m, --cfg job."),
    ] = None,
) -> None:
    """Build one recipe, or sweep several with -m.

    Groups: model (static, dynamic, dynamic_to_static, enumerated, multifunction, exported), source
    (demo, demo_conv, checkpoint, frozen_graph, onnx, saved_model, tensorflow_graph, torch_export),
    coreml (mlprogram, neuralnetwork), decoder (greedy, beam, ds_ctcdecoder), tune (none, scorer),
    verify (default, quick, half), export (deepspeech).

    --from ARTIFACT builds the recipe of an artifact's manifest again, with given values changed.
    --json writes each event as a JSON object on one line, the result last; -q writes no stages.

    Examples:
        asrbuild model=dynamic
        asrbuild -m model=dynamic_to_static n_steps=16,32
        asrbuild build --from demo-static-mlprogram coreml.precision=fp32
        asrbuild source=checkpoint source.checkpoint_dir=demo:checkpoint
    """
    from asrbuild.builder.sweep import build_from_command_line

    raise typer.Exit(build_from_command_line(list(overrides or [])))
