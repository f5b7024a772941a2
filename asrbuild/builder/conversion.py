"""The conversion of a recipe: its inputs, and the request to the Core ML front ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asrbuild.artifact import manifest as m
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.recipe import (
    CoreMLConfig,
    ModelConfig,
    Recipe,
    label,
    network_of,
    package_steps,
)
from asrbuild.coreml.compression import compression
from asrbuild.coreml.signature import Signature

if TYPE_CHECKING:
    from asrbuild.architectures.architecture import Architecture, Card, FrontEnd
    from asrbuild.builder.sources import Source
    from asrbuild.speech.tokens import Tokens


@dataclass(frozen=True)
class Conversion:
    """The inputs of a conversion: sections of a recipe, its network, and the labels of the model.

    ``label`` is the package's own name, ``version`` the recipe's; ``config`` is the architecture's
    section of the recipe.
    """

    label: str
    version: str
    architecture: Architecture
    config: Any
    card: Card
    model: ModelConfig
    coreml: CoreMLConfig
    alphabet: Tokens

    @property
    def signature(self) -> Signature:
        """The inputs, outputs and states of the network."""
        return self.architecture.signature(self.config)

    @property
    def front_end(self) -> FrontEnd:
        """The front end of the network, with the durations of the recipe."""
        return self.architecture.front_end(self.config)


def conversion(recipe: Recipe, source: Source) -> Conversion:
    """The conversion of a whole recipe."""
    architecture, config = network_of(recipe)
    return Conversion(
        label(recipe),
        recipe.version,
        architecture,
        config,
        architecture.card(recipe),
        recipe.model,
        recipe.coreml,
        source.alphabet,
    )


def feature_settings(recipe: Recipe) -> Any:
    """The settings of the features of the recipe's network."""
    architecture, config = network_of(recipe)
    return architecture.front_end(config).settings


def package_name(package_format: str) -> str:
    """``model.mlpackage`` or ``model.mlmodel``."""
    from asrbuild.coreml.request import package_suffix

    return f"model{package_suffix(package_format)}"


def deployment_target(coreml: CoreMLConfig, model: ModelConfig) -> str:
    """The recipe's deployment target; ``auto`` becomes the oldest one that supports the recipe.

    Several functions, and states, require iOS 18; before iOS 17 an ``lstm`` op computes in fp32, so
    a native fp16 package requires iOS 17; compressed constants require iOS 16.
    """
    if coreml.minimum_deployment_target != "auto":
        return coreml.minimum_deployment_target
    if model.functions or coreml.state == "stateful":
        return "iOS18"
    if coreml.lstm == "native" and coreml.precision == "fp16":
        return "iOS17"
    return "iOS16" if _compression(coreml) else "iOS15"


def _compression(coreml: CoreMLConfig) -> dict[str, str]:
    return compression({"compress": coreml.compress, "compress_layers": coreml.compress_layers})


def conversion_request(asked: Conversion) -> Any:
    """The request to the Core ML front ends."""
    return package_request(
        asked.coreml,
        asked.model,
        asked.card,
        asked.version,
        package_metadata(asked),
        asked.architecture.LAYERS.names,
    )


def package_request(
    coreml: CoreMLConfig,
    model: ModelConfig,
    card: Card,
    version: str,
    metadata: Mapping[str, str],
    layers: Sequence[str],
) -> Any:
    """The request for the package of a recipe.

    Args:
        metadata: user-defined metadata of the package.
        layers: layers of the network whose weights can be compressed.

    Raises:
        AsrbuildError: Core ML does not support the package.
    """
    from asrbuild.coreml.request import ConversionRequest

    if coreml.compress != "none" and not layers:
        raise AsrbuildError(
            "the layers of this network have no names by which their weights could be compressed",
            key="coreml.compress",
            fix="leave coreml.compress=none; coreml.precision=fp16 halves the weights",
        )
    return ConversionRequest(
        format=coreml.format,  # type: ignore[arg-type]
        precision=coreml.precision,  # type: ignore[arg-type]
        deployment_target=deployment_target(coreml, model),
        steps=package_steps(model.steps),
        functions={
            name: package_steps(own, f"model.functions.{name}")
            for name, own in model.functions.items()
        },
        lstm=coreml.lstm,  # type: ignore[arg-type]
        state=coreml.state,  # type: ignore[arg-type]
        outputs=None if coreml.outputs is None else tuple(coreml.outputs),
        fp32=tuple(coreml.fp32) if isinstance(coreml.fp32, list) else coreml.fp32,
        compress=_compression(coreml),
        sparsity=coreml.sparsity,
        metadata=metadata,
        author=card.author,
        license=card.license,
        version=version,
        description=card.description,
    )


def package_metadata(asked: Conversion) -> dict[str, str]:
    """The package's metadata: the essentials of the manifest, for an app without the manifest.

    Values are flat strings, as Core ML's user-defined metadata requires; the alphabet is JSON.
    """
    import json

    settings, alphabet = asked.front_end.settings, asked.alphabet
    if not fits_1(asked.signature, asked.front_end, alphabet):
        return _metadata2(asked)
    values = {
        "schema_version": m.CONTENT_VERSION,
        "name": asked.label,
        "recipe_version": asked.version,
        "sample_rate_hz": settings.sample_rate,
        "window_samples": settings.window,
        "step_samples": settings.stride,
        "fft_size": settings.fft_size,
        "mel_bands": settings.n_mels,
        "lower_hz": settings.lower_hz,
        "upper_hz": settings.upper_hz,
        "coefficients": settings.n_input,
        "context_frames": settings.n_context,
        "log_floor": settings.log_floor,
        "streaming_mode": asked.model.streaming,
        "blank_index": alphabet.blank,
        "alphabet": json.dumps(alphabet.labels, ensure_ascii=False),
    }
    if alphabet.kind == "bytes":
        values["utf8"] = "true"
    return {f"asrbuild.{key}": str(value) for key, value in values.items()}


def _metadata2(asked: Conversion) -> dict[str, str]:
    """The metadata of a package whose manifest is 2.0."""
    import json

    signature, alphabet = asked.signature, asked.alphabet
    values = {
        "schema_version": "2.0",
        "name": asked.label,
        "recipe_version": asked.version,
        "sample_rate_hz": asked.front_end.settings.sample_rate,
        "features": "none" if signature.features.meaning == "samples" else "app",
        "row_steps": signature.rows.steps,
        "output": signature.outputs[0].meaning,
        "blank_index": alphabet.blank,
        "alphabet": json.dumps(alphabet.labels, ensure_ascii=False),
    }
    return {f"asrbuild.{key}": str(value) for key, value in values.items()}


def fits_1(signature: Signature, front: FrontEnd, alphabet: Tokens) -> bool:
    """Whether manifest 1.x can describe a network: see :mod:`asrbuild.artifact.manifest2`."""
    from asrbuild.coreml.signature import Context, Rows
    from asrbuild.speech.alphabet import Alphabet
    from asrbuild.speech.mfcc import FeatureSettings

    decoded, fed = signature.outputs[0], signature.features
    return (
        (signature.rows, signature.context) == (Rows(), Context())
        and (decoded.meaning, decoded.time) == ("probabilities", 0)
        and (fed.meaning, fed.time) == ("features", 1)
        and all(pair.initial == "zeros" for pair in signature.states)
        and isinstance(front.settings, FeatureSettings)
        and isinstance(alphabet, Alphabet)
    )
