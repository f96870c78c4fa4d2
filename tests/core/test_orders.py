"""Orders for many layers under one budget."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds

import lticore as lti


def descending(values):
    return np.sort(np.array(values))[::-1]


layers_of_values = st.lists(
    st.lists(st.floats(0, 1e3), min_size=1, max_size=8).map(descending), min_size=1, max_size=6
)


def shares_before(sigma, order):
    """Share of the energy held by the first order − 1 states: below it the order is not needed."""
    return sigma[: order - 1].sum() / sigma.sum()


@given(layers=layers_of_values, extra=st.integers(0, 40))
def test_orders_keep_to_the_budget(layers, extra):
    budget = len(layers) + extra
    orders = lti.allocate_orders(layers, budget=budget)
    assert len(orders) == len(layers)
    assert sum(orders) <= budget
    assert all(1 <= r <= len(sigma) for r, sigma in zip(orders, layers, strict=True))
    assert all(isinstance(r, int) for r in orders)


@given(layers=layers_of_values, extra=st.integers(0, 20))
def test_orders_grow_with_the_budget(layers, extra):
    less = lti.allocate_orders(layers, budget=len(layers) + extra)
    more = lti.allocate_orders(layers, budget=len(layers) + extra + 1)
    assert all(a <= b for a, b in zip(less, more, strict=True))


positive_layers = st.lists(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8).map(descending), min_size=1, max_size=6
)


@given(layers=positive_layers, extra=st.integers(0, 40))
def test_budget_is_spent_while_there_is_energy_to_buy(layers, extra):
    budget = len(layers) + extra
    total = sum(map(len, layers))
    assert sum(lti.allocate_orders(layers, budget=budget)) == min(budget, total)


@given(layers=positive_layers, extra=st.integers(0, 40))
def test_one_energy_level_serves_all_layers(layers, extra):
    """No state was bought at a higher level than the cheapest one that was left out."""
    orders = lti.allocate_orders(layers, budget=len(layers) + extra)
    pairs = list(zip(layers, orders, strict=True))
    bought = [shares_before(sigma, r) for sigma, r in pairs if r > 1]
    missed = [shares_before(sigma, r + 1) for sigma, r in pairs if r < len(sigma)]
    if bought and missed:
        assert max(bought) <= min(missed) + 1e-12


@given(layers=positive_layers, energy=st.floats(0.01, 1))
def test_energy_gives_the_smallest_orders(layers, energy):
    for sigma, r in zip(layers, lti.allocate_orders(layers, energy=energy), strict=True):
        total = sigma.sum()
        assert sigma[:r].sum() >= energy * total * (1 - 1e-12)
        assert r == 1 or sigma[: r - 1].sum() < energy * total * (1 + 1e-12)


def test_budget_and_energy_agree_where_there_are_no_ties():
    rng = np.random.default_rng(0)
    layers = [descending(rng.uniform(0.1, 1, n)) for n in (3, 8, 5)]
    for energy in (0.3, 0.5, 0.8, 0.95):
        orders = lti.allocate_orders(layers, energy=energy)
        assert lti.allocate_orders(layers, budget=sum(orders)) == orders


@pytest.mark.parametrize(("ratio", "budget"), [(0.0, 15), (0.5, 8), (0.2, 12), (0.75, 4), (0.8, 3)])
def test_ratio_is_a_budget(ratio, budget):
    rng = np.random.default_rng(1)
    layers = [descending(rng.uniform(0.1, 1, n)) for n in (2, 8, 5)]
    expected = lti.allocate_orders(layers, budget=budget)
    assert lti.allocate_orders(layers, ratio=ratio) == expected
    assert sum(expected) == budget


def test_ties_are_filled_in_the_order_of_the_layers():
    layers = [np.ones(4), np.ones(4), np.ones(4)]
    assert lti.allocate_orders(layers, budget=5) == [2, 2, 1]


def test_states_without_energy_are_not_given_out():
    layers = [np.array([1.0, 0.0, 0.0]), np.zeros(4), np.array([1.0, 1e-17])]
    assert lti.allocate_orders(layers, budget=9) == [1, 1, 1]
    assert lti.allocate_orders(layers, energy=1.0) == [1, 1, 1]


def test_layers_are_measured_by_shares_not_by_size():
    layers = [np.array([3.0, 2.0, 1.0]), 1e-6 * np.array([3.0, 2.0, 1.0])]
    assert lti.allocate_orders(layers, budget=4) == [2, 2]


def test_single_precision_values_are_summed_in_double():
    rng = np.random.default_rng(0)
    layers = [descending(rng.uniform(size=1000)).astype(np.float32) for _ in range(3)]
    widened = [sigma.astype(np.float64) for sigma in layers]
    for budget in (100, 1000, 2500):
        assert lti.allocate_orders(layers, budget=budget) == lti.allocate_orders(
            widened, budget=budget
        )


def test_lists_and_integers_are_accepted():
    assert lti.allocate_orders([[3, 2, 1], [5]], budget=np.int64(3)) == [2, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of budget=, ratio= and energy="),
        ({"budget": 3, "ratio": 0.1}, "exactly one"),
        ({"budget": 1}, "cannot give each of 2 layers"),
        ({"ratio": 0.9}, "cannot give each of 2 layers"),
        ({"budget": 2.0}, "budget must be an integer"),
        ({"budget": True}, "budget must be an integer"),
        ({"budget": -1}, "budget must be an integer of at least 0"),
        ({"ratio": 1.0}, r"ratio must lie in \[0, 1\)"),
        ({"ratio": -0.1}, "ratio must lie in"),
        ({"energy": 0.0}, r"energy must lie in \(0, 1\]"),
        ({"energy": 1.1}, "energy must lie in"),
        ({"energy": float("nan")}, "energy must lie in"),
    ],
)
def test_criteria_out_of_range(arguments, message):
    with pytest.raises(lti.ArgumentError, match=message):
        lti.allocate_orders([[2.0, 1.0, 0.5], [1.0]], **arguments)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], lti.ArgumentError, "there is no layer"),
        ([[[1.0]]], lti.ShapeError, r"singular_values\[0\] has shape \(1, 1\)"),
        ([1.0], lti.ShapeError, r"singular_values\[0\] has shape \(\)"),
        ([[1.0, 2.0]], lti.ArgumentError, "non-negative and descending"),
        ([[1.0, -1.0]], lti.ArgumentError, "non-negative and descending"),
        ([[1j]], lti.ArgumentError, "must be real"),
        ([[1.0, float("nan")]], lti.NonFiniteError, r"singular_values\[0\] contains NaN"),
    ],
)
def test_values_that_are_none(layers, error, message):
    with pytest.raises(error, match=message):
        lti.allocate_orders(layers, energy=0.5)


# --- orders by measured errors ------------------------------------------------------------------


@given(seed=seeds(), budget=st.integers(3, 14))
def test_greedy_orders_are_the_best_for_convex_errors(seed, budget):
    rng = np.random.default_rng(seed)
    errors = [np.cumsum(np.sort(rng.uniform(size=n)))[::-1] for n in (4, 6, 4)]
    weights = rng.uniform(0, 2, 3)
    orders = lti.allocate_orders_by_error(errors, weights=weights, budget=budget)
    assert sum(orders) <= budget

    def total(chosen):
        return sum(w * e[r - 1] for w, e, r in zip(weights, errors, chosen, strict=True))

    best = min(
        total(chosen)
        for chosen in itertools.product(*(range(1, len(e) + 1) for e in errors))
        if sum(chosen) <= budget
    )
    assert total(orders) == pytest.approx(best, rel=1e-12, abs=1e-12)


def test_a_step_of_two_states_is_seen():
    """One state more gains nothing, two gain much: averages over steps find it."""
    flat = [1.0, 1.0, 0.0]
    slow = [1.0, 0.9, 0.8]
    assert lti.allocate_orders_by_error([flat, slow], budget=4) == [3, 1]


def test_states_that_gain_nothing_are_not_given():
    assert lti.allocate_orders_by_error([[1.0, 1.0], [0.0, 0.0]], budget=4) == [1, 1]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"errors": [[1.0], [-1.0]], "budget": 2}, lti.ArgumentError),
        ({"errors": [[1.0], [[1.0]]], "budget": 2}, lti.ShapeError),
        ({"errors": [[1.0], [1.0]], "budget": 2, "weights": [1.0]}, lti.ArgumentError),
        ({"errors": [[1.0], [1.0]], "budget": 2, "weights": [1.0, -1.0]}, lti.ArgumentError),
        ({"errors": [], "budget": 2}, lti.ArgumentError),
    ],
)
def test_bad_errors(options, error):
    with pytest.raises(error):
        lti.allocate_orders_by_error(options.pop("errors"), **options)
