"""Packages with random and chosen damage give one clear error or a result."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor import load, rounds
from asrbuild.coreml.executor.mil.movement import split
from asrbuild.coreml.executor.package import read_spec
from asrbuild.coreml.inspect import inspect_model
from tests.acceptance.conftest import run_asrbuild
from tests.coreml.executor.damage import (
    FORMS,
    change,
    copy_of,
    inputs,
    predict,
    refused,
    spec_of,
)
from tests.killing import SEED

#: Numbers that are not valid sizes, indices or enumerations.
ODD = (0, 1, -1, 7, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1)


@pytest.fixture(scope="module", autouse=True)
def few_rounds() -> Iterator[None]:
    """A low limit of rounds: a damaged loop may not end; undamaged ones end after three rounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "MOST_ROUNDS", 1000)
        yield


def messages(message: Any) -> Iterator[Any]:
    """A message and all messages below it that are set."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if not field.message_type.GetOptions().map_entry:
            for item in (value,) if hasattr(value, "ListFields") else value:
                yield from messages(item)
        elif field.message_type.fields_by_name["value"].message_type is not None:
            for key in sorted(value):
                yield from messages(value[key])


def damage_message(spec: Any, chance: random.Random) -> str:
    """Changes one field of one message below ``spec``; all kinds of messages are equally likely.
    Returns a description of the change."""
    by_kind: dict[str, list[Any]] = {}
    for message in messages(spec):
        if message.ListFields():
            by_kind.setdefault(message.DESCRIPTOR.full_name, []).append(message)
    message = chance.choice(by_kind[chance.choice(sorted(by_kind))])
    field, value = chance.choice(message.ListFields())
    said = f"{message.DESCRIPTOR.name}.{field.name}"
    several = hasattr(value, "__len__") and not isinstance(value, str | bytes)
    if field.message_type is not None or chance.random() < 0.4:
        if several and field.message_type is not None and chance.random() < 0.7:
            keys = sorted(value) if hasattr(value, "keys") else range(len(value))
            del value[chance.choice(list(keys))]
            return f"an entry of {said} removed"
        message.ClearField(field.name)
        return f"{said} removed"
    new = (
        chance.choice(("", "x", "main", "@model_path/", "a\0b"))
        if isinstance(value[0] if several else value, str)
        else chance.choice(ODD)
    )
    try:
        if several:
            value[chance.randrange(len(value))] = new
        else:
            setattr(message, field.name, new)
    except (ValueError, TypeError, OverflowError):
        message.ClearField(field.name)
    return f"{said} set to {new!r}"


def damage_bytes(file: Path, chance: random.Random) -> str:
    data = bytearray(file.read_bytes())
    # Most of a file is weights, in which any value is valid, so half of the damage is elsewhere.
    at = chance.randrange(chance.choice((len(data), min(len(data), 3000))))
    kind = chance.choice(("flip", "cut", "overwrite", "remove", "insert"))
    if kind == "flip":
        data[at] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "overwrite":
        data[at : at + 4] = chance.randbytes(4)
    elif kind == "remove":
        del data[at : at + chance.randrange(1, 9)]
    else:
        data[at:at] = chance.randbytes(chance.randrange(1, 9))
    file.write_bytes(data)
    return f"{file.name}: {kind} at {at}"


def outcome(call: Callable[[], Any], told: str, *, names_a_file: bool = True) -> Any:
    """The result of a call, or None if it is refused; only an ``AsrbuildError`` may refuse."""
    refusal = None
    try:
        return call()
    except AsrbuildError as error:
        refusal = error
    except Exception as error:
        raise AssertionError(f"{told}: {error!r}") from error
    assert refusal.fix, f"{told}: {refusal}"
    assert refusal.file or not names_a_file, f"{told}: {refusal}"
    return None


def still_runs(package: Path, told: str) -> bool:
    """Inspects, loads and runs a package; whether it gives outputs."""
    outcome(lambda: inspect_model(package), told)
    model = outcome(lambda: load(package), told)
    if model is None:
        return False
    found = outcome(lambda: predict(model), told, names_a_file=False)
    assert found is None or set(found) == set(model.outputs), told
    return found is not None


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("where", ["bytes", "messages"])
def test_any_damage_gives_one_error_or_a_result(
    packages, tmp_path: Path, name: str, where: str
) -> None:
    ran = 0
    for seed in range(SEED, SEED + 120):
        chance = random.Random(f"{name} {where} {seed}")
        package = copy_of(packages[name], tmp_path)
        if where == "messages":
            spec = read_spec(package)
            told = f"seed {seed}: {damage_message(spec, chance)}"
            spec_of(package).write_bytes(spec.SerializeToString())
        else:
            weights = list(package.rglob("weight.bin"))
            file = chance.choice([spec_of(package), spec_of(package), *weights])
            told = f"seed {seed}: {damage_bytes(file, chance)}"
        ran += still_runs(package, told)
    # Some damage, such as that of a description, is harmless; most is not.
    assert 0 < ran < 120


@pytest.mark.parametrize("size", [1 << 33, 1 << 62, -1])
def test_an_impossible_declared_size_is_refused(packages, tmp_path: Path, size: int) -> None:
    absent = copy_of(packages["native.mlmodel"], tmp_path)

    def grow_input(spec: Any) -> None:
        array = spec.description.input[-1].type
        array.isOptional = True
        array.multiArrayType.shape[0] = size

    change(absent, grow_input)
    name = read_spec(absent).description.input[-1].name
    given = {n: v for n, v in inputs(load(absent)).items() if n != name}
    refused(absent, f"{name} is declared as .*which cannot be made", given)

    stateful = copy_of(packages["stateful.mlpackage"], tmp_path)

    def grow_state(spec: Any) -> None:
        spec.description.state[0].type.stateType.arrayType.shape[0] = size

    change(stateful, grow_state)
    refused(stateful, "state_c is declared as .*which cannot be made")


@pytest.mark.parametrize("count", [1 << 33, (1 << 63) - 1])
def test_an_op_with_an_excessive_result_is_refused(packages, tmp_path: Path, count: int) -> None:
    """``np.tile`` by such a number does not raise an error but ends the process."""
    package = copy_of(packages["loop.mlmodel"], tmp_path)

    def grow(spec: Any) -> None:
        tiles = [m for m in messages(spec) if m.DESCRIPTOR.name == "TileLayerParams"]
        tiles[0].reps[0] = count

    change(package, grow)
    refused(package, r"\(tile\) failed: it makes an array of shape .* beyond")


def test_an_excessive_number_of_parts_is_refused(packages, tmp_path: Path) -> None:
    package = copy_of(packages["loop.mlmodel"], tmp_path)

    def grow(spec: Any) -> None:
        splits = [m for m in messages(spec) if m.DESCRIPTOR.name == "SplitNDLayerParams"]
        splits[0].numSplits = 1 << 31

    change(package, grow)
    refused(package, "2147483648 arrays")
    with pytest.raises(ValueError, match="makes 2147483648 arrays"):
        split(np.zeros((0, 1)), 1 << 31)


def test_deeply_nested_networks_are_refused(packages, tmp_path: Path) -> None:
    """The nesting is deeper than Python's limit of recursion."""
    package = tmp_path / "deep.mlmodel"

    def field(number: int, body: bytes) -> bytes:
        size, encoded = len(body), bytearray()
        while size > 0x7F:
            encoded.append(size & 0x7F | 0x80)
            size >>= 7
        key = number << 3 | 2
        head = bytes([key]) if key < 128 else bytes([key & 0x7F | 0x80, key >> 7])
        return head + bytes(encoded) + bytes([size]) + body

    described = read_spec(packages["loop.mlmodel"]).neuralNetwork
    loop = next(layer for layer in described.layers if layer.WhichOneof("layer") == "loop")
    inside = {f.name: f.number for f in loop.loop.DESCRIPTOR.fields}["bodyNetwork"]
    layer = loop.DESCRIPTOR.fields_by_name["loop"].number
    layers = described.DESCRIPTOR.fields_by_name["layers"].number
    network = b""
    for _ in range(3000):
        network = field(layers, field(layer, field(inside, network)))
    package.write_bytes(b"\x08\x04" + field(500, network))
    refused(package, "not a Core ML model, or a damaged one", {})


def test_unpacked_weights_are_not_confused_with_payloads(packages, tmp_path: Path) -> None:
    """Protobuf may write repeated floats one by one; then a small weight looks like the number
    of a payload."""
    package = copy_of(packages["native.mlmodel"], tmp_path)
    data = package.read_bytes()
    bias = read_spec(package).neuralNetwork.layers
    values = next(
        list(one.innerProduct.bias.floatValue)
        for one in bias
        if one.WhichOneof("layer") == "innerProduct"
    )
    packed = np.array(values, "<f4").tobytes()
    assert data.count(packed) == 1
    start = data.index(packed) - 2
    loose = b"".join(b"\x0d" + struct.pack("<f", value) for value in values)
    # The message keeps its length, so that no enclosing length changes; the rest is left out.
    fits = loose[: (len(packed) + 2) // 5 * 5]
    fill = len(packed) + 2 - len(fits)
    assert fill == 4, "an unknown field of four bytes fills the rest"
    package.write_bytes(
        data[:start] + fits + b"\x98\x06\x80\x00"[:fill] + data[start + 2 + len(packed) :]
    )
    refused(package, "weights one by one")


def test_a_description_that_contradicts_the_program_is_refused(packages, tmp_path: Path) -> None:
    package = copy_of(packages["native.mlpackage"], tmp_path)
    change(package, lambda spec: setattr(spec.description.output[0], "name", "letters"))
    refused(package, "computes no array for its output letters")
    package = copy_of(packages["native.mlpackage"], tmp_path)
    change(package, lambda spec: setattr(spec.description.input[0], "name", "windows"))
    refused(package, "takes input_node, .*description has windows")
    package = copy_of(packages["native.mlpackage"], tmp_path)

    def other_opset(spec: Any) -> None:
        spec.mlProgram.functions["main"].opset = "CoreML99"

    change(package, other_opset)
    refused(package, "no block for its opset CoreML99")


def test_a_name_does_not_steer_the_terminal(packages, tmp_path: Path) -> None:
    package = copy_of(packages["native.mlmodel"], tmp_path)

    def rename(spec: Any) -> None:
        spec.description.input[0].name = "x\x1b[31m\x9b2J\r"

    change(package, rename)
    np.save(tmp_path / "x.npy", np.zeros(1))
    done = run_asrbuild("run", str(package), "--input", f"y={tmp_path / 'x.npy'}", cwd=tmp_path)
    assert done.code == 1
    said = done.err.partition("no such input")[2]
    assert r"x\x1b[31m\x9b2J\r" in said
    assert not any(steering in said for steering in "\x1b\x9b\r")


@pytest.mark.parametrize(
    "manifest",
    [
        "[]",
        "[" * 5000,
        '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": 5}}}',
        '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "a\\u0000b"}}}',
    ],
)
def test_empty_manifests_are_refused(packages, tmp_path: Path, manifest: str) -> None:
    package = copy_of(packages["native.mlpackage"], tmp_path)
    (package / "Manifest.json").write_text(manifest)
    refused(package, "Manifest.json cannot be read")
    with pytest.raises(AsrbuildError, match=r"Manifest.json cannot be read"):
        inspect_model(package)


def test_a_package_that_points_outside_is_not_inspected_either(packages, tmp_path: Path) -> None:
    package = copy_of(packages["native.mlpackage"], tmp_path)
    shutil.copy(packages["native.mlmodel"], tmp_path / "other.mlmodel")
    manifest = package / "Manifest.json"
    manifest.write_text(
        '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "../../other.mlmodel"}}}'
    )
    with pytest.raises(AsrbuildError, match="which is not in it"):
        inspect_model(package)
