"""The manifest of a recipe's package, and the decoder of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.architecture import to_record
from asrbuild.artifact import manifest as m
from asrbuild.artifact.layout import ALPHABET, REFERENCE_AUDIO
from asrbuild.base.digest import canonical_json, text_digest
from asrbuild.builder.conversion import Conversion, conversion
from asrbuild.builder.recipe import DecoderConfig, ModelConfig, Recipe
from asrbuild.coreml.signature import STEPS, Signature

if TYPE_CHECKING:
    from asrbuild.architectures.architecture import FrontEnd
    from asrbuild.builder.sources import Source
    from asrbuild.speech.alphabet import Alphabet

#: Specification version -> oldest systems that load it (Core ML's release notes).
MINIMUM_OS = {
    4: {"iOS": "13", "macOS": "10.15"},
    5: {"iOS": "14", "macOS": "11"},
    6: {"iOS": "15", "macOS": "12"},
    7: {"iOS": "16", "macOS": "13"},
    8: {"iOS": "17", "macOS": "14"},
    9: {"iOS": "18", "macOS": "15"},
    10: {"iOS": "26", "macOS": "26"},
}
SAMPLE_SCALE = 1.0 / 32768.0


def describe(recipe: Recipe, source: Source, package: Path) -> m.Manifest:
    """The manifest of a package that is not proven yet: no version, no files, no verification.

    Args:
        package: the package on disk; inputs, outputs and versions are read from its bytes.
    """
    asked = conversion(recipe, source)
    manifest = describe_package(asked, package)
    decoder = describe_decoder(
        recipe.decoder, asked.alphabet, source.scorer, source.digests.get("scorer", "")
    )
    reference = _reference_vector(asked.front_end.settings, source)
    units: Any = recipe.coreml.compute_units
    return manifest.model_copy(
        update={
            "artifact_id": f"{recipe.name}/{recipe.version}",
            "name": recipe.name,
            "languages": [asked.card.language] if asked.card.language else [],
            "decoder": decoder.model_copy(update={"tuned": _tuned(recipe.decoder, decoder)}),
            "features": manifest.features.model_copy(update={"reference": reference}),
            "model": manifest.model.model_copy(update={"recommended_compute_units": units}),
        }
    )


def describe_package(asked: Conversion, package: Path) -> m.Manifest:
    """What a package and its conversion say of a manifest: enough to execute it.

    It decodes greedily, and has no reference vector.
    """
    from asrbuild.coreml.executor.package import open_package
    from asrbuild.proof.verdict import unproven

    spec = open_package(package).spec
    card, coreml, alphabet = asked.card, asked.coreml, asked.alphabet
    front = asked.front_end
    settings = front.settings
    signature = asked.signature.with_classes(alphabet.size + 1)
    functions = _functions(asked.model, settings, spec, signature)
    default = spec.description.defaultFunctionName or functions[0].name
    main = next(function for function in functions if function.name == default)
    return m.Manifest(
        schema_version=m.CONTENT_VERSION,
        artifact_id=f"{asked.label}/{asked.version}",
        name=asked.label,
        version=asked.version,
        description=card.description,
        author=card.author,
        license=card.license,
        languages=[],
        files=[],
        audio=m.Audio(
            sample_rate=settings.sample_rate,
            channels=1,
            sample_type="int16",
            sample_scale=SAMPLE_SCALE,
        ),
        features=_features(front),
        model=m.Model(
            format=coreml.format,  # type: ignore[arg-type]
            package=package.name,
            spec_version=spec.specificationVersion,
            minimum_os=MINIMUM_OS[spec.specificationVersion],
            compute_precision=coreml.precision,  # type: ignore[arg-type]
            recommended_compute_units="ALL",
            lstm=coreml.lstm,  # type: ignore[arg-type]
            default_function=default,
            inputs=main.inputs,
            outputs=main.outputs,
            functions=functions,
        ),
        state=_states(spec, main, signature),
        streaming=main.streaming,
        decoder=describe_decoder(DecoderConfig(), alphabet, None),
        verification=unproven(),
        provenance=m.Provenance(
            created="", platform="", git=None, overrides=[], sources=[], tools={},
            parents=[], recipe=to_record(asked.architecture, asked.config),
        ),
    )  # fmt: skip


def _functions(
    model: ModelConfig, settings: Any, spec: Any, signature: Signature
) -> list[m.Function]:
    described = list(spec.description.functions)
    if not described:
        mode = model.streaming
        return [_function("main", spec.description, signature, settings, mode)]
    return [
        _function(function.name, function, signature, settings, _mode(model, function.name))
        for function in described
    ]


def _mode(model: ModelConfig, function: str) -> str:
    """How a function is fed: one that takes a range of lengths is for whole utterances."""
    steps = model.functions.get(function)
    if steps is None:
        return model.streaming
    return "whole" if steps.kind == "range" else "chunked"


def _function(
    name: str, description: Any, signature: Signature, settings: Any, mode: str
) -> m.Function:
    from asrbuild.coreml.executor.signature import read_features

    inputs = [_tensor(f, signature) for f in read_features(description.input).values()]
    features = next((t for t in inputs if t.name == signature.features.name), None)
    steps = next((a for a in features.shape if a.name == STEPS), None) if features else None
    outputs: list[m.Tensor] = []
    for feature in read_features(description.output).values():
        tensor = _tensor(feature, signature)
        # Core ML declares no size for an output whose length follows the input's.
        if tensor.name == signature.probabilities and steps is not None:
            axes = [
                steps if axis.name == STEPS else _axis(axis.name, axis.size or 0)
                for axis in signature.outputs[0].axes
            ]
            tensor = tensor.model_copy(update={"shape": axes})
        outputs.append(tensor)
    streaming = _streaming(mode, settings, inputs)
    return m.Function(name=name, inputs=inputs, outputs=outputs, streaming=streaming)


def _axis(name: str, size: int) -> m.Axis:
    return m.Axis(name=name, min=size, default=size, max=size, enumerated=None)


def _tensor(feature: Any, signature: Signature) -> m.Tensor:
    """A tensor as its package describes it, with the meaning that the signature gives it."""
    from asrbuild.coreml.executor.signature import Enumerated, Fixed, Ranged

    port = signature.port(feature.name)
    shape = feature.shape
    default = () if shape is None else shape.shape if isinstance(shape, Fixed) else shape.default
    names = () if port is None else tuple(axis.name for axis in port.axes)
    axes = []
    for index, size in enumerate(default):
        name = names[index] if len(names) == len(default) else f"axis_{index}"
        low, high, listed = size, size, None
        if isinstance(shape, Ranged):
            low, high = shape.bounds[index]
        elif isinstance(shape, Enumerated):
            sizes = sorted({option[index] for option in shape.shapes})
            low, high = sizes[0], sizes[-1]
            listed = sizes if len(sizes) > 1 else None
        axes.append(m.Axis(name=name, min=low, default=size, max=high, enumerated=listed))
    return m.Tensor(
        name=feature.name,
        dtype=str(feature.dtype),  # type: ignore[arg-type]
        shape=axes,
        meaning="other" if port is None else port.meaning,  # type: ignore[arg-type]
        fill="" if port is None else port.fill,
    )


#: In place of the reference vector of a manifest that is not published.
_NO_REFERENCE = m.ReferenceVector(
    audio="", audio_sha256="", samples=0, total_frames=0, first_frame=0, frames=[], tolerance=1e-3
)


def _features(front: FrontEnd) -> m.Features:
    settings = front.settings
    return m.Features(
        kind="mfcc",
        window_ms=front.window_ms,
        step_ms=front.step_ms,
        window_samples=settings.window,
        step_samples=settings.stride,
        window_function="periodic_hann",
        fft_size=settings.fft_size,
        spectrum="magnitude",
        mel_bands=settings.n_mels,
        lower_hz=settings.lower_hz,
        upper_hz=settings.upper_hz,
        coefficients=settings.n_input,
        log_floor=settings.log_floor,
        context_frames=settings.n_context,
        edge_padding="zeros",
        reference=_NO_REFERENCE,
    )


def reference_samples(settings: Any, source: Source) -> Any:
    """int16 samples (n,): the first two seconds of the sample recording, for the vector."""
    from asrbuild.speech.audio import read_audio, to_int16

    samples = read_audio(source.recordings["sample"], settings.sample_rate)
    return to_int16(samples[: 2 * settings.sample_rate])


def _reference_vector(settings: Any, source: Source) -> m.ReferenceVector:
    import hashlib

    from asrbuild.speech.audio import from_int16, wav_bytes
    from asrbuild.speech.mfcc import mfcc

    samples = reference_samples(settings, source)
    frames = mfcc(from_int16(samples), settings)
    # From the loudest frame on: frames of silence would pass a wrong front end.
    first = max(0, min(int(frames[:, 0].argmax()), len(frames) - 8))
    return m.ReferenceVector(
        audio=REFERENCE_AUDIO,
        audio_sha256=hashlib.sha256(wav_bytes(samples, settings.sample_rate)).hexdigest(),
        samples=len(samples),
        total_frames=len(frames),
        first_frame=first,
        # Four decimals: far below the tolerance, and the same on every processor.
        frames=[[round(float(x), 4) for x in frame] for frame in frames[first : first + 8]],
        tolerance=1e-3,
    )


def _states(spec: Any, main: m.Function, signature: Signature) -> list[m.State]:
    from asrbuild.coreml.executor.signature import Fixed, read_features

    described = list(spec.description.functions)
    owner = next((f for f in described if f.name == main.name), spec.description)
    kept = read_features(owner.state).values()
    common: Mapping[str, Any] = {"initial": "zeros", "reset": "per_utterance", "valid": "always"}
    if kept:
        return [
            m.State(
                input=f.name,
                output=f.name,
                kind="stateful",
                shape=list(f.shape.shape) if isinstance(f.shape, Fixed) else [],
                **common,
            )
            for f in kept
        ]
    inputs = {tensor.name: tensor for tensor in main.inputs}
    outputs = {tensor.name for tensor in main.outputs}
    return [
        m.State(
            input=pair.input,
            output=pair.output,
            kind="explicit",
            shape=[axis.default for axis in inputs[pair.input].shape],
            **common,
        )
        for pair in signature.states
        if pair.input in inputs and pair.output in outputs
    ]


def _streaming(mode: str, settings: Any, inputs: list[m.Tensor]) -> m.Streaming:
    axis = next(t.shape[1] for t in inputs if t.meaning == "features")
    hop_ms = 1000.0 * settings.stride / settings.sample_rate
    lookahead = settings.n_context * hop_ms
    chunked = mode == "chunked"
    steps = axis.default if chunked else axis.max
    # The first word can come out when a chunk's last frame, and its right context, are there.
    latency = steps * hop_ms + lookahead if chunked and steps is not None else None
    return m.Streaming(
        mode=mode,  # type: ignore[arg-type]
        steps_per_chunk=steps,
        hop_ms=hop_ms,
        chunk_ms=steps * hop_ms if chunked and steps is not None else None,
        lookahead_ms=lookahead,
        latency_ms=latency,
        tail="zero_pad_and_trim",
    )


def decoder_settings(decoder: DecoderConfig, scorer: Path | None) -> Any:
    """The recipe's decoder, with its scorer where it lies now."""
    from asrbuild.speech.decoder_settings import DecoderSettings

    interpreter = None if decoder.interpreter is None else Path(decoder.interpreter).expanduser()
    return DecoderSettings(
        type=decoder.type,
        beam_width=decoder.beam_width,
        cutoff_prob=decoder.cutoff_prob,
        cutoff_top_n=decoder.cutoff_top_n,
        # A relative path is taken from where the package is.
        scorer=None if scorer is None else scorer.absolute(),
        lm_alpha=decoder.lm_alpha,
        lm_beta=decoder.lm_beta,
        hot_words=dict(decoder.hot_words),
        interpreter=interpreter,
    )


def describe_decoder(
    decoder: DecoderConfig, alphabet: Alphabet, scorer: Path | None, scorer_digest: str = ""
) -> m.Decoder:
    """The manifest's decoder; ``scorer_digest`` is the SHA-256 of the scorer."""
    described = None
    if scorer is not None:
        from asrbuild.speech.scorer.package import scorer_weights

        alpha, beta = scorer_weights(scorer)
        described = m.Scorer(
            path=scorer.name,
            sha256=scorer_digest,
            lm_alpha=alpha if decoder.lm_alpha is None else decoder.lm_alpha,
            lm_beta=beta if decoder.lm_beta is None else decoder.lm_beta,
        )
    return m.Decoder(
        type=decoder.type,  # type: ignore[arg-type]
        alphabet=list(alphabet.labels),
        alphabet_file=None if alphabet.bytes_output else ALPHABET,
        utf8=alphabet.bytes_output,
        blank_index=alphabet.blank,
        beam_width=decoder.beam_width,
        cutoff_prob=decoder.cutoff_prob,
        cutoff_top_n=decoder.cutoff_top_n,
        scorer=described,
        hot_words=dict(decoder.hot_words),
        tuned=None,
    )


def _tuned(decoder: DecoderConfig, described: m.Decoder) -> m.Tuned | None:
    """What the decoder's values were tuned on, if they still are those values."""
    if decoder.tuned is None or decoder.tuned.settings != settings_digest(described):
        return None
    values = asdict(decoder.tuned)
    del values["settings"]
    return m.Tuned(**values)


def settings_digest(decoder: m.Decoder) -> str:
    """Of all that tuning depends on and finds: a scorer by its content, not by its name."""
    fields = ("type", "beam_width", "cutoff_prob", "cutoff_top_n", "hot_words")
    weights = ("sha256", "lm_alpha", "lm_beta")
    parts = {name: getattr(decoder, name) for name in fields}
    parts |= {name: getattr(decoder.scorer, name, None) for name in weights}
    return text_digest(canonical_json(parts))
