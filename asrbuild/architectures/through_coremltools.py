"""Conversion by ``coremltools.convert``, in a process of its own: it imports the model's runtime.

A module that converts has a function that loads its model, and ends in :func:`serve_job`.
"""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.architectures.deepspeech.from_graph import decoded_request, encoded_request
from asrbuild.architectures.onnx.section import OnnxConfig, check_steps, signature_of, tensor_names
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.processes import run
from asrbuild.coreml.convert import flexible, is_half
from asrbuild.coreml.mixed import FRONT_END, Mixed
from asrbuild.coreml.package import write_package
from asrbuild.coreml.request import ConversionRequest, model_outputs, specification_version


@dataclass(frozen=True)
class Loaded:
    """A model as coremltools takes it.

    Args:
        source: coremltools' word for its kind.
        inputs, outputs: its own names in their order, where that counts and all must be there.
    """

    model: Any
    source: str
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None


def convert_in_process(
    module: str,
    file: Path,
    config: OnnxConfig,
    request: ConversionRequest,
    destination: Path,
    *,
    what: str,
    fix: str,
) -> None:
    """Writes the package ``destination`` of a model's file, by a module that converts.

    Args:
        what: the model in words; ``fix``: what to do if it cannot be converted.

    Raises:
        AsrbuildError: coremltools cannot convert the model.
    """
    check_steps(config, request)
    with tempfile.TemporaryDirectory() as scratch:
        job = Path(scratch, "job.json")
        job.write_text(
            json.dumps(
                {
                    "file": str(file), "destination": str(destination.absolute()),
                    "config": asdict(config), "request": encoded_request(request),
                }
            )
        )  # fmt: skip
        code, lines = run(module, str(job))
    if code:
        raise AsrbuildError(
            f"coremltools cannot convert {what}: {lines[-1]}", key="source.path", file=file, fix=fix
        )


def serve_job(job: str, load: Callable[[Path], Loaded]) -> None:
    """Converts in this process, which imports the model's runtime."""
    # Ctrl-C ends it at once: a runtime that is being imported could swallow a KeyboardInterrupt.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    values = json.loads(Path(job).read_text("utf-8"))
    request, config = decoded_request(values["request"]), OnnxConfig(**values["config"])
    _convert(load(Path(values["file"])), config, request, Path(values["destination"]))


def _convert(
    loaded: Loaded, config: OnnxConfig, request: ConversionRequest, destination: Path
) -> None:
    import coremltools as ct

    signature = signature_of(config)
    names = tensor_names(config)
    inputs = {}
    for port in signature.inputs:
        sizes = [axis.size for axis in port.axes]

        def filled(length: Any, sizes: list[Any], time: int | None) -> tuple[Any, ...]:
            return tuple(length if at == time else size for at, size in enumerate(sizes))

        shape = partial(filled, sizes=sizes, time=port.time)
        shaped = tuple(sizes) if port.time is None else flexible(ct, shape, request.steps)
        dtype = np.dtype(port.dtype).type
        own = names[port.name]
        inputs[own] = ct.TensorType(own, shape=shaped, dtype=dtype)
    wanted = [names[name] for name in model_outputs(request, signature)]
    for side, given, all_of in (
        ("inputs", list(inputs), loaded.inputs), ("outputs", wanted, loaded.outputs)
    ):  # fmt: skip
        if all_of is not None and (more := set(all_of) - set(given)):
            raise SystemExit(f"its {side} {', '.join(sorted(more))} have no role in the recipe")
    mixed = Mixed(FRONT_END)
    half = ct.transform.FP16ComputePrecision(op_selector=mixed)
    with tempfile.TemporaryDirectory(dir=destination.parent) as scratch:
        package = Path(scratch) / "converted.mlpackage"
        model = ct.convert(
            loaded.model,
            source=loaded.source,
            inputs=[inputs[name] for name in loaded.inputs or inputs],
            outputs=[ct.TensorType(name, dtype=np.float32) for name in loaded.outputs or wanted],
            compute_precision=half if is_half(request) else ct.precision.FLOAT32,
            minimum_deployment_target=ct.target(specification_version(request)),
            skip_model_load=True,
            package_dir=str(package),
        )
        weights = package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
        write_package(model.get_spec(), weights, request, destination)
