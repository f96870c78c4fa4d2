"""Modal truncation and the orders that modal scores give to layers."""

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st
from oracles import difference, fine_grid, peak_gain_on_grid
from strategies import build_system, systems

import lticore as lti
from lticore import allocate_modal_orders, modal_truncation

anything_goes = pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
STRUCTURED = ("real diagonal", "complex diagonal", "rotation", "rotation with real poles")


@given(
    sys=systems(batches=((),), spectra=("plain", "marginal", "zero", "negative")),
    data=st.data(),
    score=st.sampled_from(["hinf", "magnitude"]),
)
@anything_goes
def test_error_is_within_the_bound(sys, data, score):
    order = data.draw(st.integers(2, max(2, sys.order)))
    if order > sys.order:
        return
    reduction = modal_truncation(sys, order, score=score)
    assert reduction.order in (order, order - 1)
    poles = np.concatenate([np.ravel(sys.poles), np.ravel(reduction.system.poles)])
    error = peak_gain_on_grid(difference(sys, reduction.system), fine_grid(poles))
    scale = lti.h2_norm(sys) / (1 - sys.spectral_radius)
    assert error <= reduction.error_bound * (1 + 1e-9) + 1e-9 * scale


@given(sys=systems(structures=STRUCTURED, couplings=("full",)), data=st.data())
@anything_goes
def test_poles_are_poles_of_the_system(sys, data):
    order = data.draw(st.integers(2, max(2, sys.order)))
    if order > sys.order:
        return
    try:
        reduced = modal_truncation(sys, order).system
    except lti.ShapeError:
        return  # entries that keep different numbers of pairs
    assert type(reduced.A) is type(sys.A)
    for index in np.ndindex(sys.batch_shape):
        distance = np.abs(reduced.poles[index][:, None] - sys.poles[index])
        assert distance.min(axis=1).max() <= 1e-14
    selection = modal_truncation(sys, order).left
    assert np.all(np.swapaxes(selection, -1, -2) @ sys.B == reduced.B)
    assert np.all(sys.C @ selection == reduced.C)


def test_all_states_leave_nothing_out():
    sys = build_system(np.random.default_rng(0), "rotation with real poles", n=7, feedthrough=True)
    reduction = modal_truncation(sys, sys.order)
    assert reduction.error_bound == 0
    omega = np.linspace(0, 3, 9)
    np.testing.assert_allclose(
        lti.frequency_response(reduction.system, omega), lti.frequency_response(sys, omega)
    )


def test_scores_choose():
    """A weak mode near the circle beats a strong one far from it, or not, as the score says."""
    sys = lti.LTI(lti.Diagonal([0.999, 0.1]), [[1.0], [10.0]], [[1.0, 10.0]])
    assert modal_truncation(sys, 1).system.poles[0] == 0.999
    assert modal_truncation(sys, 1, score="magnitude").system.poles[0] == 0.1


def test_pairs_are_kept_as_one():
    sys = build_system(np.random.default_rng(1), "rotation", n=6)
    with pytest.warns(lti.PrecisionWarning, match="has 2 states"):
        reduction = modal_truncation(sys, 3)
    assert reduction.order == 2
    modal = lti.diagonalize(sys)
    with pytest.warns(lti.PrecisionWarning, match="has 2 states"):
        small = modal_truncation(modal, 3).system
    assert small.poles[0] == pytest.approx(small.poles[1].conj())


def test_a_single_mode_takes_the_state_that_is_left():
    A = lti.Rotation([0.9, 0.8], [0.3, 1.0], [0.5])
    sys = lti.LTI(A, np.ones((5, 1)), np.ones((1, 5)))
    reduced = modal_truncation(sys, 3).system
    assert reduced.A.blocks == 1
    assert reduced.A.real_poles[0] == 0.5


def test_unreached_conjugates_are_not_pairs():
    poles = np.array([0.5 + 0.3j, 0.5 - 0.3j])
    sys = lti.LTI(lti.Diagonal(poles), np.array([[1.0], [2.0j]]), np.array([[1.0, 3.0]]))
    assert modal_truncation(sys, 1).system.poles[0] == poles[1]


def test_dense_systems_keep_their_kind():
    rng = np.random.default_rng(2)
    real = modal_truncation(build_system(rng, "dense", n=6), 4).system
    assert isinstance(real.A, lti.Rotation)
    assert not np.iscomplexobj(real.B)
    assert isinstance(
        modal_truncation(build_system(rng, "complex dense"), 3).system.A, lti.Diagonal
    )


@pytest.mark.parametrize(
    ("order", "score"), [(0, "hinf"), (9, "hinf"), (2, "energy"), (1.5, "hinf")]
)
def test_bad_arguments(order, score):
    sys = build_system(np.random.default_rng(3), "rotation", n=6)
    with pytest.raises(lti.ArgumentError):
        modal_truncation(sys, order, score=score)


def test_one_state_cannot_hold_a_pair():
    sys = build_system(np.random.default_rng(3), "rotation", n=6)
    with pytest.raises(lti.ArgumentError, match="ask for 2"):
        modal_truncation(sys, 1)


def test_an_empty_batch_has_no_order():
    sys = lti.LTI(
        lti.Diagonal(np.ones((0, 2, 3)) / 2), np.ones((0, 2, 3, 1)), np.ones((0, 2, 1, 3))
    )
    with pytest.raises(lti.ShapeError, match=r"batch shape \(0, 2\) holds no system"):
        modal_truncation(sys, 1)


def test_unstable_systems_are_refused():
    sys = lti.LTI(lti.Diagonal([1.5, 0.5]), np.ones((2, 1)), np.ones((1, 2)))
    with pytest.raises(lti.UnstableSystemError):
        modal_truncation(sys, 1)


def test_single_precision_stays():
    sys = build_system(np.random.default_rng(4), "rotation", n=6, dtype="float32")
    reduction = modal_truncation(sys, 4)
    for x in (reduction.system.B, reduction.error_bound, reduction.h2_error, reduction.left):
        assert np.asarray(x).dtype == np.float32


# --- orders over layers -------------------------------------------------------------------------


def layers():
    rng = np.random.default_rng(5)
    return [
        build_system(rng, kind, n=n)
        for kind, n in (("rotation", 8), ("complex diagonal", 5), ("rotation with real poles", 7))
    ]


@pytest.mark.parametrize("rule", ["last", "global", "uniform"])
@pytest.mark.parametrize("budget", [3, 4, 7, 12, 20])
def test_orders_meet_the_budget(rule, budget):
    systems = layers()
    orders = allocate_modal_orders(systems, budget=budget, rule=rule)
    assert all(1 <= r <= sys.order for r, sys in zip(orders, systems, strict=True))
    assert sum(orders) <= budget
    if budget == 20:
        assert orders == [sys.order for sys in systems]


def test_global_orders_take_the_highest_scores():
    strong = lti.LTI(lti.Diagonal([0.5, 0.4]), 100 * np.ones((2, 1)), np.ones((1, 2)))
    weak = lti.LTI(strong.A, np.ones((2, 1)), np.ones((1, 2)))
    assert allocate_modal_orders([weak, strong], budget=3, rule="global") == [1, 2]


def test_layers_of_pairs_keep_a_pair_where_the_budget_allows():
    pairs = build_system(np.random.default_rng(7), "rotation", n=6)
    strong = lti.LTI(pairs.A, 1e3 * pairs.B, pairs.C)
    assert allocate_modal_orders([pairs, strong], budget=5, rule="global") == [2, 2]
    assert allocate_modal_orders([pairs, strong], budget=8, rule="global") == [2, 6]
    assert allocate_modal_orders([pairs, strong], budget=3, rule="global") == [1, 2]


def test_last_does_not_see_the_gain_of_a_layer():
    systems = layers()
    scaled = [lti.LTI(systems[0].A, 1e3 * systems[0].B, systems[0].C), *systems[1:]]
    for budget in (4, 9, 14):
        assert allocate_modal_orders(systems, budget=budget) == allocate_modal_orders(
            scaled, budget=budget
        )


def test_uniform_orders_share_alike():
    sys = build_system(np.random.default_rng(6), "rotation", n=8)
    assert allocate_modal_orders([sys] * 3, ratio=0.5, rule="uniform") == [4, 4, 4]


def real_modes(n):
    return lti.LTI(lti.Diagonal(np.linspace(0.1, 0.9, n)), np.ones((n, 1)), np.ones((1, n)))


def pairs_only(n):
    A = lti.Rotation(np.linspace(0.1, 0.9, n // 2), np.linspace(0.1, 3, n // 2))
    return lti.LTI(A, np.ones((n, 1)), np.ones((1, n)))


@pytest.mark.parametrize(
    ("sizes", "budget", "orders"),
    [
        ([4, 4], 100, [4, 4]),
        ([4, 4], 8, [4, 4]),
        ([1, 1, 1, 100], 52, [1, 1, 1, 49]),
        ([2, 2, 2, 100], 7, [1, 1, 1, 4]),
        ([8, 8, 8], 13, [5, 4, 4]),
        ([10, 20, 30], 29, [5, 10, 14]),
    ],
)
def test_uniform_orders_of_single_modes(sizes, budget, orders):
    systems = [real_modes(n) for n in sizes]
    assert allocate_modal_orders(systems, budget=budget, rule="uniform") == orders


@pytest.mark.parametrize(
    ("sizes", "budget", "orders"),
    [
        ([4, 4], 100, [4, 4]),
        ([8, 8, 8], 13, [4, 4, 4]),
        ([8, 8, 8], 14, [6, 4, 4]),
        ([2, 2, 2, 32], 11, [2, 2, 2, 4]),
        # Pairs for all do not fit: each layer has its one state first.
        ([2, 2, 2, 32], 7, [1, 1, 1, 4]),
        ([2, 2, 2, 32], 4, [1, 1, 1, 1]),
    ],
)
def test_uniform_orders_do_not_split_pairs(sizes, budget, orders):
    systems = [pairs_only(n) for n in sizes]
    assert allocate_modal_orders(systems, budget=budget, rule="uniform") == orders


@given(
    sizes=st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=1, max_size=5),
    share=st.floats(0, 1),
)
def test_uniform_orders_meet_the_budget_and_their_shares(sizes, share):
    systems = [pairs_only(2 * n) if pairs else real_modes(n) for pairs, n in sizes]
    steps = np.array([1 + pairs for pairs, _ in sizes])
    full = np.array([sys.order for sys in systems])
    budget = steps.sum() + int(share * (full - steps).sum())
    orders = np.array(allocate_modal_orders(systems, budget=budget, rule="uniform"))
    assert np.all(orders % steps == 0)
    assert np.all((steps <= orders) & (orders <= full))
    assert budget - steps.max() < orders.sum() <= budget
    # Nobody is above the common share by more than a mode, but for the first one.
    above = orders - budget * full / full.sum()
    assert np.all((above < 2) | (orders == steps))


def ranked(sys):
    """h∞ scores of the blocks and real poles, from the residues, descending."""
    q = 2 * sys.A.blocks
    b, c = sys.B[:q, 0].reshape(-1, 2), sys.C[0, :q].reshape(-1, 2)
    # ‖c_i‖‖b_i‖ of the complex modes of a block, x_1 ± i x_2: |b||c|/2.
    pairs = np.linalg.norm(b, axis=1) * np.linalg.norm(c, axis=1) / 2 / (1 - abs(sys.A.radius))
    reals = np.abs(sys.B[q:, 0] * sys.C[0, q:]) / (1 - np.abs(sys.A.real_poles))
    return pairs, reals


@pytest.mark.parametrize("rule", ["last", "global", "uniform"])
def test_batches_count_as_one_layer_with_common_scores(rule):
    """A batch of pairs and a single system whose scores are the root of the summed squares."""
    rng = np.random.default_rng(7)
    first = build_system(rng, "rotation", batch=(5,), n=8, m=1, p=1)
    other = build_system(rng, "rotation", n=8)
    added = np.sqrt(sum(np.sort(ranked(first[i])[0])[::-1] ** 2 for i in range(5)))
    gap = 1 - np.linspace(0.2, 0.8, 4)
    strength = np.sqrt(2 * added * gap)
    A = lti.Rotation(1 - gap, np.linspace(0.5, 2, 4))
    single = np.column_stack([strength, np.zeros(4)]).ravel()
    alone = lti.LTI(A, single[:, None], single[None])
    for budget in range(4, 17, 3):
        orders = allocate_modal_orders([first, other], budget=budget, rule=rule)
        assert orders == allocate_modal_orders([alone, other], budget=budget, rule=rule)
        assert sum(orders) <= budget
        assert all(order % 2 == 0 for order in orders)


def test_batches_with_real_poles_count_states_one_by_one():
    rng = np.random.default_rng(8)
    batch = build_system(rng, "rotation with real poles", batch=(3,), n=7, m=1, p=1)
    squares = np.zeros(7)
    for index in range(3):
        pairs, reals = ranked(batch[index])
        squares += np.sort(np.concatenate([np.repeat(pairs, 2), reals]))[::-1] ** 2
    single = lti.LTI(lti.Diagonal(np.zeros(7)), squares[:, None] ** 0.25, squares[None] ** 0.25)
    other = build_system(rng, "real diagonal", n=7)
    for budget in (2, 5, 9, 13):
        for rule in ("last", "global", "uniform"):
            orders = allocate_modal_orders([batch, other], budget=budget, rule=rule)
            assert orders == allocate_modal_orders([single, other], budget=budget, rule=rule)


def test_dense_batches_may_differ_in_their_pairs():
    rng = np.random.default_rng(9)
    pair, real = build_system(rng, "rotation", n=4), build_system(rng, "real diagonal", n=4)
    both = [pair.to_dense(), real.to_dense()]
    batch = lti.LTI(
        *(np.stack([getattr(sys, name) for sys in both]).real for name in ("A", "B", "C"))
    )
    assert allocate_modal_orders([batch], budget=3) == [3]
    assert allocate_modal_orders([batch], ratio=0.0) == [4]


def test_empty_batches_hold_no_orders():
    A = lti.Rotation(np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(lti.ShapeError, match="holds no system"):
        allocate_modal_orders([lti.LTI(A, np.zeros((0, 4, 1)), np.zeros((0, 1, 4)))], budget=2)


def test_bad_budgets():
    with pytest.raises(lti.ArgumentError, match="budget of 2 states"):
        allocate_modal_orders(layers(), budget=2)
    with pytest.raises(lti.ArgumentError, match="rule='best'"):
        allocate_modal_orders(layers(), budget=9, rule="best")
    with pytest.raises(lti.ArgumentError, match="exactly one"):
        allocate_modal_orders(layers())


def test_bounds_of_inputs_and_outputs_whose_squares_do_not_exist():
    """‖c‖‖b‖/(1 − λ) of the mode that is dropped, for couplings of 1e-60 and 1e-200."""
    B, C = np.array([[1.0], [3.0]]) * 2.0**-200, np.array([[1.0, 0.25]]) * 2.0**-670
    reduction = lti.modal_truncation(lti.LTI(lti.Diagonal([0.5, -0.5]), B, C), 1)
    assert reduction.system.A.poles[0] == 0.5
    assert reduction.error_bound == 1.5 * 2.0**-870


# --- clusters of poles --------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [lti.diagonalize, lti.to_rotation])
@pytest.mark.parametrize("A", [np.eye(4, k=-1), np.array([[0.9, 1, 0], [0, 0.9, 0], [0, 0, 0.3]])])
def test_chains_of_equal_poles_are_refused_with_what_takes_them(ask, A):
    """Delays z^-4, and a pole twice over: no eigenvectors, and reductions that need none."""
    n = len(A)
    sys = lti.LTI(A, np.ones((n, 1)), np.ones((1, n)))
    with pytest.raises(lti.ArgumentError, match=r"defective .* h2_reduc[^;]* modal_truncation"):
        ask(sys)
    assert lti.balanced_truncation(sys, order=2).order == 2
    assert lti.h2_reduction(sys, 2, starts=0).order == 2
    assert modal_truncation(sys, n).order == n


def chain(length, pole, coupling=1.0):
    """coupling^(k−1)/(z − pole)^k; a delay z^-k of length k for pole = 0."""
    A = pole * np.eye(length) + coupling * np.eye(length, k=-1)
    return A, np.eye(length)[:, :1], np.eye(length)[-1:]


def mode(pole, residue):
    return np.array([[pole]]), np.ones((1, 1)), np.array([[residue]])


def in_parallel(parts, turned=True, dt=True):
    """The sum of (A, B, C), in orthogonal coordinates that rounding mixes, or as it is."""
    A, B, C = (
        scipy.linalg.block_diag(*(A for A, _, _ in parts)),
        *(np.concatenate([part[i] for part in parts], axis=i - 1) for i in (1, 2)),
    )
    U = np.eye(len(A))
    if turned:
        U = np.linalg.qr(np.random.default_rng(0).standard_normal(A.shape))[0]
    return lti.LTI(U @ A @ U.T, U @ B, C @ U.T, dt=dt)


@pytest.mark.parametrize("turned", [False, True])
def test_a_delay_is_one_mode(turned):
    """2 z^-4 + 1/(z − 0.9) + 0.3/(z + 0.5), whose parts have the h∞ norms 2, 10 and 0.6."""
    A, B, C = chain(4, 0.0)
    sys = in_parallel([(A, 2 * B, C), mode(0.9, 1.0), mode(-0.5, 0.3)], turned)
    omega = np.linspace(0, 3, 7)
    z = np.exp(1j * omega)
    cases = ((1, 1 / (z - 0.9), 2.6), (5, 1 / (z - 0.9) + 2 / z**4, 0.6))
    for order, expected, bound in cases:
        reduction = modal_truncation(sys, order)
        assert reduction.order == order
        # The norms are asked to 1e-8. A rounding of A moves a fourfold pole by its fourth root, the
        # response of the whole cluster by no more than itself.
        assert reduction.error_bound == pytest.approx(bound, rel=3e-8)
        H = lti.frequency_response(reduction.system, omega)[:, 0, 0]
        np.testing.assert_allclose(H, expected, rtol=0, atol=1e-10)
        W, V = reduction.left, reduction.right
        np.testing.assert_allclose(W.T @ V, np.eye(order), atol=1e-12)
        np.testing.assert_allclose(W.T @ sys.A @ V, reduction.system.A, atol=1e-12)
        np.testing.assert_allclose(sys.C @ V, reduction.system.C, atol=1e-12)
    # Three states are left, too few for the delay.
    with pytest.warns(lti.PrecisionWarning, match="has 2 states"):
        assert modal_truncation(sys, 4).error_bound == pytest.approx(2, rel=3e-8)


def test_a_delay_alone_is_kept_or_nothing():
    sys = lti.LTI(*chain(5, 0.0))
    with pytest.raises(lti.ArgumentError, match="clusters of poles, of 5 states and more: ask"):
        modal_truncation(sys, 4)
    reduction = modal_truncation(sys, 5)
    assert reduction.error_bound == 0
    h = lti.impulse_response(reduction.system, 8)[:, 0, 0]
    np.testing.assert_allclose(h, [0, 0, 0, 0, 0, 1, 0, 0], atol=1e-14)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dt", [True, 0])
def test_thirty_equal_poles_are_one_mode(dt, turned):
    """Rounding spreads them over a disk; the largest gain of c^29/|z − p|^30 is at z = 1 or s = 0,
    and of the other poles one lies next to the disk."""
    if dt:
        parts = [chain(30, 0.2, 0.9), mode(0.9, 1.0), mode(-0.75, 0.5)]
        peaks = [0.9**29 / 0.8**30, 10.0, 2.0]
    else:
        parts = [chain(30, -1.0, 1.1), mode(-0.05, 0.5), mode(-3.0, 9.0)]
        peaks = [1.1**29, 10.0, 3.0]
    sys = in_parallel(parts, turned, dt)
    points = (lambda w: np.exp(1j * w)) if dt else (lambda w: 1j * w)
    omega = np.linspace(0, 3, 9)
    (p, q, r), (b, c) = [part[0][0, 0] for part in parts], [part[2][0, 0] for part in parts[1:]]
    z, coupling = points(omega), parts[0][0][1, 0]
    kept = coupling**29 / (z - p) ** 30
    single = [b / (z - q), c / (z - r)]
    strongest = np.argsort(peaks)[::-1]
    for count in (1, 2):
        chosen = strongest[:count]
        order = sum(30 if i == 0 else 1 for i in chosen)
        reduction = modal_truncation(sys, order)
        assert reduction.order == order
        bound = sum(peaks[i] for i in strongest[count:])
        # ‖(zI − A)⁻¹‖ reaches Σ c^k/|z − p|^{k+1} < 400: 2e-16 n ‖A‖ of it squared.
        assert reduction.error_bound == pytest.approx(bound, rel=1e-8, abs=1e-8 * max(peaks))
        expected = sum([kept, *single][i] for i in chosen)
        H = lti.frequency_response(reduction.system, omega)[:, 0, 0]
        np.testing.assert_allclose(H, expected, rtol=0, atol=1e-9 * max(peaks))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_double_pairs_are_told_from_what_lies_between(kind, turned):
    """Two equal pairs in series beside a pole in their middle and another pair."""
    turn, other = 0.8 * np.exp(0.9j), 0.6 * np.exp(2j)
    block = np.array([[turn.real, turn.imag], [-turn.imag, turn.real]])
    A = np.block([[block, np.eye(2)], [np.zeros((2, 2)), block]])
    pair = np.array([[other.real, other.imag], [-other.imag, other.real]])
    parts = [
        (A, np.array([[0, 0, 1.0, 0]]).T, np.array([[1.0, 0, 0, 0]])),
        mode(turn.real, 0.1),
        (pair, np.array([[1.0, 0]]).T, np.array([[0.02, 0]])),
    ]
    sys = in_parallel(parts, turned)
    if kind == "complex":
        U = np.linalg.qr(np.random.default_rng(1).standard_normal((7, 7, 2)) @ [1, 1j])[0]
        sys = lti.LTI(U @ sys.A @ U.conj().T, U @ sys.B, sys.C @ U.conj().T)
    reduction = modal_truncation(sys, 4)
    assert np.iscomplexobj(reduction.system.A) == (kind == "complex")
    omega = np.linspace(-3, 3, 11)
    z = np.exp(1j * omega)
    # The first state of the first pair, driven through the first of the second.
    expected = (1 / (z - turn) ** 2 + 1 / (z - turn.conj()) ** 2) / 2
    H = lti.frequency_response(reduction.system, omega)[:, 0, 0]
    np.testing.assert_allclose(H, expected, rtol=0, atol=1e-10)
    dropped = 0.1 / (1 - abs(turn.real))
    assert dropped < reduction.error_bound < dropped + 2 * 0.02 / (1 - abs(other))


def test_batches_with_delays():
    """Entries with and without clusters, each reduced for itself, if they keep as many states."""
    delays, simple = (
        in_parallel([chain(2, 0.0), mode(0.9, 1.0)]),
        in_parallel([mode(0.5, 1.0), mode(0.9, 1.0), mode(-0.2, 0.1)]),
    )
    both = lti.LTI(*(np.stack([getattr(s, name) for s in (delays, simple)]) for name in "ABC"))
    reduction = modal_truncation(both, 1)
    for index, sys in enumerate((delays, simple)):
        np.testing.assert_allclose(reduction.system.poles[index], 0.9, rtol=1e-13)
        alone = modal_truncation(sys, 1)
        assert reduction.error_bound[index] == pytest.approx(alone.error_bound, rel=3e-8)
    with pytest.raises(lti.ShapeError, match="differ in form"):
        modal_truncation(both, 2)


def test_delays_have_scores_among_layers_but_no_magnitudes():
    delay = in_parallel([chain(3, 0.0), mode(0.5, 0.1)], turned=False)
    weak, strong = (lti.LTI(lti.Diagonal([0.5]), [[1.0]], [[c]]) for c in (0.01, 9.0))
    assert allocate_modal_orders([delay, weak, strong], budget=6, rule="global") == [4, 1, 1]
    assert allocate_modal_orders([delay, weak, strong], budget=5, rule="global") == [3, 1, 1]
    with pytest.raises(lti.ArgumentError, match="defective"):
        modal_truncation(delay, 3, score="magnitude")


def test_equal_poles_that_nothing_couples_stay_apart():
    """0.5 three times over, on one state each, beside a delay: single poles of their own."""
    parts = [chain(2, 0.0), *(mode(0.5, c) for c in (1.0, 2.0, 0.25))]
    reduction = modal_truncation(in_parallel(parts, turned=False), 1)
    assert reduction.error_bound == pytest.approx(2 * 1.25 + 1, rel=3e-8)
