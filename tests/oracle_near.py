"""Near duplicates by definition: all pairs that share a key, what hangs together, and who leads each bucket."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """One row: the keys of its bands with its scope, its name, and what it is worth (None: less than all numbers)."""

    keys: tuple[object, ...]
    name: int
    worth: float | None = None


def groups_slowly(rows: Sequence[Said | None]) -> list[int | None]:
    """For each row the first row of its group; None for one that shares no key with another."""
    near = {
        i: {j for j, b in enumerate(rows) if b is not None and i != j and set(a.keys) & set(b.keys)}
        for i, a in enumerate(rows)
        if a is not None
    }
    labels: list[int | None] = [None] * len(rows)
    for i in near:
        if near[i] and labels[i] is None:
            found, open_rows = set(), [i]
            while open_rows:
                j = open_rows.pop()
                if j not in found:
                    found.add(j)
                    open_rows += near[j]
            for j in found:
                labels[j] = min(found)
    return labels


def leaders_slowly(rows: Sequence[Said | None]) -> list[list[int]]:
    """For each row the names of those that lead one of its buckets: most worth, then smallest name, then first."""
    buckets: dict[object, list[int]] = {}
    for i, said in enumerate(rows):
        for key in set(said.keys) if said else ():
            buckets.setdefault(key, []).append(i)
    names: list[set[int]] = [set() for _ in rows]
    for members in buckets.values():
        told = {i: said for i in members if (said := rows[i]) is not None}
        best = told[min(told, key=lambda i: (told[i].worth is None, -(told[i].worth or 0), told[i].name, i))]
        for i, said in told.items():
            if said.name != best.name:
                names[i].add(best.name)
    return [sorted(found) for found in names]


def labels_slowly(nodes: int, edges: Sequence[tuple[int, int]]) -> list[int | None]:
    """For each node with an edge the smallest node of its component."""
    label = list(range(nodes))
    for _ in range(nodes):
        for a, b in edges:
            label[a] = label[b] = min(label[a], label[b])
    touched = {node for edge in edges for node in edge}
    return [label[node] if node in touched else None for node in range(nodes)]
