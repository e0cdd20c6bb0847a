"""The bigram model from its definition, over Python words and dictionaries."""

from collections import Counter

D = 0.75
BEGIN, UNKNOWN = ("begin",), ("unknown",)


def words(text: str) -> list[str]:
    """Lower case by character, as tables of characters do it: a final sigma is a sigma."""
    return ["".join(c.lower().replace("\u03c2", "\u03c3") for c in word) for word in text.split()]


def vocabulary(texts: list[str]) -> set[str]:
    counts = Counter(word for text in texts for word in words(text))
    return {word for word, count in counts.items() if count > 1}


class Model:
    def __init__(self, texts: list[str], known: set[str]):
        self.known = known
        self.pairs = Counter(pair for text in texts for pair in self.bigrams(text))
        self.single = Counter(word for text in texts for _, word in self.bigrams(text))

    def bigrams(self, text: str) -> list[tuple]:
        found = [word if word in self.known else UNKNOWN for word in words(text)]
        return list(zip([BEGIN, *found], found, strict=False))

    def alone(self, word) -> float:
        total, kinds, size = sum(self.single.values()), len(self.single), len(self.known) + 1
        if not total:
            return 1 / size
        return max(self.single[word] - D, 0) / total + D * kinds / total / size

    def probability(self, before, word) -> float:
        behind = {w: count for (v, w), count in self.pairs.items() if v == before}
        total = sum(behind.values())
        if not total:
            return self.alone(word)
        return max(behind.get(word, 0) - D, 0) / total + D * len(behind) / total * self.alone(word)
