"""The scope of a comparison: only documents with an equal value of a column are compared.

The value is mixed into the keys that documents are compared by, so documents of two scopes never meet, here or in an
index. Null is a scope of its own.
"""

import numpy as np
import pyarrow as pa

from curate.arrow import is_label, one, utf8
from curate.errors import RecipeError

_NULL = np.uint64(0x6E756C6C73636F70)  # hashes of values have no other bits in common than chance gives them


def scoped(keys: np.ndarray, column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Keys uint64[n, bands] with the value of `column` for each row mixed in.

    RecipeError where the column holds no words and no whole numbers. A number and the word for it are one scope.
    """
    from curate.kernels.hash import combine

    made = np.ascontiguousarray(keys).reshape(-1).copy()
    combine(made, np.repeat(scopes(column), keys.shape[1]))
    return made.reshape(keys.shape)


def scopes(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """A hash of each row's scope, uint64[n]. RecipeError as above."""
    from curate.kernels.hash import xxh3_64

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not is_label(kind):
        raise RecipeError(f"`per` names a column of {kind}; a scope is a word or a whole number")
    codes = one(column.cast(kind).cast(pa.string())).dictionary_encode()
    values = np.empty(len(codes.dictionary) + 1, np.uint64)
    values[-1] = _NULL
    xxh3_64(*utf8(codes.dictionary), np.uint64(0), values[:-1])
    found: np.ndarray = values[codes.indices.fill_null(len(codes.dictionary)).to_numpy()]
    return found
