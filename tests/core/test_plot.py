"""Pictures: the data that they show, their labels and units, and what they refuse."""

import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot as plt

import lticore as lti

RNG = np.random.default_rng(0)
B, C = RNG.standard_normal((5, 2)), RNG.standard_normal((3, 5))
DISCRETE = lti.Rotation([0.9, 0.7], [0.5, 2.0], [0.5])
CONTINUOUS = lti.Oscillation([0.1, 1.0], [3.0, 0.5], [-2.0])
UNITS = {
    True: ("rad/sample", "e$^{iω}$", "step k", ""),
    0.5: ("rad/s", "e$^{iω dt}$", "t in s", ""),
    0: ("rad/s", "iω", "t in s", " in 1/s"),
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def system(dt, feedthrough=True):
    D = np.ones((3, 2)) if feedthrough else None
    return lti.LTI(CONTINUOUS if dt == 0 else DISCRETE, B, C, D, dt=dt)


def one_signal(dt):
    return lti.LTI(system(dt).A, B[:, :1], C[:1], [[0.5]], dt=dt)


def curves(ax):
    """(label, x, y) of each line."""
    return [(x.get_label(), *map(np.asarray, x.get_data())) for x in ax.get_lines()]


def named(ax, label):
    (found,) = [curve for curve in curves(ax) if curve[0] == label]
    return found[1:]


# --- what is drawn ----------------------------------------------------------------------------


@pytest.mark.parametrize("dt", UNITS)
def test_hankel_values_and_their_bound(dt):
    sys = system(dt)
    ax = lti.plot.hankel_values(sys)
    values = lti.hankel_singular_values(sys)
    i, sigma = named(ax, "order 5")
    np.testing.assert_array_equal(i, np.arange(1, 6))
    np.testing.assert_array_equal(sigma, values)
    bound_ax = ax.figure.axes[-1]
    ((_, r, bound),) = curves(bound_ax)
    np.testing.assert_array_equal(r, np.arange(5))
    expected = [2 * values[k:].sum() for k in range(5)]
    np.testing.assert_allclose(bound, expected, rtol=1e-14)
    assert ax.get_ylim() == bound_ax.get_ylim()
    assert ax.get_ylim()[0] < values[-1] < bound[0] < ax.get_ylim()[1]
    assert (ax.get_yscale(), bound_ax.get_yscale()) == ("log", "log")
    assert "Hankel" in ax.get_ylabel()
    assert "bound" in bound_ax.get_ylabel()


def test_hankel_values_of_several():
    """Of a list, of reductions (the values of the full system), and without those that are 0."""
    sys, gain = system(True), lti.LTI(np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((3, 0)))
    reduced = lti.balanced_truncation(sys, order=2)
    for given in ([sys, reduced, gain], [[sys, reduced, gain]]):
        ax = lti.plot.hankel_values(*given, labels=["a", "b", "c"])
        np.testing.assert_array_equal(named(ax, "a")[1], named(ax, "b")[1])
        assert len(named(ax, "c")[1]) == 0
    delay = lti.LTI(np.eye(3, k=-1), np.eye(3, 1), np.eye(1, 3, 1))
    ax = lti.plot.hankel_values(delay)
    np.testing.assert_allclose(named(ax, "order 3")[1], [1.0, 1.0], rtol=1e-15)
    matrices = lti.plot.hankel_values([delay.A, delay.B, delay.C])
    assert len(curves(matrices)) == 1


@pytest.mark.parametrize("dt", UNITS)
def test_singular_values_over_frequency(dt):
    sys = system(dt)
    reduced = lti.balanced_truncation(sys, order=3)
    ax = lti.plot.sigma(sys, reduced)
    frequency, point, *_ = UNITS[dt]
    assert ax.get_xlabel() == f"ω in {frequency}"
    assert ax.get_ylabel() == f"singular values of H({point})"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    step = 1.0 if dt in (True, 0) else dt
    for label, shown in (
        ("order 5", sys),
        ("order 3", reduced.system),
        ("error, order 3", sys - reduced.system),
    ):
        omega, gain = named(ax, label)
        H = lti.frequency_response(shown, omega * step)
        np.testing.assert_allclose(gain, np.linalg.norm(H, 2, axis=(1, 2)), rtol=1e-10)
    np.testing.assert_array_equal(named(ax, "bound, order 3")[1], [reduced.error_bound] * 2)
    # The second of both singular values, thinner and without a name, for each of three systems.
    assert sum(x.get_linewidth() == 0.8 and len(x.get_xdata()) > 2 for x in ax.get_lines()) == 3
    omega, gain = named(ax, "order 5")
    assert gain.max() == pytest.approx(lti.hinf_norm(sys), rel=1e-3)
    if dt != 0:
        assert omega.max() == pytest.approx(np.pi / step)


def test_given_frequencies_and_an_integrator():
    """Where H is infinite nothing is drawn."""
    ax = lti.plot.sigma(lti.LTI([[0.0]], [[1.0]], [[1.0]], dt=0), frequencies=[0.5, 2.0])
    omega, gain = named(ax, "order 1")
    np.testing.assert_array_equal(omega, [0.5, 2.0])
    np.testing.assert_allclose(gain, [2.0, 0.5], rtol=1e-15)
    undamped = lti.LTI([[0.0, 2.0], [-2.0, 0.0]], [[1.0], [0.0]], [[1.0, 0.0]], dt=0)
    ax = lti.plot.sigma(undamped, frequencies=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(named(ax, "order 2")[0], [1.0, 3.0])


@pytest.mark.parametrize("dt", UNITS)
def test_poles_and_the_boundary(dt):
    sys = system(dt)
    ax = lti.plot.poles(sys, sys / 2, labels=["one", "two"])
    for label in ("one", "two"):
        x, y = named(ax, label)
        np.testing.assert_array_equal(x + 1j * y, sys.poles)
    boundary = ax.get_lines()[0]
    x, y = map(np.asarray, boundary.get_data())
    if dt == 0:
        np.testing.assert_array_equal(x, [0, 0])
    else:
        np.testing.assert_allclose(np.hypot(x, y), 1, rtol=1e-14)
        assert ax.get_aspect() == 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == tuple(f"{x} λ{UNITS[dt][3]}" for x in ("Re", "Im"))


@pytest.mark.parametrize("dt", UNITS)
def test_impulse_responses(dt):
    sys, small = one_signal(dt), lti.modal_truncation(one_signal(dt), 3)
    ax = lti.plot.impulse(sys, small)
    assert (ax.get_xlabel(), ax.get_ylabel()) == (UNITS[dt][2], "impulse response")
    for label, shown in (("order 5", sys), ("order 3", small.system)):
        t, y = named(ax, label)
        if dt == 0:
            h = lti.impulse_response(shown, t)
        else:
            h = lti.impulse_response(shown, len(t))
            np.testing.assert_allclose(t, np.arange(len(t)) * (1 if dt is True else dt))
        np.testing.assert_allclose(y, h[:, 0, 0], atol=1e-12)
    assert abs(y[-1]) < 0.01 * np.abs(y).max()


@pytest.mark.parametrize("dt", UNITS)
def test_step_responses_of_several_signals(dt):
    """Beside closed forms: D + C (e^{At} − 1) A⁻¹ B, and sums over steps."""
    sys = system(dt)
    axes = lti.plot.step(sys, end=4.0)
    assert axes.shape == (3, 2)
    A = sys.A.to_dense()
    for i, j in np.ndindex(3, 2):
        t, y = named(axes[i, j], "order 5")
        assert t[0] == 0
        assert 4.0 <= t[-1] <= 4.01
        if dt == 0:
            poles, V = np.linalg.eig(A)
            b, c = np.linalg.solve(V, B[:, j]), C[i] @ V
            expected = 1 + ((np.exp(np.outer(t, poles)) - 1) @ (c * b / poles)).real
        else:
            u = np.zeros((len(t), 2))
            u[:, j] = 1
            expected = lti.simulate(sys, u)[:, i]
        np.testing.assert_allclose(y, expected, atol=1e-12)
    assert axes[1, 0].get_title() == "input 1 → output 2"
    assert axes[2, 1].get_xlabel() == UNITS[dt][2]
    assert axes[0, 0].get_ylabel() == "step response"


def test_complex_responses_have_two_lines():
    sys = lti.LTI(lti.Diagonal([0.5j]), [[1.0 + 0j]], [[1.0 + 0j]])
    real, imaginary = lti.plot.impulse(sys, end=6).get_lines()
    np.testing.assert_allclose(real.get_ydata(), [0, 1, 0, -0.25, 0, 0.0625, 0], atol=1e-16)
    np.testing.assert_allclose(
        imaginary.get_ydata(), [0, 0, 0.5, 0, -0.125, 0, 0.03125], atol=1e-16
    )
    assert imaginary.get_linestyle() == ":"


@pytest.mark.parametrize("dt", [True, 0])
@pytest.mark.parametrize("poles", [[], [0.0, 0.0], [1.0, 0.5], [1.5, -2.0]])
def test_every_system_has_its_pictures(dt, poles):
    """Gains, delays and integrators, and unstable ones."""
    n = len(poles)
    sys = lti.LTI(lti.Diagonal(poles), np.ones((n, 1)), np.ones((1, n)), [[1.0]], dt=dt)
    for picture in (lti.plot.sigma, lti.plot.poles, lti.plot.step, lti.plot.impulse):
        ax = picture(sys)
        ax.figure.canvas.draw()
        assert all(np.all(np.isfinite(y)) for _, _, y in curves(ax))


# --- axes -------------------------------------------------------------------------------------


def test_given_axes_are_drawn_into():
    _, ax = plt.subplots(1, 5)
    sys = one_signal(True)
    for k, name in enumerate(["hankel_values", "sigma", "poles", "step", "impulse"]):
        assert getattr(lti.plot, name)(sys, ax=ax[k]) is ax[k]
        assert ax[k].get_lines()
        assert ax[k].get_legend() is not None
    _, grid = plt.subplots(3, 2)
    assert lti.plot.step(system(0), ax=grid)[2, 1] is grid[2, 1]
    with pytest.raises(lti.ShapeError, match="ax holds 1 axes, but 3 outputs and 2 inputs need 6"):
        lti.plot.step(system(0), ax=ax[0])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: lti.plot.poles(), "no system to draw"),
        (lambda: lti.plot.poles([]), "no system to draw"),
        (lambda: lti.plot.poles(3.0), r"sys \(float\) is not a system"),
        (lambda: lti.plot.poles(system(0), system(True)), "dt = 0.0 and dt = True"),
        (lambda: lti.plot.step(system(1.0), system(True)), "dt = 1.0 and dt = True"),
        (lambda: lti.plot.step(system(0), one_signal(0)), "2 inputs and 3 outputs, and 1 and 1"),
        (lambda: lti.plot.step(system(0), end=-1), "end must be a time > 0, but is -1"),
        (lambda: lti.plot.sigma(system(0), labels=["a", "b"]), "2 labels do not name 1 systems"),
        (lambda: lti.plot.sigma(system(0), frequencies=[0.0]), "positive: the axis is log"),
        (
            lambda: lti.plot.sigma(
                lti.LTI(lti.Diagonal([[0.5], [0.25]]), np.ones((1, 1)), np.ones((1, 1)))
            ),
            r"sys is a batch \(2,\): draw its entries",
        ),
    ],
)
def test_refused(draw, message):
    with pytest.raises(lti.ArgumentError, match=message):
        draw()


def test_matplotlib_is_loaded_by_the_first_picture_only():
    code = (
        "import sys, lticore as lti, numpy as np\n"
        "sys.modules['matplotlib'] = None\n"
        "try:\n"
        "    lti.plot.poles((np.eye(1) / 2, np.eye(1), np.eye(1)))\n"
        "except lti.ArgumentError as error:\n"
        "    print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "pictures need Matplotlib: pip install 'lticore[plot]'"


# --- what is seen -----------------------------------------------------------------------------


def test_values_that_two_share_are_both_seen():
    sys = system(True)
    ax = lti.plot.hankel_values(sys, lti.balanced_truncation(sys, order=2))
    dots, rings = ax.get_lines()
    assert (dots.get_label(), rings.get_label()) == ("order 5", "order 2 of 5")
    assert rings.get_markerfacecolor() == "none"
    assert rings.get_markersize() > dots.get_markersize()


def test_rounding_of_an_allpass_is_not_magnified():
    delay = lti.LTI(np.eye(12, k=-1), np.eye(12)[:, :1], np.eye(12)[-1:])
    low, high = lti.plot.sigma(delay).get_ylim()
    assert high / low >= 10 * (1 - 1e-12)
    assert low < 1 < high


def test_slow_and_fast_poles():
    """The slowest real pole decides how far a picture goes, unless it may be an integrator."""
    for slow in (1e-6, 1e-9):
        sys = lti.LTI(lti.Diagonal([-slow, -1e3]), np.ones((2, 1)), np.ones((1, 2)), dt=0)
        _, omega, _ = curves(lti.plot.sigma(sys))[0]
        np.testing.assert_allclose([omega[0], omega[-1]], [slow / 10, 1e4], rtol=1e-12)
        _, t, y = curves(lti.plot.step(sys))[0]
        assert t[-1] == pytest.approx(6 / slow, rel=1e-2)
        assert y[-1] == pytest.approx((1 - np.exp(-slow * t[-1])) / slow, rel=1e-6)
    integrator = lti.LTI(lti.Diagonal([-1e-14, -1.0]), np.ones((2, 1)), np.ones((1, 2)), dt=0)
    assert curves(lti.plot.sigma(integrator))[0][1][0] == pytest.approx(0.1)
    assert curves(lti.plot.step(integrator))[0][1][-1] == pytest.approx(6, rel=1e-2)
    # Undamped: some turns of it.
    sharp = lti.LTI(lti.Oscillation([1e-9], [1.0]), np.ones((2, 1)), np.ones((1, 2)), dt=0)
    assert curves(lti.plot.step(sharp))[0][1][-1] == pytest.approx(60, rel=1e-2)
