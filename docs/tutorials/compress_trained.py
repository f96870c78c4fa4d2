# %% [markdown]
# # A trained model of another package
#
# At the end of this page a model of your own, with S5 layers of s5-pytorch inside, that nobody
# trained to be compressed, works with a fifth of its states. No label is used for that, only some
# of the inputs. It needs `pip install 'lticore[torch,foreign,plot]' scikit-learn`, and a minute on
# one core.
#
# ## Your model
#
# Two blocks around `s5.S5`, written without a thought of this library, and its training on
# handwritten digits as sequences of 64 grey values. No penalty is in the loss.

# %%
import matplotlib.pyplot as plt
import torch
from s5 import S5
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, glu

from lticore_torch import analyze, convert

torch.set_num_threads(1)
images, targets = load_digits(return_X_y=True)
shuffled = torch.randperm(
    len(targets), generator=torch.Generator().manual_seed(0)
)
inputs = torch.tensor(images, dtype=torch.float32)[shuffled, :, None] / 16
labels = torch.tensor(targets)[shuffled]
train_x, test_x = inputs.split([1347, 450])  # (sequences, 64, 1)
train_y, test_y = labels.split([1347, 450])


class Block(nn.Module):
    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.ssm = S5(width, states, dt_min=0.01)
        self.mix = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ssm(self.norm(x.mT).mT)
        return x + glu(self.mix(gelu(y)), dim=-1)


class Digits(nn.Module):
    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, width)
        self.blocks = nn.Sequential(Block(width, states), Block(width, states))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.encoder(x)).mean(dim=1))


torch.manual_seed(0)
model = Digits(width=16, states=32)
optimizer = torch.optim.Adam(model.parameters())
steps = 12 * len(train_y) // 50
schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=2e-2, total_steps=steps
)
for _ in range(steps):
    chosen = torch.randint(len(train_y), (50,))
    loss = cross_entropy(model(train_x[chosen]), train_y[chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    with torch.no_grad():
        for (
            block
        ) in model.blocks:  # s5-pytorch lets poles leave the left half-plane
            block.ssm.seq.Lambda.real.clamp_(max=-1e-3)
model.eval()


@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    return 100 * (model(test_x).argmax(-1) == test_y).float().mean().item()


print(f"test accuracy {accuracy(model):.1f} %")

# %% [markdown]
# The last two lines of the loop are what the authors' own code calls clipping: without them poles
# of this package become unstable in training. `convert` refuses such a model, and says which
# layers. `unstable="reflect"` puts them inside, which changes the outputs; the report says by how
# much.
#
# ## Convert
#
# [convert](../reference/conversion.md#lticore_torch.convert) returns your module tree with other
# layers in it, which hold the same numbers. It runs both on a random input and shows by how much
# they differ. Your model stays as it was.

# %%
converted, conversion = convert(model)
print(conversion)
print(f"test accuracy {accuracy(converted):.1f} %")

# %% [markdown]
# ## How many states does it need?
#
# Asked without data, [analyze](../reference/compression.md#lticore_torch.analyze) judges the layers
# as systems, by their Hankel singular values. A layer of 32 conjugate pairs counts 64 real states.

# %%
standard = analyze(converted)
print(standard)

# %% [markdown]
# Asked with inputs, it looks at what these excite in each layer, and at what the loss notices of
# it: `calibration=` takes batches as your training loop does, for example a DataLoader. A few
# hundred sequences are enough, and they need no labels.

# %%
batches = list(train_x.split(64))
by_data = analyze(converted, calibration=batches)
print(by_data)

# %% [markdown]
# The new column counts the states without which the loss does not visibly change. The columns
# beside it say why there is so much to gain: of what the digits do to the layers, a third of the
# states or less hold 99.9 %.
#
# ## Three ways to cut
#
# - **Standard**: balanced truncation of the systems. It knows nothing of the data.
# - **By data**: the same with the Gramians of the data.
# - **By data, refit and distilled**: C and D of each small layer are then fitted to the outputs of
#   the large one, and 100 steps of Adam bring the outputs of the whole model closer. The targets
#   are the outputs of the original, not labels.
#
# The warnings below the cell say that a small layer, written as poles in float32, differs from the
# reduced system by so much of its response. Beside what the cut changes 1e-4 is nothing. Where they
# name more, give them `converted.double()`.

# %%
shares = [0.5, 0.7, 0.8, 0.9, 0.95]
ways = {
    "standard": (standard, {}),
    "by data": (by_data, {}),
    "by data, refit, distilled": (
        by_data,
        {"refit": True, "fine_tune_steps": 100, "learning_rate": 4e-3},
    ),
}
curves, reports = {}, {}
for name, (plan, finish) in ways.items():
    cuts = [plan.compress(ratio=share, **finish) for share in shares]
    curves[name] = [accuracy(small) for small, _ in cuts]
    reports[name] = dict(
        zip(shares, (report for _, report in cuts), strict=True)
    )

print(f"{'states removed':<26}" + "".join(f"{share:>8.0%}" for share in shares))
for name, curve in curves.items():
    print(f"{name:<26}" + "".join(f"{value:8.1f}" for value in curve))

# %%
figure, ax = plt.subplots(layout="constrained")
for name, curve in curves.items():
    ax.plot(
        [0, *(100 * share for share in shares)],
        [accuracy(model), *curve],
        ".-",
        label=name,
    )
ax.set(xlabel="states removed in %", ylabel="test accuracy in %", ylim=(0, 100))
ax.grid(alpha=0.3)
_ = ax.legend(loc="lower left")

# %% [markdown]
# ## What the report foresees
#
# With calibration data the report also says how much the loss has changed on them, root mean square
# over the sequences, and what the cut alone was expected to change, to first order. For truncation
# by data, without refit:

# %%
print("removed  predicted  measured change of the loss")
for share, report in reports["by data"].items():
    print(
        f"{share:>6.0%}   {report.predicted_loss_change:9.3f}  {report.loss_change:8.3f}"
    )

# %% [markdown]
# A change of 0.1 is what `analyze` calls visible. Logits of a model that is sure of its answers
# move much further before an answer changes, so the accuracy stays for longer. Where the two
# columns are far apart the cut has left the region that the first order describes; `compress` warns
# when that is a factor of ten.
#
# ## What you have now
#
# The smallest of these models, as the report prints it. Layers cut by data come without a bound on
# their error over all inputs: only the inputs of the data count.

# %%
print(reports["by data, refit, distilled"][0.8])

# %% [markdown]
# It is your own module still, with the same names, and trains on.
#
# ## Where to go from here
#
# - [Truncation by data](../truncation-by-data.md): what is minimised, and when the prediction
#   fails.
# - [Layers of other packages](../reference/conversion.md): which ones are known, and how to add
#   your own.
# - [Streaming and export](stream_and_export.py).
# - [A classifier made to be compressed](train_to_compress.py), if you can train again.
