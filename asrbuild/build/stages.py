"""The stages of a build as keys: what each one reads decides its fingerprint, and nothing else.

    export ─┬► reference ─┐
    cases  ─┤             ├► prove ──► evaluate ──► artifact
    convert ┴► execute ───┘

A sweep over ``coreml.*`` shares export, cases and reference; one over ``decoder.*`` shares all but
the comparison.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrbuild.base.cache import StageKey, fingerprint
from asrbuild.base.digest import source_digest
from asrbuild.build.recipe import Recipe, evaluates, record
from asrbuild.build.recipe import label as package_label
from asrbuild.build.sources import Source
from asrbuild.coreml.compression import gate_names

#: What each stage does, in words for a person.
DOING = {
    "export": "frozen graph from the weights",
    "cases": "features of the verification inputs",
    "reference": "TensorFlow on the frozen graph",
    "convert": "Core ML package from the weights",
    "execute": "package executed on the verification inputs",
    "prove": "package compared with TensorFlow",
    "evaluate": "word errors on a set of recordings",
    "artifact": "manifest, report, published",
}
#: What a stage does with the recipe and the source: part of every stage.
_BODIES = ("build/work.py", "build/describe.py", "build/sources.py")
#: Modules (files or folders of the package) whose code shapes a stage's result. Those of a stage
#: whose fingerprint is among the keys need not be named again.
_GRAPHS = ("architectures", "base/protobuf.py")
_CODE = {
    "export": (*_GRAPHS, "speech/alphabet.py"),
    "cases": ("proof/cases.py", "speech/mfcc.py", "speech/audio.py"),
    "reference": (*_GRAPHS, "proof/prefixes.py"),
    "convert": (*_GRAPHS, "coreml", "build/recipe.py", "speech/alphabet.py", "speech/mfcc.py"),
    "execute": ("coreml/executor", "proof/execution.py", "artifact/runtime.py", "proof/cases.py",
                "proof/prefixes.py", "artifact/manifest.py", "proof/gates.py", "proof/verdict.py"),
    "prove": ("speech", "proof/consistency.py"),
    "evaluate": (*_GRAPHS, "coreml/executor", "speech", "artifact/runtime.py",
                 "proof/evaluation.py", "artifact/manifest.py", "proof/verdict.py"),
    "artifact": ("build/assembly.py", "build/compose.py", "build/explain.py",
                 "build/overrides.py", "build/config_folders.py", "handover/report", "handover/app",
                 "artifact", "base/quantities.py", "base/terminal.py"),
}  # fmt: skip
_TENSORFLOW = "tensorflow-cpu", "tensorflow"


@dataclass(frozen=True)
class Chain:
    """The stage keys of one recipe. ``export`` is None where the source is a frozen graph,
    ``evaluate`` where no set of recordings and no other artifact is asked for."""

    export: StageKey | None
    cases: StageKey
    reference: StageKey
    convert: StageKey
    execute: StageKey
    prove: StageKey
    evaluate: StageKey | None
    artifact: StageKey

    def ordered(self) -> list[StageKey]:
        """In the order in which they run."""
        every = (
            self.export, self.cases, self.reference, self.convert, self.execute, self.prove,
            self.evaluate, self.artifact,
        )  # fmt: skip
        return [key for key in every if key is not None]


def chain(recipe: Recipe, source: Source) -> Chain:
    """The keys of every stage, from the recipe and the digests of its inputs alone."""
    whole = record(recipe)
    weights = source.weights_digests()
    front_end = {k: whole["export"][k] for k in _FEATURE_KEYS}
    export = None
    if source.graph is None:
        graph_keys = {k: whole["export"][k] for k in _GRAPH_KEYS}
        export = _key("export", graph_keys, weights | _pick(source, "alphabet"))
    graph = {"graph": fingerprint(export) if export else weights["graph"]}
    cases = _key(
        "cases",
        {"features": front_end, "inputs": whole["verify"]["inputs"]},
        _pick(source, *source.recordings),
        "numpy", "soundfile", "soxr",
    )  # fmt: skip
    reference = _key("reference", graph | {"cases": fingerprint(cases)}, {}, "tensorflow")
    coreml = {k: v for k, v in whole["coreml"].items() if k not in _NOT_CONVERTED}
    model = {k: whole["model"][k] for k in ("steps", "functions", "streaming")}
    label = {k: whole["export"][k] for k in _LABEL_KEYS}
    label |= {"name": package_label(recipe), "version": recipe.version}
    geometry = front_end | {k: whole["export"][k] for k in ("n_hidden", "relu_clip")}
    by_tensorflow = recipe.coreml.frontend == "tensorflow"
    coreml["frontend"] = "tensorflow" if by_tensorflow else "mil"  # which is what auto means
    convert = _key(
        "convert",
        {"coreml": coreml, "model": model, "label": label, "geometry": geometry}
        | (graph if by_tensorflow else {}),
        weights | _pick(source, "alphabet"),
        "coremltools", "numpy", *(["tensorflow"] if by_tensorflow else []),
    )  # fmt: skip
    lengths = {k: whole["verify"][k] for k in ("edge_lengths", "max_steps")}
    execute = _key(
        "execute",
        {
            "convert": fingerprint(convert),
            "cases": fingerprint(cases),
            "lengths": lengths | {"n_steps": recipe.n_steps},
            # There Core ML runs the package, too.
            "core_ml": recipe.coreml.compute_units if sys.platform == "darwin" else None,
        },
        {},
        "numpy",
    )
    evaluating = evaluates(recipe)
    left_out = ("thresholds", *_SET_KEYS) if evaluating else ("thresholds",)
    verify = {k: v for k, v in whole["verify"].items() if k not in left_out}
    gates = {name: whole["verify"]["thresholds"].get(name) for name in gate_names(whole["coreml"])}
    texts = {f"{name}_text" for name in source.texts}
    prove = _key(
        "prove",
        {
            "execute": fingerprint(execute),
            "reference": fingerprint(reference),
            "decoder": whole["decoder"],
            "verify": verify | {"gates": gates},
        },
        _pick(source, *sorted(texts), "scorer"),
        "numpy",
    )
    evaluate = None
    if evaluating:
        # What is listened to: a set of recordings, or where there is none those of the source.
        heard = ["evaluation"]
        if "evaluation" not in source.digests:
            heard = [*source.recordings, *sorted(texts)]
        evaluate = _key(
            "evaluate",
            graph
            | {
                "convert": fingerprint(convert),
                "decoder": whole["decoder"],
                "verify": {k: whole["verify"][k] for k in _EVALUATION_KEYS},
            },
            _pick(source, *heard, "baseline", "baseline.manifest", "scorer"),
            "numpy", "soundfile", "soxr", "jiwer",
        )  # fmt: skip
    proofs = [fingerprint(key) for key in (prove, evaluate) if key is not None]
    artifact = _key("artifact", {"prove": proofs, "recipe": whole}, source.digests)
    return Chain(export, cases, reference, convert, execute, prove, evaluate, artifact)


#: Keys of ``coreml`` that no package shows: ``range_upper`` acts through ``model.steps``.
_NOT_CONVERTED = ("name", "compute_units", "range_upper")
#: Keys of ``verify`` that the word errors of a set are for, and no proof reads.
_SET_KEYS = ("evaluation", "compared_with", "max_wer", "max_wer_increase")
_EVALUATION_KEYS = (*_SET_KEYS, "count_unspelled")
_FEATURE_KEYS = (
    "audio_sample_rate", "feature_win_len", "feature_win_step", "upper_frequency_limit",
    "n_input", "n_context",
)  # fmt: skip
_LABEL_KEYS = ("export_author_id", "export_license", "export_description")
_GRAPH_KEYS = (
    *_FEATURE_KEYS, "n_steps", "n_hidden", "batch_size", "relu_clip", "beam_width",
    "export_language",
)  # fmt: skip


def _pick(source: Source, *labels: str) -> dict[str, str]:
    return {label: source.digests[label] for label in labels if label in source.digests}


def _key(
    stage: str, keys: Mapping[str, Any], files: Mapping[str, str], *libraries: str
) -> StageKey:
    versions = {name: library_version(name) for name in libraries}
    return StageKey(stage, source_digest((*_BODIES, *_CODE[stage])), keys, files, versions)


def library_version(name: str) -> str:
    """Installed version of a distribution, without importing it."""
    candidates = _TENSORFLOW if name == "tensorflow" else (name,)
    found = (_installed().get(candidate.replace("-", "_")) for candidate in candidates)
    return next((version for version in found if version is not None), "absent")


@functools.cache
def _installed() -> dict[str, str]:
    """Normalised name -> version of everything installed, first on the path first.

    Both are in the name of the ``.dist-info`` folder (PyPA: "Recording installed projects").
    ``importlib.metadata`` would parse an e-mail for each of them.
    """
    versions: dict[str, str] = {}
    for folder in sys.path:
        for path in Path(folder or ".").glob("*.dist-info"):
            name, _, version = path.stem.partition("-")
            versions.setdefault(name.lower().replace(".", "_"), version)
    return versions
