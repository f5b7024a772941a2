"""The rules about Core ML packages and the Neural Engine, with their sources.

By a rule, a part of a package is blocked (only the CPU or GPU can run it), contested (sources
contradict each other, or only reports exist) or eligible (it was seen to be supported; Core ML
decides on the device). Parts without a rule are unknown. No rule claims where a part really runs.

Sources by their short names:

* 751K: github.com/751K/Apple-Neural-Engine-Microarchitecture-Study-M6 (MIT licence), October 2026:
  482 packages of one op each, planned by Core ML on one M4 with macOS 27.0.1.
* ct#N: issue N of github.com/apple/coremltools; ct docs: its documentation.
* FA: github.com/FluidInference/FluidAudio; gigastt: github.com/ekhodzitsky/gigastt.
* coreai-models: github.com/apple/coreai-models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from asrbuild.handover.fit.operations import Operation
from asrbuild.handover.fit.predicates import (
    MATHS,
    STRUCTURE,
    PackageFacts,
    above_a_gigabyte,
    all_units,
    axis_above,
    before_ios_18,
    bounded_at_run_time,
    computes_integers,
    computes_single,
    eligible,
    enumerated,
    fragile_compression,
    gathers_at_run_time,
    in_control_flow,
    inner_above_32768,
    kind,
    large_values,
    odd_states,
    ranges,
    rank_above_5,
    wide_convolution,
    wide_pooling,
)

UnitVerdict = Literal["blocked", "contested", "eligible", "not known"]
#: Levels of sources: Apple's documents; measurements with public method or data; users' reports.
Level = Literal["Apple", "measured", "report"]
#: Verdicts, strongest first: an operation with several rules has the strongest verdict.
VERDICTS: tuple[UnitVerdict, ...] = ("blocked", "contested", "eligible", "not known")

_M4 = "M4, macOS 27.0.1"
_DATE = "2026-11-26"
_OTHER_CHIP = "a compute plan of another chip or system that supports it on the Neural Engine"
_PLAN = "a compute plan that supports it on the Neural Engine"


@dataclass(frozen=True)
class UnitRule:
    """One rule of the table.

    Args:
        id: a permanent identifier.
        verdict: the verdict on the parts that it names.
        about: the part of a package, in a few words.
        predicate: its condition, in words.
        scope: chips and system builds for which its sources hold.
        levels: levels of its sources, the strongest first.
        sources: sources, each with its place.
        date: the date when the sources were read.
        refuted_by: an observation that would refute it.
        advice: alternative recipe overrides that avoid it.
        names_operation: whether it applies to an operation.
        names_package: the parts of a package that it applies to, in words.
    """

    id: str
    verdict: UnitVerdict
    about: str
    predicate: str
    scope: str
    levels: tuple[Level, ...]
    sources: tuple[str, ...]
    refuted_by: str
    date: str = _DATE
    advice: tuple[str, ...] = ()
    names_operation: Callable[[Operation], bool] | None = None
    names_package: Callable[[PackageFacts], list[str]] | None = None


RULES: tuple[UnitRule, ...] = (
    UnitRule(
        "R01",
        "blocked",
        "recurrent layer",
        "an op lstm, gru or rnn; a layer uniDirectionalLSTM, biDirectionalLSTM, gru or "
        "simpleRecurrent",
        "M4 and M6 with macOS 27.0.1; M5, M4 Pro and older chips as reported since 2019",
        ("Apple", "measured"),
        (
            "ct#1780: an Apple engineer, 'RNN or LSTM ops are not supported'",
            "751K data/03_compile/opdispatch: lstm, gru, rnn on the CPU alone, M4 and M6",
            "FA Documentation/ANE_Candidates.md: no kernel at any precision, M5",
            "ct#337; hollance/neural-engine docs/unsupported-layers.md",
        ),
        _PLAN,
        advice=("model=dynamic_to_static coreml.lstm=unrolled",),
        names_operation=kind(
            "lstm", "gru", "rnn", "uniDirectionalLSTM", "biDirectionalLSTM", "simpleRecurrent"
        ),
    ),
    UnitRule(
        "R02",
        "blocked",
        "control flow",
        "a while_loop or cond, a layer loop or branch, and every op inside one",
        "reports of all chips",
        ("Apple", "report"),
        (
            "coreai-models skills, references/guidance.md: 'limited or no control flow'",
            "ct#2208: a while_loop reached neither the Neural Engine nor the GPU",
        ),
        _PLAN,
        advice=("coreml.lstm=native",),
        names_operation=in_control_flow,
    ),
    UnitRule(
        "R03",
        "blocked",
        "computes int32",
        "an operand that a call computes, or a result, is int32",
        _M4,
        ("measured",),
        ("751K notes/coreml_dispatch.md, section 3.1",),
        _OTHER_CHIP,
        names_operation=computes_integers,
    ),
    UnitRule(
        "R04",
        "blocked",
        "bounded at run time",
        "a range_1d or a slice whose begin, end or size a call computes",
        f"{_M4}; with macOS 26.5 the plan of a whole package was refused for it",
        ("measured", "report"),
        (
            "751K plan_iso_cpune.tsv: range_1d, slice_dyn on the CPU alone",
            "onnxsim#1430: shape, slice and range_1d bisected as the cause of a failing plan",
        ),
        _OTHER_CHIP,
        advice=("model=dynamic_to_static", "model=static"),
        names_operation=bounded_at_run_time,
    ),
    UnitRule(
        "R05",
        "contested",
        "range input",
        "an input with an axis of any size between two bounds",
        "iOS 17.4 and later with the hint reshapeFrequency=infrequent; reports against it: macOS "
        "13 to 26",
        ("Apple", "report"),
        (
            "for: ct docs, flexible-inputs, with the hint alone; ct#1909, one case",
            "against: ct#1764, ct#2370, ct#1029; FA#537",
        ),
        "a timed run of several sizes with the hint, and its plan",
        advice=("model=dynamic_to_static n_steps=16,64,150",),
        names_package=ranges,
    ),
    UnitRule(
        "R06",
        "contested",
        "enumerated input",
        "an input with a list of shapes",
        "Apple: up to 128 shapes; reports against it: M1 Pro and others",
        ("Apple", "measured"),
        (
            "for: ct docs, faqs, 'will run on the NE'",
            "against: gigastt docs/ane-backend.md, none of the ops, 12 x slower than one fixed "
            "shape; ct#2370; ct#1909; ct#2730",
        ),
        "a timed run of each shape, and its plan",
        advice=("model=dynamic_to_static n_steps=16,32,64",),
        names_package=enumerated,
    ),
    UnitRule(
        "R07",
        "blocked",
        "computes float32",
        "an op of an ML program with a float32 operand or result, casts apart",
        "all",
        ("Apple",),
        ("coreai-models, neural_engine_rules.md: float16, int8 and int16",),
        _PLAN,
        advice=("coreml.precision=fp16",),
        names_operation=computes_single,
    ),
    UnitRule(
        "R08",
        "contested",
        "state in the package",
        "an op that reads or writes a Core ML state",
        "macOS 15 and iOS 18 and later",
        ("report",),
        ("for: FA#679", "against: ct#2553; FA ANE_Profiler.md, 'MLState ... iOS 18'"),
        "a plan and a timed run of such a package",
        advice=("coreml.state=explicit",),
        names_operation=kind("read_state", "write_state", "coreml_update_state"),
    ),
    UnitRule(
        "R09",
        "contested",
        "compressed weights",
        "weights that are stored otherwise than in float16 or in a palette of 6 or 8 bits",
        "reports of A16, iPhone 16 Pro Max and M4; Apple's advice of all",
        ("Apple", "report"),
        (
            "for palettes: ct docs, opt-overview, 'typically works the best on the Neural Engine'",
            "against: ct#2716 and ct#2688 (4 bits); coreai-models#279 (int8, wrong values); "
            "FA#828 (int8, loads on no unit)",
        ),
        "a timed run with the words of the proof",
        advice=("coreml.compress=palettize_6", "coreml.compress=none"),
        names_package=fragile_compression,
    ),
    UnitRule(
        "R10",
        "blocked",
        "axis above 65,536",
        "an axis of more than 65,536 values",
        f"{_M4}; compiles alike for M6",
        ("measured",),
        ("751K relu_c65536 and relu_c65537; notes/coreml_dispatch.md, section 3.3",),
        _OTHER_CHIP,
        names_operation=axis_above(65536),
    ),
    UnitRule(
        "R11",
        "contested",
        "large fp16 values",
        "an operand of magnitude 32,768 or more on the proof's inputs, or a sum whose terms' "
        "magnitudes add up to that",
        "M6",
        ("measured",),
        ("751K notes/defects.md, C2 to C4: a sum of 32,768 becomes infinite and stays so",),
        "right outputs of a device on such an input",
        advice=("coreml.precision=fp32",),
        names_package=large_values,
    ),
    UnitRule(
        "R12",
        "contested",
        "compute units ALL",
        "the manifest recommends ALL",
        "M4 Pro and M5 Max",
        ("measured",),
        ("erwinzhang7/coreml-compute-placement: five models, three choices of units each",),
        "timed runs of this package with each choice",
        advice=("coreml.compute_units=CPU_ONLY,CPU_AND_NE,ALL",),
        names_package=all_units,
    ),
    UnitRule(
        "R13",
        "not known",
        "plan may be unanswered",
        "a specification version below 9, that of iOS 18",
        "macOS 15 and later",
        ("report",),
        ("onnxsim#980: no answer for any op of an older package",),
        "an answered plan of such a package",
        names_package=before_ios_18,
    ),
    UnitRule(
        "R14",
        "contested",
        "width of a state",
        "a Core ML state whose last axis is not a multiple of 32",
        "M-series, macOS 15",
        ("report",),
        ("ct#2631",),
        "a plan and a timed run of such a package",
        advice=("coreml.state=explicit",),
        names_package=odd_states,
    ),
    UnitRule(
        "R15",
        "blocked",
        "product over more than 32,768",
        "a matmul or linear whose inner axis has more than 32,768 values",
        f"{_M4}; compiles alike for M6; 16,384 on older chips",
        ("measured",),
        ("751K sw_matmul_k32768 and sw_matmul_k65536", "chrishayuk/larql#312"),
        _OTHER_CHIP,
        names_operation=inner_above_32768,
    ),
    UnitRule(
        "R16",
        "blocked",
        "wide convolution",
        "a kernel wider than 15 (square: than 16) or higher than 31",
        _M4,
        ("measured",),
        ("751K notes/coreml_dispatch.md, section 3.3: sw_conv_*",),
        _OTHER_CHIP,
        names_operation=wide_convolution,
    ),
    UnitRule(
        "R17",
        "blocked",
        "wide maximum",
        "a max_pool with a kernel wider than 8",
        _M4,
        ("measured",),
        ("751K sw_maxpool_k8 and sw_maxpool_k9",),
        _OTHER_CHIP,
        names_operation=wide_pooling,
    ),
    UnitRule(
        "R18",
        "blocked",
        "more than 5 axes",
        "a value with more than 5 axes",
        "all",
        ("Apple", "report"),
        ("coreai-models, neural_engine_rules.md", "microsoft/onnxruntime#14212"),
        _PLAN,
        names_operation=rank_above_5,
    ),
    UnitRule(
        "R19",
        "contested",
        "axis above 16,384",
        "an axis of more than 16,384 values",
        "blocked up to A15, seen to be supported on M4",
        ("measured",),
        ("john-rocky/coreai-model-zoo knowledge/ane-silicon-reference.md", "751K relu_w16385"),
        "a compute plan of an A15 or older that supports it",
        names_operation=axis_above(16384),
    ),
    UnitRule(
        "R20",
        "blocked",
        "function without a kernel",
        f"an op {', '.join(MATHS[:-1])} or {MATHS[-1]}",
        _M4,
        ("measured",),
        ("751K notes/coreml_dispatch.md, section 3.1",),
        _OTHER_CHIP,
        names_operation=kind(*MATHS),
    ),
    UnitRule(
        "R21",
        "blocked",
        "op without a kernel",
        f"an op {', '.join(STRUCTURE[:-1])} or {STRUCTURE[-1]}",
        _M4,
        ("measured",),
        (
            "751K notes/coreml_dispatch.md, section 3.1",
            "scatter: also a comment in coremltools, converters/mil/frontend/torch/ops.py",
        ),
        _OTHER_CHIP,
        names_operation=kind(*STRUCTURE),
    ),
    UnitRule(
        "R22",
        "contested",
        "more than 1 GB",
        "weights of more than 2^30 bytes",
        "iPhone",
        ("Apple",),
        ("ct docs, mlmodel-utilities, 'Bisect Model'; guidance.md of coreai-models",),
        "a timed run on an iPhone",
        names_package=above_a_gigabyte,
    ),
    UnitRule(
        "R23",
        "blocked",
        "gather at computed indices",
        "a gather whose indices a call computes, of any type",
        _M4,
        ("measured",),
        ("751K plan_iso_cpune.tsv: gather_dyn and embedding on the CPU alone, gather_c not",),
        _OTHER_CHIP,
        names_operation=gathers_at_run_time,
    ),
    UnitRule(
        "R24",
        "eligible",
        "supported op",
        "an op of an ML program that is listed as supported, on float16, bool, int8 or int16",
        _M4,
        ("measured",),
        (
            "751K notes/coreml_dispatch.md, section 3.2: 166 packages of one op",
            "of linear: Apple advises a 1 x 1 convolution in (B, C, 1, S), apple/"
            "ml-ane-transformers; 751K saw linear supported",
        ),
        "a compute plan that does not support it",
        names_operation=eligible,
    ),
)


def as_dict(rule: UnitRule) -> dict[str, Any]:
    """A rule as values for JSON."""
    listed = ("levels", "sources", "advice")
    texts = ("id", "verdict", "about", "predicate", "scope", "date", "refuted_by")
    return {key: getattr(rule, key) for key in texts} | {
        key: list(getattr(rule, key)) for key in listed
    }
