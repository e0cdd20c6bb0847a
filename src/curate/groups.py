"""Neighbours in a sorted list grouped so that a border depends on nothing but the item beside it.

An item ends its group by a draw keyed on itself, so an item that comes or goes changes the one group it stands in and
leaves all other borders where they were: what was made from the other groups stays valid.
"""

from collections.abc import Sequence

import xxhash


def neighbours(
    keys: Sequence[bytes | str], sizes: Sequence[int], *, alone: int = 1 << 20, mean: int = 8 << 20, most: int
) -> list[list[int]]:
    """Indices of `keys` in order, cut into groups.

    An item of `alone` bytes or more is a group of its own. Smaller ones join their neighbours; a group ends after an
    item with chance size / mean, drawn by XXH3-64 of its key, so groups hold some `mean` bytes, and before an item
    that would bring it above `most` bytes. Only a border of the last kind depends on the items before it, and only
    back to the next border of another kind.
    """
    groups: list[list[int]] = []
    open_group: list[int] = []
    held = 0
    for index, (key, size) in enumerate(zip(keys, sizes, strict=True)):
        if size >= alone:
            if open_group:
                groups.append(open_group)
            groups.append([index])
            open_group, held = [], 0
            continue
        if open_group and held + size > most:
            groups.append(open_group)
            open_group, held = [], 0
        open_group.append(index)
        held += size
        if xxhash.xxh3_64_intdigest(key.encode() if isinstance(key, str) else key) * mean < size << 64:
            groups.append(open_group)
            open_group, held = [], 0
    return [*groups, open_group] if open_group else groups
