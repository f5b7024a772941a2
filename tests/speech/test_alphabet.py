"""Alphabet files: DeepSpeech's rules, and mistakes."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import (
    Alphabet,
    bytes_alphabet,
    check_size,
    make_alphabet,
    read_alphabet,
)


def _read(tmp_path: Path, content: bytes) -> Alphabet:
    path = tmp_path / "alphabet.txt"
    path.write_bytes(content)
    return read_alphabet(path)


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (b"# a comment\n \na\nb\n'\n# the last comment\n", [" ", "a", "b", "'"]),
        (b"a\n\\#\nb", ["a", "#", "b"]),
        (b"a\r\n \r\nb\r\n", ["a", " ", "b"]),
        (b"a\n\n\nb\n", ["a", "b"]),
        ("\ufeffa\nü\nß\nй\n漢\n".encode(), ["a", "ü", "ß", "й", "漢"]),
        (b"sch\nch\na\n", ["sch", "ch", "a"]),
        (b"\\\na\n", ["\\", "a"]),
        (b"a\r \rb", ["a", " ", "b"]),
        (b"# c\r\n#\ra\n\\#b\n #\n", ["a", "\\#b", " #"]),
        ("a\u2028\nb\x85\n\x0b\n".encode(), ["a\u2028", "b\x85", "\x0b"]),
        ("ô\na\nô\n".encode(), ["ô", "a", "ô"]),
        ("\ufeff# a comment\na\n".encode(), ["a"]),
    ],
)
def test_an_alphabet_is_read_by_deepspeechs_rules(
    tmp_path: Path, content: bytes, labels: list[str]
) -> None:
    alphabet = _read(tmp_path, content)
    assert list(alphabet.labels) == labels
    assert alphabet.blank == alphabet.size == len(labels)
    assert alphabet.space == (labels.index(" ") if " " in labels else None)
    assert alphabet.decode(range(len(labels))) == "".join(labels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# nothing\n\n", "the alphabet has no labels"),
        (b"a\n\xff\xfe\n", "the alphabet is not UTF-8 text (byte 2)"),
    ],
)
def test_empty_and_binary_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(AsrbuildError) as caught:
        _read(tmp_path, content)
    assert caught.value.message == message
    assert caught.value.file == str(tmp_path / "alphabet.txt")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AsrbuildError, match="no such alphabet"):
        read_alphabet(tmp_path / "alphabet.txt")
    with pytest.raises(AsrbuildError, match="this is a folder, not an alphabet"):
        read_alphabet(tmp_path)


def test_a_size_that_differs_from_the_model_is_refused() -> None:
    alphabet = make_alphabet("abc")
    check_size(alphabet, 4)
    with pytest.raises(AsrbuildError, match="3 labels, the model 29 classes: it needs 28"):
        check_size(alphabet, 29)


def test_a_byte_order_mark_is_read_only_if_the_size_requires_it(tmp_path: Path) -> None:
    (tmp_path / "alphabet.txt").write_bytes("\ufeff# one label a line\na\nb\n".encode())
    for size, labels in {
        None: ("a", "b"),
        2: ("a", "b"),
        3: ("\ufeff# one label a line", "a", "b"),
        4: ("a", "b"),
    }.items():
        assert read_alphabet(tmp_path / "alphabet.txt", size).labels == labels


def test_a_repeated_label_is_kept() -> None:
    alphabet = make_alphabet(["ô", "a", "ô"])
    assert alphabet.size == 3
    assert alphabet.decode([0, 1, 2]) == "ôaô"
    assert alphabet.encode("ô") == [2]


def test_an_empty_label_is_refused() -> None:
    with pytest.raises(AsrbuildError, match="an empty label"):
        make_alphabet(["a", ""])


def test_encoding_an_unknown_letter_is_refused() -> None:
    assert make_alphabet("ab ").encode("a b") == [0, 2, 1]
    with pytest.raises(AsrbuildError, match="not in the alphabet: 'é'"):
        make_alphabet("ab ").encode("a é")


@given(st.text(alphabet=st.characters(blacklist_characters="\0", codec="utf-8")))
def test_bytes_output_round_trip(text: str) -> None:
    alphabet = bytes_alphabet()
    assert alphabet.size == 255
    assert alphabet.space == ord(" ") - 1
    assert alphabet.decode(alphabet.encode(text)) == text


def test_bytes_that_are_not_text_do_not_stop_decoding() -> None:
    assert bytes_alphabet().decode([0xC3 - 1, ord("a") - 1]) == "\ufffda"


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1)
        .filter(lambda label: label != "\\#" and (label == "#" or not label.startswith("#")))
        .filter(lambda label: not label.startswith("\ufeff")),
        unique=True,
        min_size=1,
        max_size=300,
    )
)
def test_a_written_alphabet_is_read_back(tmp_path_factory: pytest.TempPathFactory, labels) -> None:
    path = tmp_path_factory.mktemp("alphabets") / "alphabet.txt"
    path.write_bytes(make_alphabet(labels).file_text().encode())
    assert list(read_alphabet(path).labels) == labels
