"""Reads an ONNX source, and completes the keys of ``source.config``.

Reading a model and running it takes a second or more: the results are cached by the digests of its
files, so that a build with nothing to do imports no library for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.architecture import Fact, Found
from asrbuild.architectures.onnx import WORKER
from asrbuild.architectures.onnx.inside import settings_of
from asrbuild.architectures.onnx.section import (
    DRAFT,
    SECTION,
    OnnxConfig,
    open_axis,
    port_name,
    problems,
    read_section,
)
from asrbuild.base.cache import StageKey, entry_path, is_cached, run_stage
from asrbuild.base.code import code_digest
from asrbuild.base.digest import file_digest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import ONNX, Place
from asrbuild.base.kinds.recognition import existing_file, require
from asrbuild.base.places import resolve_file
from asrbuild.coreml.signature import DECODED

if TYPE_CHECKING:
    from asrbuild.architectures.measure import Measured, Question
    from asrbuild.architectures.onnx.graph import Graph

_RESULT = "found.json"
_CODE = ("architectures/onnx/reading.py", "architectures/onnx/settle.py")
#: Seconds of context if a row depends on the whole recording.
_CONTEXT_SECONDS = 1.0
_PRODUCTS = ("Conv", "Gemm", "GRU", "LSTM", "MatMul")
#: Minimum steps of features in a call while a model is measured.
_FEATURE_START = 100


@dataclass(frozen=True)
class Settled:
    """The facts about a model.

    Args:
        config: the section with every value except the labels.
        classes: number of classes of the decoded output.
        steps: the only number of steps of a call; None: any.
        weights: files of weights, relative to the model's folder.
        target: the oldest deployment target with all of its ops, if some lack them.
        half: whether the original itself computes in half precision.
    """

    config: dict[str, Any]
    classes: int
    steps: int | None
    weights: list[str]
    target: str | None = None
    half: bool = False


def settle(recipe: Any, cache_root: Path, keep: bool) -> Found:
    """Reads the model, assigns a role to every tensor, and measures omitted values.

    Raises:
        AsrbuildError: a file is missing or damaged, or a role is unknown.
    """
    config = checked_section(recipe)
    file = model_file(recipe)
    found = settled(file, config, cache_root, keep)
    files = {"graph": file}
    files |= {f"weights.{at}": file.parent / name for at, name in enumerate(found.weights)}
    values: dict[str, Any] = {}
    if found.target is not None and recipe.coreml.minimum_deployment_target == "auto":
        values["coreml.minimum_deployment_target"] = found.target
    if found.half:
        values["verify.thresholds"] = _half_gates(recipe.verify.thresholds)
    return with_labels(config, found, file, files, values)


def checked_section(recipe: Any) -> OnnxConfig:
    """The section of a composed recipe.

    Raises:
        AsrbuildError: a key has an impossible value.
    """
    config = read_section(recipe.source.config)
    for problem in problems(config):
        raise problem
    return config


def with_labels(
    config: OnnxConfig,
    found: Settled,
    file: Path,
    files: Mapping[str, Path],
    values: Mapping[str, Any],
) -> Found:
    """Adds the labels of the section to the facts of a model.

    Args:
        file: the model's file, for the facts.
        files: label -> file of the model.
        values: keys with values outside of the section.

    Raises:
        AsrbuildError: the labels are missing, or do not fit the classes.
    """
    tokens, labels = read_tokens(config, found.classes)
    own = {} if labels is None else {"alphabet": labels}
    settled_keys = {SECTION: found.config} | dict(values)
    return Found({**files, **own}, facts_of(found, file), tokens, settled_keys, (), found.steps)


def model_file(recipe: Any, place: Place = ONNX, example: str = "model.onnx") -> Path:
    """The file of the model.

    Args:
        place: the kinds of files that it may be.
        example: the name of such a file, for the fix.

    Raises:
        AsrbuildError: the file is missing, or of another kind.
    """
    if not recipe.source.path:
        raise AsrbuildError(
            "source.path names no file", key="source.path", fix=f"set source.path={example}"
        )
    file = resolve_file(recipe.source.path)
    require(file, place, key="source.path")
    return file


def settled(file: Path, config: OnnxConfig, cache_root: Path, keep: bool) -> Settled:
    """The facts about a model, from the cache if they were found before."""
    graph = {"graph": file_digest(file, cache_root)}
    weights = remembered(
        cache_root,
        StageKey("weights", code_digest(*_CODE), {}, graph, {}),
        keep,
        lambda: _weights(file),
    )
    digests = graph | {name: file_digest(file.parent / name, cache_root) for name in weights}
    find = partial(_find, file, config)
    return facts_found(find, _CODE, digests, config, cache_root, keep, weights)


def facts_found(
    find: Callable[[], Settled],
    code: Sequence[str],
    digests: Mapping[str, str],
    config: OnnxConfig,
    cache_root: Path,
    keep: bool,
    weights: Sequence[str] = (),
) -> Settled:
    """The facts about a model of any kind, from the cache if they were found before.

    Args:
        find: measures the model; ``code``: its modules.
        digests: digests of the model's files.
        weights: files of weights, relative to the model's folder.
    """
    given = {name: value for name, value in asdict(config).items() if name != "tokens"}
    key = StageKey("facts", code_digest(*code), {SECTION: given}, digests, {})
    known = remembered(cache_root, key, keep, lambda: asdict(find()))
    config_found = known["config"] | {"tokens": config.tokens}
    return Settled(**known | {"config": config_found, "weights": list(weights)})


def remembered(cache_root: Path, key: StageKey, keep: bool, find: Callable[[], Any]) -> Any:
    """The JSON result of ``find``, from the cache if it was found before."""
    if is_cached(cache_root, key):
        return json.loads((entry_path(cache_root, key) / _RESULT).read_text("utf-8"))
    text = json.dumps(find(), ensure_ascii=False, indent=1)
    if keep:

        def write(at: Path) -> None:
            (at / _RESULT).write_text(text, "utf-8")

        run_stage(cache_root, key, write, notify=lambda _: None)
    return json.loads(text)


def _weights(file: Path) -> list[str]:
    from asrbuild.architectures.onnx.reading import weight_files

    return weight_files(file)


def _find(file: Path, config: OnnxConfig) -> Settled:
    """Reads the model and measures it."""
    from asrbuild.architectures.measure import measure
    from asrbuild.architectures.onnx.folding import fold
    from asrbuild.architectures.onnx.lowering.walk import missing
    from asrbuild.architectures.onnx.other_kinds import refuse_other_kinds
    from asrbuild.architectures.onnx.reading import read_graph

    graph = fold(read_graph(file), config.pin, config.cut)
    refuse_other_kinds(graph, file, (*config.inputs, *config.outputs))
    for error in missing(graph):
        error.file = str(file)
        raise error
    ask = ["--model", str(file), "--pins", json.dumps(config.pin), "--cuts", json.dumps(config.cut)]
    return measured_section(graph, config, lambda q: measure(WORKER, "ONNX Runtime", ask, q))


def measured_section(
    graph: Graph, config: OnnxConfig, ask: Callable[[Question], Measured]
) -> Settled:
    """Completes the section: assigns roles, and measures the rest with ``ask``.

    Args:
        graph: the graph after pins and cuts, for its inputs and outputs.
        ask: runs the original.

    Raises:
        AsrbuildError: the role of an input is unknown.
    """
    from asrbuild.architectures.measure import Question
    from asrbuild.architectures.onnx.roles import assign

    assigned, unknown = assign(graph, config)
    if unknown:
        names = ", ".join(tensor.name for tensor in unknown)
        raise _missing("inputs", f"the meaning of the inputs {names} is not known")
    main = next(
        (n for n, one in assigned.inputs.items() if one["meaning"] in ("features", "samples")), None
    )
    if main is None:
        raise _missing("inputs", "no input takes features or samples")
    own = assigned.inputs[main]
    time = next(at for at, size in enumerate(own["axes"]) if isinstance(size, str))
    steps = own.get("steps")
    second = _steps_a_second(assigned, own["meaning"])
    start = round(second) if own["meaning"] == "samples" else _FEATURE_START
    question = Question(
        input=main,
        axis=time,
        shape=[steps if isinstance(size, str) else size for size in own["axes"]],
        start=start,
        others={n: one["axes"] for n, one in assigned.inputs.items() if one["meaning"] == "state"},
        lengths=[n for n, one in assigned.inputs.items() if one["meaning"] == "step_count"],
        decoded=_stated_decoded(config) or _only_output(graph, assigned),
    )
    measured = _stated(config) or ask(question)
    rows = config.rows or {"steps": measured.steps, "add": measured.add, "most": measured.most}
    left, right = (
        _context(found, second, rows["steps"], bool(assigned.states))
        for found in (measured.left, measured.right)
    )
    if steps is not None:
        left, right = _within(steps, rows["steps"], left, right)
    context = {
        "causal": measured.causal,
        "left": left,
        "right": right,
        "padding": "neutral" if measured.neutral else "changes_output",
    }
    outputs = _outputs(assigned, measured.axes, measured.decoded, measured.kind)
    classes = outputs[measured.decoded]["axes"][-1]
    whole = OnnxConfig(
        **vars(assigned) | {"rows": rows, "context": context | config.context, "outputs": outputs}
    )
    # A GRU that resets after the product, as in PyTorch and Keras, requires iOS 18.
    after = any(n.op == "GRU" and n.attributes.get("linear_before_reset") for n in graph.nodes)
    target = "iOS18" if after else None
    return Settled(asdict(whole), classes, steps, [], target, _computes_in_half(graph))


def _stated(config: OnnxConfig) -> Measured | None:
    """The facts that a run would measure, where the section states them all, as a draft does."""
    from asrbuild.architectures.measure import Measured

    rows, context, outputs = config.rows, config.context, config.outputs
    whole = all(
        isinstance(one, Mapping) and {"axes", "meaning"} <= {*one} for one in outputs.values()
    )
    decoded = _stated_decoded(config)
    if decoded is None or not whole or {*rows} != {"steps", "add", "most"}:
        return None
    if not {"causal", "left", "right", "padding"} <= {*context}:
        return None
    return Measured(
        decoded,
        {
            name: [None if isinstance(size, str) else size for size in one["axes"]]
            for name, one in outputs.items()
        },
        outputs[decoded]["meaning"],
        **rows,
        causal=context["causal"],
        left=context["left"],
        right=context["right"],
        neutral=context["padding"] == "neutral",
    )


def _computes_in_half(graph: Graph) -> bool:
    """Whether products are computed in half precision; only weights are folded to float32."""
    weights = (
        graph.constants.get(name)
        for node in graph.nodes
        if node.op in _PRODUCTS
        for name in node.inputs
    )
    return any(weight is not None and weight.dtype.name == "float16" for weight in weights)


def _half_gates(thresholds: Mapping[str, Any]) -> dict[str, Any]:
    """The gates with those of ``verify=half``, because two roundings differ more than one."""
    from asrbuild.base.choices import packaged
    from asrbuild.coreml.compression import HALF_ORIGINAL

    whole: Any = packaged("verify", HALF_ORIGINAL)
    gates = type(next(iter(thresholds.values())))
    return {HALF_ORIGINAL: gates(**whole["thresholds"][HALF_ORIGINAL]), **thresholds}


def _steps_a_second(config: OnnxConfig, meaning: str) -> float:
    """Input steps in a second of audio."""
    if meaning == "samples":
        return float(config.sample_rate)
    if config.features.get("kind", "none") == "none":
        raise AsrbuildError(
            "the model takes features, and their kind is not stated",
            key=f"{SECTION}.features.kind",
            fix="state what it was trained with: mfcc_tf, log_mel_whisper, log_mel_nemo or "
            "fbank_kaldi",
        )
    return float(1 / settings_of(config).step_s)


def _context(found: int | None, second: float, row: int, states: bool) -> int:
    """Steps of context in whole rows; none on the left if states carry the past."""
    if states:
        return 0
    if found is None:
        found = round(_CONTEXT_SECONDS * second)
    return -(-found // row) * row


def _within(steps: int, row: int, left: int, right: int) -> tuple[int, int]:
    """Context for calls of one size: at most half of a call, so that whole rows are new."""
    most = steps // 4 // row * row
    if left + right > steps // 2:
        left, right = min(left, most), min(right, most)
    return (left, right + (steps - left - right) % row) if right else (left, right)


def _stated_decoded(config: OnnxConfig) -> str | None:
    for name, value in config.outputs.items():
        meaning = value.get("meaning") if isinstance(value, Mapping) else value
        if meaning in DECODED:
            return name
    return None


def _only_output(graph: Graph, config: OnnxConfig) -> str | None:
    """The only output that is not a state; None if there are several."""
    states = config.states.values()
    found = [output.name for output in graph.outputs if output.name not in states]
    return found[0] if len(found) == 1 else None


def _outputs(
    config: OnnxConfig, shapes: Mapping[str, list[int | None]], decoded: str, kind: str
) -> dict[str, Any]:
    """The outputs of the package: the decoded one, counts of rows, and states."""
    stated = {
        n: dict(v) if isinstance(v, Mapping) else {"meaning": v} for n, v in config.outputs.items()
    }
    roles = {decoded: {"meaning": kind}} | stated
    for name, shape in shapes.items():
        if not config.outputs and name not in roles and len(shape) <= 1 and None not in shape:
            roles[name] = {"meaning": "row_count"}
    roles |= {output: {"meaning": "state"} for output in config.states.values()}
    made = {}
    for name, role in roles.items():
        if name not in shapes:
            known = ", ".join(shapes)
            raise AsrbuildError(
                f"the model has no output {name}",
                key=f"{SECTION}.outputs.{name}",
                fix=f"its outputs are {known}",
            )
        meaning = role["meaning"]
        sizes = [open_axis(meaning) if size is None else size for size in shapes[name]]
        if meaning == "state":
            given = next(i for i, o in config.states.items() if o == name)
            sizes = config.inputs[given]["axes"]
            role |= {k: v for k, v in config.inputs[given].items() if k == "dtype"}
        made[name] = {"axes": sizes or [1]} | role
    first = {decoded: made.pop(decoded)}
    return first | made


def read_tokens(config: OnnxConfig, classes: int) -> tuple[Any, Path | None]:
    """Reads the labels; returns them and their file."""
    from asrbuild.speech.outputs import FEWEST_CLASSES
    from asrbuild.speech.vocabulary import read_vocabulary

    own = dict(config.tokens)
    named = own.pop("file", None)
    if not named:
        raise AsrbuildError(
            f"the model has {classes} classes, and their labels are not stated",
            key=f"{SECTION}.tokens.file",
            fix="give the model's tokens.txt or vocab.json: one label a class, in their order",
        )
    path = existing_file(named, f"{SECTION}.tokens.file")
    kind = own.pop("kind", "characters")
    try:
        return read_vocabulary(path, kind, classes=max(classes, FEWEST_CLASSES), **own), path
    except TypeError as error:
        raise AsrbuildError(
            f"{SECTION}.tokens has keys that it does not take: {', '.join(own)}",
            key=f"{SECTION}.tokens",
            fix="its keys are file, kind, blank, boundary, silent",
        ) from error
    except AsrbuildError as error:
        error.key = f"source.config.{error.key}" if error.key else f"{SECTION}.tokens"
        raise


def question_of(
    file: Path, settled: Callable[..., Settled], recipe: Any, cache_root: Path
) -> tuple[Path, tuple[Fact, ...], list[str]]:
    """A model's file, its facts, and the keys that it does not state.

    Args:
        settled: finds the facts of a model of this kind, as :func:`settled` does.
    """
    config = read_section(recipe.source.config)
    found = settled(file, config, cache_root, keep=False)
    return file, facts_of(found, file), [] if config.tokens else [f"{SECTION}.tokens.file"]


def facts_of(found: Settled, file: Path) -> tuple[Fact, ...]:
    """The facts from the file and from measurements, to show them."""
    config, facts = found.config, []
    for side in ("inputs", "outputs"):
        for name, one in config[side].items():
            shape = ", ".join(map(str, one["axes"]))
            text = f"{one['meaning']} ({shape})"
            renamed = "" if port_name(name) == name else f", {port_name(name)} in the package"
            facts.append(Fact(f"{side}.{name}", text + renamed, str(file), "the graph"))
    for given, output in config["states"].items():
        facts.append(Fact(f"states.{given}", output, str(file), "the graph"))
    facts.append(Fact("classes", found.classes, str(file), "the decoded output"))
    if found.half:
        facts.append(
            Fact("verify", "half: its products are taken in half precision", str(file), "the graph")
        )
    for key in ("rows", "context"):
        for name, value in config[key].items():
            facts.append(Fact(f"{key}.{name}", value, str(file), "measured"))
    return tuple(facts)


def _missing(key: str, message: str) -> AsrbuildError:
    return AsrbuildError(message, key=f"{SECTION}.{key}", fix=DRAFT)
