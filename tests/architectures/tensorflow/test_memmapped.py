"""A memory-mapped graph has the nodes and constants of the ``.pb`` that it was made from."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.memmapped import GRAPH_REGION, read_regions
from asrbuild.architectures.tensorflow.proto import Graph, graph_pieces
from asrbuild.base.errors import AsrbuildError
from tests.other_files import GENUINE, memory_mapped

PBS = sorted(GENUINE.glob("*/*.pb"))


def _bytes(graph: Graph) -> bytes:
    return b"".join(bytes(piece) for piece in graph_pieces(graph.nodes, graph.producer))


@pytest.mark.parametrize("lengths", [True, False], ids=["lengths", "no-lengths"])
@pytest.mark.parametrize("pb", PBS, ids=lambda pb: pb.stem)
def test_a_pbmm_reads_as_its_pb(pb: Path, lengths: bool, tmp_path: Path) -> None:
    memory_mapped(pb, tmp_path / "mapped.pb", lengths=lengths)
    before, now = load_graph(pb), load_graph(tmp_path / "mapped.pb")
    assert _bytes(now) == _bytes(before)
    assert b"ImmutableConst" in (tmp_path / "mapped.pb").read_bytes()
    large = [node for node in now.nodes if node.op == "Const" and node.value.nbytes > 10_000]
    assert large
    for node in large:
        assert not node.value.flags.owndata
        np.testing.assert_array_equal(node.value, before.by_name[node.name].value)


def _spoiled(data: bytes, how: str) -> bytes:
    (end,) = struct.unpack("<Q", data[-8:])
    body, directory, offset = data[:end], data[end:-8], data[-8:]
    if how == "region":
        return body + directory.replace(b"layer_2_weights", b"layer_2_wights_") + offset
    if how == "graph":
        return body + directory.replace(b"package://.", b"package://x") + offset
    if how == "cut":
        return body[:1000] + directory + struct.pack("<Q", 1000)
    return body + directory[:-3] + offset


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("region", "layer_2/weights has no value"),
        ("graph", "no region holds the graph"),
        ("cut", "is not in the file"),
        ("directory", "ends inside a"),
    ],
)
def test_a_damaged_pbmm_is_refused(how: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pbmm"
    memory_mapped(PBS[0], path)
    path.write_bytes(_spoiled(path.read_bytes(), how))
    with pytest.raises(AsrbuildError, match=message) as caught:
        load_graph(path)
    assert caught.value.file == str(path)


def test_a_graph_without_its_regions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pbmm"
    memory_mapped(PBS[0], path)
    regions = read_regions(memoryview(path.read_bytes()))
    (tmp_path / "x.pb").write_bytes(regions[GRAPH_REGION].content)
    with pytest.raises(AsrbuildError, match=r"in a region of a \.pbmm"):
        load_graph(tmp_path / "x.pb")
