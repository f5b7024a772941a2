"""The rules of a recipe, each stated once: they refuse recipes that no build can satisfy.

A rule yields an error for each fault, with key, message and fix; the first is raised. The rules of
Core ML, decoders, gates and architectures are in their own modules and are called here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asrbuild.artifact.names import NAME_RULE, is_name
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.recipe import DecoderConfig, Recipe, chosen, lookup, network_of, package_steps
from asrbuild.coreml.compression import gate_names
from asrbuild.speech.decoder_settings import DecoderSettings, check_settings

#: Keys that also take the names of ``SAME_TARGETS``, which are replaced before the rules.
_TARGETS = ("coreml.minimum_deployment_target",)


def check_keys(recipe: Recipe) -> None:
    """Raises for faults that the keys alone show, before and after the source is read.

    It imports nothing heavy, because a build with nothing to do calls it.

    Raises:
        AsrbuildError: it names the key, the value and the choices or the fix.
    """
    _raise_first(rule(recipe) for rule in _KEY_RULES)


def check_recipe(recipe: Recipe) -> tuple[str, ...]:
    """Raises for recipes that no build can satisfy; returns remarks for the user.

    Args:
        recipe: a recipe with the values of its source.

    Raises:
        AsrbuildError: it names the key, the value and the choices or the fix.
    """
    from asrbuild.builder.conversion import package_request
    from asrbuild.builder.steps import check_calls, check_features
    from asrbuild.coreml.request import advice
    from asrbuild.coreml.signature import check_signature
    from asrbuild.proof.gates import gates_of

    check_keys(recipe)
    architecture, config = network_of(recipe)
    signature = architecture.signature(config)
    check_signature(signature)
    check_calls(recipe, signature)
    if architecture.CALLS:
        check_features(recipe, signature)
    written = architecture.LAYERS
    _raise_first([_inputs(recipe), _outputs(recipe, signature), _unrolled(recipe, written)])
    request = package_request(
        recipe.coreml,
        recipe.model,
        architecture.card(recipe),
        recipe.version,
        {},
        written.names,
    )
    architecture.check_request(request, recipe.coreml.frontend)
    coreml = asdict(recipe.coreml)
    thresholds = asdict(recipe.verify)["thresholds"]
    gates_of(thresholds, recipe.coreml.precision, gate_names(coreml, thresholds))
    return (*advice(request), *_without_effect(recipe), *_unwitnessed(recipe))


def _raise_first(rules: Iterable[Iterator[AsrbuildError]]) -> None:
    for problems in rules:
        for problem in problems:
            raise problem


def _choices(recipe: Recipe) -> Iterator[AsrbuildError]:
    for key, value, choices in chosen(recipe):
        if value not in choices:
            others = ", or macOS15, tvOS18, watchOS11 and the like" if key in _TARGETS else ""
            yield AsrbuildError(
                f"{key}={value} is not a choice",
                key=key,
                fix=f"choose one of {', '.join(choices)}{others}",
            )


def _names(recipe: Recipe) -> Iterator[AsrbuildError]:
    for key in ("name", "version"):
        value = lookup(recipe, key)
        if not is_name(value):
            yield AsrbuildError(f"{key}={value!r} cannot name a folder", key=key, fix=NAME_RULE)
    for key in ("paths.artifacts", "paths.cache"):
        if not lookup(recipe, key):
            yield AsrbuildError(f"{key} is empty", key=key, fix="give a folder")


def _finite(recipe: Recipe) -> Iterator[AsrbuildError]:
    def walk(section: dict[str, Any], prefix: str) -> Iterator[AsrbuildError]:
        for name, value in section.items():
            key = f"{prefix}{name}"
            if isinstance(value, dict):
                yield from walk(value, f"{key}.")
            elif isinstance(value, float) and not math.isfinite(value):
                yield AsrbuildError(
                    f"{key}={value} is not a finite number", key=key, fix="give a finite number"
                )

    return walk(asdict(recipe), "")


def _sizes(recipe: Recipe) -> Iterator[AsrbuildError]:
    for key in ("n_steps", "verify.max_steps", "tune.trials"):
        if (value := lookup(recipe, key)) is not None and value < 1:
            yield AsrbuildError(f"{key}={value} must be at least 1", key=key, fix="give 1 or more")


def _network(recipe: Recipe) -> Iterator[AsrbuildError]:
    architecture, config = network_of(recipe)
    return architecture.problems(config)


def _source(recipe: Recipe) -> Iterator[AsrbuildError]:
    source = recipe.source
    for kind, name, file in (
        ("checkpoint", "checkpoint_dir", "checkpoints"),
        ("frozen_graph", "path", "output_graph.pb"),
    ):
        if source.kind == kind and not getattr(source, name):
            yield AsrbuildError(
                f"source={kind} needs source.{name}",
                key=f"source.{name}",
                fix=f"add source.{name}=/path/to/{file}",
            )


def _steps(recipe: Recipe) -> Iterator[AsrbuildError]:
    """The lengths of the exported graph must include those of the package."""
    architecture, config = network_of(recipe)
    own_key = None if architecture.OWN is None else architecture.OWN.steps
    exported = -1 if own_key is None else getattr(config, own_key)
    named = {f"model.functions.{name}": own for name, own in recipe.model.functions.items()}
    for key, steps in ({"model.steps": recipe.model.steps} | named).items():
        if exported is None or steps.default is None or steps.kind == "exported":
            continue  # before the source is read
        package_steps(steps, key)
        # For a package that takes samples, the recipe's own number counts rows.
        taken = steps.default if recipe.features.place == "app" else recipe.n_steps
        if exported != -1 and (steps.kind != "fixed" or taken != exported):
            asked = steps.default if steps.kind == "fixed" else f"a {steps.kind} length"
            yield AsrbuildError(
                f"the graph is exported for {exported} steps and cannot become {asked}",
                key=(key := f"{architecture.SECTION}.{own_key}"),
                fix=f"set {key}=-1 (model=dynamic_to_static), or ask for {exported} steps",
            )


def _decoder(recipe: Recipe) -> Iterator[AsrbuildError]:
    decoder = recipe.decoder
    own = ("scorer_path", "interpreter", "tuned")
    given = {key: value for key, value in vars(decoder).items() if key not in own}
    scorer = None if decoder.scorer_path is None else Path(decoder.scorer_path)
    check_settings(DecoderSettings(**given, scorer=scorer))
    yield from ()


#: The figures of a build that ``tune.returns`` can name.
_RETURNED = (
    *("wer", "set_wer", "package_bytes", "bytes", "seconds"),
    *("argmax_agreement", "kl_divergence", "max_abs_error", "psnr_db"),
)


def _returns(recipe: Recipe) -> Iterator[AsrbuildError]:
    for name in recipe.tune.returns:
        if name not in _RETURNED:
            yield AsrbuildError(
                f"tune.returns has {name}, which is no figure of a build",
                key="tune.returns",
                fix=f"choose of {', '.join(_RETURNED)}",
            )
    if "set_wer" in recipe.tune.returns and recipe.verify.evaluation is None:
        yield AsrbuildError(
            "tune.returns has set_wer, which requires a data set",
            key="verify.evaluation",
            fix="give one, verify.evaluation=dev.csv, or return wer",
        )


def _tune(recipe: Recipe) -> Iterator[AsrbuildError]:
    tune = recipe.tune
    if tune.target == "none":
        return
    if tune.data is None:
        yield AsrbuildError(
            "tune=scorer has no recordings to tune on",
            key="tune.data",
            fix="give a development set, tune.data=dev.csv: not the one you report on",
        )
    if recipe.decoder.scorer_path is None:
        yield AsrbuildError(
            "tune=scorer has no scorer to tune",
            key="decoder.scorer_path",
            fix="give one: decoder.scorer_path=my.scorer; `asrbuild scorer build` makes it",
        )
    for key in ("lm_alpha", "lm_beta", "beam_width"):
        bounds = getattr(tune, key)
        least = 1 if key == "beam_width" else -math.inf
        if len(bounds) != 2 or not least <= bounds[0] <= bounds[1]:
            yield AsrbuildError(
                f"tune.{key}={list(bounds)} is not a range",
                key=f"tune.{key}",
                fix=f"give its lowest and its highest value: tune.{key}=[1,2]",
            )


def _verify(recipe: Recipe) -> Iterator[AsrbuildError]:
    verify = recipe.verify
    if "sample" not in verify.inputs:
        yield AsrbuildError(
            "verify.inputs must hold sample: a build is proven on real speech",
            key="verify.inputs",
            fix="add sample",
        )
    for key, unit, most in (
        ("max_wer", "word", math.inf),
        ("max_per", "phoneme", math.inf),
        # As in asrbuild.proof.gates: a looser one would let another model pass.
        ("max_per_from_original", "phoneme", 0.1),
    ):
        value = getattr(verify, key)
        if value is not None and not 0 <= value <= most:
            yield AsrbuildError(
                f"verify.{key}={value} is not a {unit} error rate"
                + (f" of at most {most}" if most < 1 else ""),
                key=f"verify.{key}",
                fix="give 0 or more: 0.1 is 10 %",
            )
    for gates in gate_names(asdict(recipe.coreml), verify.thresholds):
        if gates not in verify.thresholds:
            yield AsrbuildError(
                f"verify.thresholds has no gates for {gates}",
                key=f"verify.thresholds.{gates}",
                fix="take them from conf/verify/default.yaml",
            )


def _witness(recipe: Recipe) -> Iterator[AsrbuildError]:
    from asrbuild.builder.stages.witness import why_unwitnessed

    why = why_unwitnessed(recipe)
    if recipe.verify.witness == "required" and why is not None:
        yield AsrbuildError(
            f"verify.witness=required, but {why[0]}", key="verify.witness", fix=why[1]
        )


def _coreai(recipe: Recipe) -> Iterator[AsrbuildError]:
    from asrbuild.builder.stages.witness import why_unwitnessed

    why = why_unwitnessed(recipe)
    if recipe.coreai == "preview" and why is not None:
        yield AsrbuildError(
            f"coreai=preview is proven by the witness, but {why[0]}", key="coreai", fix=why[1]
        )


_KEY_RULES: tuple[Callable[[Recipe], Iterator[AsrbuildError]], ...] = (
    *(_choices, _names, _finite, _sizes, _network, _source, _steps, _decoder),
    *(_returns, _tune, _verify, _witness, _coreai),
)


def _inputs(recipe: Recipe) -> Iterator[AsrbuildError]:
    from asrbuild.proof.cases import INPUTS

    if unknown := [name for name in recipe.verify.inputs if name not in INPUTS]:
        yield AsrbuildError(
            f"verify.inputs has {', '.join(unknown)}, which is not known",
            key="verify.inputs",
            fix=f"choose from {', '.join(INPUTS)}",
        )


def _unrolled(recipe: Recipe, layers: Any) -> Iterator[AsrbuildError]:
    """``coreml.lstm`` requires an LSTM that asrbuild writes itself."""
    if recipe.coreml.lstm != "native" and layers.recurrent is None:
        yield AsrbuildError(
            f"a network of source.kind={recipe.source.kind} is converted with its own operations, "
            f"so coreml.lstm={recipe.coreml.lstm} does not change it",
            key="coreml.lstm",
            fix="leave coreml.lstm out, or export the network with its steps written out",
        )


def _outputs(recipe: Recipe, signature: Any) -> Iterator[AsrbuildError]:
    """``coreml.outputs`` must have all states, and only outputs that the proof compares."""
    asked = recipe.coreml.outputs
    outputs = list(signature.output_names) if asked is None else asked
    if unproven := [name for name in outputs if name not in signature.output_names]:
        yield AsrbuildError(
            f"coreml.outputs asks for {', '.join(unproven)}, which the proof does not compare",
            key="coreml.outputs",
            fix=f"choose from {', '.join(signature.output_names)}; an app computes features by the "
            "manifest",
        )
    if signature.probabilities not in outputs:
        yield AsrbuildError(
            f"coreml.outputs={outputs} leaves out {signature.probabilities}, without which "
            "nothing can be decoded",
            key="coreml.outputs",
            fix=f"the default is [{','.join(signature.output_names)}]",
        )
    states = [pair.output for pair in signature.states if pair.output not in outputs]
    if states and recipe.coreml.state == "explicit":
        yield AsrbuildError(
            f"coreml.outputs leaves out {', '.join(states)}, which the next call needs",
            key="coreml.outputs",
            fix="add it, or let the package keep its state: coreml.state=stateful (iOS 18)",
        )


def _without_effect(recipe: Recipe) -> list[str]:
    """Remarks on keys of the decoder that are set, although its type does not read them."""
    decoder, plain = recipe.decoder, DecoderConfig()
    unread = {
        "greedy": ("beam_width", "cutoff_prob", "cutoff_top_n", "lm_alpha", "lm_beta"),
        "beam": ("lm_alpha", "lm_beta"),
    }
    return [
        f"decoder.{key}={getattr(decoder, key)} has no effect: the {decoder.type} decoder does not "
        "read it"
        for key in unread.get(decoder.type, ())
        if getattr(decoder, key) != getattr(plain, key)
    ]


def _unwitnessed(recipe: Recipe) -> list[str]:
    """A remark if no second runtime runs the package, unless the recipe turns it off."""
    from asrbuild.builder.stages.witness import why_unwitnessed

    why = why_unwitnessed(recipe)
    if recipe.verify.witness == "off" or why is None:
        return []
    return [f"no second runtime witnesses the package: {why[0]}; {why[1]}"]
