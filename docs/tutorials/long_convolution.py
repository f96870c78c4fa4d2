# %% [markdown]
# # A long convolution as a small recurrence
#
# At the end of this page a convolution with a kernel of 8 192 values is a recurrence of 16 numbers,
# equal to it within 0.002 %, that answers sample by sample. It needs NumPy, SciPy and Matplotlib,
# and seconds.
#
# ## The kernel
#
# It may be a FIR filter, a measured impulse response, or what a convolution layer has learned: any
# array of numbers. This one has a long memory, a power law that fades over some thousand samples,
# and three resonances.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import oaconvolve

import lticore as lti

k = np.arange(8192)
kernel = (1.0 + k) ** -0.7 * np.exp(-k / 1000)
for frequency, decay, size in [
    (0.05, 300, 0.05),
    (0.21, 150, 0.1),
    (0.6, 60, 0.1),
]:
    kernel += size * np.exp(-k / decay) * np.sin(frequency * k)
print(len(kernel), "values, the last", f"{kernel[-1]:.1e}")

# %% [markdown]
# ## A system with this response
#
# A system x⁺ = A x + B u, y = C x + D u answers an impulse with D, CB, CAB, CA²B, … So the question
# is which small A, B, C and D give these numbers.
# [from_impulse_response](../reference/representations.md#lticore.from_impulse_response) answers it
# by a singular value decomposition of the Hankel matrix of the kernel, which it never forms. The
# kernel has axes of time, outputs and inputs.

# %%
reduction = lti.from_impulse_response(kernel[:, None, None], order=16)
system = reduction.system
size = np.linalg.norm(kernel)
print(system.order, "states, spectral radius", f"{system.spectral_radius:.4f}")
print(f"‖h − ĥ‖ / ‖h‖ = {reduction.h2_error / size:.1e}")

# %% [markdown]
# `h2_error` is the norm of the difference of the two responses, computed and not estimated. White
# noise of variance 1 is answered wrongly by that much, root mean square. Beside each other:

# %%
response = lti.impulse_response(system, len(kernel))[:, 0, 0]
figure, ax = plt.subplots(layout="constrained")
ax.loglog(
    k[1:], np.abs(kernel[1:]), color="0.7", linewidth=3, label="kernel, |h|"
)
ax.loglog(k[1:], np.abs(response[1:]), linewidth=1, label="16 states, |ĥ|")
ax.loglog(
    k[1:], np.abs(kernel - response)[1:], linewidth=0.7, label="error, |h − ĥ|"
)
ax.set(xlabel="sample k", ylabel="impulse response", ylim=(1e-9, 2))
ax.grid(alpha=0.3)
_ = ax.legend(loc="lower left")

# %% [markdown]
# ## How many states?
#
# Take a few orders, and look at the error of each.

# %%
orders = [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24]
errors = [
    lti.from_impulse_response(kernel[:, None, None], order=order).h2_error
    / size
    for order in orders
]
figure, ax = plt.subplots(layout="constrained")
ax.semilogy(orders, errors, "o-")
ax.set(xlabel="states", ylabel="relative h2 error", xticks=orders)
ax.grid(alpha=0.3)

# %% [markdown]
# The first eight states are spent on the three resonances, two for each, and the beginning of the
# power law. From there on each two states gain a digit. A power law has no exact recurrence, but
# needs few states for any accuracy. If you know the accuracy and not the order, `energy=0.999` and
# `error=1e-2` choose it by the singular values.

# %%
for name, criterion in [("energy", 0.999), ("error", 1e-2)]:
    found = lti.from_impulse_response(
        kernel[:, None, None], **{name: criterion}
    )
    print(
        f"{name}={criterion}: {found.order} states, error {found.h2_error / size:.1e}"
    )

# %% [markdown]
# ## Stream
#
# A FIR filter needs the last 8 191 samples. The recurrence needs its 16 states, whatever was
# before. For single samples these are two lines of NumPy, on any machine that has it:

# %%
A, B, C, D = system.A, system.B[:, 0], system.C[0], system.D[0, 0]
signal = np.random.default_rng(0).normal(size=50_000)
exact = oaconvolve(signal, kernel)[: len(signal)]

state, streamed = np.zeros(system.order), []
for u in signal[:10_000]:
    streamed.append(C @ state + D * u)
    state = A @ state + B * u
difference = np.linalg.norm(streamed - exact[:10_000]) / np.linalg.norm(
    exact[:10_000]
)
print(f"differs from the convolution by {difference:.1e}")

# %% [markdown]
# Blocks of samples, as sound cards give them, go through
# [simulate](../reference/norms.md#lticore.simulate), with the states that the last block ended in.
# `return_states=True` gives the states that belong to the outputs of the block; the one after them
# begins the next block.

# %%
state, blocks = np.zeros(system.order), []
for block in signal.reshape(-1, 1000):
    y, states = lti.simulate(
        system, block[:, None], initial=state, return_states=True
    )
    state = A @ states[-1] + B * block[-1]
    blocks.append(y[:, 0])
difference = np.linalg.norm(np.concatenate(blocks) - exact) / np.linalg.norm(
    exact
)
print(f"{len(blocks)} blocks differ from the convolution by {difference:.1e}")

# %% [markdown]
# ## What it costs
#
# In the coordinates of its modes a system of n states has 2 × 2 blocks and single real poles in
# place of a full matrix. [to_rotation](../reference/coordinates.md#lticore.to_rotation) takes it
# there. Counted in multiplications for one sample, and in numbers that are kept from one sample to
# the next:

# %%
modes = lti.to_rotation(system)
pairs, singles = modes.A.radius.shape[-1], modes.A.real_poles.shape[-1]
print(f"{pairs} pairs of complex poles, {singles} real poles")
n = system.order
print("                  multiplications   memory")
print(f"FIR filter       {len(kernel):>16}   {len(kernel) - 1:>6}")
print(f"16 states, dense {n * n + 2 * n + 1:>16}   {n:>6}")
print(f"16 states, modes {4 * pairs + singles + 2 * n + 1:>16}   {n:>6}")

# %% [markdown]
# On whole signals a convolution by FFT is the one to beat. It wins where all samples are there at
# once, and cannot answer before it has a block. Milliseconds for 50 000 samples, on the machine
# that built this page:


# %%
def milliseconds(run) -> float:
    run()  # kernels compile when they are first used
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


print(f"FFT        {milliseconds(lambda: oaconvolve(signal, kernel)):6.1f} ms")
print(
    f"recurrence {milliseconds(lambda: lti.simulate(modes, signal[:, None])):6.1f} ms"
)

# %% [markdown]
# ## Where to go from here
#
# - Several inputs and outputs: a kernel of shape (steps, outputs, inputs) becomes one system whose
#   states all channels share.
# - A filter that ends:
#   [from_impulse_response](../reference/representations.md#lticore.from_impulse_response) takes the
#   kernel to go on as it began. Append as many zeros as it has values where it does not.
# - As a layer that trains on: `load_lti` of
#   [RotationSSM](../reference/layers.md#lticore_torch.RotationSSM).
# - [Reduce a model](reduce_a_model.py), if you have a system and not its response.
