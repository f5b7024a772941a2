"""Every type of the package has a unique name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "asrbuild"
#: Files whose types have the names of a format, which another format may share.
FORMATS = (
    "artifact/manifest",
    "handover/evidence/document.py",
    "architectures/onnx/graph.py",
    "architectures/tensorflow/proto.py",
    "handover/evidence/templates/",
    "handover/app/templates/",
)


def types_of(tree: ast.Module) -> Iterator[str]:
    """Classes, and aliases that are more than another name of ``Any`` or a type variable."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
            value = ast.unparse(node.value)
            alias = target.id[0].isupper() and not target.id.isupper()
            if alias and value != "Any" and not value.startswith("TypeVar("):
                yield target.id


def test_no_two_types_have_one_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        if not file.startswith(FORMATS):
            for name in types_of(ast.parse(path.read_text(encoding="utf-8"))):
                if not name.startswith("_"):
                    found[name].append(file)
    assert len(found) > 300
    assert {name: files for name, files in found.items() if len(files) > 1} == {}
