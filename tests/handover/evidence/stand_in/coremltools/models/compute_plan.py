"""``MLComputePlan``: the structure of a package, and an invented plan.

The structure has constants, as Core ML's has. ``lstm`` is planned for the CPU, and ``cast`` has no
answer. ``STAND_IN_PLAN=nothing`` has none at all; ``crash`` ends the process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asrbuild.coreml.executor.package import read_spec
from coremltools import ComputeUnit
from coremltools.models.compute_device import (
    MLComputeDevice,
    MLCPUComputeDevice,
    MLGPUComputeDevice,
    MLNeuralEngineComputeDevice,
)


@dataclass
class Named:
    name: str


@dataclass
class Operation:
    operator_name: str
    outputs: list[Named]
    blocks: list[Block]


@dataclass
class Block:
    operations: list[Operation]


@dataclass
class Function:
    block: Block


@dataclass
class Program:
    functions: dict[str, Function]


@dataclass
class Layer:
    name: str
    type: str


@dataclass
class Network:
    layers: list[Layer]


@dataclass
class Structure:
    neuralnetwork: Network | None = None
    program: Program | None = None
    pipeline: None = None


@dataclass
class Usage:
    preferred_compute_device: MLComputeDevice
    supported_compute_devices: list[MLComputeDevice] = field(default_factory=list)


@dataclass
class Cost:
    weight: float


def _block(message: Any) -> Block:
    return Block(
        [
            Operation(
                op.type if op.type == "const" else f"ios16.{op.type}",
                [Named(one.name) for one in op.outputs],
                [_block(inner) for inner in op.blocks],
            )
            for op in message.operations
        ]
    )


class MLComputePlan:
    def __init__(self, structure: Structure, units: ComputeUnit) -> None:
        self.model_structure = structure
        self._units = units

    @classmethod
    def load_from_path(
        cls, path: str, compute_units: ComputeUnit = ComputeUnit.ALL
    ) -> MLComputePlan:
        if os.environ.get("STAND_IN_PLAN") == "crash":
            os.abort()
        (package,) = Path(path).iterdir()
        spec = read_spec(package)
        if spec.WhichOneof("Type") == "neuralNetwork":
            layers = [Layer(one.name, "Dense") for one in spec.neuralNetwork.layers]
            return cls(Structure(neuralnetwork=Network(layers)), compute_units)
        functions = {
            name: Function(_block(one.block_specializations[one.opset]))
            for name, one in spec.mlProgram.functions.items()
        }
        return cls(Structure(program=Program(functions)), compute_units)

    def _usage(self, kind: str) -> Usage | None:
        if os.environ.get("STAND_IN_PLAN") == "nothing" or kind.endswith(("const", "cast")):
            return None
        cpu, gpu, engine = MLCPUComputeDevice(), MLGPUComputeDevice(), MLNeuralEngineComputeDevice()
        if kind.endswith("lstm"):
            return Usage(cpu, [cpu])
        preferred: MLComputeDevice = cpu
        if "NE" in self._units.name or self._units is ComputeUnit.ALL:
            preferred = engine
        return Usage(preferred, [cpu, gpu, engine])

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Operation) -> Any:
        return self._usage(operation.operator_name)

    def get_compute_device_usage_for_neuralnetwork_layer(self, layer: Layer) -> Any:
        return self._usage(layer.type)

    def get_estimated_cost_for_mlprogram_operation(self, operation: Operation) -> Any:
        return None if self._usage(operation.operator_name) is None else Cost(0.01)
