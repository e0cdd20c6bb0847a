"""Potentials of entropic transport: against linear programs, finite differences, plain Sinkhorn and POT."""

from typing import Any

import numpy as np
import oracle_transport as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import transport
from curate.errors import DataError, RecipeError
from curate.kernels.transport import merge, shares, softmins
from curate.transport import Matrix, gradients, solve


def unit(vectors: np.ndarray) -> np.ndarray:
    made: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


def topics(seed: int, *, pool: int, target: int, width: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around six topics, of which the target knows two."""
    random = np.random.default_rng(seed)
    middles = random.normal(size=(6, width))
    made = [
        middles[random.integers(0, known, rows)] + 0.7 * random.normal(size=(rows, width))
        for rows, known in ((pool, 6), (target, 2))
    ]
    return unit(made[0]), unit(made[1])


def costs_of(pool: np.ndarray, target: np.ndarray) -> np.ndarray:
    found: np.ndarray = 1 - pool.astype(np.float64) @ target.astype(np.float64).T
    return found


def toy(rows: int, columns: int, seed: int) -> np.ndarray:
    """Squared distances of points in the plane."""
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(rows, 2)), random.normal(size=(columns, 2)) + 0.7
    found: np.ndarray = np.square(x[:, None] - y).sum(-1)
    return found


def even(size: int) -> np.ndarray:
    return np.full(size, 1 / size)


def settled(costs: np.ndarray, mu: np.ndarray, nu: np.ndarray, epsilon: float) -> transport.Duals:
    """Potentials after steps that leave nothing to gain."""
    return solve(Matrix(costs), mu, nu, epsilon=epsilon, tolerance=1e-12, iterations=20_000)


# Sums of coupled masses are exact to some 1e-8, as the coupling is held in float32.
CLOSE = 1e-7


@pytest.mark.parametrize("seed", range(3))
def test_calibrated_duals_of_the_linear_program_are_its_derivatives(seed: int) -> None:
    random = np.random.default_rng(seed)
    costs, mu, nu = toy(10, 7, seed), random.dirichlet(np.full(10, 5.0)), random.dirichlet(np.full(7, 5.0))
    found, step = gradients(oracle.exact(mu, nu, costs).f), 1e-5
    for i, gradient in enumerate(found):
        by = step * oracle.direction(10, i)
        up, down = oracle.exact(mu + by, nu, costs), oracle.exact(mu - by, nu, costs)
        assert gradient == pytest.approx((up.value - down.value) / (2 * step), abs=1e-9)


@pytest.mark.parametrize("epsilon", [1.0, 0.3])
def test_gradients_are_derivatives_of_the_regularised_cost(epsilon: float) -> None:
    random = np.random.default_rng(5)
    costs, mu, nu = toy(9, 6, 5), random.dirichlet(np.full(9, 5.0)), random.dirichlet(np.full(6, 5.0))
    duals, step = solve(Matrix(costs), mu, nu, epsilon=epsilon, tolerance=1e-8, iterations=5000), 1e-4
    assert duals.error <= 1e-8
    found = gradients(duals.f)
    for i, gradient in enumerate(found):
        by = step * oracle.direction(9, i)
        up, down = (oracle.entropic(mu + sign * by, nu, costs, epsilon, 500).value for sign in (1, -1))
        assert gradient == pytest.approx((up - down) / (2 * step), abs=1e-5)


def test_gradients_near_those_of_the_linear_program_as_epsilon_falls() -> None:
    random = np.random.default_rng(1)
    mu, nu = even(12), even(9)
    costs = np.square(random.normal(size=(12, 1, 2)) - random.normal(size=(9, 2)) - 0.7).sum(-1)
    wanted = gradients(oracle.exact(mu, nu, costs).f)
    alike = []
    for epsilon in (1, 0.1, 0.02):
        found = gradients(solve(Matrix(costs), mu, nu, epsilon=epsilon, tolerance=1e-6, iterations=20_000).f)
        assert set(np.argsort(found)[:3]) == set(np.argsort(wanted)[:3])
        alike.append(np.corrcoef(found, wanted)[0, 1])
    assert 0.9 < alike[0] < alike[1] < alike[2]
    assert alike[1] > 0.99
    assert alike[2] > 0.998


def test_cats_and_dogs() -> None:
    random = np.random.default_rng(2)
    pool = np.concatenate([random.normal(0, 0.01, 198), random.normal(1, 0.01, 2)])
    target = np.concatenate([random.normal(0, 0.01, 20), random.normal(1, 0.01, 20)])
    found = gradients(solve(Matrix(np.abs(pool[:, None] - target)), even(200), even(40), epsilon=0.02).f)
    assert set(np.argsort(found)[:2]) == {198, 199}
    assert np.allclose(found[198:], -1, atol=0.05)
    assert found[:198].mean() == pytest.approx(0.01, abs=0.002)


@settings(deadline=None)
@given(f=st.lists(st.floats(-2, 2), min_size=2, max_size=30), by=st.floats(-5, 5))
def test_a_constant_changes_no_gradient(f: list[float], by: float) -> None:
    found = gradients(np.array(f))
    assert np.allclose(found, oracle.calibrated(np.array(f)), atol=1e-12)
    assert np.allclose(gradients(np.array(f) + by), found, atol=1e-14 * 40)
    assert abs(found.sum()) < 1e-12
    parts = [gradients(np.array(part), total=sum(f), count=len(f)) for part in (f[:1], f[1:])]
    assert np.allclose(np.concatenate(parts), found, atol=1e-12)


def test_a_document_alone_has_no_gradient() -> None:
    assert gradients(np.array([0.7])).tolist() == [0]


masses = st.none() | st.integers(0, 9)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 99),
    pool=st.integers(1, 40),
    target=st.integers(1, 20),
    epsilon=st.sampled_from([0.02, 0.05, 0.3, 2.0]),
    pool_mass=masses,
    target_mass=masses,
)
def test_fit_is_plain_sinkhorn(
    seed: int, pool: int, target: int, epsilon: float, pool_mass: int | None, target_mass: int | None
) -> None:
    rows, columns = topics(seed, pool=pool, target=target)
    mu = even(pool) if pool_mass is None else np.random.default_rng(pool_mass).dirichlet(np.ones(pool))
    nu = even(target) if target_mass is None else np.random.default_rng(target_mass).dirichlet(np.ones(target))
    given = {"pool_mass": None if pool_mass is None else 3 * mu, "target_mass": None if target_mass is None else nu}
    found = transport.fit(rows, columns, epsilon=epsilon, **given)
    assert found.remark is None
    wanted = oracle.entropic(mu, nu, costs_of(rows, columns), epsilon, found.iterations)
    # The oracle begins with f, too, so after as many steps both are at the same place, up to a constant of zero.
    assert np.allclose(found.f(rows), wanted.f, atol=CLOSE)
    moved = oracle.coupling(wanted, mu, nu, costs_of(rows, columns), epsilon)
    assert np.abs(moved.sum(0) - nu).sum() < 1.01e-3
    assert np.allclose(moved.sum(1), mu, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 999), size=st.integers(1, 30), data=st.data())
def test_order_of_the_vectors_changes_no_bit(seed: int, size: int, data: st.DataObject) -> None:
    pool, target = topics(seed, pool=size, target=7)
    pool[size // 2 :] = pool[-1]  # equal vectors, whose masses differ
    mass = np.random.default_rng(seed).dirichlet(np.ones(size))
    turned, other = data.draw(st.permutations(range(size))), data.draw(st.permutations(range(7)))
    one = transport.fit(pool, target, pool_mass=mass)
    two = transport.fit(pool[turned], target[other], pool_mass=mass[turned])
    assert one.table().equals(two.table())
    assert np.array_equal(one.f(pool)[turned], two.f(pool[turned]))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 999), cut=st.integers(0, 30), entries=st.sampled_from([1, 40, 200]))
def test_blocks_change_nothing(seed: int, cut: int, entries: int) -> None:
    pool, target = topics(seed, pool=30, target=9)
    whole = transport.fit(pool, target)
    f = whole.f(pool)
    assert np.array_equal(np.concatenate([whole.f(pool[:cut]), whole.f(pool[cut:])]), f)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "BLOCK_ENTRIES", entries)
        assert transport.fit(pool, target).table().equals(whole.table())
        assert np.array_equal(whole.f(pool), f)
        patch.setattr(transport, "HELD_BYTES", 0)
        made_again = transport.fit(pool, target)
    assert made_again.iterations == whole.iterations
    assert np.allclose(made_again.f(pool), f, atol=CLOSE)


def test_potentials_of_the_pool_are_those_of_the_solution() -> None:
    pool, target = topics(3, pool=50, target=12)
    mass = np.random.default_rng(3).dirichlet(np.ones(12))
    found = transport.fit(pool, target, target_mass=mass, epsilon=0.1)
    duals = solve(transport.Distances(pool, transport.grid(target)), even(50), mass, epsilon=0.1)
    assert np.allclose(found.f(pool), duals.f, atol=1e-12)


@pytest.mark.parametrize("width", [1, 3, 384])
def test_costs_are_exact(width: int) -> None:
    random = np.random.default_rng(width)
    rows, columns = unit(random.normal(size=(20, width))), unit(random.normal(size=(9, width)))
    found = transport.Distances(rows, transport.grid(columns)).block(0, 20)
    ones, others = (np.rint(vectors.astype(np.float64) * 2**26).astype(np.int64) for vectors in (rows, columns))
    exact = [[1 - sum(int(a) * int(b) for a, b in zip(x, y, strict=True)) / 2**52 for y in others] for x in ones]
    assert found.tolist() == exact
    assert np.allclose(found, costs_of(rows, columns), atol=1e-7)


@pytest.mark.parametrize("width", [1, 7, 8, 19, 64])
def test_softmins_are_those_of_logsumexp(width: int) -> None:
    random = np.random.default_rng(width)
    costs, shift = random.normal(size=(50, width)) * 10 ** random.uniform(-3, 3, (50, 1)), random.normal(size=width)
    out = np.empty(50)
    softmins(costs, shift, 0.1, out)
    assert np.allclose(out, -0.1 * np.logaddexp.reduce(shift - costs / 0.1, axis=1), rtol=1e-13, atol=1e-15)
    again, parts = np.empty(50), np.empty((50, width), np.float32)
    shares(costs, shift, 0.1, again, parts)
    assert np.array_equal(again, out)
    assert np.allclose(parts, np.exp(shift + (out[:, None] - costs) / 0.1), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("cut", [0, 1, 17])
def test_merged_sums_are_those_of_logsumexp(cut: int) -> None:
    random = np.random.default_rng(cut)
    costs, shift = 30 * random.normal(size=(40, 11)), random.normal(size=40)
    top, total = np.full(11, -np.inf), np.zeros(11)
    for part in (slice(cut), slice(cut, None)):
        merge(costs[part], shift[part], 0.1, top, total)
    assert np.allclose(top + np.log(total), np.logaddexp.reduce(shift[:, None] - costs / 0.1, axis=0), rtol=1e-13)
    alike, total = np.full(11, -np.inf), np.zeros(11)
    merge(np.ascontiguousarray(np.tile(np.arange(40.0)[::-1, None] * 0.01, 11)), shift, 0.1, alike, total)
    wanted = np.logaddexp.reduce(shift - np.arange(40.0)[::-1] * 0.1)
    assert np.allclose(alike + np.log(total), wanted, rtol=1e-13)


@pytest.mark.parametrize("held", [0, 1 << 20])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-4])
def test_small_epsilon_neither_overflows_nor_stops_short(epsilon: float, held: int) -> None:
    costs = toy(12, 9, 1)
    random = np.random.default_rng(1)
    mu, nu = random.dirichlet(np.full(12, 5.0)), random.dirichlet(np.full(9, 5.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "HELD_BYTES", held)
        found = solve(Matrix(costs), mu, nu, epsilon=epsilon, tolerance=1e-3, iterations=200_000)
    assert found.error <= 1e-3
    wanted = gradients(oracle.exact(mu, nu, costs).f)
    assert np.allclose(gradients(found.f), wanted, atol=0.05)


def test_an_unsolved_transport_says_so() -> None:
    pool, target = topics(0, pool=40, target=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "ITERATIONS", 2)
        found = transport.fit(pool, target, epsilon=0.005)
    assert found.iterations == 2
    assert found.remark is not None
    assert "not solved: after 2 iterations" in found.remark
    assert transport.fit(pool, target).remark is None


def test_potentials_survive_a_table() -> None:
    pool, target = topics(4, pool=20, target=10)
    mass = np.arange(10.0)
    found = transport.fit(pool, target, target_mass=mass)
    assert len(found.targets) == 9, "a target of no mass has no part"
    again = transport.Potentials.from_table(found.table())
    assert again.table().equals(found.table())
    assert (again.epsilon, again.iterations, again.error) == (found.epsilon, found.iterations, found.error)
    assert np.array_equal(again.f(pool), found.f(pool))


def test_vectors_without_mass_have_no_part() -> None:
    pool, target = topics(6, pool=20, target=10)
    some = np.arange(20) % 3 > 0
    assert transport.fit(pool, target, pool_mass=some * 1.0).table().equals(transport.fit(pool[some], target).table())


def test_documents_like_the_target_have_the_lowest_gradients() -> None:
    pool, target = topics(8, pool=300, target=60, width=48)
    found = gradients(transport.fit(pool, target).f(pool))
    near = np.argsort(-np.max(pool @ target.T, axis=1))[:60]
    assert found[near].mean() < found.mean() - 0.1


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"epsilon": 0.0}, RecipeError, "epsilon is 0.0"),
        ({"epsilon": float("nan")}, RecipeError, "epsilon is nan"),
        ({"pool_mass": np.ones(3)}, RecipeError, "masses of shape"),
        ({"pool_mass": np.zeros(5)}, RecipeError, "masses of the pool"),
        ({"target_mass": np.array([1.0, -1, 1, 1])}, RecipeError, "masses of the target"),
        ({"target": np.empty((0, 16), np.float32)}, RecipeError, "the target has no vectors"),
        ({"target": np.ones((2, 16), np.float32)}, DataError, "length 1"),
        ({"target": np.eye(3, dtype=np.float32)}, DataError, "vectors of 16 numbers"),
        ({"pool": np.eye(1, 16, dtype=np.float32), "target": np.eye(1, 16, dtype=np.float32)}, RecipeError, "median"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], error: type[Exception], words: str) -> None:
    pool, target = topics(0, pool=5, target=4)
    with pytest.raises(error, match=words):
        transport.fit(**{"pool": pool, "target": target, **wrong})


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(DataError, match="vectors of 3 numbers"):
        transport.fit(*topics(0, pool=5, target=4)).f(np.eye(3, dtype=np.float32))


class TestLibrary:
    """Against POT (Flamary et al. 2021), where it is installed."""

    @pytest.mark.parametrize("epsilon", [0.05, 0.3])
    def test_sinkhorn(self, epsilon: float) -> None:
        ot = pytest.importorskip("ot")
        pool, target = topics(9, pool=60, target=25)
        random = np.random.default_rng(9)
        mu, nu = random.dirichlet(np.ones(60)), random.dirichlet(np.ones(25))
        costs = costs_of(pool, target)
        duals = settled(costs, mu, nu, epsilon)
        options = {"method": "sinkhorn_log", "log": True, "stopThr": 1e-13, "numItermax": 20_000}
        moved, said = ot.sinkhorn(mu, nu, costs, epsilon, **options)
        ours = mu[:, None] * nu * np.exp((duals.f[:, None] + duals.g - costs) / epsilon)
        assert np.abs(ours - moved).sum() < 1e-6
        assert np.allclose(gradients(duals.f), gradients(epsilon * (said["log_u"] - np.log(mu))), atol=1e-6)

    def test_exact_duals(self) -> None:
        ot = pytest.importorskip("ot")
        costs, random = toy(12, 9, 4), np.random.default_rng(4)
        mu, nu = random.dirichlet(np.full(12, 5.0)), random.dirichlet(np.full(9, 5.0))
        _, said = ot.emd(mu, nu, costs, log=True)
        wanted = gradients(oracle.exact(mu, nu, costs).f)
        assert np.allclose(gradients(said["u"]), wanted, atol=1e-8)
        found = gradients(solve(Matrix(costs), mu, nu, epsilon=0.005, iterations=50_000).f)
        assert np.corrcoef(found, wanted)[0, 1] > 0.998
