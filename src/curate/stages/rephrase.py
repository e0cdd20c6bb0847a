"""Text made from text by a language model: WRAP, Nemotron-CC's tasks, or styles of your own.

`scan` cuts documents into passages, `judge` asks the server for what the store of answers has not got, in one process,
and `apply` makes rows of what passes the checks. An answer is kept for good, so no request is paid for twice, by
whatever run or recipe, and a stage that runs again over the same answers gives the same bytes.

The catch: a model is asked once, and what it said is data. Without the store of answers another run gives other rows.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from curate import asking, embedding, expressions, rephrasing, store
from curate.arrow import one, utf8
from curate.asking import UNLIMITED, Limits, token_limit
from curate.assets import Asset, find
from curate.draw import READS, draws
from curate.errors import AssetError, RecipeError
from curate.execute import serial
from curate.identify import model
from curate.rephrasing import ANSWERED, MOST_CANDIDATES, Score
from curate.stage import COUNTS, Documents, Evidence, Gathers, Map, Stage, Verdict
from curate.styles import Style, messages, most
from curate.transformer import Use

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from curate.generate.request import Request
    from curate.generate.service import Service

ANSWERS = "answers.sqlite"
FILES = "files:"
_STYLE = 0x57F1E  # the draw of styles must not be the draw that orders documents


@dataclass(frozen=True)
class Rephrase(Stage):
    """Gives new documents, with `parent` (the `id` of the one that each was made of), `style`, `style_version`,
    `generator` (model and revision), the bytes that it covers (`start`, `end`, `passages`), and what was measured:
    `length_ratio`, `novel_share`, `similarity`, `candidate`, `scores`.

    `styles`: a style or several, by name or by the path of a file; or condition to styles, of which the first that
    holds counts, as routes by quality; a document for which none holds is left out. `each`: with several styles a
    document goes through all of them, or with `one` through one that is drawn. `model`: the name that the server knows;
    `revision`: what else tells its weights apart. `tokenizer`: the model's, a tokenizer.json, for sizes of passages.
    `server`: `env:NAME`, a variable that holds its URL, and NAME_KEY the key if it wants one; a URL; or `files:FOLDER`,
    where requests are written for a batch service (`curate rephrase import` reads its results).

    `candidates`: answers for each passage, of which `best` is taken: by `mtld`, `tokens`, `similarity`, or the share
    that `classifier`, a fastText model of two labels, gives to `label` (quality, toxicity); the `highest` or the
    `lowest` (active inheritance, arXiv 2407.01490). `language_model`: an output in another language than its
    passage is rejected; null leaves languages unasked. `embedding`: a model as in `embed` for `similarity`, the cosine
    of output and passage, rejected below the least one; `novel`: the most share of numbers and names that the passage
    has not. `answers`: where answers are kept, `answers.sqlite` in the run's folder if it is not said. `limits`: what
    the server is asked at once, and what may be spent. `seed`: of the generator's draws.
    """

    kind: ClassVar[str] = "rephrase"
    gathers: ClassVar[Gathers] = "rows"
    asset_fields: ClassVar[tuple[str, ...]] = ("tokenizer", "language_model", "embedding", "classifier")
    styles: str | tuple[str, ...] | dict[str, str | tuple[str, ...]]
    model: str
    tokenizer: str
    server: str = "env:CURATE_LLM"
    revision: str = ""
    each: Literal["all", "one"] = "all"
    candidates: int = 1
    best: Score = "mtld"
    direction: Literal["highest", "lowest"] = "highest"
    language_model: str | None = "lid.176"
    embedding: str | None = None
    similarity: float | None = None
    novel: float | None = None
    classifier: str | None = None
    label: str | None = None
    answers: str | None = None
    limits: Limits = UNLIMITED
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.routes:
            raise RecipeError("`styles` names none")
        for condition, names in self.routes.items():
            if condition:
                expressions.parse(condition)
            if not names:
                raise RecipeError(f"no style for {condition!r}" if condition else "`styles` names none")
            for name in names:
                if not styles_file(name):  # a file is read when it is known where the recipe is
                    style(name)
        if not 1 <= self.candidates <= MOST_CANDIDATES:
            raise RecipeError(f"`candidates` is {self.candidates}; 1 to {MOST_CANDIDATES} are wanted")
        if not self.model:
            raise RecipeError("`model` is the name by which the server knows the model; it is empty")
        needs = [name for name in ("similarity",) if getattr(self, name) is not None] + (
            ["best: similarity"] if self.best == "similarity" else []
        )
        if needs and self.embedding is None:
            raise RecipeError(f"`{needs[0]}` needs `embedding`, a model that gives texts vectors")
        if (self.best == "label") != (self.classifier is not None) or (self.classifier is None) != (self.label is None):
            raise RecipeError("`best: label`, `classifier` and `label` go together")
        for name, low in (("similarity", -1.0), ("novel", 0.0)):
            value = getattr(self, name)
            if value is not None and not low <= value <= 1:
                raise RecipeError(f"`{name}` is {value}; it is from {low:g} to 1")
        if not 0 <= self.seed < 2**25:  # times candidates, it is sent, and some servers take 32 bits
            raise RecipeError(f"`seed` is {self.seed}; it is 0 or more and below {2**25:,}")
        if asking.is_secret(self.server):
            raise RecipeError(
                "`server` has a user, a password or a query, which do not belong in a recipe: put the URL in a "
                "variable and say its name, as in env:CURATE_LLM"
            )
        if not self.server.startswith(("env:", FILES, "http://", "https://")) or self.server == FILES:
            raise RecipeError(
                f"`server` is {self.server!r}; env:NAME, a URL of http or https, or {FILES}FOLDER is wanted"
            )

    @property
    def routes(self) -> dict[str, tuple[str, ...]]:
        """Condition to names of styles; an empty condition always holds."""
        told = self.styles if isinstance(self.styles, Mapping) else {"": self.styles}
        return {condition: (names,) if isinstance(names, str) else tuple(names) for condition, names in told.items()}

    @cached_property
    def asked(self) -> tuple[Style, ...]:
        """All styles in the order in which they are named; a file is read once, and taken along to workers."""
        names = dict.fromkeys(name for names in self.routes.values() for name in names)
        found = tuple(style(name) for name in names)
        titles = [one.name for one in found]
        if len(set(titles)) < len(titles):
            raise RecipeError(f"`styles` has two of one name: {', '.join(titles)}")
        return found

    @cached_property
    def places(self) -> dict[str, tuple[int, ...]]:
        """Condition to places in `asked`."""
        names = list(dict.fromkeys(name for names in self.routes.values() for name in names))
        return {condition: tuple(map(names.index, some)) for condition, some in self.routes.items()}

    def located(self, place: Callable[[str], str]) -> "Rephrase":
        made = super().located(place)
        assert isinstance(made, Rephrase)

        def there(names: str | tuple[str, ...]) -> tuple[str, ...]:
            some = (names,) if isinstance(names, str) else names
            return tuple(place(name) if styles_file(name) else name for name in some)

        told = self.styles
        moved: Any = {c: there(n) for c, n in told.items()} if isinstance(told, Mapping) else there(told)
        server = self.server
        if server.startswith(FILES):
            server = FILES + place(server.removeprefix(FILES))
        return replace(made, styles=moved, server=server, answers=place(self.answers) if self.answers else None)

    def identity(self) -> dict[str, Any]:
        # Who answers, how many at once, for how much, and where answers are kept is no part of what rows are.
        said = super().identity()
        for name in ("server", "answers", "limits", "styles"):
            del said["parameters"][name]
        said["parameters"]["styles"] = [one.identity() for one in self.asked]
        said["parameters"]["routes"] = [[condition, list(some)] for condition, some in self.places.items()]
        return said

    def bind(self, lineage: dict[str, dict[str, Any]]) -> "Rephrase":
        tokens = tokenizer(find(self.tokenizer))
        for asked in self.asked:
            most(asked, partial(_count, tokens))
        if self.classifier is not None:
            labels = model(find(self.classifier))[0]
            if len(labels) != 2 or self.label not in labels:
                raise RecipeError(
                    f"`label` is one of the two labels of the classifier, found {self.label!r}; {self.classifier} has "
                    f"{len(labels)}: {', '.join(labels[:5])}"
                )
        if self.embedding is not None:
            embedding.check(find(self.embedding), Use())
        return self

    def prepared(self, out: str) -> None:
        place = self.answers or store.join(out, ANSWERS)
        if store.is_local(place) and not store.exists(store.parent(store.absolute(place))):
            raise RecipeError(f"'rephrase': `answers` is {place}, and there is no folder {store.parent(place)}")
        # Where answers are already there, all may be, and no server is needed.
        if not self.server.startswith(FILES) and not store.exists(place):
            self.service(place)

    @property
    def reads(self) -> tuple[str, ...]:
        conditions = [name for one in self.routes if one for name in expressions.columns(one)]
        return tuple(dict.fromkeys(("text", *READS, *conditions)))

    @property
    def applies_to(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("text", "source", "url", *READS)))

    @property
    def adds(self) -> tuple[str, ...]:
        return tuple(rephrasing.ADDED.names)

    @property
    def heft(self) -> int:
        return 40  # some 300 tokens of text

    def scan(self, shard: pa.Table) -> pa.Table:
        from curate.passages import passages

        tokens = tokenizer(find(self.tokenizer))
        true = {c: expressions.evaluate(c, shard)[0] for c in self.places if c}
        routed = rephrasing.routed(self.places, {"": np.ones(shard.num_rows, bool), **true}, shard.num_rows)
        if self.each == "one":
            drawn = draws(shard, self.seed ^ _STYLE)
            many = np.array([max(1, len(some)) for some in routed], np.int64)
            picked = rephrasing.drawn_style(drawn, many)
            routed = [some[at : at + 1] for some, at in zip(routed, picked.tolist(), strict=True)]
        text, tables, dropped = one(shard["text"]), [], dict[str, int]()
        for place, asked in enumerate(self.asked):
            mine = np.array([row for row, some in enumerate(routed) if place in some], np.int64)
            cut = asked.passages
            found = passages(
                text.take(pa.array(mine)),
                most=most(asked, partial(_count, tokens)),
                least=cut.least,
                split=cut.split,
                tokens=tokens,
                document=cut.document,
            )
            for reason, number in found.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + number
            rows = found.table["row"].to_numpy()
            first = np.searchsorted(rows, rows)
            numbers = pa.array((np.arange(len(rows)) - first).astype(np.int32))
            columns = {
                "row": pa.array(mine[rows].astype(np.uint32)),
                "style": pa.array(np.full(len(rows), place, np.int16)),
                "passage": numbers,
                **{name: found.table[name] for name in ("start", "end", "tokens")},
            }
            tables.append(pa.table(columns, rephrasing.SENT))
        sent = rephrasing.spliced(tables)
        keys = draws(shard, self.seed)[sent["row"].to_numpy()]
        offsets, data = utf8(shard["text"])
        spans = zip(*(sent[name].to_numpy() for name in ("row", "start", "end")), strict=True)
        texts = [bytes(data[offsets[row] + start : offsets[row] + end]).decode() for row, start, end in spans]
        said = sent.append_column("key", pa.array(keys)).append_column("text", pa.array(texts, pa.large_string()))
        return said.replace_schema_metadata({COUNTS: json.dumps({"left_out": dropped})})

    def judge(self, evidence: Evidence, map: Map) -> None:
        from curate.generate.answers import Answers

        place = self.answers or store.join(evidence.run, ANSWERS)
        with Answers.open(place) as answers:
            if self.server.startswith(FILES):
                asking.write(self.requests(evidence), answers, self.server.removeprefix(FILES), self.limits)
            else:
                self._ask(evidence, answers, place)
        # Answers are a file on this machine, so lines are made here and not by workers that may be elsewhere.
        evidence.decide(partial(_answered, stage=self, place=place), serial)

    def _ask(self, evidence: Evidence, answers: Any, place: str) -> None:
        """Ask the server. Where nothing is open, none need be there."""
        from curate.generate.client import fetch

        try:
            service = self.service(place)
        except RecipeError:
            if next(asking.missing(self.requests(evidence), answers), None) is None:
                return
            raise
        told = asking.Told(evidence.tell)
        told.end(fetch(self.requests(evidence), answers, service, report=told))

    def requests(self, evidence: Evidence) -> "Iterator[Request]":
        """All requests, in the order of evidence."""
        for part in range(evidence.parts):
            for table in evidence.tables(part):
                yield from self.requests_of(table)

    def requests_of(self, sent: pa.Table) -> "Iterator[Request]":
        """The requests of passages (SENT with `text`), candidate by candidate."""
        from curate.generate.request import Sampling, request

        tokens = tokenizer(find(self.tokenizer))
        prompts = [sum(_count(tokens, one["content"]) for one in messages(asked, "")) + 16 for asked in self.asked]
        columns = (sent[name].to_pylist() for name in ("style", "tokens", "text"))
        for place, size, text in zip(*columns, strict=True):
            asked = self.asked[place]
            for candidate in range(self.candidates):
                drawn = asked.sampling
                yield request(
                    messages(asked, text),
                    model=self.model,
                    revision=self.revision,
                    sampling=Sampling(
                        temperature=drawn.temperature,
                        top_p=drawn.top_p,
                        max_tokens=drawn.max_tokens,
                        top_k=drawn.top_k or None,
                        seed=self.seed * MOST_CANDIDATES + candidate,
                    ),
                    style=asked.name,
                    prompt_version=asked.version,
                    prompt_tokens=prompts[place] + size + size // 8,
                )

    def service(self, place: str) -> "Service":
        """The server as it is asked, with what may be spent."""
        from curate.generate.budget import Budget
        from curate.generate.service import service

        limits, budget = self.limits, None
        if limits.tokens is not None or limits.money is not None or limits.input_price or limits.output_price:
            budget = Budget(
                self.model,
                tokens=token_limit(limits.tokens),
                money=limits.money,
                input_price=limits.input_price,
                output_price=limits.output_price,
            )
        return service(
            self.server,
            model=self.model,
            most=limits.concurrency,
            timeout=limits.timeout,
            tries=limits.tries,
            budget=budget,
        )

    def make(self, shard: pa.Table, verdict: Verdict) -> Documents:
        lines = verdict.lines
        answered = ANSWERED.empty_table() if lines is None else lines.select(ANSWERED.names).cast(ANSWERED)
        vectors = None
        if self.embedding is not None:
            vectors = partial(embedding.load(find(self.embedding), Use()).vectors, long="head", batch=2048)
        scorer = None
        if self.classifier is not None and self.label is not None:
            scorer = partial(rephrasing.labelled, model=model(find(self.classifier)), label=self.label)
        wanted = rephrasing.Wanted(
            self.similarity, self.novel, self.best, self.direction, self.language_model, self.seed, scorer
        )
        return rephrasing.rows(
            shard,
            answered,
            self.asked,
            wanted=wanted,
            generator=self.model + (f"@{self.revision}" if self.revision else ""),
            count=partial(_count, tokenizer(find(self.tokenizer))),
            vectors=vectors,
        )


def _answered(part: int, seen: pa.Table, stage: Rephrase, place: str) -> pa.Table:
    """The passages of a part with their answers, a row for each candidate."""
    from curate.generate.answers import Answers

    keys = [one.key for one in stage.requests_of(seen)]
    with Answers.open(place) as answers:
        told = answers.read(keys)
    if told["text"].null_count:
        raise RecipeError(f"{place} lacks {told['text'].null_count:,} answers that it had; was it exchanged? Run again")
    each = pa.array(np.repeat(np.arange(seen.num_rows), stage.candidates))
    lines = seen.drop_columns(["key", "text"]).take(each)
    numbers = np.tile(np.arange(stage.candidates, dtype=np.int16), seen.num_rows)
    for name, column in (
        ("candidate", pa.array(numbers)),
        ("text", told["text"]),
        ("finish_reason", told["finish_reason"]),
        ("answer_tokens", told["completion_tokens"]),
        ("error", told["error"]),
    ):
        lines = lines.append_column(name, column)
    return lines


def style(name: str) -> Style:
    """The style of that name or in that file."""
    from curate import styles

    return styles.style(name)


def styles_file(name: str) -> bool:
    """True for the place of a style's file."""
    from curate import styles

    return styles.is_file(name)


@cache
def tokenizer(asset: Asset) -> "Tokenizer":
    """The generator's tokenizer, neither truncating nor padding."""
    from tokenizers import Tokenizer

    from curate.passages import whole

    try:
        return whole(Tokenizer.from_str(asset.read().decode()))
    except Exception as error:  # the library has no type of its own for what it cannot read
        raise AssetError(f"{asset.uri} is no tokenizer.json: {error}") from error


def _count(tokens: "Tokenizer", text: str) -> int:
    return len(tokens.encode(text, add_special_tokens=False))
