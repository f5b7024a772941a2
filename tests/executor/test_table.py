"""The published table of ops: up to date, and every op in it tested."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

from asrbuild.executor import supported_ops
from asrbuild.executor.page import render

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def test_the_page_is_up_to_date() -> None:
    page = ROOT / "docs" / "executor-ops.md"
    assert page.read_text(encoding="utf-8") == render(), (
        "write it again: python -m asrbuild.executor.page docs/executor-ops.md"
    )


def test_every_op_has_a_line_that_says_what_it_does() -> None:
    for op in supported_ops():
        assert op.summary, op


def test_every_mil_op_has_a_conformance_test() -> None:
    """Looks for the op's name in the tests: given to ``check``, in a table, or called on ``mb``."""
    named: set[str] = set()
    for path in sorted(HERE.glob("test_*.py")):
        if path.name == Path(__file__).name:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "mb":
                named.add(node.attr)
    missing = [op.name for op in supported_ops() if op.format == "mlprogram"
               and op.name not in named]  # fmt: skip
    # write_state is what coreml_update_state becomes in a saved program.
    assert missing == ["write_state"]


def test_every_layer_has_a_conformance_test(tmp_path: Path) -> None:
    """Runs the layers' tests in one process and looks at which layers they really ran."""
    record = tmp_path / "layers.json"
    program = (
        "import json, sys, pytest; from tests.executor import layers;"
        "code = pytest.main(['-q', '-n0', '-p', 'no:cacheprovider', sys.argv[1]]);"
        "open(sys.argv[2], 'w').write(json.dumps(sorted(layers.TESTED))); sys.exit(code)"
    )
    command = [sys.executable, "-c", program, str(HERE / "test_layers.py"), str(record)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    tested = set(json.loads(record.read_text()))
    layers = [op.name for op in supported_ops() if op.format == "neuralnetwork"]
    assert not [name for name in layers if name not in tested]
