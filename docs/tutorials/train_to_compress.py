# %% [markdown]
# # A classifier made to be compressed
#
# At the end of this page you have two classifiers of handwritten digits. They are the same model,
# trained for as long. When 85 % of their states are removed, one falls apart, and the other keeps
# its accuracy, because one term was added to its loss. The page needs PyTorch, scikit-learn and
# Matplotlib, and half a minute on one core.
#
# ## The data
#
# scikit-learn ships 1 797 images of 8 × 8 pixels. Read row by row they are sequences of 64 grey
# values, and the model sees them one after the other. A part is kept to choose the weight of the
# penalty, and another to say at the end what came of it.

# %%
import math

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy

from lticore_torch import (
    HankelRegularizer,
    SequenceClassifier,
    SequenceClassifierConfig,
    analyze,
    hankel_sum,
    parameter_groups,
)

torch.set_num_threads(1)
images, targets = load_digits(return_X_y=True)
shuffled = torch.randperm(
    len(targets), generator=torch.Generator().manual_seed(0)
)
inputs = torch.tensor(images, dtype=torch.float32)[shuffled, :, None] / 16
labels = torch.tensor(targets)[shuffled]
train_x, validation_x, test_x = inputs.split([1197, 300, 300])
train_y, validation_y, test_y = labels.split([1197, 300, 300])
print("trained on", tuple(train_x.shape), "tested on", tuple(test_x.shape))

# %% [markdown]
# ## The model and the loop
#
# Two layers of 64 states each. The loop is an ordinary one but for two things. The penalty, weight
# times the sum of all Hankel singular values of all layers, is added to the loss. And
# [parameter_groups](../reference/layers.md#lticore_torch.parameter_groups) gives poles a smaller
# learning rate and no weight decay.


# %%
def trained(
    weight: float, epochs: int = 22, batch: int = 50
) -> SequenceClassifier:
    torch.manual_seed(0)
    model = SequenceClassifier(
        SequenceClassifierConfig(
            inputs=1, classes=10, features=16, order=64, depth=2
        )
    )
    penalty = HankelRegularizer(weight)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, lr=2e-2, weight_decay=0.05)
    )
    steps = epochs * (len(train_y) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=steps,
    )
    for _ in range(steps):
        chosen = torch.randint(len(train_y), (batch,))
        answers = model(train_x[chosen])
        loss = cross_entropy(answers, train_y[chosen]) + penalty(model)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    return 100 * (model(x).argmax(-1) == y).float().mean().item()


plain = trained(weight=0.0)
print(
    f"validation accuracy {accuracy(plain, validation_x, validation_y):.1f} %"
)

# %% [markdown]
# Look at what it has learned with [analyze](../reference/compression.md#lticore_torch.analyze). The
# last columns say how many states hold 99 % and 99.9 % of the sum of the Hankel singular values:
# nearly all.

# %%
print(analyze(plain))

# %% [markdown]
# ## Choose the weight
#
# The penalty must be felt beside the cross-entropy, and must not rule it. A scale for it is the
# weight that makes the penalty of the model above as large as the loss of guessing, log 10.

# %%
unit = math.log(10) / hankel_sum(plain).item()
print(
    f"Σσ = {hankel_sum(plain).item():.0f}, so the unit of the weight is {unit:.1e}"
)

# %% [markdown]
# Try it and a multiple of it, or more than one. Each model is cut at every share that you may want.
# A cut costs milliseconds, once a model is analysed, so only the trainings take time.

# %%
shares = [0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95]
models = {c: plain if c == 0 else trained(weight=c * unit) for c in (0, 1, 4)}
curves = {}
for c, model in models.items():
    plan = analyze(model)
    curves[c] = [
        accuracy(plan.compress(ratio=share)[0], validation_x, validation_y)
        for share in shares
    ]
    whole, cut = curves[c][0], curves[c][shares.index(0.85)]
    print(
        f"c = {c}: whole {whole:5.1f} %, with 85 % of the states removed {cut:5.1f} %"
    )

# %%
figure, ax = plt.subplots(layout="constrained")
for c, curve in curves.items():
    label = "no penalty" if c == 0 else f"penalty, c = {c}"
    ax.plot([100 * share for share in shares], curve, ".-", label=label)
ax.set(
    xlabel="states removed in %",
    ylabel="validation accuracy in %",
    ylim=(0, 100),
)
ax.grid(alpha=0.3)
_ = ax.legend()

# %% [markdown]
# In the end a larger weight costs accuracy while all states are there, and keeps it for longer when
# they go. So the weight follows from the share that you want to remove: take the one that is best
# there, on validation data. For 85 % that is:

# %%
wanted = 0.85
best = max(curves, key=lambda c: curves[c][shares.index(wanted)])
chosen = models[best]
print(f"c = {best}")

# %% [markdown]
# What the penalty did is seen in the singular values. Without it they decay slowly, and every state
# counts. With it some stay and the others are nearly nothing. The order at which the values fall is
# not set anywhere: training finds it, for each layer.

# %%
figure, ax = plt.subplots(layout="constrained")
for name, model, style in [
    ("no penalty", plain, ":"),
    (f"penalty, c = {best}", chosen, "-"),
]:
    for i, layer in enumerate(analyze(model).layers):
        sigma = [max(x, 1e-12) for x in layer.singular_values]
        ax.semilogy(
            range(1, 65),
            sigma,
            style,
            color=f"C{i}",
            label=f"{name}, layer {i + 1}",
        )
ax.set(xlabel="index i", ylabel="Hankel singular value σᵢ", ylim=(1e-6, None))
ax.grid(alpha=0.3)
_ = ax.legend()

# %% [markdown]
# ## Compress it
#
# `ratio=` is the share of all states to remove. The states that stay are spread over the layers so
# that each keeps the same share of its sum. The report gives for every layer a bound on the error
# over all inputs, and what that is relative to the layer's norm. An h∞ bound is about the worst
# input of all, and digits are far from it: how accurate the model still is, only data can say.

# %%
plan = analyze(chosen)
print(plan)
small, report = plan.compress(ratio=wanted)
print(report)

# %% [markdown]
# On the test data, which nothing above has seen:

# %%
cut_plain, _ = analyze(plain).compress(ratio=wanted)
print("test accuracy      whole   85 % of the states removed")
for name, whole, cut in [
    ("no penalty", plain, cut_plain),
    ("penalty", chosen, small),
]:
    before, after = (
        accuracy(whole, test_x, test_y),
        accuracy(cut, test_x, test_y),
    )
    print(f"{name:<15}  {before:5.1f} %   {after:5.1f} %")

# %% [markdown]
# The compressed model is an ordinary one of smaller layers. It trains on, and [streams, saves and
# exports](stream_and_export.py) as any other.
#
# ## Where to go from here
#
# - [Choose the regulariser's weight](../how-to/choose_the_weight.md) for models that take hours to
#   train.
# - [A trained model of another package](compress_trained.py), if training again is no choice.
# - [Reduction during training](reduce_in_training.py) makes the training faster too.
