"""Shingles equal their definition on hostile text, signatures equal datasketch, and chances are those of theory."""

import random
import tracemalloc
import unicodedata
import warnings
from itertools import pairwise

import numpy as np
import oracle_minhash as oracle
import oracles
import pyarrow as pa
import pytest
import regex
from datasketch import MinHash, MinHashLSH
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import hostile_text

from curate import sketch as module
from curate.arrow import utf8
from curate.errors import RecipeError
from curate.kernels import shingles as kernels
from curate.kernels.distinct import sort_distinct
from curate.kernels.minhash import EMPTY, LANES, PART, band_keys, padded, sign
from curate.sketch import PRESETS, Sketch, optimal

compiles = settings(deadline=None)
UNITS = ("words", "characters")
NONE = 0xFFFFFFFF
PROSE = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness. "


def lists(rows: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    first, values = rows
    assert first[0] == 0
    assert first[-1] == len(values)
    return [values[start:stop].tolist() for start, stop in pairwise(first)]


def shingled(texts: list[str], ngram: int, unit: str = "words", *, before: str = "") -> list[list[int]]:
    """Shingles by kernels given no byte behind the last row."""
    offsets, data = oracles.rows([text.encode() for text in texts], before=before.encode())
    data.setflags(write=False)
    first, out = np.empty(len(offsets), np.int64), np.empty(len(data) + len(offsets), np.uint32)
    find = kernels.word_shingles if unit == "words" else kernels.character_shingles
    find(offsets, data, kernels.folds(), ngram, first, out)
    return lists((first, out[: first[-1]]))


def datasketch_of(hashes: list[int], count: int, seed: int) -> MinHash:
    sketch = MinHash(count, seed, hashfunc=lambda value: value, scheme="affine32")
    if hashes:
        sketch.update_batch(hashes)
    return sketch


def signed(sets: list[np.ndarray], count: int, seed: int = 1) -> np.ndarray:
    """Signatures of sets of hashes."""
    a, b = MinHash(count, seed, scheme="affine32").permutations
    first = np.cumsum([0, *map(len, sets)]).astype(np.int64)
    out = np.empty((len(sets), count), np.uint32)
    sign(first, np.concatenate([np.zeros(0, np.uint32), *sets]).astype(np.uint32), padded(a), padded(b), out)
    return out


# ---------------------------------------------------------------- words


def test_every_code_point_is_folded_as_the_rule_says():
    table = kernels.folds()
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character)[0] not in "LMN":
            assert table[code] == 0, hex(code)
            continue
        folded = ord(character.lower()[0])
        assert table[code] == (-folded if oracle.alone(character) else folded), hex(code)


def test_characters_that_share_scripts_are_used_in_those_without_spaces():
    used = "".join(rf"\p{{Script_Extensions={name}}}" for name in ("Han", "Hiragana", "Katakana"))
    assert regex.fullmatch(f"[{used}]+", oracle.SHARED)


@compiles
@given(st.lists(hostile_text, max_size=4), st.integers(1, 7), st.sampled_from(UNITS), st.sampled_from(["", "x", "né "]))
@example(["", "a", "a b", "a b c", ""], 3, "words", "")
@example(["\u0130stanbul \u212a\u023a\u2c65 \u1e9e \u03a3\u03c3\u03c2", "I\u0307"], 1, "words", "")
@example(
    ["ab\u4e2d\u6587cd 1\u0e01\u0e34\u0e19 \u3072\u30ab\u30fc\uff76", "\u0f40\u0f72 \u1000\u102c \u1780\u17b6"],
    2,
    "words",
    "",
)
@example(["snake_case don't 3.14 x\u00b2 \u2167\u00bd\u0664", "_", "__a__b__"], 2, "words", "")
@example(["\U0001d4d0\U00010400\U0001f600\U00020000\ue000\x00"], 1, "characters", "x")
def test_shingles_are_those_of_the_definition(texts, ngram, unit, before):
    expected = [oracle.shingles(text, ngram, unit) for text in texts]
    assert shingled(texts, ngram, unit, before=before) == expected


@compiles
@given(st.lists(hostile_text, min_size=1, max_size=5), st.data())
def test_a_slice_of_a_column_or_several_chunks_give_the_same(texts, data):
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    sketch = Sketch(ngram=2, bands=3, rows=5)
    whole, column = pa.array([*texts, None]), pa.chunked_array([pa.array(texts[:start], pa.string()), texts[start:]])
    expected = [oracle.shingles(text, 2, "words") for text in texts]
    assert lists(sketch.shingles(whole)) == [*expected, []]
    assert lists(sketch.shingles(whole.slice(start, stop - start))) == expected[start:stop]
    assert lists(sketch.shingles(column)) == expected
    assert lists(sketch.sets(column)) == [sorted(set(row)) for row in expected]
    assert sketch.signatures(column)[start:stop].tolist() == sketch.signatures(whole[start:stop]).tolist()
    assert sketch.keys(column)[0][start:stop].tolist() == sketch.keys(whole[start:stop])[0].tolist()


@compiles
@given(st.text(st.characters(max_codepoint=0x7F), max_size=300), st.integers(0, 70))
def test_ascii_reads_alike_on_both_paths(text, pad):
    text = " " * pad + text
    plain, beside, folded = shingled([text, text + " \u2014", "\u2026" + text.upper()], 2)
    assert plain == beside
    assert plain == folded


@pytest.mark.parametrize("character", ["x", "X", "\u00e9", "\u0416", "\U00010400"])
def test_words_of_every_length_at_every_place(character):
    texts = [" " * (size % 67) + character * size + " end" for size in range(200)]
    texts += [character * size for size in (4095, 4096, 4097, 8192, 100_001)]
    texts += [f"{'a ' * 2046}{character * size} {character * 3}" for size in range(9)]
    for ngram in (1, 2):
        assert shingled(texts, ngram) == [oracle.shingles(text, ngram, "words") for text in texts]


def test_a_row_that_ends_with_its_buffer_in_the_midst_of_a_word():
    for size in range(1, 140):
        for text in ("b" * size, "a " * size + "b", "a" + " b" * size, "\u00e9 " + "b" * size):
            assert shingled([text], 1) == [oracle.shingles(text, 1, "words")]


def test_a_neighbour_does_not_leak_into_a_row():
    texts = ["the end", "begins here", "x" * 30, "y" * 30]
    assert shingled(texts, 1) == [row for text in texts for row in shingled([text], 1)]


@pytest.mark.parametrize("unit", UNITS)
def test_a_text_longer_than_any_window(unit):
    rng = random.Random(5)
    text = " ".join("".join(rng.choices("abcXYZ\u00e9\u4e2d1'", k=rng.randint(1, 30))) for _ in range(3000))
    for ngram in (1, 13, 50):
        assert shingled([text, text], ngram, unit) == 2 * [oracle.shingles(text, ngram, unit)]


@pytest.mark.parametrize("ngram", [1, 2, 5, 13])
def test_fewer_words_than_a_shingle_has_are_none(ngram):
    texts = [" ".join("abcdefghijklmnop"[:size]) for size in range(16)]
    assert [len(row) for row in shingled(texts, ngram)] == [max(0, size - ngram + 1) for size in range(16)]


def test_what_is_the_same_and_what_is_not():
    (shingle,), *others = shingled(["a b c d e", "A, b! C\u2014d (e)", "b a c d e", "a b c de", "ab c d e x"], 5)
    assert others[0] == [shingle]
    assert others[1] != [shingle]
    assert others[2] == []
    assert others[3] != [shingle]
    assert shingled(["a\u0301b", "a\u4e2d\u6587b", "a_b"], 2) == [[], *shingled(["a \u4e2d \u6587 b", "a b"], 2)]


@pytest.mark.parametrize("text", [b"\xff\xfe ab", b"ab \xe4\xb8", b"\xf0", b"\x80\x80 a", b"\xf7\xbf\xbf\xbf"])
def test_broken_bytes_are_read_as_something(text):
    offsets, data = oracles.rows([text, b"ab"])
    for find in (kernels.word_shingles, kernels.character_shingles):
        first, out = np.empty(3, np.int64), np.empty(40, np.uint32)
        find(offsets, data, kernels.folds(), 1, first, out)
        assert 0 <= first[1] < first[2] <= len(data)


def test_hashes_of_shingles_collide_as_chance_has_it():
    # Numbers in all combinations, and words that differ in their last letter, which weak hashes confuse.
    numbers = np.random.default_rng(3).integers(0, 100, (200_500, 5))
    for form in ("{}", "abcdefg{:02d}", "{:02d}abcdefghijklmnopq"):
        names = [form.format(i) for i in range(100)]
        distinct = np.unique(numbers, axis=0)[:200_000]
        (found,) = shingled([". ".join(" ".join(names[i] for i in row) for row in distinct.tolist())], 5)
        hashes = np.array(found[::5], np.uint32)
        assert len(hashes) == len(distinct)
        expected = len(hashes) ** 2 / 2**33
        assert abs(len(hashes) - len(np.unique(hashes)) - expected) < 5 * expected**0.5


# ---------------------------------------------------------------- sets


@compiles
@given(
    st.lists(st.lists(st.integers(0, NONE) | st.integers(0, 9), max_size=30), max_size=6),
    st.integers(0, 3),
    st.integers(1, 60),
)
@example([[], [NONE, 0, NONE], []], 2, 45)
def test_sets_are_sorted_and_distinct(rows, before, times):
    rows = [row * times for row in rows]
    first = before + np.cumsum([0, *map(len, rows)]).astype(np.int64)
    values = np.array([7] * before + [value for row in rows for value in row], np.uint32)
    out_first, out = np.empty_like(first), np.empty(len(values), np.uint32)
    sort_distinct(first, values, out_first, out)
    assert lists((out_first, out[: out_first[-1]])) == [sorted(set(row)) for row in rows]


def test_large_rows_are_sorted():
    values = np.random.default_rng(1).integers(0, 1 << 32, 300_000, np.uint32)
    first, out_first, out = np.array([0, len(values)]), np.empty(2, np.int64), np.empty_like(values)
    sort_distinct(first, values, out_first, out)
    assert np.array_equal(out[: out_first[1]], np.unique(values))


# ---------------------------------------------------------------- signatures


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 - 1])
@pytest.mark.parametrize(("bands", "rows"), [(1, 1), (14, 8), (5, 3), (16, 1), (2, 8), (25, 10)])
def test_signatures_are_those_of_datasketch(seed, bands, rows):
    texts = [
        PROSE * 50,
        PROSE,
        "",
        "too short",
        "\u6211\u80fd\u541e\u4e0b\u73bb\u7483\u800c\u4e0d\u4f24\u8eab\u4f53",
        PROSE[:40],
    ]
    for unit in UNITS:
        sketch = Sketch(bands=bands, rows=rows, seed=seed, unit=unit)
        found = sketch.signatures(pa.array(texts))
        assert found.dtype == np.uint32
        for row, hashes in zip(found, lists(sketch.shingles(pa.array(texts))), strict=True):
            assert row.tolist() == datasketch_of(hashes, bands * rows, seed).hashvalues.tolist()


@pytest.mark.parametrize("size", [0, 1, 2, PART - 1, PART, PART + 1, 3 * PART + 7])
@pytest.mark.parametrize("count", [1, LANES - 1, LANES, LANES + 1, 2 * LANES, 5 * LANES])
def test_signatures_of_any_number_of_hashes(size, count):
    hashes = np.random.default_rng(size).integers(0, 1 << 32, size, np.uint32)
    expected = datasketch_of(hashes.tolist(), count, 1).hashvalues
    assert signed([hashes[:3], hashes], count)[1].tolist() == expected.tolist()


def test_a_text_without_shingles_is_like_no_other():
    sketch = Sketch()
    column = pa.array(["one two three four", "", PROSE, None])
    assert (sketch.signatures(column)[[0, 1, 3]] == EMPTY).all()
    assert sketch.keys(column)[1].tolist() == [False, False, True, False]


def test_an_empty_column():
    sketch = Sketch(bands=3, rows=2)
    column = pa.array([], pa.large_string())
    assert lists(sketch.shingles(column)) == lists(sketch.sets(column)) == []
    assert sketch.signatures(column).shape == (0, 6)
    keys, alike = sketch.keys(column)
    assert keys.shape == (0, 3)
    assert alike.shape == (0,)


@pytest.mark.parametrize("unit", UNITS)
def test_parts_make_no_difference(monkeypatch, unit):
    sketch = Sketch(unit=unit)
    column = pa.array([PROSE[:size] for size in range(0, 110, 5)] + [PROSE * 100] + ["", PROSE])
    signatures, (keys, alike) = sketch.signatures(column), sketch.keys(column)
    for size, values in ((1, 1 << 20), (300, 1 << 20), (1 << 20, 1), (1 << 20, 250)):
        monkeypatch.setattr(module, "BYTES_AT_ONCE", size)
        monkeypatch.setattr(module, "VALUES_AT_ONCE", values)
        assert np.array_equal(sketch.signatures(column), signatures)
        assert np.array_equal(sketch.keys(column)[0], keys)
        assert np.array_equal(sketch.keys(column)[1], alike)


def test_keys_of_nine_thousand_hashes_need_little_memory():
    column = pa.array([f"{i} {PROSE}" for i in range(2000)])
    sketch = PRESETS["refinedweb"]
    sketch.keys(column[:1])
    tracemalloc.start()
    keys, _ = sketch.keys(column)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All signatures at once would be 72 MB.
    assert peak < keys.nbytes + (16 << 20)


# ---------------------------------------------------------------- bands


@compiles
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32))
def test_keys_are_equal_where_bands_are(bands, rows, seed):
    signatures = np.random.default_rng(seed).integers(0, 2, (30, bands * rows), np.uint32) * np.uint32(NONE)
    keys = np.empty((30, bands), np.uint64)
    band_keys(signatures, keys)
    groups = {(band, *row[band * rows : (band + 1) * rows].tolist()) for row in signatures for band in range(bands)}
    pairs = {
        (key, (band, *signatures[row, band * rows : (band + 1) * rows].tolist()))
        for row in range(30)
        for band, key in enumerate(keys[row].tolist())
    }
    assert len(pairs) == len(groups) == len({key for key, _ in pairs})


def test_keys_depend_on_the_number_and_the_order_of_values():
    signatures = np.array([[5, 5, 5, 5], [5, 6, 6, 5]], np.uint32)
    keys = np.empty((2, 2), np.uint64)
    band_keys(signatures, keys)
    assert len(np.unique(keys)) == 4


def test_datasketch_finds_the_pairs_that_keys_tell():
    rng = random.Random(11)
    words = PROSE.split() * 3
    texts = []
    for _ in range(40):
        base = rng.sample(words, len(words))
        for edits in (0, 1, 2, 3, 5):
            changed = list(base)
            for _ in range(edits):
                changed[rng.randrange(len(changed))] = str(rng.random())
            texts.append(" ".join(changed))
    sketch = Sketch()
    signatures, (keys, _) = sketch.signatures(pa.array(texts)), sketch.keys(pa.array(texts))
    index = MinHashLSH(num_perm=sketch.hashes, params=(sketch.bands, sketch.rows))
    sketches = [MinHash(hashvalues=row, scheme="affine32") for row in signatures]
    for i, each in enumerate(sketches):
        index.insert(i, each)
    theirs = {(i, j) for i, each in enumerate(sketches) for j in index.query(each) if i < j}
    same = (keys[:, None, :] == keys[None, :, :]).any(axis=2)
    ours = {(int(i), int(j)) for i, j in np.argwhere(same) if i < j}
    assert ours == theirs
    assert 60 < len(ours) < 400


# ---------------------------------------------------------------- chances


def planted(rng: np.random.Generator, size: int, shared: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of random hashes with so many in common."""
    values = np.unique(rng.integers(0, 1 << 32, 4 * size, np.uint32))
    values = rng.permutation(values)[: 2 * size - shared]
    return values[:size], values[size - shared :]


@pytest.mark.parametrize("jaccard", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_pairs_become_candidates_as_often_as_the_curve_says(jaccard):
    sketch, pairs, size = Sketch(), 2500, 200
    rng = np.random.default_rng(20)
    shared = round(2 * size * jaccard / (1 + jaccard))
    sets = [one for _ in range(pairs) for one in planted(rng, size, shared)]
    assert oracle.jaccard(sets[0].tolist(), sets[1].tolist()) == shared / (2 * size - shared)
    keys = np.empty((2 * pairs, sketch.bands), np.uint64)
    band_keys(signed(sets, sketch.hashes), keys)
    found = int((keys[::2] == keys[1::2]).any(axis=1).sum())
    chance = sketch.probability(shared / (2 * size - shared))
    assert abs(found - pairs * chance) < 3 * (pairs * chance * (1 - chance)) ** 0.5


@pytest.mark.parametrize("shared", [20, 100, 133, 178, 195])
def test_agreement_over_many_hashes_is_the_similarity(shared):
    one, other = signed(list(planted(np.random.default_rng(7), 200, shared)), 2000)
    jaccard = shared / (400 - shared)
    assert abs((one == other).mean() - jaccard) < 3 * (jaccard * (1 - jaccard) / 2000) ** 0.5


def test_equal_texts_share_every_key():
    column = pa.array([PROSE, "Another text of more than five words.", PROSE.upper()])
    for unit in UNITS:
        keys, alike = Sketch(unit=unit).keys(column)
        assert alike.all()
        assert np.array_equal(keys[0], keys[2])
        assert not (keys[0] == keys[1]).any()


def test_numbers_in_sequence_are_no_worse_than_random_ones():
    # Linear permutations of numbers in sequence are biased; the finalizer before them takes that away.
    count, jaccard, size = 2000, 1 / 3, 200
    a, b = MinHash(count, 1, scheme="affine32").permutations
    bare, mixed = [], []
    for start in range(0, 30_000, 1000):
        one = np.arange(start, start + size, dtype=np.uint32)
        other = one + np.uint32(size // 2)
        least = [(a[:, None] * hashes + b[:, None]).min(axis=1) for hashes in (one, other)]
        bare.append((least[0] == least[1]).mean())
        mixed.append(np.equal(*signed([one, other], count)).mean())
    error = (jaccard * (1 - jaccard) / count / len(bare)) ** 0.5
    assert abs(np.mean(mixed) - jaccard) < 4 * error
    assert abs(np.mean(bare) - jaccard) > 4 * error


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("threshold", "hashes", "expected"),
    [
        (0.5, 128, (25, 5)),
        (0.7, 128, (14, 9)),
        (0.8, 128, (9, 13)),
        (0.9, 128, (5, 25)),
        (0.7, 250, (25, 10)),
        (0.8, 256, (17, 15)),
        (0.5, 1, (1, 1)),
    ],
)
def test_the_best_bands_for_a_threshold_are_the_published_ones(threshold, hashes, expected):
    assert optimal(threshold, hashes) == expected


@pytest.mark.parametrize(("threshold", "hashes"), [(0.35, 64), (0.62, 100), (0.77, 90), (0.95, 200)])
def test_the_best_bands_for_a_threshold_are_those_of_datasketch(threshold, hashes):
    with warnings.catch_warnings():
        # Its integration complains about digits that it does not need.
        warnings.simplefilter("ignore")
        theirs = MinHashLSH(threshold=threshold, num_perm=hashes)
    assert optimal(threshold, hashes) == (theirs.b, theirs.r)


CURVES = {
    (14, 8): (0.0533, 0.2111, 0.5645, 0.7716, 0.9235, 0.9884, 0.9996),
    (450, 20): (0.0004, 0.0163, 0.3018, 0.7605, 0.9946, 1, 1),
    (40, 20): (0, 0.0015, 0.0314, 0.1193, 0.3711, 0.7943, 0.9944),
    (93, 15): (0.0028, 0.0428, 0.3576, 0.7138, 0.9642, 0.9998, 1),
    (25, 10): (0.0241, 0.1407, 0.5115, 0.7652, 0.9416, 0.9958, 1),
    (20, 13): (0.0024, 0.0258, 0.1769, 0.3818, 0.6773, 0.9240, 0.9972),
    (9, 13): (0.0011, 0.0117, 0.0839, 0.1946, 0.3988, 0.6864, 0.9286),
}


@pytest.mark.parametrize("setting", CURVES)
def test_curves_are_those_of_the_papers(setting):
    bands, rows = setting
    curve = Sketch(bands=bands, rows=rows).curve()
    assert list(curve) == ["0.5", "0.6", "0.7", "0.75", "0.8", "0.85", "0.9"]
    assert [round(value, 4) for value in curve.values()] == list(CURVES[setting])
    for point, value in curve.items():
        assert value == pytest.approx(oracle.some_band(float(point), bands, rows), abs=1e-12)


def test_chances_of_an_array():
    chances = Sketch().probability(np.array([0.0, 0.8, 1.0]))
    assert chances.tolist() == [0.0, Sketch().probability(0.8), 1.0]


def test_presets_are_the_published_settings():
    settings = {name: (sketch.bands, sketch.rows, sketch.ngram, sketch.unit) for name, sketch in PRESETS.items()}
    assert settings == {
        "fineweb": (14, 8, 5, "words"),
        "dclm": (93, 15, 5, "words"),
        "refinedweb": (450, 20, 5, "words"),
        "starcoder2": (25, 10, 5, "words"),
        "slimpajama": (9, 13, 13, "words"),
    }
    assert (PRESETS["slimpajama"].bands, PRESETS["slimpajama"].rows) == optimal(0.8, 128)
    assert PRESETS["fineweb"] == Sketch()


def test_every_field_is_part_of_identity():
    base = Sketch()
    others = [Sketch(bands=15), Sketch(rows=9), Sketch(ngram=6), Sketch(unit="characters"), Sketch(seed=2)]
    identities = [sketch.identity() for sketch in (base, *others)]
    assert all(one not in identities[:i] for i, one in enumerate(identities))
    assert base.identity() == Sketch().identity()
    assert base.identity()["version"] == module.VERSION


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bands", 0),
        ("rows", -1),
        ("ngram", 0),
        ("ngram", 2.5),
        ("ngram", 10**20),
        ("bands", True),
        ("unit", "lines"),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_a_setting_that_cannot_be_is_refused(field, value):
    with pytest.raises(RecipeError, match=f"^{field} is "):
        Sketch(**{field: value})


def test_a_signature_has_a_largest_size():
    with pytest.raises(RecipeError, match="257 bands of 256 rows are 65,792 values; at most 65,536 can be"):
        Sketch(bands=257, rows=256)
    assert Sketch(bands=256, rows=256).hashes == 65_536


@pytest.mark.parametrize(("threshold", "hashes"), [(0, 128), (1, 128), (1.2, 9), (0.8, 0), (0.8, 1.5), (0.8, 10**9)])
def test_a_threshold_that_cannot_be_is_refused(threshold, hashes):
    with pytest.raises(RecipeError, match=r"^(threshold|hashes) is "):
        optimal(threshold, hashes)


def test_views_are_read_only():
    # What kernels get is of one type; a writable array would have them compiled once more.
    assert not any(array.flags.writeable for array in (*utf8(pa.array([PROSE])), kernels.folds()))
