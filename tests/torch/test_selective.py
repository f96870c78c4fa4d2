"""Selective layers: mean systems over data, their Gramians, and reduction by them."""

import copy
from itertools import combinations

import numpy as np
import pytest
import scipy.linalg
import torch
from layer_kinds import make

import lticore as lti
from lticore_torch import SelectiveSSM, compress, load, save
from lticore_torch.compression.losses import Loss
from lticore_torch.compression.sensitivity import gramians_on_data
from lticore_torch.layers.batches import batches_of
from lticore_torch.layers.state_gramians import StateGramians


@pytest.fixture
def layer():
    return make("selective", 3, 6)


@pytest.fixture
def data():
    torch.manual_seed(1)
    return torch.randn(2, 40, 3, dtype=torch.float64)


def brute_force(layer, data):
    """E e^{Δa}, E Δ b, E c, one step of one sequence after another."""
    p = {name: x.detach().numpy() for name, x in layer.named_parameters()}
    poles = -np.exp(p["real_log"])
    seen = []
    for u in data.reshape(-1, 3).numpy():
        delta = np.log1p(np.exp(p["step_up"] @ p["step_down"] @ u + p["step_bias"]))[:, None]
        b, c = p["B"] @ u, p["C"] @ u
        seen.append((np.exp(delta * poles), delta * b, c))
    return [np.mean(x, axis=0) for x in zip(*seen, strict=True)]


def test_mean_system_is_the_mean_over_all_steps(layer, data):
    A, B, C = brute_force(layer, data)
    sys = layer.mean_lti(data)
    assert sys.batch_shape == (3,)
    np.testing.assert_allclose(sys.A.real_poles, A, rtol=1e-12)
    np.testing.assert_allclose(sys.B[..., 0], B, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(sys.C, np.broadcast_to(C, (3, 1, 6)), rtol=1e-10, atol=1e-14)
    np.testing.assert_array_equal(sys.D[:, 0, 0], layer.D.detach())
    assert np.all(sys.spectral_radius < 1)


def test_mean_system_of_conjugate_pairs(layer, data):
    layer.reduce(4, gramians_of(layer, data))
    with torch.no_grad():  # two pairs that turn
        layer.real_log.data = torch.zeros(0, dtype=torch.float64)
        layer.decay_log.data = torch.tensor([0.0, 1.0], dtype=torch.float64)
        layer.frequency.data = torch.tensor([3.0, -8.0], dtype=torch.float64)
    steps = layer._steps(data.flatten(0, 1)).detach().numpy()
    rates = -np.exp([0.0, 1.0]) - 1j * np.array([3.0, -8.0])
    expected = np.exp(steps[..., None] * rates).mean(axis=0)
    A = layer.mean_lti(data).A
    np.testing.assert_allclose(A.radius * np.exp(-1j * A.angle), expected, rtol=1e-12)
    again = make("selective")
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(data), layer(data))


def gramians_of(layer, data):
    """What the layer's states are judged by when its output counts."""
    loss = Loss("output", seed=0)
    return gramians_on_data(layer, {"layer": layer}, batches_of(data), loss)[0]["layer"]


@pytest.mark.parametrize("pairs", [False, True])
def test_sums_of_states_and_costates_step_by_step(layer, data, pairs):
    """x_k = e^{Δ_k a} x_{k−1} + Δ_k b_k u_k by step(), and λ_k = e^{Δ_{k+1} aᵀ} λ_{k+1} + c_k g_k
    with the matrix exponential of the generator."""
    if pairs:
        layer.reduce(4, gramians_of(layer, data))
        with torch.no_grad():
            layer.real_log.data = torch.zeros(2, dtype=torch.float64)
            layer.decay_log.data = torch.tensor([0.3], dtype=torch.float64)
            layer.frequency.data = torch.tensor([5.0], dtype=torch.float64)
    n, g = layer.order, torch.randn(2, 40, 3, dtype=torch.float64)
    a, steps = layer._generator(), layer._steps(data).detach().numpy()
    c = (data @ layer.C.mT).detach().numpy()
    P, Q = np.zeros((2, n, n))
    for i in range(2):
        state = None
        for k in range(40):
            _, state = layer.step(data[i, k], state)
            P += state.T.detach().numpy() @ state.detach().numpy()
        costate = np.zeros((3, n))
        for k in reversed(range(40)):
            if k + 1 < 40:
                decays = [scipy.linalg.expm(steps[i, k + 1, j] * a).T for j in range(3)]
                costate = np.stack([E @ x for E, x in zip(decays, costate, strict=True)])
            costate = costate + g[i, k].numpy()[:, None] * c[i, k]
            Q += costate.T @ costate
    found = layer.sums_on(data, g)
    for X, expected in zip(found, (P, Q), strict=True):
        np.testing.assert_allclose(X, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_all_states_are_the_layer_itself(layer, data):
    expected = layer(data)
    layer.reduce(6, gramians_of(layer, data))
    torch.testing.assert_close(layer(data), expected, rtol=1e-6, atol=1e-8)


def test_all_pairs_are_the_layer_itself(layer, data):
    """The block of a pair turns one way, and with it the maps into its two states."""
    layer.reduce(4, gramians_of(layer, data))
    with torch.no_grad():
        layer.real_log.data = torch.zeros(0, dtype=torch.float64)
        layer.decay_log.data = torch.tensor([0.0, 1.0], dtype=torch.float64)
        layer.frequency.data = torch.tensor([3.0, -8.0], dtype=torch.float64)
    expected = layer(data)
    layer.reduce(4, gramians_of(layer, data))
    assert len(layer.frequency) == 2
    torch.testing.assert_close(layer(data), expected, rtol=1e-6, atol=1e-8)


def test_error_falls_with_the_order(layer, data):
    errors = []
    for order in (1, 3, 5):
        _, report = compress(layer, orders=[order], calibration=data)
        errors.append(report.output_change)
    assert errors[2] < 1e-3 < errors[0]
    assert errors[1] < errors[0]


def test_energy_counts_the_mean_singular_values(layer, data):
    sigma = gramians_of(layer, data).singular_values
    for energy in (0.5, 0.9, 0.9999):
        small, report = compress(layer, energy=energy, calibration=data)
        order = int(np.argmax(np.cumsum(sigma) >= energy * sigma.sum())) + 1
        assert report.orders == [order] == [small.order]
        np.testing.assert_allclose(report.layers[0].singular_values, sigma)


def test_means_of_symmetric_inputs_say_nothing(layer, data):
    """With steps that do not depend on the input, b(u) and c(u) average to 0 over ±u: the mean
    system has no Hankel value left, while the layer does as much as ever."""
    with torch.no_grad():
        layer.step_up.zero_()
    both = torch.cat([data, -data])
    assert np.max(lti.hankel_singular_values(layer.mean_lti(both))) < 1e-14
    moved = (layer(both) - layer.D * both).norm() / both.norm()
    assert moved > 0.1
    sigma = gramians_of(layer, both).singular_values
    assert sigma[0] > 0


def mean_system_gramians(layer, data):
    """CompreSSM A.2 to the letter: Gramians of the mean systems, added over the channels."""
    sys = layer.mean_lti(data)
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    return StateGramians(P.sum(axis=0), Q.sum(axis=0))


def test_data_choose_better_states_than_means():
    """At half of the states: a tenth of the states' answer against 77 %."""
    torch.manual_seed(0)
    layer = SelectiveSSM(4, 8).double()
    data, fresh = torch.randn(2, 8, 100, 4, dtype=torch.float64).unbind()
    answer, errors = layer(fresh) - layer.D * fresh, []
    for gramians in (gramians_of(layer, data), mean_system_gramians(layer, data)):
        small = copy.deepcopy(layer)
        small.reduce(4, gramians)
        errors.append(((small(fresh) - layer(fresh)).norm() / answer.norm()).item())
    assert errors[0] < 0.15
    assert errors[1] > 0.5


def test_silent_data_leave_one_state(layer):
    _, report = compress(layer, ratio=0.5, calibration=torch.zeros(1, 5, 3, dtype=torch.float64))
    assert report.orders == [1]
    assert report.output_change == 0


@pytest.mark.parametrize("order", [0, 7])
def test_orders_outside_the_states_are_refused(layer, data, order):
    with pytest.raises(lti.ArgumentError, match=r"order must lie in 1 … 6"):
        layer.reduce(order, gramians_of(layer, data))


def test_data_have_the_width_of_the_layer(layer):
    with pytest.raises(lti.ShapeError, match=r"layer of 3 features takes .* shape \(4, 2\)"):
        layer.mean_lti(torch.zeros(4, 2))


# --- poles of every channel's own ---------------------------------------------------------------


@pytest.fixture
def channels():
    """Poles of no order, so that nothing is known of which states matter."""
    layer = make("selective channels", 3, 6)
    with torch.no_grad():
        layer.real_log.add_(0.5 * torch.randn(3, 6))
        layer.C.mul_(torch.tensor([0.1, 1.0, 0.01, 2.0, 0.3, 0.5])[:, None])
    return layer


def states_of(layer, data):
    """(sequences, L, channels, n) by step()."""
    state, states = None, []
    for u in data.unbind(dim=1):
        _, state = layer.step(u, state)
        states.append(state.detach())
    return torch.stack(states, dim=1)


def test_mean_system_of_channel_poles(channels, data):
    A, B, C = brute_force(channels, data)
    sys = channels.mean_lti(data)
    np.testing.assert_allclose(sys.A.real_poles, A, rtol=1e-12)
    np.testing.assert_allclose(sys.B[..., 0], B, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(sys.C, np.broadcast_to(C, (3, 1, 6)), rtol=1e-10, atol=1e-14)


def test_sums_of_states_and_of_what_reads_them(channels, data):
    g = torch.randn(2, 40, 3, dtype=torch.float64)
    states = states_of(channels, data)
    readers = (g[..., None] * (data @ channels.C.mT)[..., None, :]).detach()
    for X, rows in zip(channels.sums_on(data, g), (states, readers), strict=True):
        rows = rows.flatten(0, 2).numpy()
        np.testing.assert_allclose(X, rows.T @ rows, rtol=1e-12, atol=1e-13)


def test_kept_states_are_the_layers_own_and_estimate_the_others(channels, data):
    """The output is exactly c(u)ᵀ V x_S, V the least squares of all states on those kept."""
    gramians, states = gramians_of(channels, data), states_of(channels, data)
    S, V = gramians.kept(3)
    rows = states.flatten(0, 2).numpy()
    np.testing.assert_allclose(V.T, np.linalg.lstsq(rows[:, S], rows)[0], rtol=0, atol=1e-9)
    small = copy.deepcopy(channels)
    small.reduce(3, gramians)
    assert small.channel_poles
    torch.testing.assert_close(small.real_log, channels.real_log[:, S])
    estimated = states[..., S] @ torch.from_numpy(V).mT
    expected = (estimated @ (data @ channels.C.mT)[..., None])[..., 0] + channels.D * data
    torch.testing.assert_close(small(data), expected, rtol=1e-10, atol=1e-11)


def test_values_say_what_is_lost(channels, data):
    """The squares of those left out add up to tr(Q (P − P_{:S} P_{SS}⁻¹ P_{S:}))."""
    gramians = gramians_of(channels, data)
    P, Q = gramians.P, gramians.Q
    taken = gramians._choice[1]
    for order in range(1, 7):
        S, V = gramians.kept(order)
        lost = np.trace(Q @ (P - V @ P[S]))
        np.testing.assert_allclose(taken[order:].sum(), lost, rtol=0, atol=1e-9 * np.trace(Q @ P))
    assert np.all(np.diff(gramians.singular_values) <= 0)
    np.testing.assert_allclose(np.sort(gramians.singular_values**2), np.sort(taken), rtol=1e-12)


def test_the_choice_is_nearly_the_best(channels, data):
    """Of all sets of three states, by enumeration."""
    gramians = gramians_of(channels, data)
    P, Q = gramians.P, gramians.Q

    def lost(S):
        return np.trace(Q @ (P - P[:, S] @ np.linalg.solve(P[np.ix_(S, S)], P[S])))

    every = sorted(lost(list(S)) for S in combinations(range(6), 3))
    found = lost(list(gramians.kept(3)[0]))
    assert found <= 1.5 * every[0]
    assert found < np.median(every)


def test_all_channel_states_are_the_layer_itself(channels, data):
    expected = channels(data)
    channels.reduce(6, gramians_of(channels, data))
    torch.testing.assert_close(channels(data), expected, rtol=1e-8, atol=1e-10)


def test_layers_of_channel_poles_are_compressed_stored_and_silent(channels, data, tmp_path):
    small, report = compress(channels, ratio=0.5, calibration=data)
    assert report.orders == [3]
    save(small, tmp_path / "small")
    torch.testing.assert_close(load(tmp_path / "small")(data), small(data), rtol=0, atol=0)
    fresh = make("selective channels", 3, 6, seed=3)
    fresh.load_state_dict(small.state_dict())
    torch.testing.assert_close(fresh(data), small(data), rtol=0, atol=0)
    _, report = compress(channels, ratio=0.5, calibration=torch.zeros_like(data))
    assert report.orders == [1]
    with pytest.raises(lti.ArgumentError, match="order must lie in 1 … 6"):
        channels.reduce(7, gramians_of(channels, data))


def test_one_set_of_poles_for_all_channels_is_the_shared_layer(layer, data):
    own = make("selective channels", 3, 6)
    values = {k: v for k, v in layer.state_dict().items() if k != "real_log"}
    own.load_state_dict({**values, "real_log": layer.real_log.detach().repeat(3, 1)})
    torch.testing.assert_close(own(data), layer(data), rtol=1e-13, atol=1e-14)
