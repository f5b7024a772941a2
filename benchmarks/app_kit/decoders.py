"""The decoders of the kit as a program with all changes in it, and its answers to random cases."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrbuild.speech.decoder import Hypothesis, Word
from benchmarks.app_kit.bench import ACTIVE, LONGEST, NONE, digests, once, seed
from benchmarks.app_kit.swift_tests import BrokenError, finish
from tests.handover.app.swift_decoder import (
    DECODE,
    Tool,
    build_tool,
    difference,
    make_scorers,
    random_cases,
)

CASES = 200


@dataclass(frozen=True)
class Decoders:
    """The program that decodes, and its answers without a change.

    The tests compare those with ds-ctcdecoder.
    """

    tool: Tool
    right: list[Any]
    limit: float

    @classmethod
    def build(cls, folder: Path, sources: Path) -> Decoders:
        version = hashlib.sha256(json.dumps(digests(sources / "ASRCore")).encode()).hexdigest()
        place = folder / f"decoders-{version[:12]}"
        once(place, lambda at: build_tool(at, seed))
        cases, tokens = random_cases(make_scorers(folder), CASES)
        tool = Tool(place)
        tool.write(cases, tokens)
        start = time.monotonic()
        right, fault = cls(tool, [], LONGEST).answers(NONE)
        if fault or len(right) != CASES or any(answer.get("error") for answer in right):
            raise BrokenError(f"without a change the decoders fail: {fault}")
        return cls(tool, right, max(LONGEST, 4 * (time.monotonic() - start)))

    def answers(self, active: int) -> tuple[list[Any], str]:
        done = finish(list(DECODE), self.limit, {ACTIVE: str(active)}, self.tool.package)
        if done.code is None:
            return [], f"does not end in {self.limit:.0f} s"
        if done.code < 0 and done.code != -signal.SIGKILL:
            return [], f"ends with signal {-done.code}"
        if done.code != 0:
            raise BrokenError(f"decoding: exit code {done.code}\n{done.err[-2000:]}")
        return [json.loads(line) for line in done.out.splitlines()], ""

    def find(self, active: int) -> str:
        """The first difference of the answers; empty if there is none."""
        answers, fault = self.answers(active)
        for number, (found, right) in enumerate(zip(answers, self.right, strict=False)):
            # The tests compare the texts so far of every fourth case.
            partials = number % 4 != 0 or found["partials"] == right["partials"]
            if difference(found, hypotheses(right)) or not partials:
                return f"case {number} differs"
        return fault or ("" if len(answers) == len(self.right) else f"{len(answers)} answers")


def hypotheses(answer: dict[str, Any]) -> list[Hypothesis]:
    return [
        Hypothesis(one["text"], one["confidence"], tuple(Word(**word) for word in one["words"]))
        for one in answer["hypotheses"]
    ]
