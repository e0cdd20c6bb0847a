"""All counts of source code, one call for a shard: what the stage `code` makes its columns of.

The kernels lie beside this file: `code_characters` (characters, words, lines), `code_encoded` (data written as text),
`code_heads` (phrases at the top, visible text of HTML), `code_syntax` (comments cut out), `code_lines` (what lines
hold) and `code_strings`.
"""

import numpy as np
from numpy.typing import NDArray

from curate.kernels.code_characters import CHARACTER_COUNTS, character_counts, code_classes
from curate.kernels.code_encoded import encoded
from curate.kernels.code_heads import heads, visible
from curate.kernels.code_lines import LINE_COUNTS, line_counts, placeholders, traits
from curate.kernels.code_strings import STRING_COUNTS, strings
from curate.kernels.code_syntax import part

Int64s = NDArray[np.int64]
Bytes = NDArray[np.uint8]


def code_counts(
    offsets: Int64s, data: Bytes, *, languages: list[str], language: Int64s
) -> dict[str, NDArray[np.int64]]:
    """Counts of every row by name, int64[n] each: those of `CHARACTER_COUNTS`, `LINE_COUNTS` and `STRING_COUNTS`, and
    `family`, `encoded_longest`, `encoded_characters`, `generated_lines`, `generated_head`, `xml`,
    `comment_characters`, `placeholder_lines`, `visible`.

    `offsets` int64[n + 1] into `data` uint8[...], rows of valid UTF-8; `language` int64[n] names a row's language by
    its place in `languages` (lower-case names).
    """
    rows, classes = len(offsets) - 1, code_classes()
    facts = np.array([traits(name) for name in languages], np.int64).reshape(-1, 4)[language]
    counts = {"family": facts[:, 0]}
    table = np.empty((rows, len(CHARACTER_COUNTS)), np.int64)
    character_counts(offsets, data, classes, table)
    counts |= dict(zip(CHARACTER_COUNTS, table.T, strict=True))
    table = np.empty((rows, 2), np.int64)
    encoded(offsets, data, classes, np.empty(_longest(offsets), np.uint8), table)
    counts |= dict(zip(("encoded_longest", "encoded_characters"), table.T, strict=True))
    truths = np.empty((rows, 3), np.uint8)
    heads(offsets, data, truths)
    counts |= dict(zip(("generated_lines", "generated_head", "xml"), truths.T.astype(np.int64), strict=True))
    seen = np.zeros(rows, np.int64)
    pages = np.flatnonzero(np.array([name == "html" for name in languages], np.bool_)[language])
    visible(offsets, data, pages.astype(np.int64), seen)
    return counts | {"visible": seen} | _parted(offsets, data, classes, facts)


def _longest(offsets: Int64s) -> int:
    return int(np.diff(offsets).max(initial=0))


def _parted(offsets: Int64s, data: Bytes, classes: Bytes, facts: Int64s) -> dict[str, NDArray[np.int64]]:
    """Counts of code and comments apart. Works in three times the bytes of the rows, of which code and comments fill
    little more than one."""
    rows, size = len(offsets) - 1, int(offsets[-1] - offsets[0])
    code, comments = np.empty(size, np.uint8), np.empty(2 * size, np.uint8)
    kept = np.empty((rows + 1, 3), np.int64)
    part(offsets, data, np.ascontiguousarray(facts[:, 0]), code, comments, kept)
    code_offsets, comment_offsets = np.ascontiguousarray(kept[:, 0]), np.ascontiguousarray(kept[:, 1])
    # Texts come as Arrow's memory, which is read only; Numba would compile once more for arrays that are not.
    for array in (code, comments):
        array.setflags(write=False)
    lines = np.empty((rows, len(LINE_COUNTS)), np.int64)
    room = np.empty(_longest(code_offsets) + 1, np.uint64)
    line_counts(code_offsets, code, classes, np.ascontiguousarray(facts), room, lines)
    quoted = np.empty((rows, len(STRING_COUNTS)), np.int64)
    strings(code_offsets, code, classes, quoted)
    marked = np.empty(rows, np.int64)
    placeholders(comment_offsets, comments, marked)
    counts = dict(zip(LINE_COUNTS, lines.T, strict=True)) | dict(zip(STRING_COUNTS, quoted.T, strict=True))
    return counts | {"comment_characters": kept[1:, 2], "placeholder_lines": marked}
