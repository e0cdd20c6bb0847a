"""Mixtures scored without training them: averages of models of single parts, and a search for the best set of parts.

Na et al. 2024 (arXiv 2410.15661): one model for each part, all from one seed model and trained alike; a mixture is the
average of its parts' models, and what that loses on an evaluation set ranks mixtures as training on them would. A
command of yours measures a model; what it said is kept in a file, so a search that was stopped goes on. Also what a
source is worth by runs without it (Blakeney et al. 2024, arXiv 2406.03476). The catch: an average can be measured for
any set, also where it means little; train the best few before you believe them.
"""

import itertools
import json
import math
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curate import store
from curate.errors import CurateError, RecipeError, nearest
from curate.fit.averaging import average

Units = tuple[str, ...]
Losses = dict[str, float]

EXHAUSTIVE = 1 << 12
"""So many sets are all tried; of more, a search from several starts tries some."""
MEAN = "mean"
_SAID = 500  # characters of what a command said that a message repeats
# Student's t for a chance of 0.05 on both sides, by degrees of freedom from 1; 1.96 + 2.7 / n is above it beyond.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class CommandError(CurateError):
    """The command that measures models failed, or said no losses."""


@dataclass
class Scorer:
    """Losses of averages of `models` (file by name of a part), as `command` measures them.

    `command` gets the path of a model where it says `{}`, or else at its end, and prints a JSON object of losses as its
    last line. `memory` is a JSON-lines file of what was measured before; another command, or models that changed since,
    do not go on with it. Averages lie in `scratch` while they are measured.
    """

    models: Mapping[str, str]
    command: str
    scratch: str
    memory: str | None = None
    measured: int = 0
    _known: dict[str, Losses] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise RecipeError(f"{len(self.models)} models: two or more are to be averaged")
        if not self.command.strip():
            raise RecipeError("the command that measures a model is empty")
        if self.memory and store.exists(self.memory):
            try:
                made_by, *lines = map(json.loads, store.read(self.memory).decode().splitlines())
                self._known = {_name(tuple(said["units"])): said["losses"] for said in lines}
            except (ValueError, KeyError, TypeError) as error:
                raise RecipeError(f"{self.memory} holds no scores ({error!r}); name another file") from error
            if made_by != self._made_by():
                raise RecipeError(
                    f"{self.memory} is of another command or other models; name another file, or remove it"
                )

    def losses(self, units: Sequence[str]) -> Losses:
        """What the average of these parts loses. A part that is named twice counts twice.

        RecipeError for unknown parts, CommandError if the command fails, AssetError for models that do not fit.
        """
        asked = tuple(sorted(units))
        if not asked:
            raise RecipeError("a mixture of no parts: one or more are wanted")
        for unit in asked:
            if unit not in self.models:
                raise RecipeError(f"there is no model of '{unit}'{nearest(unit, list(self.models))}")
        if _name(asked) not in self._known:
            found = self._measure(asked)
            if self._known and set(found) != set(next(iter(self._known.values()))):
                raise CommandError(f"the command gave losses {', '.join(found)} after others before: {self.command}")
            self._known[_name(asked)] = found
            self.measured += 1
            self._keep()
        return self._known[_name(asked)]

    def _measure(self, units: Units) -> Losses:
        distinct = tuple(dict.fromkeys(units))
        if len(distinct) == 1:
            return measure(self.command, self.models[distinct[0]])
        made = store.join(self.scratch, "average.safetensors")
        files = [self.models[unit] for unit in distinct]
        average(files, made, weights=[units.count(unit) for unit in distinct])
        try:
            return measure(self.command, made)
        finally:
            store.remove(made)

    def _made_by(self) -> dict[str, Any]:
        stamps = {unit: [uri, store.stamp(uri)] for unit, uri in sorted(self.models.items())}
        return {"command": self.command, "models": stamps}

    def _keep(self) -> None:
        if self.memory:
            lines = [self._made_by(), *({"units": json.loads(key), "losses": of} for key, of in self._known.items())]
            store.put(self.memory, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())


def measure(command: str, uri: str) -> Losses:
    """Losses that a command prints for one model. CommandError if it fails or prints none."""
    words = shlex.split(command)
    words = [word.replace("{}", uri) for word in words] if any("{}" in word for word in words) else [*words, uri]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CommandError(f"cannot run {words[0]}: {error.strerror}") from error
    if done.returncode:
        raise CommandError(f"{shlex.join(words)} ended with code {done.returncode}: {done.stderr.strip()[-_SAID:]}")
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        said = json.loads(last)
    except ValueError:
        said = None
    numbers = said.values() if isinstance(said, dict) else ()
    if not numbers or not all(
        isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in numbers
    ):
        raise CommandError(f'{shlex.join(words)}: a last line like {{"web": 3.2}} is wanted, found {last[-_SAID:]!r}')
    return {str(name): float(one) for name, one in said.items()}


def chosen(losses: Losses, target: str) -> float:
    """The loss that is to be low: one by name, the mean of several with commas between, or `mean` of all."""
    if target == MEAN and MEAN not in losses:
        return math.fsum(losses.values()) / len(losses)
    names = [name.strip() for name in target.split(",")]
    for name in names:
        if name not in losses:
            hint = nearest(name, list(losses)) or f"; there are {', '.join(losses)}"
            raise RecipeError(f"there is no loss '{name}'{hint}")
    return math.fsum(losses[name] for name in names) / len(names)


@dataclass(frozen=True)
class Found:
    """Sets in order of their values, the best first; `exhaustive`: all allowed sets are among them."""

    sets: tuple[tuple[Units, float], ...]
    exhaustive: bool


def search(
    value: Callable[[Units], float],
    units: Sequence[str],
    *,
    least: int = 1,
    most: int | None = None,
    restarts: int = 4,
    seed: int = 0,
) -> Found:
    """The sets of `least` to `most` parts with the lowest value; ties go to fewer parts, then by name.

    All are tried where there are 4,096 or fewer. Else from the best single part, from all, and from `restarts` sets
    drawn by `seed`, each step makes the best change of one part (one more, one less, or one for another) until none
    helps: the answer is a set that no such change improves, not surely the best.
    """
    names, most = tuple(sorted(set(units))), len(set(units)) if most is None else most
    if not 1 <= least <= most <= len(names) or restarts < 0:
        raise RecipeError(f"sets of {least} to {most} of {len(names)} parts: 1 to all are there, in this order")
    known: dict[Units, float] = {}

    def of(parts: Units) -> tuple[float, int, Units]:
        if parts not in known:
            known[parts] = value(parts)
        return known[parts], len(parts), parts

    exhaustive = sum(math.comb(len(names), count) for count in range(least, most + 1)) <= EXHAUSTIVE
    if exhaustive:
        for count in range(least, most + 1):
            for parts in itertools.combinations(names, count):
                of(parts)
    else:
        random = np.random.default_rng(seed)
        ranked = [parts for _, _, parts in sorted(of((name,)) for name in names)] if least == 1 else []
        starts = [ranked[0]] if ranked else [names[:least]]
        starts.append(names if most == len(names) else tuple(sorted(random.permutation(names)[:most].tolist())))
        for _ in range(restarts):
            count = int(random.integers(least, most + 1))
            starts.append(tuple(sorted(random.permutation(names)[:count].tolist())))
        for start in starts:
            best = of(start)
            while (step := min(map(of, _changes(best[2], names, least, most)))) < best:
                best = step
    ordered = sorted(known.items(), key=lambda item: (item[1], len(item[0]), item[0]))
    return Found(tuple(ordered), exhaustive)


def _changes(parts: Units, names: Units, least: int, most: int) -> list[Units]:
    others = [name for name in names if name not in parts]
    made = [tuple(sorted((*parts, name))) for name in others] if len(parts) < most else []
    for name in parts:
        rest = tuple(one for one in parts if one != name)
        made += [rest] if len(parts) > least else []
        made += [tuple(sorted((*rest, other))) for other in others]
    return made or [parts]


def shares(units: Sequence[str]) -> dict[str, float]:
    """Shares of sources by parts `SOURCE/NUMBER`; a name without a number is a source itself."""
    sources = [unit.rpartition("/")[0] if unit.rpartition("/")[2].isdecimal() else unit for unit in units]
    return {name: sources.count(name) / len(sources) for name in sorted(set(sources))}


# --- what a source is worth, by runs without it -----------------------------------------------------------------------


def left_out(weights: Mapping[str, float], *, filler: str | None = None) -> dict[str, dict[str, float]]:
    """For each source of some weight the mixture without it: the others divided by their sum, or with its weight given
    to the `filler`, for which there is then none. RecipeError for a source that is all of the mixture."""
    total = math.fsum(weights.values())
    kept = {name: weight / total for name, weight in weights.items() if weight > 0}
    if len(kept) < 2:
        raise RecipeError(f"'{next(iter(kept), '')}' is all of the mixture; without it nothing is left")
    if filler is not None and filler not in kept:
        raise RecipeError(f"the mixture has no '{filler}' to fill with{nearest(filler, list(kept))}")
    made = {}
    for name, weight in kept.items():
        others = {other: share for other, share in kept.items() if other != name}
        if filler is None:
            rest = math.fsum(others.values())
            made[name] = {other: share / rest for other, share in others.items()}
        elif name != filler:
            made[name] = others | {filler: others[filler] + weight}
    return made


@dataclass(frozen=True)
class Utility:
    """By how much losses rise without a source, the standard error of that by the scatter of seeds, and whether it is
    told from 0 (Student's t, 5 %); both None where no mixture was run twice."""

    value: float
    error: float | None
    clear: bool | None


def utilities(full: Sequence[float], without: Mapping[str, Sequence[float]]) -> dict[str, Utility]:
    """Mean loss without each source minus that of the full mixture, a number for each seed.

    One scatter is taken for all mixtures, from those that were run more than once. RecipeError without runs of the full
    mixture or of one without a source.
    """
    if not full or not without:
        raise RecipeError(f"{len(full)} runs of the full mixture, {len(without)} sources left out; both are wanted")
    groups = [np.array(full, np.float64), *(np.array(values, np.float64) for values in without.values())]
    freedom = sum(len(group) - 1 for group in groups)
    squares = math.fsum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    scatter = math.sqrt(squares / freedom) if freedom else None
    found = {}
    for name, group in zip(without, groups[1:], strict=True):
        value = float(group.mean() - groups[0].mean())
        if scatter is None:
            found[name] = Utility(value, None, None)
            continue
        error = scatter * math.sqrt(1 / len(group) + 1 / len(groups[0]))
        found[name] = Utility(value, error, abs(value) > student(freedom) * error)
    return found


def student(freedom: int) -> float:
    """How many standard errors a number is from 0 by a chance of 0.05 at most, for so many degrees of freedom."""
    return _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else 1.96 + 2.7 / freedom


def worths(found: Mapping[str, Utility], weights: Mapping[str, float]) -> dict[str, float]:
    """Utilities for each token, as shares of 1: what is told from 0 and above it, divided by the weight it was lost
    for. Empty where nothing is. For `mix: {utility: FILE}`; not shares of a mixture."""
    clear = {name: max(0.0, one.value) / weights[name] for name, one in found.items() if one.clear is not False}
    total = math.fsum(clear.values())
    return {name: value / total for name, value in clear.items()} if total > 0 else {}


def _name(units: Units) -> str:
    return json.dumps(units, ensure_ascii=False)
