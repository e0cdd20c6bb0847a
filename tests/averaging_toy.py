"""A toy to see what averages of models say: models of three letters in NumPy, trained on parts and on their unions."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

LETTERS, WIDTH, STEPS, TEXT = 24, 24, 300, 6_000
Model = dict[str, np.ndarray]


def text(random: np.random.Generator, chances: np.ndarray, size: int) -> np.ndarray:
    """Triples int64[size - 2, 3] of letters, each drawn by the two before."""
    ends, drawn, out = chances.cumsum(axis=2), random.random(size), np.zeros(size, np.int64)
    one = two = 0
    for i in range(size):
        out[i] = min(int(np.searchsorted(ends[one, two], drawn[i])), LETTERS - 1)
        one, two = two, out[i]
    return np.stack([out[:-2], out[1:-1], out[2:]], axis=1)


def new(random: np.random.Generator) -> Model:
    first, second = random.normal(size=(2, LETTERS, WIDTH)) * 0.3
    last = random.normal(size=(WIDTH, LETTERS)) * 0.3
    return {"first": first, "second": second, "hidden": np.zeros(WIDTH), "last": last, "bias": np.zeros(LETTERS)}


def forward(model: Model, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hidden = np.tanh(model["first"][rows[:, 0]] + model["second"][rows[:, 1]] + model["hidden"])
    scores = np.exp(hidden @ model["last"] + model["bias"])
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def loss(model: Mapping[str, np.ndarray], rows: np.ndarray) -> float:
    wide = {name: tensor.astype(np.float64) for name, tensor in model.items()}
    return float(-np.log(forward(wide, rows)[1][np.arange(len(rows)), rows[:, 2]]).mean())


def train(model: Model, rows: np.ndarray, steps: int, seed: int) -> Model:
    """Adam, with a rate that falls to 0."""
    random, model = np.random.default_rng(seed), {name: tensor.copy() for name, tensor in model.items()}
    means = {name: np.zeros_like(tensor) for name, tensor in model.items()}
    squares = {name: np.zeros_like(tensor) for name, tensor in model.items()}
    for step in range(1, steps + 1):
        batch = rows[random.integers(len(rows), size=128)]
        hidden, off = forward(model, batch)
        off[np.arange(128), batch[:, 2]] -= 1
        off /= 128
        back = (off @ model["last"].T) * (1 - hidden**2)
        slopes = {"hidden": back.sum(axis=0), "last": hidden.T @ off, "bias": off.sum(axis=0)}
        for name, column in (("first", 0), ("second", 1)):
            slopes[name] = np.zeros((LETTERS, WIDTH))
            np.add.at(slopes[name], batch[:, column], back)
        for name, slope in slopes.items():
            means[name] = 0.9 * means[name] + 0.1 * slope
            squares[name] = 0.99 * squares[name] + 0.01 * slope**2
            size = np.sqrt(squares[name] / (1 - 0.99**step)) + 1e-8
            model[name] -= 3e-3 * (1 - step / steps) * means[name] / (1 - 0.9**step) / size
    return model


def losses(merged: Callable[[Sequence[Model]], Mapping[str, np.ndarray]], sources: int = 5) -> dict[str, np.ndarray]:
    """Losses on each source of all pairs and triples: of a model trained on the `union`, of the average of models of
    its parts (`merged`), the mean of these models' own (`own`), and of an average of models that began `apart`."""
    random = np.random.default_rng(0)
    drawn = random.dirichlet(np.full(LETTERS, 0.15), size=(sources + 1, LETTERS, LETTERS))
    chances = [0.6 * drawn[0] + 0.4 * own for own in drawn[1:]]
    parts, held = [text(random, one, TEXT) for one in chances], [text(random, one, 2_000) for one in chances]
    seed = np.concatenate([text(random, one, 2 * TEXT // sources) for one in (*chances, *[drawn[0]] * sources)])
    start = train(new(random), seed, 2 * STEPS, 1)
    models = [train(start, part, STEPS, i) for i, part in enumerate(parts)]
    others = [train(new(np.random.default_rng(100 + i)), seed, 2 * STEPS, 50 + i) for i in range(sources)]
    apart = [train(other, part, STEPS, i) for i, (other, part) in enumerate(zip(others, parts, strict=True))]
    made: dict[str, list[float]] = {"union": [], "merged": [], "own": [], "apart": []}
    for count in (2, 3):
        for chosen in itertools.combinations(range(sources), count):
            union = train(start, np.concatenate([parts[i] for i in chosen]), STEPS * count, 9)
            average, other = merged([models[i] for i in chosen]), merged([apart[i] for i in chosen])
            for rows in held:
                made["union"].append(loss(union, rows))
                made["merged"].append(loss(average, rows))
                made["own"].append(float(np.mean([loss(models[i], rows) for i in chosen])))
                made["apart"].append(loss(other, rows))
    return {name: np.array(values) for name, values in made.items()}
