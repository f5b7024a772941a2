"""The choices of a Core ML package, and their defaults."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

Format = Literal["mlprogram", "neuralnetwork"]
#: Core AI's format; a recipe can publish a variant in it in addition to its Core ML package.
ASSET = "aimodel"
PublishedFormat = Literal["mlprogram", "neuralnetwork", "aimodel"]
AssetUse = Literal["none", "preview"]
Precision = Literal["fp16", "fp32"]
LstmForm = Literal["native", "loop", "unrolled"]
StateKind = Literal["explicit", "stateful"]
ComputeUnits = Literal["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"]
#: Compressions of a layer's weights; ``none``: uncompressed.
Compression = Literal["none", "int8", "palettize_6", "palettize_4", "prune"]

#: Deployment target -> its newest spec version; ML programs came with iOS15.
SPECIFICATION_VERSIONS = MappingProxyType(
    {"iOS13": 4, "iOS14": 5, "iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9, "iOS26": 10}
)
#: Releases of Apple's systems, in the order of ``SPECIFICATION_VERSIONS``.
_SYSTEMS = {
    "macOS": ("10_15", 11, 12, 13, 14, 15, 26),
    "watchOS": (6, 7, 8, 9, 10, 11, 26),
    "tvOS": (13, 14, 15, 16, 17, 18, 26),
}
#: Other name of a deployment target -> its name here, as in coremltools.
SAME_TARGETS = MappingProxyType(
    {
        f"{system}{version}": target
        for system, versions in _SYSTEMS.items()
        for version, target in zip(versions, SPECIFICATION_VERSIONS, strict=True)
    }
)
#: Steps of a call, if neither the recipe nor its source states another number.
DEFAULT_STEPS = 16
#: The fraction of a pruned layer's weights that become 0.
DEFAULT_SPARSITY = 0.1
