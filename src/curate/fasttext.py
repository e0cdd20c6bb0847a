"""Read a fastText classifier (`.bin`, quantised `.ftz`) into plain arrays.

The layout is that of Facebook's fastText 0.9.2 (Joulin et al. 2016, arXiv 1607.01759; quantised: 1612.03651): magic
number, version, arguments, dictionary, input matrix, output matrix, all little-endian. A quantised matrix keeps one
byte for every few columns, a number among 256 centroids, and may keep norms the same way; it is decoded here, once.
The catch: a decoded matrix takes several times its file. Lengths in the file are checked against what follows before
anything is made of their size.
"""

import struct
from dataclasses import dataclass

import numpy as np

from curate.errors import AssetError

MAGIC, VERSIONS = 793712314, (11, 12)
HIERARCHICAL, NEGATIVE, SOFTMAX, ONE_VS_ALL = 1, 2, 3, 4
PREFIX = "__label__"
_SUPERVISED, _WORD, _LABEL = 3, 0, 1
_CENTROIDS = 256
_ENLARGED = 64
"""A decoded matrix may take so many times the bytes that its file has: columns per centroid have a sane bound."""
_MAX_PRUNED_BUCKETS = 1 << 27
_MAX_NGRAM = 64
_MAX_DIM = 1 << 16
_HEAVIEST = 10**15
"""What fastText gives an inner node that is not made yet; labels weigh less, so the tree is one."""


@dataclass(frozen=True)
class Model:
    """A supervised model. Row i of `rows` belongs to word i, row len(words) + j to bucket j, or, in a pruned model
    (`kept` is not None), to bucket kept[j], ascending. `tree` (hierarchical softmax only) is int32[2, inner nodes]:
    left and right child of node len(labels) + i; children below len(labels) are labels."""

    labels: tuple[str, ...]
    words: tuple[bytes, ...]
    dim: int
    minn: int
    maxn: int
    word_ngrams: int
    bucket: int
    loss: int
    kept: np.ndarray | None
    rows: np.ndarray
    output: np.ndarray
    tree: np.ndarray | None
    label_tokens: tuple[bytes, ...]


def parse(data: bytes, *, name: str = "the file") -> Model:
    """The model in the bytes of a file called `name`. AssetError, with what is wrong, for anything else."""
    reader = _Reader(data, name)
    magic, version = reader.numbers("<ii", "its head")
    if magic != MAGIC:
        raise reader.bad(f"it begins with {magic}, a fastText model with {MAGIC}")
    if version not in VERSIONS:
        raise reader.bad(f"its version is {version}, known are 11 and 12")
    dim, _, _, _, _, word_ngrams, loss, kind, bucket, minn, maxn, _, _ = reader.numbers("<12id", "its arguments")
    if kind != _SUPERVISED:
        raise reader.bad("it holds word vectors, no classifier (trained with `supervised`)")
    if loss not in (HIERARCHICAL, NEGATIVE, SOFTMAX, ONE_VS_ALL):
        raise reader.bad(f"its loss is {loss}, known are 1 to 4")
    if version == 11:  # had no n-grams of characters in classifiers, whatever it says
        maxn = 0
    if not (0 < dim <= _MAX_DIM and word_ngrams <= _MAX_NGRAM and maxn <= _MAX_NGRAM and bucket >= 0):
        raise reader.bad(f"dim {dim}, wordNgrams {word_ngrams}, maxn {maxn}, bucket {bucket} are out of range")
    if (maxn > 0 or word_ngrams > 1) and bucket == 0:
        raise reader.bad("it has n-grams but no buckets for them")
    words, labels, counts, pruned = _dictionary(reader)
    rows = _matrix(reader, "input", reader.flag("the kind of its input matrix"))
    quantised = reader.flag("the kind of its output matrix") and reader.quantised
    output = _matrix(reader, "output", quantised)
    if output.shape != (len(labels), dim) or rows.shape[1] != dim:
        raise reader.bad(f"its matrices are {rows.shape} and {output.shape}, wanted dim {dim}, {len(labels)} labels")
    kept = None
    if pruned is not None:
        if not reader.quantised:
            raise reader.bad("its dictionary is pruned but its input matrix is not quantised")
        kept, rows = _order(reader, pruned, rows, len(words), bucket)
    elif len(rows) < len(words) + (bucket if maxn > 0 or word_ngrams > 1 else 0):
        raise reader.bad(f"its input matrix has {len(rows)} rows for {len(words)} words and {bucket} buckets")
    tree = _tree(counts) if loss == HIERARCHICAL else None
    named = tuple(reader.text(label).removeprefix(PREFIX) for label in labels)
    return Model(named, words, dim, minn, maxn, word_ngrams, bucket, loss, kept, rows, output, tree, labels)


class _Reader:
    """Bytes from the front to the end, never past it."""

    def __init__(self, data: bytes, name: str):
        self.data, self.name, self.at, self.quantised = data, name, 0, False

    def bad(self, said: str) -> AssetError:
        return AssetError(f"{self.name} is no fastText model that can be used: {said}")

    def need(self, size: int, what: str) -> int:
        """Where the next `size` bytes begin; they are then read."""
        left = len(self.data) - self.at
        if size < 0 or size > left:
            raise self.bad(f"it ends inside {what} ({size:,} bytes wanted at byte {self.at:,}, {left:,} are there)")
        start = self.at
        self.at += size
        return start

    def numbers(self, layout: str, what: str) -> tuple[int, ...]:
        return struct.unpack_from(layout, self.data, self.need(struct.calcsize(layout), what))

    def flag(self, what: str) -> bool:
        (value,) = self.numbers("<B", what)
        if value > 1:
            raise self.bad(f"{what} is {value} at byte {self.at - 1:,}, not 0 or 1")
        return bool(value)

    def array(self, kind: str, count: int, what: str) -> np.ndarray:
        start = self.need(count * np.dtype(kind).itemsize, what)
        return np.frombuffer(self.data, kind, count, start)

    def floats(self, count: int, what: str) -> np.ndarray:
        found = self.array("<f4", count, what)
        if not np.isfinite(found).all():
            raise self.bad(f"there are infinite numbers in {what}")
        return found

    def text(self, word: bytes) -> str:
        try:
            return word.decode()
        except UnicodeDecodeError as error:
            raise self.bad(f"label {word!r} is no UTF-8") from error


def _dictionary(reader: _Reader) -> tuple[tuple[bytes, ...], tuple[bytes, ...], list[int], np.ndarray | None]:
    """Words, labels, counts of the labels, and of a pruned one int32[n, 2]: bucket and its row behind the words."""
    size, word_count, label_count = reader.numbers("<iii", "its dictionary")
    _, pruned_size = reader.numbers("<qq", "its dictionary")
    if min(word_count, label_count) < 0 or size != word_count + label_count or not label_count:
        raise reader.bad(f"its dictionary has {size} entries, {word_count} words and {label_count} labels")
    data, entries, counts = reader.data, [], []
    for index in range(size):
        end = data.find(b"\0", reader.at)
        if end < 0:
            raise reader.bad(f"it ends inside word {index:,} of its dictionary")
        entries.append(data[reader.at : end])
        reader.at = end + 1
        count, kind = reader.numbers("<qb", "its dictionary")
        if kind != (_WORD if index < word_count else _LABEL):
            raise reader.bad(f"entry {index:,} of its dictionary is of kind {kind}; words come first, then labels")
        counts.append(count)
    if min(counts) < 0 or sum(counts[word_count:]) >= _HEAVIEST:
        raise reader.bad("its dictionary has counts below 0 or beyond 10^15")
    pruned = None
    if pruned_size >= 0:
        pruned = reader.array("<i4", 2 * pruned_size, "the list of kept n-grams").reshape(-1, 2)
    return tuple(entries[:word_count]), tuple(entries[word_count:]), counts[word_count:], pruned


def _matrix(reader: _Reader, name: str, quantised: bool) -> np.ndarray:
    what = f"its {name} matrix"
    if quantised:
        reader.quantised = True
        return _decoded(reader, what)
    rows, columns = reader.numbers("<qq", what)
    if min(rows, columns) < 0:
        raise reader.bad(f"{what} is {rows} x {columns}")
    return reader.floats(rows * columns, what).reshape(rows, columns)


def _decoded(reader: _Reader, what: str) -> np.ndarray:
    """A quantised matrix as float32[rows, columns]: centroids put side by side, times the row's norm."""
    normed = reader.flag(what)
    rows, columns, size = reader.numbers("<qqi", what)
    if min(rows, columns) < 0 or 4 * rows * columns > _ENLARGED * len(reader.data):
        raise reader.bad(f"{what} is {rows} x {columns}, too large for a file of {len(reader.data):,} bytes")
    codes = reader.array("u1", size, what)
    parts, width, last, centroids = _quantiser(reader, what, columns)
    if size != rows * parts:
        raise reader.bad(f"{what} has {size} codes for {rows} rows of {parts}")
    codes = codes.reshape(rows, parts)
    made = np.empty((rows, columns), np.float32)
    for part in range(parts):
        wide = last if part == parts - 1 else width
        start = part * _CENTROIDS * width
        table = centroids[start : start + _CENTROIDS * wide].reshape(_CENTROIDS, wide)
        made[:, part * width : part * width + wide] = table[codes[:, part]]
    if normed:
        norm_codes = reader.array("u1", rows, what)
        _, _, _, norms = _quantiser(reader, what, 1)
        made *= norms[norm_codes][:, None]
    return made


def _quantiser(reader: _Reader, what: str, columns: int) -> tuple[int, int, int, np.ndarray]:
    dim, parts, width, last = reader.numbers("<4i", what)
    if not (dim == columns and width > 0 and 0 < last <= width and parts > 0 and (parts - 1) * width + last == dim):
        raise reader.bad(f"{what} of {columns} columns is cut into {parts} of {width}, the last {last}, of {dim}")
    return parts, width, last, reader.floats(dim * _CENTROIDS, what)


def _order(
    reader: _Reader, pruned: np.ndarray, rows: np.ndarray, words: int, bucket: int
) -> tuple[np.ndarray, np.ndarray]:
    """Kept buckets ascending, and the matrix with its rows in that order behind those of the words."""
    if bucket > _MAX_PRUNED_BUCKETS:
        raise reader.bad(f"it is pruned and has {bucket:,} buckets, more than {_MAX_PRUNED_BUCKETS:,}")
    buckets, places = pruned[:, 0].astype(np.int64), words + pruned[:, 1].astype(np.int64)
    if len(rows) < words or (
        len(pruned)
        and (
            min(buckets.min(), pruned[:, 1].min()) < 0
            or buckets.max() >= max(1, bucket)
            or places.max() >= len(rows)
            or len(np.unique(buckets)) != len(buckets)
        )
    ):
        raise reader.bad(f"its list of kept n-grams points outside of {bucket:,} buckets or {len(rows):,} rows")
    order = np.argsort(buckets)
    return buckets[order], np.concatenate([rows[:words], rows[places[order]]])


def _tree(counts: list[int]) -> np.ndarray:
    """Children of the inner nodes of the Huffman tree over labels, by fastText's way of breaking ties.

    Labels are in falling order of count; of the rarest label and the oldest unused inner node the rarer is taken,
    the node on a tie; the first of two becomes the left child. The root is the last node.
    """
    total = len(counts)
    weights = [*counts, *([_HEAVIEST] * (total - 1))]
    children = np.zeros((2, total - 1), np.int32)
    leaf, node = total - 1, total
    for made in range(total - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        children[:, made] = pair
        weights[total + made] = weights[pair[0]] + weights[pair[1]]
    return children
