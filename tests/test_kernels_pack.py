"""Packing and copying: the paper's figure, agreement with the slow twin, what every packing must satisfy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import fewest_windows, packed_slowly

from curate.kernels.pack import best_fit, copy_ranges


def packed(lengths, window):
    lengths = np.array(lengths, np.int64)
    window_of, start_of = np.full(len(lengths), -1, np.int64), np.full(len(lengths), -1, np.int64)
    return window_of, start_of, best_fit(lengths, window, window_of, start_of)


@st.composite
def pieces(draw, most=60, largest_window=300):
    # Small windows make ties and exact fits common, the bound on lengths windows of many pieces.
    window = draw(st.integers(1, 12) | st.integers(1, largest_window))
    largest = draw(st.integers(1, window))
    return draw(st.lists(st.integers(1, largest), max_size=most)), window


def test_figure_of_the_paper_needs_four_windows():
    # arXiv 2404.10830, figure 1: documents of 14, 7, 5, 2 and 3 ids, windows of 8.
    window_of, start_of, windows = packed([8, 6, 7, 5, 2, 3], 8)
    assert windows == 4
    assert window_of.tolist() == [0, 2, 1, 3, 2, 3]
    assert start_of.tolist() == [0, 0, 0, 0, 6, 5]


def test_equal_pieces_go_by_index_and_equal_spaces_by_age():
    window_of, start_of, windows = packed([6, 6, 4, 4, 2, 2], 10)
    assert (window_of.tolist(), windows) == ([0, 1, 0, 1, 2, 2], 3)
    assert start_of.tolist() == [0, 0, 6, 6, 0, 2]


def test_the_smallest_sufficient_space_is_taken():
    # 6 leaves 4 in window 0, 5 leaves 5 in window 1; 2 leaves 2 in window 0, which 1 prefers to 5.
    assert packed([5, 6, 2, 1], 10)[0].tolist() == [1, 0, 0, 0]


def test_of_equal_spaces_the_one_held_longest_is_taken():
    # 4 leaves 1 in window 1 before 2 leaves 1 in window 0: window 1 goes first though window 0 is older.
    assert packed([17, 15, 4, 2, 1, 1], 20)[0].tolist() == [0, 1, 1, 0, 1, 0]


@settings(deadline=None)
@given(pieces())
def test_agrees_with_the_slow_twin(case):
    lengths, window = case
    window_of, start_of, windows = packed(lengths, window)
    assert (window_of.tolist(), start_of.tolist(), windows) == packed_slowly(lengths, window)


@settings(deadline=None)
@given(pieces(most=200, largest_window=5000))
def test_every_piece_lies_whole_in_one_window_without_gap_or_overlap(case):
    lengths, window = case
    window_of, start_of, windows = packed(lengths, window)
    assert set(window_of.tolist()) == set(range(windows))
    filled = [0] * windows
    for piece in np.lexsort((start_of, window_of)).tolist():
        assert start_of[piece] == filled[window_of[piece]]
        filled[window_of[piece]] += lengths[piece]
    assert sum(filled) == sum(lengths)
    assert max(filled, default=0) <= window


@settings(deadline=None)
@given(pieces(most=200, largest_window=5000))
def test_no_two_windows_could_have_been_one(case):
    # What any rule keeps that opens a window only when a piece fits nowhere; so at most one is half empty.
    lengths, window = case
    window_of, _, windows = packed(lengths, window)
    filled = sorted(np.bincount(window_of, lengths, windows).tolist())
    assert len(filled) < 2 or sum(filled[:2]) > window
    assert -(-sum(lengths) // window) <= windows


@settings(deadline=None, max_examples=50)
@given(pieces(most=8, largest_window=30))
def test_stays_within_the_bound_of_best_fit_decreasing(case):
    lengths, window = case
    fewest = fewest_windows(lengths, window)
    assert fewest <= packed(lengths, window)[2] <= 11 / 9 * fewest + 2 / 3


def test_documents_of_a_corpus_leave_next_to_no_padding():
    lengths = np.random.default_rng(7).lognormal(6.2, 1.2, 20_000).astype(np.int64).clip(1, 2048)
    lower = -(-int(lengths.sum()) // 2048)
    assert lower <= packed(lengths, 2048)[2] <= lower * 1.001


def test_equal_input_gives_equal_output_and_sliced_arrays_work():
    lengths = np.random.default_rng(3).integers(1, 65, 2000)
    first, second = packed(lengths, 64), packed(lengths, 64)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    spread = np.zeros(4000, np.int64)
    spread[::2] = lengths
    wide = np.zeros((2, 4000), np.int64)
    assert best_fit(spread[::2], 64, wide[0, ::2], wide[1, 1::2]) == first[2]
    assert np.array_equal(wide[0, ::2], first[0])
    assert np.array_equal(wide[1, 1::2], first[1])


def test_nothing_to_pack_needs_no_window():
    assert packed([], 8)[2] == 0


@pytest.mark.parametrize("lengths", [[3, 0], [9], [-1]])
def test_a_piece_that_fits_no_window_is_refused(lengths):
    with pytest.raises(ValueError, match="shorter than 1 id or longer than the window"):
        packed(lengths, 8)


@settings(deadline=None)
@given(st.data())
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_ranges_are_copied_and_nothing_else_is_touched(dtype, data):
    lengths = data.draw(st.lists(st.integers(0, 20), max_size=12))
    source = data.draw(st.lists(st.integers(0, np.iinfo(dtype).max), min_size=20, max_size=60))
    starts = [data.draw(st.integers(0, len(source) - length)) for length in lengths]
    gaps = [data.draw(st.integers(0, 3)) for _ in lengths]
    order = data.draw(st.permutations(range(len(lengths))))
    targets, at = [0] * len(lengths), 0
    for row in order:
        targets[row] = at + gaps[row]
        at = targets[row] + lengths[row]
    expected = np.full(at + 2, 7, dtype)
    for start, length, target in zip(starts, lengths, targets, strict=True):
        expected[target : target + length] = source[start : start + length]
    result = np.full(at + 2, 7, dtype)
    rows = [np.array(column, np.int64) for column in (starts, lengths, targets)]
    copy_ranges(np.array(source, dtype), *rows, result)
    assert np.array_equal(result, expected)


def test_packed_windows_hold_every_document_whole():
    random = np.random.default_rng(11)
    lengths = random.integers(1, 33, 500)
    ids = np.repeat(np.arange(500, dtype=np.uint16), lengths)
    window_of, start_of, windows = packed(lengths, 32)
    made = np.full(windows * 32, 65_535, np.uint16)
    copy_ranges(ids, np.cumsum(lengths) - lengths, lengths, window_of * 32 + start_of, made)
    for document in range(500):
        places = np.flatnonzero(made == document)
        assert len(places) == lengths[document]
        assert np.ptp(places) == lengths[document] - 1
        assert places[0] // 32 == places[-1] // 32
    assert np.count_nonzero(made == 65_535) == windows * 32 - lengths.sum()


@pytest.mark.parametrize(
    ("start", "length", "target"), [(0, 9, 0), (7, 2, 0), (0, 3, 6), (-1, 2, 0), (0, -1, 0), (0, 2, -1)]
)
def test_a_range_outside_its_array_is_refused_before_anything_is_copied(start, length, target):
    ids, made = np.ones(8, np.uint16), np.zeros(8, np.uint16)
    rows = [np.array([0, wrong], np.int64) for wrong in (start, length, target)]
    rows[1][0] = 4
    with pytest.raises(ValueError, match="a range"):
        copy_ranges(ids, *rows, made)
    assert not made.any()


def test_ids_are_never_cut_to_a_narrower_type():
    one = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="differ in width"):
        copy_ranges(np.ones(4, np.uint32), one, one + 2, one, np.zeros(4, np.uint16))
