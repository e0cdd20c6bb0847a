"""Slow, obvious twin of `repeated_lines`: strings, lists and Counters."""

import re
import unicodedata
from collections import Counter

# The characters of UNICODE_PUNCT in cc_net's text_normalizer.py.
CCNET = [0xAB, 0xB4, 0xBB, 0x2013, 0x2014, 0x2019, 0x201C, 0x201D, 0x201E, 0x2026, 0x2236, 0x2501, 0x25BA]
CCNET += [0x3001, 0x3002, *range(0x3008, 0x300E), 0x3010, 0x3011, 0xFF01, 0xFF05, 0xFF08, 0xFF09, 0xFF0C, 0xFF0E]
CCNET += [0xFF11, 0xFF1A, 0xFF1B, 0xFF1F, 0xFF5E]
CCNET_RE = re.compile("[" + "".join(map(chr, CCNET)) + "\x00-\x1f\x7f-\x9f]")


def normalized(passage, form):
    passage = passage.strip()
    if form == "exact":
        return passage
    passage = passage.lower().replace("ς", "σ")
    if form == "lower":
        return passage
    if form == "ccnet":
        return CCNET_RE.sub("", re.sub(r"\d", "0", passage))
    apart = "".join(unicodedata.normalize("NFD", c) for c in passage)
    bare = [c for c in apart if unicodedata.category(c) != "Mn"]
    digits = ["0" if unicodedata.category(c) == "Nd" else c for c in bare]
    kept = [c for c in digits if c.isspace() or (not CCNET_RE.match(c) and unicodedata.category(c)[0] != "P")]
    return " ".join("".join(kept).split())


def parts(text, of):
    """What is before the first passage, and each passage with what is behind it."""
    if of == "line":
        lines = text.split("\n")
        return "", [(line, "\n") for line in lines[:-1]] + [(lines[-1], "")]
    before, found = "", []
    is_open = False
    for line in re.findall(r"[^\n]*\n|[^\n]+$", text):
        body = line.rstrip()
        feed = line[len(body) :]
        if not body:
            is_open = False
            if found:
                found[-1] = (found[-1][0], found[-1][1] + line)
            else:
                before += line
        elif is_open:
            found[-1] = (found[-1][0] + found[-1][1] + body, feed)
        else:
            found.append((body, feed))
            is_open = True
    return before, found


def repeated_lines(texts, *, of, at_least, count, keep, min_length, normalize, scopes=None, among=None):
    """The text that is left of each, and how many passages went."""
    scopes = scopes or [0] * len(texts)
    among = among or [True] * len(texts)
    keys, totals = [], Counter()
    for text, scope, competes in zip(texts, scopes, among, strict=True):
        names = [normalized(passage, normalize) for passage, _ in parts(text, of)[1]]
        row = [(scope, name) if competes and name and len(name) >= min_length else None for name in names]
        keys.append(row)
        totals.update(key for key in (row if count == "occurrences" else set(row)) if key)
    made, stands = [], set()
    for text, row in zip(texts, keys, strict=True):
        before, found = parts(text, of)
        kept = []
        for passage, key in zip(found, row, strict=True):
            goes = key is not None and totals[key] >= at_least and not (keep == "first" and key not in stands)
            stands.add(key)
            if not goes:
                kept.append(passage)
        gone = len(found) - len(kept)
        if gone and not kept:
            made.append(("", gone))
        elif gone:
            behind = found[-1][1]
            left = "".join(map("".join, kept[:-1])) + kept[-1][0] + behind
            made.append((before + left, gone))
        else:
            made.append((text, 0))
    return made
