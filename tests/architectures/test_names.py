"""Only DeepSpeech's own folder has names of its tensors, layers and flags."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "asrbuild"
NAMES = re.compile(
    r"\binput_node\b|input_lengths|previous_state_|new_state_|\bmfccs\b|\blayer_[1-6]\b|BlockLSTM"
    r"|\bn_hidden\b|feature_win_|metadata_(alphabet|version|sample_rate|beam_width|language|feature)"
    r"|cudnn_"
)
#: File -> why it may have such a name.
ALLOWED = {
    "architectures/tensorflow/convertible.py": "the operations that coremltools converts",
    "architectures/tensorflow/inspect.py": "`inspect graph` prints metadata with their units",
}
#: Core ML's own operations.
OWN_OPERATIONS = "coreml/executor/"


@pytest.mark.parametrize(
    "file", sorted(p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py"))
)
def test_no_other_file_knows_a_name_of_deepspeech(file: str) -> None:
    if file.startswith(("architectures/deepspeech/", OWN_OPERATIONS)) or file in ALLOWED:
        return
    lines = (PACKAGE / file).read_text(encoding="utf-8").splitlines()
    found = [f"{number}: {line}" for number, line in enumerate(lines, 1) if NAMES.search(line)]
    assert not found, "\n".join(found)


def test_every_exception_in_the_list_is_needed() -> None:
    """An entry whose file has no such name any more must be removed from the list."""
    for file in ALLOWED:
        path = PACKAGE / file
        assert NAMES.search(path.read_text(encoding="utf-8")), file
