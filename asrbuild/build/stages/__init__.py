"""The stages of a build, one file each: what it reads, what it comes after, and what it does."""

from asrbuild.build.stages import cases, convert, evaluate, execute, export, prove, reference

#: In the order in which they begin.
STAGES = (
    export.STAGE,
    cases.STAGE,
    reference.STAGE,
    convert.STAGE,
    execute.STAGE,
    prove.STAGE,
    evaluate.STAGE,
)
