"""DoReMi and DoGE without their training: weights of sources, moved step by step by what a table says of a training.

Both multiply each weight by the exponential of a number by source and divide by the sum; the answer is the mean over
steps. DoReMi (Xie et al. 2023, arXiv 2305.10429; constants from its repository sangmichaelxie/doremi,
`doremi/trainer.py`) takes by how much a small proxy is worse than a reference; DoGE (Fan et al. 2023, arXiv 2310.15393)
how well the gradient of a source agrees with that of what is to be learnt. The catch: the proxy should have been
trained under these very weights, step by step; from a table of another training they are an approximation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import DataError, RecipeError, nearest
from curate.fit.tables import Table, read

Float64s = NDArray[np.float64]

RATE, SMOOTHING = 1.0, 1e-4
"""DoReMi's step size, and the share of the uniform mixture in each of its steps (the repository's defaults)."""
_NAMES = ("source", "domain")


@dataclass(frozen=True)
class Steps:
    """`values` float64[steps, k] by the sources `names`, sorted; `filled`: cells that the table lacked."""

    names: tuple[str, ...]
    values: Float64s
    filled: int


@dataclass(frozen=True)
class Moved:
    """The mean of the weights after each step by source, empty without a signal, and the report."""

    weights: dict[str, float]
    report: dict[str, Any]


def read_excess(path: str) -> Steps:
    """By how much the proxy is worse, by step and source: column `excess`, or `proxy_loss` and `ref_loss`.

    The paper's excess is the mean over tokens of max(proxy - reference, 0), of one token each; a table of mean losses
    gives max of the means, which is smaller where a source has tokens of both kinds. Where a source lacks in a step its
    last value stays, 0 before the first, as in the repository. DataError names row and column.
    """
    table = read(path)
    if "excess" in table.names:
        return _steps(table, [table.number(row, "excess", least=0) for row in range(len(table.rows))])
    table.need("proxy_loss", "ref_loss")
    losses = [(table.number(row, "proxy_loss"), table.number(row, "ref_loss")) for row in range(len(table.rows))]
    return _steps(table, [max(proxy - reference, 0.0) for proxy, reference in losses])


def read_alignment(path: str) -> Steps:
    """Inner products of gradients by step and source: column `alignment`, <g_i, sum of all g_j> or <g_i, g_target>.

    DataError names row and column; each step has all sources.
    """
    table = read(path)
    table.need("alignment")
    made = _steps(table, [table.number(row, "alignment") for row in range(len(table.rows))])
    if made.filled:
        raise DataError(f"{path}: {made.filled} times a source lacks in a step; each step has all {len(made.names)}")
    return made


def doremi(
    steps: Steps, *, start: dict[str, float] | None = None, rate: float = RATE, smoothing: float = SMOOTHING
) -> Moved:
    """a <- a exp(rate * excess), divided by its sum; a <- (1 - smoothing) a + smoothing / k. From equal weights if no
    `start` is given. RecipeError for a rate that is not above 0 and a smoothing outside of 0 to 1."""
    if not 0 <= smoothing <= 1:
        raise RecipeError(f"a smoothing of {smoothing}: a share between 0 and 1 is wanted")
    return _moved(steps, _start(steps.names, start), rate, smoothing)


def doge(steps: Steps, *, rate: float, start: dict[str, float] | None = None) -> Moved:
    """a <- a exp(rate * alignment), divided by its sum, from equal weights if no `start` is given.

    `rate` is the paper's learning rate divided by its mu. It has no default: it goes by the size of the gradients.
    """
    return _moved(steps, _start(steps.names, start), rate, 0.0)


def moves(values: Float64s, start: Float64s, *, rate: float, smoothing: float) -> Float64s:
    """Weights float64[steps, k] after each step, from `values` float64[steps, k] and `start` float64[k] of sum 1."""
    out = np.empty_like(values)
    weights = start
    for row, value in enumerate(values):
        with np.errstate(divide="ignore"):
            logs = np.log(weights) + rate * value
        # The largest is taken off first: exponentials of large numbers would be infinite.
        weights = np.exp(logs - logs.max())
        weights = (1 - smoothing) * weights / weights.sum() + smoothing / len(weights)
        out[row] = weights
    return out


def _moved(steps: Steps, start: Float64s, rate: float, smoothing: float) -> Moved:
    if not 0 < rate < np.inf:
        raise RecipeError(f"a rate of {rate}: a finite number above 0 is wanted")
    path = moves(steps.values, start, rate=rate, smoothing=smoothing)
    mean = path.mean(axis=0)
    mean /= mean.sum()
    half = len(path) // 2
    drift = float(np.abs(path[:half].mean(axis=0) - path[half:].mean(axis=0)).sum()) if half else None
    signal = bool((np.ptp(steps.values, axis=1) > 0).any())
    said = [] if signal else ["no step tells one source from another: there are no weights"]
    if signal and drift is not None and drift > 0.1:
        said.append(f"weights still move: the means over both halves of the steps differ by {drift:.2f} in all")
    if signal and float(path[-1].max()) > 0.99:
        first = steps.names[int(path[-1].argmax())]
        said.append(f"'{first}' has {path[-1].max():.4f} of the weight at the end; a smaller rate keeps others alive")

    def named(row: Float64s) -> dict[str, float]:
        return dict(zip(steps.names, row.tolist(), strict=True))

    report = {
        "steps": len(path),
        "filled": steps.filled,
        "rate": rate,
        "smoothing": smoothing,
        "start": named(start),
        "mean_value": named(steps.values.mean(axis=0)),
        "last": named(path[-1]),
        "drift": drift,
        "signal": signal,
        "warnings": said,
    }
    return Moved(named(mean) if signal else {}, report)


def _steps(table: Table, values: list[float]) -> Steps:
    """Values of rows as a matrix; the last value of a source stands where a step lacks it."""
    source = table.either(_NAMES)
    table.need("step")
    of = [table.word(row, source) for row in range(len(values))]
    at = [table.number(row, "step") for row in range(len(values))]
    names, steps = tuple(sorted(set(of))), sorted(set(at))
    if len(names) < 2:
        raise DataError(f"{table.path} has one {source}, '{names[0]}'; weights are for two or more")
    rows, columns = {step: i for i, step in enumerate(steps)}, {name: i for i, name in enumerate(names)}
    made = np.full((len(steps), len(names)), np.nan)
    for row, value in enumerate(values):
        place = rows[at[row]], columns[of[row]]
        if not np.isnan(made[place]):
            raise DataError(f"{table.path}, row {row + 2}: step {at[row]:g} of '{of[row]}' stands there twice")
        made[place] = value
    filled = int(np.isnan(made).sum())
    last = np.zeros(len(names))
    for line in made:
        line[:] = last = np.where(np.isnan(line), last, line)
    return Steps(names, made, filled)


def _start(names: tuple[str, ...], start: dict[str, float] | None) -> Float64s:
    if start is None:
        return np.full(len(names), 1 / len(names))
    if lost := sorted(set(start) - set(names)):
        raise RecipeError(f"the table has no source '{lost[0]}' of the start{nearest(lost[0], names)}")
    if lost := [name for name in names if not start.get(name, 0) > 0]:
        raise RecipeError(f"the start has no weight for '{lost[0]}'; a weight of 0 would stay 0")
    made = np.array([start[name] for name in names], np.float64)
    return np.asarray(made / made.sum())
