"""Slow, obvious twins of line cleaning, written from the published steps."""

import re

COUNTED = "likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads|views|followers"
COUNTER = re.compile(rf"\W*\d[,.\d]*[kmb]?\s+({COUNTED})\W*")
PHRASES = (r"\s?items in cart", r"\s?read more...$", r"^sign-in\s?")


def words(text: str) -> int:
    """Words as fastText parts them, those alone that begin with a letter or a number."""
    return sum(word[:1].isalnum() for word in re.split("[ \t\n\v\f\r\0]", text))


def lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


def refinedweb(text: str) -> tuple[str, dict[str, int]]:
    """The corrected text, and how many lines each step took."""
    counts = {"lines": sum(bool(line.split()) for line in text.split("\n"))}

    def drop(name: str, bad, strip: bool = True) -> None:  # type: ignore[no-untyped-def]
        nonlocal text
        kept = []
        counts[name] = 0
        for line in text.split("\n"):
            if line and bad(line):
                counts[name] += bool(line.split())
            else:
                kept.append(line)
        text = "\n".join(kept)
        text = text.strip() if strip else text

    drop("uppercase_lines", lambda line: sum(map(str.isupper, line)) / len(line) > 0.5)
    drop("numeric_lines", lambda line: sum(map(str.isdigit, line)) / len(line) > 0.999999)
    drop("counter_lines", lambda line: COUNTER.fullmatch(line.lower()))
    drop("one_word_lines", lambda line: len(line.split()) < 2, strip=False)
    counts["cut_phrases"] = 0
    for phrase in PHRASES:
        kept = []
        for line in text.split("\n"):
            if len(line.split()) <= 10:
                short, cuts = re.subn(phrase, "", line, flags=re.IGNORECASE)
                counts["cut_phrases"] += cuts
                if line and not short.strip():
                    continue
                line = short
            kept.append(line)
        text = "\n".join(kept).strip()
    return text, counts


def c4(
    text: str,
    *,
    citations: bool = True,
    terminal_punctuation: bool = True,
    min_words_per_line: int = 3,
    max_word_length: int = 1000,
    javascript: bool = True,
    policy: bool = True,
) -> str:
    """The lines that C4 leaves of a page. -1 turns a limit off. The page goes for its lorem and curly lines, so what
    becomes of them is nowhere said: they go too."""
    phrases = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
    kept = []
    for line in text.splitlines():
        line = line.strip()
        parts = line.split()
        if max_word_length != -1 and any(len(word) > max_word_length for word in parts):
            continue
        if citations:
            line = re.sub(r"\[\d*\]|\[edit\]|\[citation needed\]", "", line)
        if terminal_punctuation and (line.endswith("...") or not line.endswith((".", "?", "!", '"', "'"))):
            continue
        if len(parts) < min_words_per_line:
            continue
        if "lorem ipsum" in line.lower():
            continue
        if javascript and "javascript" in line.lower():
            continue
        if "{" in line:
            continue
        if policy and any(phrase in line.lower() for phrase in phrases):
            continue
        kept.append(line)
    return "\n".join(kept).strip()
