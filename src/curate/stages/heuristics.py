"""Cheap counts and shares that quality rules are made of. Counts only: thresholds belong to `select`.

What a column means is what the published code of its rule set means; `curate.signals` says which family gives which,
and the rule sets that compare them (`gopher_quality`, `gopher_repetition`, `c4`, `fineweb`, ...) are data in `rules/`.
The catch: words are what white space parts, as the papers have it, while DataTrove's tokenizer also counts punctuation
marks; texts near a threshold may be judged differently. `words: unicode` counts words by Unicode's word boundaries, for
scripts that set no spaces.
"""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from curate.errors import RecipeError
from curate.signals import Family, Words, columns, measure
from curate.stage import Stage, Verdict


@dataclass(frozen=True)
class Heuristics(Stage):
    """Add the columns of some families of signals. No value is null or NaN; nothing of nothing is 0.

    `signals`, each as its source reads it. quality: Gopher's quality rules (Rae et al. 2021, arXiv 2112.11446,
    appendix A.1; DataTrove): words with a character that is no punctuation and their mean length, "#" and ellipses per
    word, shares of lines that begin with U+2022 or "-" and that end in an ellipsis, share of words with a letter,
    different stop words. repetition: Gopher's table A1, later copies only, shares of all characters. c4: what happens
    to each line (Raffel et al. 2020, arXiv 1910.10683), sentences on kept ones. fineweb: lines that end in terminal
    punctuation, short and duplicated ones (Penedo et al. 2024, arXiv 2406.17557), mC4's lines of 200 characters.
    refinedweb: what line-wise corrections would remove. dclm, dolma: Gopher's rules as these corpora read them.

    `characters` are code points. `words` says what parts words: white space, or Unicode's word boundaries (UAX 29) with
    an ideograph or a Southeast Asian cluster as a word. `language` names a column of ISO 639-1 codes, such as
    `language`: stop words are then those of each row's language, and `words: language` parts words as that language's
    rules (`rules/languages`) want it.
    """

    kind: ClassVar[str] = "heuristics"
    version: ClassVar[int] = 2
    signals: tuple[Family, ...] = ("quality", "repetition", "c4", "fineweb")
    words: Words = "whitespace"
    language: str | None = None

    def __post_init__(self) -> None:
        if not self.signals:
            raise RecipeError("`signals` names no family; give one or more, such as [quality, repetition]")
        if self.words == "language" and not self.language:
            raise RecipeError("`words: language` needs `language:`, the name of a column of language codes")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("text", self.language) if self.language else ("text",)

    @property
    def adds(self) -> tuple[str, ...]:
        return columns(self.signals)

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        language = shard[self.language] if self.language else None
        return pa.table(measure(shard["text"], self.signals, words=self.words, language=language))
