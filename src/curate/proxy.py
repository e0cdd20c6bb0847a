"""A small language model, trained in seconds or minutes, whose losses on held-out text tell mixtures apart.

A measuring tool, and good for nothing else. A decoder with rotary positions, RMS norms and tied embeddings, about a
million weights besides those, reads token shards in the order that a plan gives: the windows of a phase are shuffled
over its sources, each source is read in its own order, goes on in a phase where it stopped in the one before, and
begins again at its end. On the CPU it runs on one thread, and the same seed gives the same losses. The catch: seeds
differ by about as much as good mixtures do, so several belong to every claim; and what is best for a million weights
and a few hundred steps need not be best for more. Needs torch, `curate[proxy]`.
"""

import io
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate import store
from curate.errors import AssetError, DataError, RecipeError, nearest
from curate.mixture import Available, Phase, Plan, Spec, plan
from curate.outputs import state

Int64s = NDArray[np.int64]
Order = list[tuple[str, int]]

_NEGLIGIBLE = 1e-5  # added to the mean square in RMS norms
_BASE = 10_000.0  # of rotary positions (Su et al. 2021, arXiv 2104.09864)
_DEVIATION = 0.02  # of weights at the beginning (GPT-2)


@dataclass(frozen=True)
class Windows:
    """`ids` int64[n, window] of a source, and `lengths` int64[n]: ids of each window before its padding."""

    ids: Int64s
    lengths: Int64s


@dataclass(frozen=True)
class Shards:
    """Windows by source, for training and held out. `phases`: for shards that were packed by phases, the windows of
    each source in each, which stand one behind the other in `train`."""

    window: int
    vocabulary: int
    train: dict[str, Windows]
    validation: dict[str, Windows]
    phases: tuple[tuple[str, dict[str, int]], ...] = ()

    @property
    def available(self) -> dict[str, Available]:
        """What there is to train on, as plans have it."""
        tokens = {name: len(held.ids) * self.window for name, held in self.train.items()}
        return {name: Available(count, source=name) for name, count in tokens.items() if count}


@dataclass(frozen=True)
class Settings:
    """The model: `width` of its states, `layers`, `heads`. Training: `batch`, windows in a step; `rate` of AdamW at its
    highest, after the share `warm` of all steps; from there it falls in a line to 0. `held`: losses are taken on the
    first so many held-out windows of each source."""

    width: int = 128
    layers: int = 5
    heads: int = 4
    batch: int = 16
    rate: float = 3e-3
    warm: float = 0.1
    held: int = 32

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads, self.batch, self.held) < 1 or self.width % (2 * self.heads):
            raise RecipeError(f"{self}: all numbers are 1 or more, and the width is a multiple of twice the heads")
        if not (self.rate > 0 and math.isfinite(self.rate) and 0 <= self.warm < 1):
            raise RecipeError(f"`rate` is {self.rate}, which is above 0, and `warm` {self.warm}, 0 or more and below 1")

    @property
    def weights(self) -> int:
        """Weights of the layers, without embeddings and norms: 983,040 by default."""
        return 12 * self.width**2 * self.layers

    def at(self, step: int, steps: int) -> float:
        """The rate in a step, counted from 0."""
        done = (step + 0.5) / steps
        return self.rate * (done / self.warm if done < self.warm else (1 - done) / (1 - self.warm))


@dataclass(frozen=True)
class Trained:
    """`losses` by source in nats for each token, `tokens` trained on, `seconds` that took, without the losses."""

    losses: dict[str, float]
    tokens: int
    seconds: float

    @property
    def mean(self) -> float:
        """The mean over sources, each counting the same."""
        return math.fsum(self.losses.values()) / len(self.losses)


def read(folder: str) -> Shards:
    """The token shards of a run, or of a folder with `tokens.json`; ids are in memory, 8 bytes each. RecipeError for
    a run without token shards, and for shards that were not written as parquet."""
    if not store.exists(store.join(folder, "tokens.json")):
        packed = [step["folder"] for step in state(folder) if step["kind"] == "pack"]
        if not packed:
            raise RecipeError(f"{folder} has no token shards; its recipe has no `pack`")
        folder = store.join(folder, packed[-1])
    told = json.loads(store.read(store.join(folder, "tokens.json")))
    splits = {
        split: {source: _windows(folder, entry["shards"], told["window"]) for source, entry in found["sources"].items()}
        for split, found in told["splits"].items()
    }
    phases = tuple(
        (phase["name"], {source: entry["windows"] for source, entry in phase["sources"].items() if entry["windows"]})
        for phase in told.get("phases", ())
    )
    train, held = (splits.get(split, {}) for split in ("train", "validation"))
    return Shards(told["window"], told["tokenizer"]["vocabulary"], train, held, phases)


def phase(shards: Shards, name: str) -> Shards:
    """The windows of one phase alone, with all that is held out. RecipeError if shards have no phase of that name."""
    names = [one for one, _ in shards.phases]
    if name not in names:
        there = f"; there are {', '.join(names[:20])}" if names else "; their mixture has no `phases`"
        raise RecipeError(f"the shards have no phase '{name}'{nearest(name, names) or there}")
    at = names.index(name)
    mine = {}
    for source, count in shards.phases[at][1].items():
        first = sum(counts.get(source, 0) for _, counts in shards.phases[:at])
        held = shards.train[source]
        mine[source] = Windows(held.ids[first : first + count], held.lengths[first : first + count])
    return replace(shards, train=mine, phases=())


def weighted(shards: Shards, weights: Mapping[str, float] | None, *, tokens: int, max_epochs: float = 4.0) -> Plan:
    """The plan of one phase with such shares, the natural ones without `weights`. Raises Infeasible by the cap."""
    return plan(shards.available, Spec((Phase(weights=weights),), tokens=tokens, max_epochs=max_epochs))


def order(shards: Shards, planned: Plan | None, *, seed: int) -> Order:
    """(source, window) of all that is trained on, in order. Without a plan, the phases that shards were packed by, or
    else every window once. RecipeError for sources of which the shards have no window."""
    if planned is not None:
        phases = [_whole(quotas, shards.window) for quotas in planned.quotas]
    else:
        every = {name: len(held.ids) for name, held in shards.train.items()}
        phases = [counts for _, counts in shards.phases] or [every]
    made: Order = []
    cursors = dict.fromkeys(shards.train, 0)
    for number, counts in enumerate(phases):
        names = sorted(name for name, count in counts.items() if count)
        if lost := [name for name in names if name not in shards.available]:
            raise RecipeError(f"the shards have no window of '{lost[0]}'{nearest(lost[0], list(shards.available))}")
        drawn = np.repeat(np.arange(len(names)), [counts[name] for name in names])
        for place in np.random.default_rng((seed, number)).permutation(drawn).tolist():
            name = names[place]
            made.append((name, cursors[name] % len(shards.train[name].ids)))
            cursors[name] += 1
    return made


def train(
    shards: Shards, planned: Plan | None, *, seed: int, settings: Settings | None = None, device: str | None = None
) -> Trained:
    """Train on a plan, or on shards as they were packed, and take the losses of all held-out sources.

    `seed`: of the first weights and of the order of sources; which documents come first is the shards' affair (`seed`
    of `pack`). `device`: torch's name for it; without one a GPU if there is any. RecipeError where nothing is to be
    trained on or held out, and for a loss that is not finite; AssetError where torch is missing.
    """
    try:
        import torch
    except ImportError as error:
        raise AssetError(f"torch cannot be loaded ({error}); `pip install 'curate[proxy]'` brings it") from error
    settings = settings or Settings()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    windows = order(shards, planned, seed=seed)
    if not windows or not any(len(held.ids) for held in shards.validation.values()):
        raise RecipeError(f"{len(windows)} windows to train on, or none held out; both are wanted (see `mix`)")
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)  # sums over several threads are not the same twice
    try:
        begin = time.perf_counter()
        drawn = _initial(torch, settings, shards.vocabulary, seed)
        model = {name: weight.to(device).requires_grad_() for name, weight in drawn.items()}
        _fit(torch, model, shards, windows, settings)
        seconds = time.perf_counter() - begin
        losses = _held_out(torch, model, shards, settings)
    finally:
        torch.set_num_threads(threads)
    if bad := [name for name, loss in losses.items() if not math.isfinite(loss)]:
        raise RecipeError(f"the loss on '{bad[0]}' is {losses[bad[0]]}; a rate below {settings.rate:g} would be right")
    tokens = sum(int(shards.train[name].lengths[place]) for name, place in windows)
    return Trained(losses, tokens, seconds)


def _fit(torch: Any, model: dict[str, Any], shards: Shards, windows: Order, settings: Settings) -> None:
    weights, device = list(model.values()), model["embedding"].device
    optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.95), weight_decay=0.0)
    steps = -(-len(windows) // settings.batch)
    for step in range(steps):
        batch = windows[step * settings.batch : (step + 1) * settings.batch]
        ids = torch.from_numpy(np.stack([shards.train[name].ids[place] for name, place in batch])).to(device)
        lengths = np.array([shards.train[name].lengths[place] for name, place in batch])
        total, count = _loss(torch, model, settings, (ids, lengths))
        optimizer.zero_grad(set_to_none=True)
        (total / max(count, 1)).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = settings.at(step, steps)
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()


def _held_out(torch: Any, model: dict[str, Any], shards: Shards, settings: Settings) -> dict[str, float]:
    device, made = model["embedding"].device, {}
    with torch.no_grad():
        for name, held in sorted(shards.validation.items()):
            sums, many = 0.0, 0
            for first in range(0, min(settings.held, len(held.ids)), settings.batch):
                rows = slice(first, min(first + settings.batch, settings.held))
                ids = torch.from_numpy(held.ids[rows]).to(device)
                total, count = _loss(torch, model, settings, (ids, held.lengths[rows]))
                sums, many = sums + float(total), many + count
            if many:
                made[name] = sums / many
    return made


def _initial(torch: Any, settings: Settings, vocabulary: int, seed: int) -> dict[str, Any]:
    """Weights drawn from the seed alone: no other generator is touched."""
    generator = torch.Generator().manual_seed(seed)
    d, n = settings.width, settings.layers
    shapes = {"embedding": (vocabulary, d), "qkv": (n, 3 * d, d), "out": (n, d, d)}
    shapes |= {"up": (n, 4 * d, d), "down": (n, d, 4 * d)}
    made = {name: torch.randn(shape, generator=generator) * _DEVIATION for name, shape in shapes.items()}
    for name in ("out", "down"):  # what is added to the states, by every layer twice
        made[name] /= math.sqrt(2 * n)
    return {**made, "norms": torch.ones(2 * n + 1, d)}


def _loss(torch: Any, model: dict[str, Any], settings: Settings, rows: tuple[Any, Int64s]) -> tuple[Any, int]:
    """The sum of the losses of all next ids that are no padding, and how many they are."""
    ids, lengths = rows
    given, wanted = ids[:, :-1], ids[:, 1:]
    real = np.arange(1, ids.shape[1])[None] < lengths[:, None]
    functional = torch.nn.functional
    states = _states(torch, model, settings, given)
    if not real.all():
        wanted = wanted.masked_fill(torch.from_numpy(~real).to(ids.device), -100)
    logits = functional.linear(states, model["embedding"]).flatten(0, 1)
    total = functional.cross_entropy(logits, wanted.flatten(), ignore_index=-100, reduction="sum")
    return total, int(real.sum())


def _states(torch: Any, model: dict[str, Any], settings: Settings, ids: Any) -> Any:
    functional, heads = torch.nn.functional, settings.heads
    x = functional.embedding(ids, model["embedding"])
    rows, length, width = x.shape
    half = width // heads // 2
    turns = torch.arange(length, device=x.device)[:, None] * _BASE ** (-torch.arange(half, device=x.device) / half)
    cosine, sine = turns.cos(), turns.sin()

    def turned(y: Any) -> Any:
        a, b = y[..., :half], y[..., half:]
        return torch.cat((a * cosine - b * sine, a * sine + b * cosine), -1)

    def normed(y: Any, place: int) -> Any:
        return functional.rms_norm(y, (width,), model["norms"][place], _NEGLIGIBLE)

    for layer in range(settings.layers):
        qkv = functional.linear(normed(x, 2 * layer), model["qkv"][layer])
        q, k, v = qkv.view(rows, length, 3, heads, 2 * half).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        x = x + functional.linear(seen.transpose(1, 2).reshape(rows, length, width), model["out"][layer])
        wide = functional.gelu(functional.linear(normed(x, 2 * layer + 1), model["up"][layer]))
        x = x + functional.linear(wide, model["down"][layer])
    return normed(x, 2 * settings.layers)


def _windows(folder: str, shards: list[dict[str, Any]], window: int) -> Windows:
    ids, lengths = [np.empty((0, window), np.int64)], [np.empty(0, np.int64)]
    for shard in shards:
        if "parquet" not in shard["files"]:
            raise RecipeError(f"{folder}: {shard['prefix']} is not there as parquet; `formats` of `pack` has it")
        name = shard["files"]["parquet"]["name"]
        table = pq.read_table(io.BytesIO(store.read(store.join(folder, name))))
        flat = table["input_ids"].combine_chunks().flatten().to_numpy()
        if len(flat) != shard["windows"] * window:
            raise DataError(f"{name}: {len(flat):,} ids; {shard['windows']} windows of {window} are right")
        ids.append(flat.astype(np.int64).reshape(-1, window))
        whole = np.full(shard["windows"], window, np.int64)
        lengths.append(table["length"].to_numpy().astype(np.int64) if "length" in table.column_names else whole)
    return Windows(np.concatenate(ids), np.concatenate(lengths))


def _whole(quotas: Mapping[str, int], window: int) -> dict[str, int]:
    """Tokens by source as windows, by largest remainders: their sum is that of the tokens, rounded down."""
    counts = {name: quotas[name] // window for name in sorted(quotas)}
    missing = sum(quotas.values()) // window - sum(counts.values())
    for name in sorted(counts, key=lambda name: -(quotas[name] % window))[:missing]:
        counts[name] += 1
    return counts
