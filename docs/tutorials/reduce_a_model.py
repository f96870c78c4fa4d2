# %% [markdown]
# # Reduce a model
#
# At the end of this page a model of 80 states is one of 8, with a proven bound on what that
# changes, the same static gain, sampled at 1 kHz and back in python-control. It needs NumPy, SciPy,
# Matplotlib and python-control.
#
# ## A model in a .mat file
#
# The model is a clamped steel ruler of 1 m, 30 mm wide and 3 mm thick, in 20 finite beam elements.
# A force in N acts at its free end, and the deflection there is measured in mm. Its states are the
# displacements, the rotations and their velocities. You will have a file of your own; this cell
# writes one.

# %%
import tempfile
from pathlib import Path

import control
import numpy as np
import scipy.io

import lticore as lti

folder = Path(tempfile.mkdtemp())
elements, length, width, height = 20, 1.0, 0.03, 0.003
elasticity, density = 210e9, 7850.0
h = length / elements
bending, mass = elasticity * width * height**3 / 12, density * width * height
k = np.array([[12, 6, -12, 6], [6, 4, -6, 2], [-12, -6, 12, -6], [6, 2, -6, 4]])
m = np.array(
    [[156, 22, 54, -13], [22, 4, 13, -3], [54, 13, 156, -22], [-13, -3, -22, 4]]
)
units = np.diag([1, h, 1, h])  # of deflections and rotations
K, M = np.zeros((2, 2 * elements + 2, 2 * elements + 2))
for node in range(0, 2 * elements, 2):
    K[node : node + 4, node : node + 4] += bending / h**3 * units @ k @ units
    M[node : node + 4, node : node + 4] += mass * h / 420 * units @ m @ units
K, M = K[2:, 2:], M[2:, 2:]  # the first node is clamped
damping = 1.0 * M + 1e-5 * K

n = len(K)
tip = np.eye(n)[:, [n - 2]]
A = np.block(
    [
        [np.zeros((n, n)), np.eye(n)],
        [-np.linalg.solve(M, np.hstack([K, damping]))],
    ]
)
B = np.vstack([np.zeros((n, 1)), np.linalg.solve(M, tip)])
C = 1e3 * np.hstack([tip.T, np.zeros((1, n))])
scipy.io.savemat(folder / "ruler.mat", {"A": A, "B": B, "C": C})

# %% [markdown]
# Read it, and say that it is in continuous time: `dt=0`, as in python-control. `dt=True`, the
# default, would be a recurrence without a unit of time, and `dt=0.001` one of 1 ms.

# %%
file = scipy.io.loadmat(folder / "ruler.mat")
sys = lti.LTI(file["A"], file["B"], file["C"], dt=0)
print(sys.order, "states,", sys.inputs, "input,", sys.outputs, "output")
print("stable:", bool(np.all(sys.poles.real < 0)))
print("h∞ norm:", round(float(lti.hinf_norm(sys)), 1), "mm/N")

# %% [markdown]
# If your model lives in python-control, there is nothing to do: every function takes
# `control.StateSpace` and `control.TransferFunction` as they are, and the systems of `scipy.signal`
# too. [from_statespace](../reference/representations.md#lticore.from_statespace) is the same step
# by itself.

# %%
theirs = control.ss(file["A"], file["B"], file["C"], 0)
print("h∞ norm:", round(float(lti.hinf_norm(theirs)), 1), "mm/N")
same = lti.from_statespace(theirs)
print(same.order, "states, dt =", same.dt)

# %% [markdown]
# ## How many states does it need?
#
# The [Hankel singular values](../reference/hankel.md#lticore.hankel_singular_values) answer that
# before anything is reduced. Each is the gain from past inputs to future outputs through one state
# of the balanced model. A model cut to r states is wrong by at most twice the sum of those left
# out: the dashed line.

# %%
ax = lti.plot.hankel_values(sys)

# %% [markdown]
# They come in pairs, one for each mode of vibration, and the first four modes fall by a factor of
# four to seven each. So a few of them are all that the tip notices.
#
# ## Reduce to a guaranteed error
#
# `error=` is the largest h∞ error that you accept, in the unit of the output over that of the
# input. Here it is 1 % of the highest resonance.
# [balanced_truncation](../reference/reduction.md#lticore.balanced_truncation) takes the fewest
# states whose bound is below.

# %%
norm = float(lti.hinf_norm(sys))
reduction = lti.balanced_truncation(sys, error=0.01 * norm)
small = reduction.system
print(reduction.order, "states instead of", sys.order)
print(
    f"bound of the error  {reduction.error_bound:.2f} mm/N, {reduction.error_bound / norm:.2%}"
)
print(f"measured h∞ error   {lti.hinf_error(sys, small):.2f} mm/N")
print(
    f"h2 error            {reduction.h2_error / lti.h2_norm(sys):.2%} of the h2 norm"
)

# %% [markdown]
# The bound needs no simulation and holds for every input: the energy of the deflection's error is
# at most the bound squared times the energy of the force. Measured, the error is a third of it.
# [sigma](../reference/pictures.md#lticore.plot.sigma) draws both over frequency when it is given
# the reduction after the system.

# %%
ax = lti.plot.sigma(sys, reduction)
_ = ax.set_ylabel("gain in mm/N")

# %% [markdown]
# Four resonances are kept, and the error is largest where one is. The poles say the same. Those of
# the reduced model, in rings, lie on the slowest ones of the full model.

# %%
ax = lti.plot.poles(sys, reduction)
_ = ax.set(xlim=(-6, 0.5), ylim=(-900, 900))

# %% [markdown]
# ## Match the static gain
#
# Balanced truncation is exact at infinite frequency, not at rest. Under a constant force the
# reduced ruler bends by a little less than it should. `match_dc=True` is exact at rest instead,
# with the same bound. It then has a feedthrough D: the modes that were cut answer at once.

# %%
matched = lti.balanced_truncation(sys, error=0.01 * norm, match_dc=True)
for name, one in [
    ("full", sys),
    ("reduced", small),
    ("matched", matched.system),
]:
    static = lti.frequency_response(one, np.array([0.0]))[0, 0, 0].real
    print(f"{name:<8}  {static:.6f} mm/N at rest")
print(f"measured h∞ error {lti.hinf_error(sys, matched.system):.2f} mm/N")
ax = lti.plot.step(sys, matched, end=2.0)
_ = ax.set_ylabel("deflection in mm after 1 N")

# %% [markdown]
# ## Sample it and hand it back
#
# [discretize](../reference/coordinates.md#lticore.discretize) with "zoh" is exact for forces that
# are constant from one sample to the next. Reduce first and sample afterwards: the static gain
# stays, and small models are sampled fast. Then take the result to python-control.

# %%
step = 1e-3
sampled = lti.discretize(matched.system, step=step, method="zoh")
handed_back = lti.to_statespace(sampled, "control")
print(
    type(handed_back).__name__, handed_back.nstates, "states, dt =", sampled.dt
)

# %% [markdown]
# There it is a model like any other. As a check, two seconds of a random force, through the full
# and the small model, by python-control's own simulation:

# %%
full = lti.to_statespace(lti.discretize(sys, step=step), "control")
times = step * np.arange(2001)
force = np.random.default_rng(0).normal(size=len(times))
deflection = control.forced_response(full, times, force).outputs
approximate = control.forced_response(handed_back, times, force).outputs
difference = np.linalg.norm(deflection - approximate) / np.linalg.norm(
    deflection
)
print(f"the outputs differ by {difference:.3%}")

# %% [markdown]
# ## Where to go from here
#
# - `order=8` and `energy=0.999` choose the order in other ways; `horizon=` and `unstable="keep"`
#   are for what is not stable:
#   [balanced_truncation](../reference/reduction.md#lticore.balanced_truncation).
# - For the lowest h2 error of an order, or poles that stay: [choose a
#   method](../how-to/choose_a_method.md).
# - For sparse models of many thousand states: [work with many states](../how-to/many_states.md).
