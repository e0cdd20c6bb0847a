"""How often each document is drawn in each phase, so that groups of documents meet a plan to the token.

A group is a source, or a bucket of one. Its quotas are met by whole repeats of all its documents and, for the
remainder, the documents that come first in keyed order until their tokens first reach it: exact to less than one
document for each group and phase, nested in the budget, and independent of how documents are cut into shards. Quotas
are counted on from phase to phase, so each phase goes on in a group where the one before it stopped, and no document
is seen once more before all are seen as often. What cannot be met is refused with the numbers and the nearest plan.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from curate import assets, cuts, mixture, mixture_drawn
from curate.arrow import is_label, one
from curate.draw import READS, draws, keyed_by, threshold
from curate.errors import AssetError, RecipeError, StoreError
from curate.fit import result
from curate.manifest import canonical
from curate.mixture import Available, Infeasible, Plan, Spec
from curate.stage import Evidence, Map, Stage, Verdict

TARGETS = ("weights", "counts", "epochs", "temperature", "unimax", "utility", "fit")
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_HOLDOUT = 0x5EED  # the held-out draw must not be the draw that orders the training documents
NO_BUCKET = "none"
"""The bucket of documents that have no value."""

LONGEST_NAME = 60
"""Characters of a phase's name, which is that of a folder."""

_SAMPLED = 1e6
_WHOLE = pa.schema(
    [
        ("group", pa.string()),
        ("phase", pa.int32()),
        ("quota", pa.int64()),
        ("tokens", pa.int64()),
        ("documents", pa.int64()),
        ("repeats", pa.int64()),
        ("cut", pa.uint64()),
        ("drawn_tokens", pa.int64()),
        ("drawn_documents", pa.int64()),
    ]
)
"""One row for each group and phase: `quota`, `repeats`, `cut` and what is drawn are counted from the first phase on."""


@dataclass(frozen=True)
class Worth:
    """What a token of a group is worth when it is fresh, and the epochs after which a repeat of it is worth half.

    Without `half_life` repeats decay as in C4: to half in 10.7 epochs (arXiv 2305.16264).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
    worth: float
    half_life: float | None = None


@dataclass(frozen=True)
class Phase:
    """A stretch of training with targets of its own, by source or SOURCE/BUCKET.

    `share` of the budget, or `tokens`; the one phase with neither takes what the others leave. One target at most:
    `weights`, relative shares; `counts` of tokens; `epochs` of what a group has; `temperature` T, shares in proportion
    to tokens^(1/T); `unimax`, equal shares with at most so many epochs (arXiv 2304.09151); `utility`, what a token of
    each group is worth, alone or with its half-life, or the result of a fit that says it; `fit`, the result of a fit
    that gives shares. What `counts` and `epochs` leave goes to `rest`. Without a target shares are natural.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
    name: str
    share: float | None = None
    tokens: int | str | None = None
    weights: dict[str, float] | None = None
    counts: dict[str, int | str] | None = None
    epochs: dict[str, float] | None = None
    temperature: float | None = None
    unimax: float | None = None
    utility: dict[str, float | Worth] | str | None = None
    fit: str | None = None
    rest: str | None = None

    def __post_init__(self) -> None:
        plain = self.name.isascii() and all(c.isalnum() or c in "._-" for c in self.name) and self.name[:1] != "."
        if not plain or not 0 < len(self.name) <= LONGEST_NAME:
            raise RecipeError(
                f"a phase is called {self.name!r}; its name is that of a folder: letters, digits and ._-, "
                f"{LONGEST_NAME} at most, no point in front"
            )
        given = [name for name in TARGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise RecipeError(f"phase '{self.name}' has {' and '.join(given)}; a phase has one target")
        for name, file in self.files.items():
            _named(file, f"`{name}` of phase '{self.name}'")
        self.planned(_no_result)

    def sampled(self, share: float) -> "Phase":
        """Tokens in proportion. Counts that are the whole phase become weights: rounded, they would miss its size."""
        tokens, counts = _less(self.tokens, share) if self.tokens else None, self.counts
        if counts and self.rest is None:
            whole = {group: float(count) for group, count in self._counts(counts).items()}
            size = sum(map(int, whole.values())) if self.tokens is None and self.share is None else self.tokens
            return replace(self, tokens=_less(size, share) if size else None, counts=None, weights=whole)
        less: dict[str, int | str] = {
            group: _less(count, share) if count else 0 for group, count in self._counts(counts or {}).items()
        }
        return replace(self, tokens=tokens, counts=less or counts)

    @property
    def files(self) -> dict[str, str]:
        """Parameters that name the result of a fit."""
        return {name: value for name in ("fit", "utility") if isinstance(value := getattr(self, name), str)}

    def located(self, place: Callable[[str], str]) -> "Phase":
        """The phase with results of fits where `place` says."""
        utility = place(self.utility) if isinstance(self.utility, str) else self.utility
        return replace(self, fit=place(self.fit) if self.fit else None, utility=utility)

    def planned(self, read: Callable[[str, str], result.Result]) -> mixture.Phase:
        """The phase as plans have it, with results of fits as `read` gives them for a file and a parameter."""
        given: dict[str, Any] = {name: getattr(self, name) for name in ("weights", "epochs", "temperature", "unimax")}
        if isinstance(self.utility, dict):
            worths = {name: one if isinstance(one, Worth) else Worth(one) for name, one in self.utility.items()}
            lives = {name: one.half_life for name, one in worths.items() if one.half_life is not None}
            given |= {"utility": {name: one.worth for name, one in worths.items()}, "half_lives": lives or None}
        for name, file in self.files.items():
            found = read(file, name)
            given["weights" if name == "fit" else name] = found.weights or None
            given |= {"half_lives": found.half_lives or None} if name == "utility" else {}
        if self.counts is not None:
            given["counts"] = self._counts(self.counts)
        tokens = token_count(self.tokens, what=f"`tokens` of phase '{self.name}'")
        return mixture.Phase(self.name, share=self.share, tokens=tokens, rest=self.rest, **given)

    def _counts(self, counts: Mapping[str, int | str]) -> dict[str, int]:
        """Counts as numbers; 0 keeps what it names out."""
        made = {}
        for group, count in counts.items():
            what = f"`counts` of '{group}' in phase '{self.name}'"
            made[group] = 0 if str(count).strip() == "0" else token_count(count, what=what) or 0
        return made


@dataclass(frozen=True)
class Mix(Stage):
    """Adds `copies` (int32, how often the document is drawn) and `validation` (held out, then drawn once); with
    `phases` also `phase_copies`, a list of the copies in each phase.

    `weights`: source to relative share of tokens. Or `temperature` T: shares in proportion to tokens^(1/T); 1 is
    natural, larger flattens. Or `fit`: the result of a fit that gives shares. `tokens`: the budget, like `20B`;
    without it the largest that repeats no source, or no more than `max_epochs` says by name. `phases`: targets for
    stretches of training, in place of these three. `bucket`: a column that cuts each source into groups SOURCE/BUCKET,
    which targets and caps may name. `max_epochs`: most repeats over the whole run, of any group, or by source or group;
    4 is about where repeated data stops being as good as new (Muennighoff et al. 2023, arXiv 2305.16264), and above 16
    `beyond_sixteen` must be said. `at_cap`: what cannot be met is refused, or clipped: the tokens go to the other
    groups. `validation`: share of documents held out, drawn by the hash of `cluster`, a column that is equal for
    documents that must not be parted; where it is null a document stands alone. `seed`: another draw of what is held
    out and of which documents fill a group's remainder.
    """

    kind: ClassVar[str] = "mix"
    elsewhere: ClassVar[dict[str, str]] = {
        name: f"`{name}` belongs to a phase, and one phase is the whole run: `phases: [{{name: all, {name}: ...}}]`"
        for name in ("counts", "epochs", "unimax", "utility", "rest", "share")
    }
    asset_fields: ClassVar[tuple[str, ...]] = ("fit",)
    weights: dict[str, float] | None = None
    temperature: float | None = None
    fit: str | None = None
    tokens: int | str | None = None
    phases: tuple[Phase, ...] = ()
    bucket: str | None = None
    max_epochs: float | dict[str, float] = 4.0
    beyond_sixteen: bool = False
    at_cap: Literal["refuse", "clip"] = "refuse"
    validation: float = 0.0
    cluster: str = "id"
    seed: int = 0

    def __post_init__(self) -> None:
        given = [name for name in ("weights", "temperature", "fit") if getattr(self, name) is not None]
        if len(given) > 1:
            raise RecipeError(f"give `{given[0]}` or `{given[1]}`, not both")
        if given and self.phases:
            raise RecipeError(f"with `phases` each has targets of its own; `{given[0]}` goes into them")
        if self.weights is not None and not self.weights:
            raise RecipeError("`weights` names no source")
        for source, weight in (self.weights or {}).items():
            if not (weight > 0 and math.isfinite(weight)):
                raise RecipeError(
                    f"the weight of '{source}' is {weight}; weights are above 0 (leave a source out to drop it)"
                )
        if self.fit is not None:
            _named(self.fit, "`fit`")
        if self.temperature is not None and not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise RecipeError(f"`temperature` is {self.temperature}; it is above 0 and finite")
        names = [phase.name for phase in self.phases]
        if len(set(map(str.lower, names))) < len(names):
            raise RecipeError(f"phases are called {', '.join(names)}; each has a name of its own")
        replace(self._spec(_no_result), max_epochs=self.max_epochs).check()
        if not 0 <= self.validation < 1:
            raise RecipeError(f"`validation` is {self.validation}; it is a share, 0 or more and below 1")
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"`seed` is {self.seed}; it is 0 or more and below 2^63")

    def sampled(self, share: float) -> "Mix":
        """A budget in proportion. Caps are for the whole corpus: a sample may miss them by chance, and has none."""
        phases = tuple(phase.sampled(share) for phase in self.phases)
        summed = phases and all(phase.tokens for phase in phases)  # rounded, they may miss the rounded budget
        tokens = _less(self.tokens, share) if self.tokens and not summed else None
        return replace(self, tokens=tokens, phases=phases, max_epochs=_SAMPLED, beyond_sixteen=True)

    @property
    def phase_names(self) -> tuple[str, ...]:
        """What the phases are called, in order; none where the mixture has one for all."""
        return tuple(phase.name for phase in self.phases)

    @property
    def assets(self) -> dict[str, str]:
        found = super().assets
        for phase in self.phases:
            found |= {f"{phase.name}.{name}": file for name, file in phase.files.items()}
        return found

    def located(self, place: Callable[[str], str]) -> "Mix":
        phases = tuple(one.located(place) for one in self.phases)
        return replace(self, fit=place(self.fit) if self.fit else None, phases=phases)

    def identity(self) -> dict[str, Any]:
        said = super().identity()
        for phase, told in zip(self.phases, said["parameters"]["phases"], strict=True):
            told |= dict.fromkeys(phase.files, "file")
        return said

    def bind(self, lineage: dict[str, dict[str, Any]]) -> "Mix":
        if self.assets:  # what is wrong with the result of a fit is said before any work
            try:
                self.spec()
            except RecipeError as error:
                raise RecipeError(f"mix: {error}") from error
        return self

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.applies_to, "tokens")))

    @property
    def adds(self) -> tuple[str, ...]:
        return ("copies", "validation", *(("phase_copies",) if self.phases else ()))

    @property
    def applies_to(self) -> tuple[str, ...]:
        bucket = (self.bucket,) if self.bucket else ()
        return tuple(dict.fromkeys((*READS, "source", *bucket, self.cluster)))

    def remarks(self, text: int) -> tuple[str, ...]:
        return () if self.max_epochs == _SAMPLED else mixture.cautions(self.max_epochs)

    def scan(self, shard: pa.Table) -> pa.Table:
        names, codes = self._groups(shard)
        table = pa.table(
            {
                "key": draws(shard, self.seed),
                "group": names.take(pa.array(codes)),
                "tokens": shard["tokens"],
                "row": np.arange(shard.num_rows, dtype=np.uint32),
            }
        )
        return table.filter(pa.array(~self.held_out(shard))) if self.validation else table

    def judge(self, evidence: Evidence, map: Map) -> pa.Table:
        sums = cuts.totals(evidence, map)
        have: dict[str, Available] = {}
        for group, tokens, documents in (
            sums.group_by("group").sum().sort("group").select("group", "tokens", "documents").iter_rows()
        ):
            # No bucket has a slash in its name, though a source may.
            source = group.rpartition("/")[0] if self.bucket else group
            have[group] = Available(int(tokens), int(documents), source)
        plan = self.plan(have)
        quotas: dict[str, list[int]] = {}
        for group in sorted({group for phase in plan.quotas for group in phase}):
            quotas[group] = np.cumsum([phase.get(group, 0) for phase in plan.quotas], dtype=object).tolist()
        rests = {group: [quota % have[group].tokens for quota in some] for group, some in quotas.items()}
        wanted = {group: [rest for rest in some if rest] for group, some in rests.items() if any(some)}
        found = cuts.cuts(evidence, map, sums=sums, wanted=wanted)
        rows = []
        for group, some in quotas.items():
            tokens, documents = have[group].tokens, have[group].documents
            for phase, (quota, rest) in enumerate(zip(some, rests[group], strict=True)):
                cut, repeats = found.get((group, rest)), quota // tokens
                drawn = [repeats * tokens, repeats * documents]
                if cut is not None:
                    drawn = [drawn[0] + cut.tokens, drawn[1] + cut.documents]
                rows.append((group, phase, quota, tokens, documents, repeats, cut and cut.draw, *drawn))
        columns = [list(column) for column in zip(*rows, strict=True)]
        whole = pa.table(columns, _WHOLE)
        told = replace(plan, warnings=(*plan.warnings, *mixture_drawn.overshot(plan, whole))).told()
        return whole.replace_schema_metadata({"mixture": canonical(told)})

    def apply(self, shard: pa.Table, verdict: Verdict) -> pa.Table:
        assert verdict.whole is not None
        plan = _Copies.read(verdict.whole)
        names, codes = self._groups(shard)
        cumulative = plan.of(names.to_pylist(), codes, draws(shard, self.seed))
        validation = self.held_out(shard)
        cumulative[validation] = 0
        copies = np.where(validation, 1, cumulative[:, -1]).astype(np.int32)
        made = {"copies": pa.array(copies), "validation": pa.array(validation)}
        if self.phases:
            each = np.diff(cumulative, axis=1, prepend=0).astype(np.int32)
            made["phase_copies"] = pa.FixedSizeListArray.from_arrays(pa.array(each.reshape(-1)), each.shape[1])
        return pa.table(made)

    def finish(
        self, counts: list[dict[str, dict[str, int]]], files: list[dict[str, Any]], verdict: Verdict
    ) -> dict[str, bytes]:
        assert verdict.whole is not None
        plan = json.loads(verdict.whole.schema.metadata[b"mixture"])
        return {"mixture.json": canonical({**plan, "drawn": list(mixture_drawn.drawn(verdict.whole, plan))}, indent=1)}

    def plan(self, available: Mapping[str, Available]) -> Plan:
        """The plan for groups that hold so much. RecipeError where there is none."""
        available = {group: one for group, one in available.items() if one.tokens}
        if not available:
            raise RecipeError("mix: no documents are left to draw from; look at the rules before it")
        try:
            return mixture.plan(available, self.spec())
        except Infeasible as error:
            raise Infeasible(f"mix: {error}", error.certificate) from error
        except RecipeError as error:
            raise RecipeError(f"mix: {error}") from error

    def spec(self) -> Spec:
        """What is asked of the plan. Reads the results of fits."""
        return self._spec(_fitted)

    def _spec(self, read: Callable[[str, str], result.Result]) -> Spec:
        """What is asked of the plan, with results of fits as `read` gives them for a file and a parameter."""
        phases = tuple(phase.planned(read) for phase in self.phases)
        if not phases:
            weights = read(self.fit, "fit").weights or None if self.fit else self.weights
            phases = (mixture.Phase(weights=weights, temperature=self.temperature),)
        sized = self.tokens is not None or any(phase.tokens or phase.counts for phase in phases)
        most = self.max_epochs
        if not sized and not isinstance(most, Mapping):
            most = min(most, 1.0)
        return Spec(
            tokens=token_count(self.tokens),
            phases=phases,
            max_epochs=most,
            at_cap=self.at_cap,
            beyond_sixteen=self.beyond_sixteen,
        )

    def held_out(self, shard: pa.Table) -> np.ndarray:
        """Which rows are for validation: bool[n], equal for equal values of the cluster column."""
        if not self.validation:
            return np.zeros(shard.num_rows, bool)
        keys = keyed_by(shard.select([self.cluster]), self.seed ^ _HOLDOUT)
        if shard[self.cluster].null_count:  # documents of no cluster are not one cluster: each stands alone
            alone = shard[self.cluster].is_null().to_numpy()
            keys[alone] = keyed_by(shard.select(["id"]), self.seed ^ _HOLDOUT)[alone]
        return keys < threshold(self.validation)

    def _groups(self, shard: pa.Table) -> tuple[pa.Array, np.ndarray]:
        """Names of the groups of a shard, and for each row the place of its own: int64[n]."""
        sources = one(shard["source"].cast(pa.string())).dictionary_encode()
        codes = sources.indices.to_numpy().astype(np.int64)
        if self.bucket is None:
            return sources.dictionary, codes
        column = one(shard[self.bucket])
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not is_label(kind):
            raise RecipeError(f"mix: `bucket: {self.bucket}` is a column of {kind}; words or whole numbers are wanted")
        buckets = column.cast(pa.string()).fill_null(NO_BUCKET).dictionary_encode()
        found, places = np.unique(codes * len(buckets.dictionary) + buckets.indices.to_numpy(), return_inverse=True)
        before, behind = sources.dictionary.to_pylist(), buckets.dictionary.to_pylist()
        for name in behind:
            if "/" in name:
                raise RecipeError(f"mix: `bucket: {self.bucket}` holds {name!r}; no name of a bucket has a slash")
        names = [f"{before[code // len(behind)]}/{behind[code % len(behind)]}" for code in found.tolist()]
        return pa.array(names, pa.string()), places.astype(np.int64)


class _Copies(NamedTuple):
    """Cumulative copies by group and phase: whole repeats, and one more up to a draw where there is a cut."""

    places: dict[str, int]
    repeats: np.ndarray
    cut: np.ndarray
    draw: np.ndarray

    @staticmethod
    def read(whole: pa.Table) -> "_Copies":
        phases = 1 + max(whole["phase"].to_pylist())
        groups = whole["group"].to_pylist()[::phases]
        # A row of zeros behind the others is for groups that are not drawn.
        repeats, draw = np.zeros((len(groups) + 1, phases), np.int64), np.zeros((len(groups) + 1, phases), np.uint64)
        cut = np.zeros((len(groups) + 1, phases), bool)
        repeats[:-1] = whole["repeats"].to_numpy().reshape(-1, phases)
        cut[:-1] = whole["cut"].is_valid().to_numpy().reshape(-1, phases)
        draw[:-1] = whole["cut"].combine_chunks().fill_null(0).to_numpy().reshape(-1, phases)
        return _Copies({group: place for place, group in enumerate(groups)}, repeats, cut, draw)

    def of(self, names: list[str], codes: np.ndarray, draw: np.ndarray) -> np.ndarray:
        """int64[n, phases] for rows whose groups are names[codes[n]]."""
        place = np.array([self.places.get(name, len(self.places)) for name in names], np.int64)[codes]
        copies: np.ndarray = self.repeats[place] + (self.cut[place] & (draw[:, None] <= self.draw[place]))
        return copies


def _less(count: int | str, share: float) -> int:
    return max(1, round((token_count(count) or 0) * share))


def mixture_schema() -> dict[str, Any]:
    """The JSON Schema of `mixture.json`: the plan, and what the documents make of it."""
    made = mixture.plan_schema()
    whole = {"type": "integer", "minimum": 0}
    by_group = {
        name: {"type": "object", "additionalProperties": kind}
        for name, kind in (
            ("tokens_by_group", whole),
            ("documents_by_group", whole),
            ("epochs_by_group", {"type": "number", "minimum": 0}),
            ("effective_by_group", {"type": "number", "minimum": 0}),
        )
    }
    phase = {"name": {"type": "string"}, "tokens": whole, **by_group}
    closed = {"type": "object", "properties": phase, "required": list(phase), "additionalProperties": False}
    made["properties"]["drawn"] = {"type": "array", "items": closed}
    made["required"] = [*made["required"], "drawn"]
    return made


def _no_result(file: str, parameter: str) -> result.Result:
    return result.Result("", {})


def _fitted(file: str, parameter: str) -> result.Result:
    """The result of a fit that `fit` (shares) or `utility` (worths) names."""
    found = assets.find(file)
    if isinstance(found, assets.Folder):
        raise AssetError(f"`{parameter}: {file}` is a folder; the file that a `curate fit` wrote is wanted")
    try:
        return result.shares(found.uri) if parameter == "fit" else result.worths(found.uri)
    except StoreError as error:
        raise AssetError(f"`{parameter}: {file}`: {error}") from error


def _named(file: str, what: str) -> None:
    """RecipeError unless there is a name of a file."""
    if not file.strip():
        raise RecipeError(f"{what} is {file!r}; it is the file that a `curate fit` wrote")


def token_count(value: int | str | None, *, what: str = "`tokens`") -> int | None:
    """`20B` and the like as a number of tokens. `what` it is, for the RecipeError where it is none."""
    if value is None:
        return None
    text = str(value).strip().upper()
    factor = _UNITS.get(text[-1:], 1)
    try:
        count = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        count = math.nan
    if not (count >= 1 and math.isfinite(count)):
        raise RecipeError(f"{what} is {value!r}; a budget is a number of tokens such as 500000, 2.5M or 20B")
    return round(count)
