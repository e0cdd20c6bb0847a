"""Near duplicates confirmed the slow way: sets of strings, fractions, and the rules as they are written."""

from fractions import Fraction


def shingles(text, ngram):
    """Word n-grams of a text of ASCII letters, digits and blanks."""
    words = text.lower().split()
    return {" ".join(words[i : i + ngram]) for i in range(len(words) - ngram + 1)}


def jaccard(later, earlier):
    union = len(later | earlier)
    return Fraction(len(later & earlier), union) if union else Fraction(0)


def containment(later, earlier):
    return Fraction(len(later & earlier), len(later)) if later else Fraction(0)


def survival(row, keep):
    """Sort key of a row: the smaller survives."""
    ties = (row["id"], row["origin"].encode(), row["place"])
    if keep == "earliest":
        return (not row["exempt"], row["place"])
    worth = row["worth"]
    missing = worth is None or worth != worth
    return (not row["exempt"], missing, 0 if missing else -worth, *ties)


def confirm(rows, *, ngram, least, alike=jaccard, keep="earliest", transitive=False, known=None):
    """(duplicate, survivor's origin, likeness, cluster size) of each row.

    `rows`: dicts with text, id, origin, place (its position), group (None: no candidates), leaders and known (lists of
    names), worth, exempt. `known`: name to (origin, set of shingles, number of the
    index). `least`: a decimal as text.
    """
    known = known or {}
    made = [(False, None, None, 1) for _ in rows]
    for group in {row["group"] for row in rows} - {None}:
        members = [i for i, row in enumerate(rows) if row["group"] == group]
        members.sort(key=lambda i: survival(rows[i], keep))
        texts = list(dict.fromkeys(rows[i]["text"] for i in members))  # nodes, the best first
        node = {text: number for number, text in enumerate(texts)}
        sets = [shingles(text, ngram) for text in texts]
        first = {number: next(i for i in members if rows[i]["text"] == text) for text, number in node.items()}
        named = {}
        for i in members:
            name = rows[i]["id"][:8]
            named[name] = min(named.get(name, len(texts)), node[rows[i]["text"]])
        pairs, entries = set(), {}
        for i in members:
            here = node[rows[i]["text"]]
            for name in {*rows[i]["leaders"], rows[i]["id"][:8]}:
                there = named.get(name, here)
                later, earlier = max(here, there), min(here, there)
                if later != earlier and alike(sets[later], sets[earlier]) >= Fraction(least):
                    pairs.add((later, earlier))
            for name in rows[i]["known"]:
                if name in known and alike(sets[here], known[name][1]) >= Fraction(least):
                    entries.setdefault(here, set()).add(name)
        joined = [{number} for number in range(len(texts))]
        for later, earlier in pairs:
            together = joined[later] | joined[earlier]
            for number in together:
                joined[number] = together
        against = {}
        for number in range(len(texts)):
            if rows[first[number]]["exempt"]:
                continue
            if transitive:
                told = set().union(*(entries.get(other, set()) for other in joined[number]))
                best = min(joined[number])
                stays = [best] if best != number else []
            else:
                told = entries.get(number, set())
                stays = sorted(e for later, e in pairs if later == number and e not in against)
            if told:
                best_known = min(told, key=lambda name: (known[name][2], name))
                against[number] = (known[best_known][0], alike(sets[number], known[best_known][1]))
            elif stays:
                against[number] = (rows[first[stays[0]]]["origin"], alike(sets[number], sets[stays[0]]))
        for i in members:
            number = node[rows[i]["text"]]
            size = sum(rows[j]["text"] in {texts[other] for other in joined[number]} for j in members)
            if number in against:
                made[i] = (True, *against[number], size)
            elif i != first[number] and not rows[i]["exempt"]:
                made[i] = (True, rows[first[number]]["origin"], Fraction(1), size)
            else:
                made[i] = (False, None, None, size)
    return made
