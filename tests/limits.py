"""Texts at, just below and just above every limit of the rules of Gopher, C4 and FineWeb, and many between them.

Seeded: the same texts each time. Nothing here knows what a rule says of them.
"""

import random
from collections.abc import Iterator

LETTERS = "abcdefghijklmnopqrstuvwxyz"
STOPS = ("the", "be", "to", "of", "and", "that", "have", "with")


def fresh(draw: random.Random, length: int = 6) -> str:
    """A word that occurs once, near enough."""
    return "".join(draw.choices(LETTERS, k=length))


def prose(draw: random.Random, words: int, line: int = 12) -> str:
    """Different sentences of a dozen words, two of them stop words, some lines of several sentences."""
    made = []
    while words > 0:
        size = min(words, line)
        sentence = [fresh(draw, draw.randint(2, 9)) for _ in range(size)]
        sentence[: size // 2 : 3] = draw.choices(STOPS, k=len(sentence[: size // 2 : 3]))
        made.append(" ".join(sentence).capitalize() + draw.choice(".?!.."))
        words -= size
    return "".join(one + draw.choice((" ", "\n", " ", "\n\n")) for one in made).strip()


def padded(text: str, length: int, draw: random.Random) -> str:
    """`text` and fresh words behind it, `length` characters in all."""
    made = [text]
    left = length - len(text)
    while left > 0:
        size = left - 1 if left < 16 else 7
        made.append(" " + fresh(draw, size))
        left -= size + 1
    return "".join(made)


def words_of(draw: random.Random, count: int, length: int) -> list[str]:
    return ["the", "and", *(fresh(draw, length) for _ in range(count - 2))]


def quality_limits(draw: random.Random) -> Iterator[str]:
    for count in (0, 1, 2, 49, 50, 51):
        yield " ".join(words_of(draw, count + 2, 6)[: count or 2])
    yield from (" ".join(["the", "and", *["abcd"] * (count - 2)]) for count in (99_999, 100_000, 100_001))
    for total in (297, 299, 300, 301, 303, 997, 999, 1000, 1001, 1003):  # mean length times a hundred words
        size, more = divmod(total - 6, 98)
        yield " ".join(["the", "and", *(fresh(draw, size + (i < more)) for i in range(98))])
    body = words_of(draw, 90, 6)
    for mark in ("#", "...", "\u2026", "......", "....", "#...", ".. .", "# \u2026"):
        for times in (9, 10, 11):
            yield " ".join(
                [*body, *(fresh(draw) + mark for _ in range(times)), *(fresh(draw) for _ in range(10 - times))]
            )
    for mark in ("- ", "\u2022 ", "-", "  - ", "* ", "\u2013 ", "\x85- ", "\x1f- "):
        for marked in (17, 18, 19, 20):
            yield "\n".join((mark if i < marked else "") + " ".join(words_of(draw, 6, 6)) for i in range(20))
    for end in ("...", "\u2026", "... ", "\u2026\t", "....", ".. .", "...\x1f", "...\u200b"):
        for ended in (5, 6, 7):
            lines = [" ".join(words_of(draw, 8, 6)) + (end if i < ended else ".") for i in range(20)]
            yield draw.choice(("\n", "\r\n", "\x0b", "\u2028", "\n\n")).join(lines)
    for other in ("12345", "---", "\u2460\u2461\u2462", "\u2070\u2071x", "\u00bd\u00bd", "\u0967\u0968", "\u4e2d"):
        for letters in (79, 80, 81):
            yield " ".join([*words_of(draw, letters, 6), *[other] * (100 - letters)])
    for stops in (
        ["the"],
        ["the"] * 9,
        ["the", "of"],
        ["The", "OF"],
        ["the,", "of."],
        ["and", "\u00a0with\u3000"],
        list(STOPS),
    ):
        yield " ".join([*(fresh(draw) for _ in range(60)), *stops])
    for mark in (
        "\u2022",
        "\u00b7",
        "\u2014",
        "\u25ba",
        "\u00a7",
        "\u201c\u201d",
        "\u2501",
        "\u2236",
        "\x01",
        "\u2019",
        "\u00b4",
        "\uff11",
    ):
        yield " ".join([*words_of(draw, 49, 6), *[mark] * 8])
        yield " ".join([*words_of(draw, 60, 4), *[mark * 30] * 11])


def repetition_limits(draw: random.Random) -> Iterator[str]:
    for joint in ("\n", "\n\n", "\n\n\n"):
        for copies in (2, 3, 4):  # of ten segments, long and short
            for size in (1, 6):
                one = " ".join(fresh(draw) for _ in range(size))
                rest = [" ".join(fresh(draw) for _ in range(12)) for _ in range(9 - copies)]
                yield joint.join([one] * (copies + 1) + rest)
        for extra in (-1, 0, 1):  # the copy is a fifth of all characters
            one = " ".join(fresh(draw) for _ in range(9))
            yield padded(joint.join([one, one, "some more", "and more", ""]), 5 * len(one) + extra, draw)
    yield from ("\n\na\nb", "a\n\n", "\na", "\n", "  ", "a", "a a", "", "a\n\nb\n\na", " \n\n a \n\n a")
    # Words and copies are such that the share can be the limit itself, and no other rule drops the text first.
    for n, limit, copies in ((2, 0.2, (2, 3, 7, 20)), (3, 0.18, (2, 9, 18)), (4, 0.16, (3, 4, 8, 20))):
        for times in copies:
            one = " ".join(fresh(draw, 3) for _ in range(n))
            for extra in (-1, 0, 1):
                parts = [f"{one} {fresh(draw, 5)}" for _ in range(times)]
                yield padded(" ".join(parts), round(len(one) * times / limit) + extra, draw)
    for n, limit, exact in ((5, 0.15, 13), (6, 0.14, 8), (7, 0.13, 14), (8, 0.12, 4), (9, 0.11, 12), (10, 0.10, 3)):
        for times in (2, 5, exact):
            one = [fresh(draw, 4) for _ in range(n)]
            for extra in (-1, 0, 1):
                parts = [f"{' '.join(one)} {fresh(draw, 3)}" for _ in range(times)]
                yield padded(" ".join(parts), round(4 * n * (times - 1) / limit) + extra, draw)
        yield " ".join(["ab", "c"] * n + ["a", "bc"] * n + [fresh(draw) for _ in range(20 * n)])
    yield " ".join(["a"] * 40)
    yield " ".join(["a b c d e"] * 3 + ["x"])
    yield "\n".join(["alpha beta gamma", "delta eps", "alpha beta gamma", "alpha beta gamma", "zeta"])


def c4_limits(draw: random.Random) -> Iterator[str]:
    def line(end: str = ".") -> str:
        return " ".join(fresh(draw) for _ in range(4)) + end

    for count in (0, 1, 4, 5, 6):
        yield "\n".join(line() for _ in range(count))
        yield " ".join(line() for _ in range(count))
    base = [line() for _ in range(4)]
    ends = (
        ".",
        "?",
        "!",
        '"',
        "'",
        "...",
        "....",
        "\u2026",
        ".)",
        "\u201d",
        "\u3002",
        "",
        ". ",
        "?!",
        '."',
        ".''",
        ".[1]",
        ".[12] ",
    )
    changed = (
        *(line(end) for end in ends),
        *(f"{fresh(draw)} {fresh(draw)}{end}" for end in (".", " x.", "[3] x.", " [3].", "[edit] x.")),
        *(" ".join(["x" * size, "and", "more."]) for size in (999, 1000, 1001)),
        *(" ".join(["\u00e9" * size, "and", "more."]) for size in (999, 1000, 1001)),
        *(
            f"This {word} is here, they say."
            for word in ("JavaScript", "javascript", "java script", "java[2]script", "xjavascripty")
        ),
        *(
            f"It {word} on the site."
            for word in ("Lorem Ipsum", "lorem  ipsum", "LOREM IPSUM", "lorem[1] ipsum", "lorem ipsu")
        ),
        *(f"It {word} on the site." for word in ("{", "}", "{}", "[{]")),
        *(
            f"Read the {word} of it."
            for word in ("terms of use", "Privacy Policy", "cookie policy", "uses cookies", "use of cookies")
        ),
        *(
            f"We {word} on it."
            for word in ("use cookies", "coo\u212aie policy", "use coo\u212aies", "using cookies", "terms of[3] use")
        ),
        *(
            f"As seen{cite} there."
            for cite in ("[1]", "[]", "[edit]", "[citation needed]", "[\u0967]", "[1a]", "[Edit]", "[[2]]")
        ),
        "lorem ipsum only",
        "lorem ipsum at the end",
        "curly { at the end",
        "two words{.",
        "javascript lorem ipsum { here.",
        "a { with lorem ipsum in it.",
        "lorem ipsum with a { in it.",
        "a.b.c. d.e f.",
        "Mr. Smith went. He did",
        "\t\x0b\x1c",
        "\u3000a b c.\u3000",
    )
    for one in changed:
        for joint in ("\n", "\r\n", "\x85", "\u2029"):
            yield joint.join([*base, one])
    yield "\n".join(["curly { bracket here.", *base, "lorem ipsum dolor sit amet."])
    yield "\n".join(["lorem ipsum dolor sit amet.", *base, "curly { bracket here."])


def fineweb_limits(draw: random.Random) -> Iterator[str]:
    def lines(count: int, length: int) -> list[str]:
        return [padded(fresh(draw), length, draw) for _ in range(count)]

    for mark in (
        ".",
        "?",
        "!",
        "\u3002",
        "\uff01",
        "\u0964",
        "\u061f",
        "\u17d4",
        "\u2047",
        '"',
        "\u2026",
        "\u201d",
        ". ",
        ";",
    ):
        for ended in (11, 12, 13):
            made = [line + mark if i < ended else line for i, line in enumerate(lines(100, 40))]
            yield "\n".join(made)
    for length in (29, 30, 31):
        for short in (66, 67, 68):
            yield "\n".join([*lines(short, length - 1), *lines(100 - short, 60)]).replace("\n", ".\n") + "."
    for extra in (-1, 0, 1):  # one hundredth of the characters
        yield "\n".join(f"{one}." for one in [*["x" * 39] * 2, *lines(96, 39), "y" * (79 + extra)])
    for breaks in (14, 15, 16):  # newlines per word
        yield "\n".join(
            [*(f"{fresh(draw, 40)}." for _ in range(breaks)), " ".join(words_of(draw, 50 - breaks, 8)) + "."]
        )
    yield from ("\n\n\n", "\u200b", "\x1f\n\x1f", "a\n" * 3, "word. " * 40 + "\n" * 13, "\x85.\x85\n.")


def hostile(draw: random.Random) -> str:
    """Words, marks, spaces and breaks of all kinds, some of them often."""
    pool = [
        *STOPS,
        *" \n\t\r#-.,!?\"'{[]",
        "...",
        "\u2026",
        "\u2022",
        "\n\n",
        "\r\n",
        *"\x0b\x0c\x1c\x1e\x1f\x85\xa0\u2028\u2029\u3000\u200b\ufeff\u3002",
    ]
    pool += [fresh(draw, draw.randint(1, 12)) for _ in range(draw.choice((3, 20, 200)))]
    pool += [
        "\u4e2d\u6587",
        "caf\u00e9",
        "\u0939\u093f",
        "\U0001f600",
        "12",
        "[3]",
        "javascript",
        "lorem ipsum",
        "\x00",
        "\u212a",
        "\u0130",
    ]
    weights = [draw.random() ** 4 + 0.01 for _ in pool]
    joint = draw.choice((" ", " ", "", "\n"))
    return joint.join(draw.choices(pool, weights, k=draw.choice((5, 80, 400))))


def repeated(draw: random.Random) -> str:
    """Prose in which a line, a paragraph or a phrase comes again, more or less often."""
    parts = prose(draw, draw.randint(60, 400)).split(draw.choice((" ", "\n", ". ")))
    again = draw.choices(parts, k=draw.randint(1, 3))
    for _ in range(draw.randint(0, len(parts) // 2)):
        parts.insert(draw.randrange(len(parts)), draw.choice(again))
    return draw.choice((" ", "\n", "\n\n")).join(parts)


def listed(draw: random.Random) -> str:
    rows = [prose(draw, draw.randint(1, 9), 9).replace("\n", " ") for _ in range(draw.randint(5, 60))]
    mark, share = draw.choice(("- ", "\u2022 ", "* ", "1. ")), draw.random()
    return "\n".join(mark + row if draw.random() < share else row for row in rows)


def limit_texts() -> list[str]:
    """All of them, over two thousand, each up to 700 kB but most of them short."""
    draw = random.Random(20)
    limits = [*quality_limits(draw), *repetition_limits(draw), *c4_limits(draw), *fineweb_limits(draw)]
    free = [make(draw) for make in (hostile, repeated, listed) for _ in range(500)]
    return [*limits, *free, *(prose(draw, draw.randint(20, 300)) for _ in range(200))]
