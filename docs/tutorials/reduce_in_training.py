# %% [markdown]
# # Reduction during training
#
# At the end of this page a classifier that began with 256 states in each layer has about 20, nearly
# as accurate as the one that kept all, in half of its time: what training does not need is removed
# while it goes on. It needs PyTorch, scikit-learn and Matplotlib, and half a minute on one core.
#
# ## The data
#
# Handwritten digits of scikit-learn, as sequences of 64 grey values.

# %%
import time

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from lticore_torch import (
    HankelTracker,
    InTrainingCompressor,
    SequenceClassifier,
    SequenceClassifierConfig,
    parameter_groups,
)

torch.set_num_threads(1)
images, targets = load_digits(return_X_y=True)
shuffled = torch.randperm(
    len(targets), generator=torch.Generator().manual_seed(0)
)
inputs = torch.tensor(images, dtype=torch.float32)[shuffled, :, None] / 16
labels = torch.tensor(targets)[shuffled]
train_x, test_x = inputs.split([1347, 450])
train_y, test_y = labels.split([1347, 450])

# %% [markdown]
# ## A loop with two lines more
#
# [InTrainingCompressor](../reference/compression.md#lticore_torch.InTrainingCompressor) is made
# beside the optimizer, and its `step` is called after the optimizer's. At the steps it was given it
# balances every layer and cuts the states that together hold a share `tolerance` of the sum of its
# Hankel singular values. Parameters, the optimizer's averages and its settings move to the smaller
# layers.
#
# [HankelTracker](../reference/penalties.md#lticore_torch.HankelTracker) writes down the singular
# values on the way. It is for the picture only.

# %%
STEPS = 400


def train(order: int, reduce_at: tuple[int, ...] = ()):
    torch.manual_seed(0)
    model = SequenceClassifier(
        SequenceClassifierConfig(
            1, 10, features=16, order=order, depth=2, layer="lru"
        )
    )
    optimizer = torch.optim.AdamW(
        parameter_groups(model, lr=2e-2, weight_decay=0.05)
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=STEPS
    )
    compressor = InTrainingCompressor(
        model, optimizer, tolerance=0.1, steps=reduce_at
    )
    tracker, seconds = HankelTracker(model), []
    for step in range(1, STEPS + 1):
        chosen = torch.randint(len(train_y), (50,))
        start = time.perf_counter()
        loss = cross_entropy(model(train_x[chosen]), train_y[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        event = compressor.step()
        seconds.append(time.perf_counter() - start)
        schedule.step()
        if event is not None:
            print(f"step {event.step}: {list(event.orders.values())} states")
        if reduce_at and step % 10 == 0:
            tracker.record(step)
    return model.eval(), seconds, tracker


@torch.no_grad()
def accuracy(model: torch.nn.Module) -> float:
    return 100 * (model(test_x).argmax(-1) == test_y).float().mean().item()


# %% [markdown]
# Reduce early. Steps are cheap after a reduction, and the model has the time to make up for what it
# has lost. The last reduction is best before the learning rate falls.

# %%
reduced, reduced_seconds, tracker = train(
    256, reduce_at=(40, 70, 100, 130, 160)
)

# %% [markdown]
# ## What it saved
#
# The same model without reductions, and one that had as many states as were left from the
# beginning:

# %%
kept = [block.ssm.order for block in reduced.blocks]
full, full_seconds, _ = train(256)
scratch, scratch_seconds, _ = train(sum(kept) // 2)
print("                       states     test accuracy   seconds")
for name, states, model, seconds in [
    ("full", [256, 256], full, full_seconds),
    ("reduced in training", kept, reduced, reduced_seconds),
    ("small from the start", [sum(kept) // 2] * 2, scratch, scratch_seconds),
]:
    print(
        f"{name:<22} {states!s:<12} {accuracy(model):5.1f} %        {sum(seconds):5.1f}"
    )

# %% [markdown]
# The reductions are in these times. They cost most at the first, of the largest layers. Smoothed
# over 20 steps, beside the states of the first layer:

# %%
figure, (above, below) = plt.subplots(
    2, sharex=True, layout="constrained", figsize=(6.4, 5.6)
)
records = tracker.history["blocks.0.ssm"]
states = [len(record.singular_values) for record in records]
above.step(
    [0, *(record.step for record in records)], [256, *states], where="post"
)
above.set(ylabel="states of layer 1", ylim=(0, None))
for name, seconds in [
    ("full", full_seconds),
    ("reduced in training", reduced_seconds),
]:
    smooth = torch.tensor(seconds).unfold(0, 20, 1).median(dim=1).values
    below.plot(range(20, STEPS + 1), 1e3 * smooth, label=name)
below.set(xlabel="training step", ylabel="time per step in ms", ylim=(0, None))
below.legend()
for ax in (above, below):
    ax.grid(alpha=0.3)

# %% [markdown]
# What is left of a step is what does not depend on the states: the maps between features, the gates
# and PyTorch's own overhead.
#
# ## What the states did
#
# The values that the tracker wrote down, of the first layer. Each reduction takes the lowest of
# them; what is kept goes on where it was.

# %%
figure, ax = plt.subplots(layout="constrained")
for record in records:
    sigma = record.singular_values
    ax.semilogy(
        [record.step] * len(sigma), sigma, "_", color="C0", markersize=4
    )
ax.set(xlabel="training step", ylabel="Hankel singular values of layer 1")
ax.grid(alpha=0.3)

# %% [markdown]
# `tracker.plot` looks closer at a layer since its last change of order. Its first picture follows
# each state by its balanced direction, with the most that any value can have changed since the last
# record (Weyl's bound, the second picture) as a margin. The third is the share of the sum that the
# smallest quarter, half and three quarters of the states hold: what a further cut would take.

# %%
figure = tracker.plot("blocks.0.ssm")
figure.set_size_inches(9, 3)
figure

# %% [markdown]
# ## Where to go from here
#
# - `criterion="data"` judges states by the inputs and the loss of the last training steps;
#   `fraction=` with `validate=` goes on reducing as long as a validation score agrees, and takes
#   the last cut back when it does not:
#   [InTrainingCompressor](../reference/compression.md#lticore_torch.InTrainingCompressor).
# - Averages of weights, several processes, Lightning and Accelerate: [your own training
#   loop](../training.md).
# - The penalty of [the tutorial before](train_to_compress.py) goes well with it: it makes the
#   values fall.
