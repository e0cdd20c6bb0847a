"""Hypothesis strategies that several tests share."""

from hypothesis import strategies as st

# Words and marks that the rules look for, breaks of every kind, and characters that look like them.
_MARKS = [
    "...",
    "....",
    "......",
    "\u2026",
    "#",
    "-",
    "\u2022",
    "a-b",
    "!?",
    "*",
    "\u00a1",
    "\u3002",
    "+",
    "\u20ac",
    "1",
]
_HOSTILE = st.sampled_from(
    [
        *[
            "the",
            "The",
            "be",
            "to",
            "of",
            "and",
            "that",
            "have",
            "with",
            "théa",
            "\u4e2d\u6587",
            "\u0939\u093f",
        ],
        *_MARKS,
        *["x" * 61, "." * 70, "!" * 65, "\u00e9" * 40, "\r\n", "\n\n", "\u2018\u2019"],
        *" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000",
        *"\x00\x7f\xad\u200b\ufeff\u0301\u180e\ud7ff\ue000\uffff\U0010ffff\U0001f600\U0001d4d0\u0410",
    ]
)
_ANY = st.characters(exclude_categories=("Cs",))
_PROSE = st.text(alphabet="abcdefghijklmnopqrstuvwxyz    \n.,", min_size=0, max_size=300)

hostile_text = st.lists(
    st.one_of(_HOSTILE, _HOSTILE, st.just(" "), _ANY, st.text(_ANY, max_size=8), _PROSE), max_size=40
).map("".join)
"""Valid text of all planes: combining marks, spaces, breaks and look-alikes, NUL, BOM, long runs."""
