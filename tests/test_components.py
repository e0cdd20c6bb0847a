"""Components of edges in files: the labels of one machine, however the edges are cut, ordered and united."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_near import labels_slowly

from curate import components, store
from curate.execute import pool, serial
from curate.kernels.components import settle, unite

NODES = 30
_numbers = itertools.count()
edges_of = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=60)


def put(edges, borders, base):
    """Files of the edges between borders; the key of an edge is its smaller node and 1."""
    files = []
    places = [(int(np.searchsorted(base, node, "right")) - 1, node) for node in range(int(base[-1]))]
    codes = [shard << 32 | node - int(base[shard]) for shard, node in places]
    folder = f"memory://components/{next(_numbers)}"
    for start, stop in itertools.pairwise([0, *sorted(borders), len(edges)]):
        rows = [(codes[a], codes[b], min(a, b) + 1) for a, b in edges[start:stop]]
        files.append(store.join(folder, f"{len(files)}.edges"))
        store.put(files[-1], components.packed(np.array(rows, np.uint64).reshape(-1, 3)))
    return files, folder


def found(edges, borders, base, fan, map=serial):
    files, folder = put(edges, borders, base)
    uri = components.keys(files, base, folder, map=map, fan=fan)
    keys = components.read_keys(uri, 0, int(base[-1]))
    return [None if key == components.NONE else int(key) - 1 for key in keys]


def cut_base(cuts, nodes=NODES):
    return np.array([0, *sorted(cuts), nodes], np.int64)


def test_two_components():
    edges = [(1, 2), (2, 3), (9, 8)]
    expected = [None, 1, 1, 1, None, None, None, None, 8, 8]
    for order in itertools.permutations(edges):
        for borders in ([], [1], [1, 2], [0, 0, 3]):
            assert found(order, borders, np.array([0, 4, 10]), 2) == expected


@given(edges_of, st.lists(st.integers(0, 60), max_size=9), st.lists(st.integers(0, NODES), max_size=4), st.data())
def test_it_does_not_matter_how_edges_are_cut(edges, borders, cuts, data):
    borders = [min(border, len(edges)) for border in borders]
    shuffled = data.draw(st.permutations(edges))
    fan = data.draw(st.integers(2, 5))
    assert found(shuffled, borders, cut_base(cuts), fan) == labels_slowly(NODES, edges)


@pytest.mark.parametrize("kind", [np.uint32, np.int64])
def test_labels_of_the_kernel(kind):
    draw = np.random.default_rng(3)
    edges = draw.integers(0, 300, (280, 2))
    parent, smallest = np.arange(300).astype(kind), np.full(300, components.NONE)
    rows = np.column_stack((edges, edges.min(axis=1))).astype(np.uint64)
    for block in (rows[:100], rows[100:]):
        unite(block, parent, smallest)
    settle(parent, smallest)
    expected = labels_slowly(300, [(int(a), int(b)) for a, b in edges])
    assert parent.tolist() == [node if label is None else label for node, label in enumerate(expected)]
    assert [None if key == components.NONE else int(key) for key in smallest] == expected


def test_a_long_chain_against_the_order():
    nodes = 200_000
    parent, smallest = np.arange(nodes, dtype=np.uint32), np.full(nodes, components.NONE)
    far = np.arange(nodes - 1, 0, -1, dtype=np.uint64)
    unite(np.column_stack((far, far - np.uint64(1), far)), parent, smallest)
    settle(parent, smallest)
    assert not parent.any()
    assert (smallest == 1).all()


def test_a_pool_gives_the_same(tmp_path):
    draw = np.random.default_rng(5)
    edges = [(int(a), int(b)) for a, b in draw.integers(0, 2000, (1900, 2))]
    base = cut_base([700, 1100], 2000)
    files, _ = put(edges, list(range(0, 1900, 300)), base)
    local = []
    for number, uri in enumerate(files):
        local.append(str(tmp_path / f"{number}.edges"))
        store.put(local[-1], store.read(uri))
    with pool(2) as map:
        uri = components.keys(local, base, str(tmp_path), map=map, fan=2)
    expected = [components.NONE if label is None else label + 1 for label in labels_slowly(2000, edges)]
    assert components.read_keys(uri, 0, 2000).tolist() == expected


def test_what_is_done_is_not_done_again():
    files, folder = put([(1, 2), (3, 4), (2, 3)], [1, 2], cut_base([]))
    first = components.keys(files, cut_base([]), folder, map=serial, fan=2)
    said = store.read(first)
    store.remove(first)
    for uri in files:
        store.remove(uri)  # its forests are enough
    assert store.read(components.keys(files, cut_base([]), folder, map=serial, fan=2)) == said


def test_no_edges_and_no_nodes():
    assert found([], [], cut_base([]), 2) == [None] * NODES
    assert found([], [], np.array([0, 0, 0]), 2) == []
