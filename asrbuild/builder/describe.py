"""Describes a recipe's package in a manifest, and its decoder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.architecture import to_record
from asrbuild.artifact import manifest as m, manifest2
from asrbuild.artifact.layout import ALPHABET, REFERENCE_AUDIO
from asrbuild.base.digest import canonical_json, text_digest
from asrbuild.builder.conversion import Conversion, conversion, fits_1
from asrbuild.builder.recipe import DecoderConfig, ModelConfig, Recipe
from asrbuild.coreml.signature import Rows, Signature

if TYPE_CHECKING:
    from asrbuild.architectures.architecture import FrontEnd
    from asrbuild.builder.sources import Source
    from asrbuild.speech.tokens import Tokens

#: Spec version -> oldest systems that load it (Core ML's release notes).
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
    """The manifest of a package before its proof: without version, files and verification.

    Args:
        package: the package on disk; inputs, outputs and versions are read from its bytes.
    """
    asked = conversion(recipe, source)
    manifest = describe_package(asked, package)
    decoder = describe_decoder(
        recipe.decoder, asked.alphabet, source.scorer, source.digests.get("scorer", "")
    )
    features = manifest.features
    if not isinstance(features, manifest2.NoFeatures):
        reference = _reference_vector(asked.front_end.settings, source)
        features = features.model_copy(update={"reference": reference})
    units: Any = recipe.coreml.compute_units
    return manifest.model_copy(
        update={
            "artifact_id": f"{recipe.name}/{recipe.version}",
            "name": recipe.name,
            "languages": [asked.card.language] if asked.card.language else [],
            "decoder": decoder.model_copy(update={"tuned": _tuned(recipe.decoder, decoder)}),
            "features": features,
            "model": manifest.model.model_copy(update={"recommended_compute_units": units}),
        }
    )


def describe_package(asked: Conversion, package: Path) -> m.Manifest:
    """The part of the manifest that a package and its conversion decide, enough to execute it.

    Its decoder is greedy, and it has no reference vector.
    """
    from asrbuild.coreml.executor.package import open_package
    from asrbuild.proof.verdict import unproven

    spec = open_package(package).spec
    card, coreml, alphabet = asked.card, asked.coreml, asked.alphabet
    front = asked.front_end
    settings = front.settings
    signature = asked.signature.with_classes(alphabet.classes)
    # The sections of 1.x, unless that cannot describe the artifact.
    v: Any = m if fits_1(signature, front, alphabet) else manifest2
    functions = _functions(v, asked.model, front, spec, signature)
    default = spec.description.defaultFunctionName or functions[0].name
    main = next(function for function in functions if function.name == default)
    added = {} if v is m else _added(signature, front)
    manifest: m.Manifest = v.Manifest(
        schema_version=m.CONTENT_VERSION if v is m else manifest2.SCHEMA_VERSION,
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
        features=_features(v, front, signature),
        model=v.Model(
            format=coreml.format,
            package=package.name,
            spec_version=spec.specificationVersion,
            minimum_os=MINIMUM_OS[spec.specificationVersion],
            compute_precision=coreml.precision,
            recommended_compute_units="ALL",
            lstm=coreml.lstm if v is m else None,
            default_function=default,
            inputs=main.inputs,
            outputs=main.outputs,
            functions=functions,
        ),
        state=_states(v, spec, main, signature),
        streaming=main.streaming,
        decoder=describe_decoder(DecoderConfig(), alphabet, None),
        verification=unproven(asked.architecture.RUNTIME, v2=v is manifest2),
        provenance=m.Provenance(
            created="",
            platform="",
            git=None,
            overrides=[],
            sources=[],
            tools={},
            parents=[],
            recipe=to_record(asked.architecture, asked.config),
        ),
        **added,
    )
    return manifest


def _added(signature: Signature, front: FrontEnd) -> dict[str, Any]:
    """The sections that manifest 2.0 has in addition."""
    rows, context = signature.rows, signature.context
    return {
        "rows": manifest2.RowRule(
            steps=rows.steps, add=rows.add, most=rows.most, row_ms=_row_ms(signature, front)
        ),
        "context": manifest2.ContextRule(
            causal=context.causal,
            left_steps=context.left,
            right_steps=context.right,
            padding=context.padding,
            trimmed=context.trimmed,
        ),
    }


def _row_ms(signature: Signature, front: FrontEnd) -> float:
    return _step_ms(front) * signature.rows.steps


def _step_ms(front: FrontEnd) -> float:
    """Milliseconds from one input step of the package to the next."""
    return front.step_ms if front.place == "app" else 1000.0 / float(front.fed.sample_rate)


def _functions(
    v: Any, model: ModelConfig, front: FrontEnd, spec: Any, signature: Signature
) -> list[m.Function]:
    described = list(spec.description.functions)
    if not described:
        mode = model.streaming
        return [_function(v, "main", spec.description, signature, front, mode)]
    return [
        _function(v, function.name, function, signature, front, _mode(model, function.name))
        for function in described
    ]


def _mode(model: ModelConfig, function: str) -> str:
    """The streaming mode of a function; with a range of lengths it takes whole utterances."""
    steps = model.functions.get(function)
    if steps is None:
        return model.streaming
    return "whole" if steps.kind == "range" else "chunked"


def _function(
    v: Any, name: str, description: Any, signature: Signature, front: FrontEnd, mode: str
) -> m.Function:
    from asrbuild.coreml.executor.signature import read_features

    inputs = [_tensor(v, f, signature) for f in read_features(description.input).values()]
    shapes = [t.shape for t in inputs if t.name == signature.features.name]
    steps = next((a for shape in shapes for a in shape if a.name == signature.time), None)
    outputs: list[m.Tensor] = []
    for feature in read_features(description.output).values():
        tensor = _tensor(v, feature, signature)
        # Core ML declares no size for an output whose length depends on the input's.
        if tensor.name == signature.probabilities and steps is not None:
            axes = [
                _rows_axis(axis.name, steps, signature.rows)
                if axis.open
                else _axis(axis.name, axis.size or 0)
                for axis in signature.outputs[0].axes
            ]
            tensor = tensor.model_copy(update={"shape": axes})
        port = signature.port(tensor.name)
        if not tensor.shape and port is not None and all(axis.size for axis in port.axes):
            # Nor one for a state that is cut from something of any length.
            axes = [_axis(axis.name, axis.size or 0) for axis in port.axes]
            tensor = tensor.model_copy(update={"shape": axes})
        outputs.append(tensor)
    streaming = _streaming(v, mode, front, signature, inputs)
    function: m.Function = v.Function(
        name=name, inputs=inputs, outputs=outputs, streaming=streaming
    )
    return function


def _rows_axis(name: str, steps: m.Axis, rows: Rows) -> m.Axis:
    """The axis of rows for calls of these steps."""
    sizes = steps.enumerated
    return m.Axis(
        name=name,
        min=rows.of(steps.min),
        default=rows.of(steps.default),
        max=None if steps.max is None else rows.of(steps.max),
        enumerated=None if sizes is None else [rows.of(size) for size in sizes],
    )


def _axis(name: str, size: int) -> m.Axis:
    return m.Axis(name=name, min=size, default=size, max=size, enumerated=None)


def _tensor(v: Any, feature: Any, signature: Signature) -> m.Tensor:
    """A tensor of the package, with its meaning from the signature."""
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
    tensor: m.Tensor = v.Tensor(
        name=feature.name,
        dtype=str(feature.dtype),
        shape=axes,
        meaning="other" if port is None else port.meaning,
        fill="" if port is None else port.fill,
    )
    return tensor


#: The reference vector of a manifest that is not published.
_NO_REFERENCE = m.ReferenceVector(
    audio="", audio_sha256="", samples=0, total_frames=0, first_frame=0, frames=[], tolerance=1e-3
)


def _features(v: Any, front: FrontEnd, signature: Signature) -> Any:
    """The manifest's features; of the kind ``none`` if the package takes samples."""
    from asrbuild.speech.mfcc import FeatureSettings

    settings: Any = front.settings
    if settings.kind == "none":
        return v.NoFeatures(kind="none", place="package", step_ms=front.step_ms)
    if not isinstance(settings, FeatureSettings):
        return v.LogMel(
            kind=settings.kind,
            place=front.place,
            window_ms=front.window_ms,
            step_ms=front.step_ms,
            settings=asdict(settings),
            reference=None,
        )
    kinds = {"kind": "mfcc"} if v is m else {"kind": "mfcc_tf", "place": front.place}
    return (v.Features if v is m else v.MfccTf)(
        **kinds,
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
    """The first two seconds of the sample recording, int16 (n,), for the reference vector."""
    from asrbuild.speech.audio import read_audio, to_int16

    samples = read_audio(source.recordings["sample"], settings.sample_rate)
    return to_int16(samples[: 2 * settings.sample_rate])


def _reference_vector(settings: Any, source: Source) -> m.ReferenceVector:
    import hashlib

    from asrbuild.speech.audio import from_int16, wav_bytes
    from asrbuild.speech.features.kinds import compute
    from asrbuild.speech.mfcc import FeatureSettings, mfcc

    samples = reference_samples(settings, source)
    # For MFCC, the frames without their context.
    frames_of = mfcc if isinstance(settings, FeatureSettings) else compute
    frames = frames_of(from_int16(samples), settings)
    # From the loudest frame on: a wrong front end can be right for silence.
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


def _states(v: Any, spec: Any, main: m.Function, signature: Signature) -> list[m.State]:
    from asrbuild.coreml.executor.signature import Fixed, read_features

    described = list(spec.description.functions)
    owner = next((f for f in described if f.name == main.name), spec.description)
    kept = read_features(owner.state).values()
    common: dict[str, Any] = {"reset": "per_utterance"} | ({"valid": "always"} if v is m else {})
    if kept:
        return [
            v.State(
                input=f.name,
                output=f.name,
                kind="stateful",
                shape=list(f.shape.shape) if isinstance(f.shape, Fixed) else [],
                initial="zeros",
                **common,
            )
            for f in kept
        ]
    inputs = {tensor.name: tensor for tensor in main.inputs}
    outputs = {tensor.name for tensor in main.outputs}
    return [
        v.State(
            input=pair.input,
            output=pair.output,
            kind="explicit",
            shape=[axis.default for axis in inputs[pair.input].shape],
            initial=pair.initial,
            **common,
        )
        for pair in signature.states
        if pair.input in inputs and pair.output in outputs
    ]


def _streaming(
    v: Any, mode: str, front: FrontEnd, signature: Signature, inputs: list[m.Tensor]
) -> m.Streaming:
    from asrbuild.speech.mfcc import FeatureSettings

    fed = next(t for t in inputs if t.name == signature.features.name)
    axis = fed.shape[signature.features.time or 0]
    settings, hop_ms, frames = front.fed, _step_ms(front), 0
    if isinstance(settings, FeatureSettings):
        hop_ms = 1000.0 * settings.stride / settings.sample_rate
        frames = settings.n_context
    lookahead = (frames + signature.context.right) * hop_ms
    chunked = mode == "chunked"
    steps = axis.default if chunked else axis.max
    # The first word requires a chunk's last frame and its right context.
    latency = steps * hop_ms + frames * hop_ms if chunked and steps is not None else None
    streaming: m.Streaming = v.Streaming(
        mode=mode,
        steps_per_chunk=steps,
        hop_ms=hop_ms,
        chunk_ms=steps * hop_ms if chunked and steps is not None else None,
        lookahead_ms=lookahead,
        latency_ms=latency,
        tail="zero_pad_and_trim",
    )
    return streaming


def decoder_settings(decoder: DecoderConfig, scorer: Path | None) -> Any:
    """The recipe's decoder settings, with the path of its scorer on this machine."""
    from asrbuild.speech.decoder_settings import DecoderSettings

    interpreter = None if decoder.interpreter is None else Path(decoder.interpreter).expanduser()
    return DecoderSettings(
        type=decoder.type,
        beam_width=decoder.beam_width,
        cutoff_prob=decoder.cutoff_prob,
        cutoff_top_n=decoder.cutoff_top_n,
        # A relative path is relative to the package's folder.
        scorer=None if scorer is None else scorer.absolute(),
        lm_alpha=decoder.lm_alpha,
        lm_beta=decoder.lm_beta,
        hot_words=dict(decoder.hot_words),
        interpreter=interpreter,
    )


def describe_decoder(
    decoder: DecoderConfig, alphabet: Tokens, scorer: Path | None, scorer_digest: str = ""
) -> m.Decoder:
    """The manifest's decoder; ``scorer_digest`` is the SHA-256 of the scorer."""
    from asrbuild.speech.tokens import Vocabulary

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
    v: Any = m
    added: dict[str, Any] = {}
    if isinstance(alphabet, Vocabulary):
        v = manifest2
        added = {
            "kind": alphabet.kind,
            "boundary_index": alphabet.boundary,
            "silent_indices": sorted(alphabet.silent),
        }
    utf8 = alphabet.kind == "bytes"
    described_decoder: m.Decoder = v.Decoder(
        type=decoder.type,
        alphabet=list(alphabet.labels),
        alphabet_file=None if utf8 or added else ALPHABET,
        utf8=utf8,
        blank_index=alphabet.blank,
        beam_width=decoder.beam_width,
        cutoff_prob=decoder.cutoff_prob,
        cutoff_top_n=decoder.cutoff_top_n,
        scorer=described,
        hot_words=dict(decoder.hot_words),
        tuned=None,
        **added,
    )
    return described_decoder


def _tuned(decoder: DecoderConfig, described: m.Decoder) -> m.Tuned | None:
    """The set on which the decoder was tuned, if its settings are still the tuned ones."""
    if decoder.tuned is None or decoder.tuned.settings != settings_digest(described):
        return None
    values = asdict(decoder.tuned)
    del values["settings"]
    return m.Tuned(**values)


def settings_digest(decoder: m.Decoder) -> str:
    """SHA-256 of all settings that tuning reads or finds; a scorer counts by its content."""
    fields = ("type", "beam_width", "cutoff_prob", "cutoff_top_n", "hot_words")
    weights = ("sha256", "lm_alpha", "lm_beta")
    parts = {name: getattr(decoder, name) for name in fields}
    parts |= {name: getattr(decoder.scorer, name, None) for name in weights}
    return text_digest(canonical_json(parts))
