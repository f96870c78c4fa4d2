# %% [markdown]
# # Streaming and export
#
# At the end of this page a trained and compressed model answers sample by sample in constant
# memory, lies in one file, and runs in four places that do not know this library: a PyTorch
# program, ONNX Runtime for whole sequences and for single steps, and thirty lines of NumPy. It
# needs `pip install 'lticore[onnx]' onnxruntime scikit-learn matplotlib`, and half a minute on one
# core.
#
# ## A model
#
# A classifier of handwritten digits as sequences of 64 grey values, trained with the Hankel penalty
# and cut to a fifth of its states, as in [the tutorial on that](train_to_compress.py).

# %%
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import torch
from safetensors.numpy import load_file
from scipy.special import erf, expit
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

import lticore_torch as lt

torch.set_num_threads(1)
folder = Path(tempfile.mkdtemp())
images, targets = load_digits(return_X_y=True)
shuffled = torch.randperm(
    len(targets), generator=torch.Generator().manual_seed(0)
)
inputs = torch.tensor(images, dtype=torch.float32)[shuffled, :, None] / 16
labels = torch.tensor(targets)[shuffled]
train_x, test_x = inputs.split([1347, 450])
train_y, test_y = labels.split([1347, 450])

STEPS = 300
torch.manual_seed(0)
config = lt.SequenceClassifierConfig(
    inputs=1, classes=10, features=16, order=64, depth=2
)
model = lt.SequenceClassifier(config)
penalty = lt.HankelRegularizer(weight=3e-3)
optimizer = torch.optim.AdamW(
    lt.parameter_groups(model, lr=2e-2, weight_decay=0.05)
)
rates = [group["lr"] for group in optimizer.param_groups]
schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, rates, total_steps=STEPS
)
for _ in range(STEPS):
    chosen = torch.randint(len(train_y), (50,))
    answers = model(train_x[chosen])
    loss = cross_entropy(answers, train_y[chosen]) + penalty(model)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
small, report = lt.compress(model.eval(), ratio=0.8)
print(report)


@torch.no_grad()
def accuracy(model: torch.nn.Module) -> float:
    return 100 * (model(test_x).argmax(-1) == test_y).float().mean().item()


print(
    f"test accuracy {accuracy(model):.1f} %, compressed {accuracy(small):.1f} %"
)

# %% [markdown]
# ## Stream
#
# [Stream](../reference/deployment.md#lticore_torch.Stream) takes a model and answers one step after
# the other. What it remembers of the sequence are the states of the layers and, of a classifier,
# the mean so far. So it has logits after each pixel; here is how sure it is of the digit that is
# coming.

# %%
stream = lt.Stream(small)
image, label = test_x[0], int(test_y[0])
logits = torch.stack([stream.step(pixel) for pixel in image])
likelihood = logits.softmax(dim=-1)

figure, (left, right) = plt.subplots(
    1, 2, figsize=(6.4, 2.8), width_ratios=[1, 2], layout="constrained"
)
left.imshow(image.reshape(8, 8).numpy(), cmap="gray_r")
left.set(xticks=[], yticks=[], title=f"a {label}")
for digit in range(10):
    own = (
        {"color": "C3", "linewidth": 2}
        if digit == label
        else {"color": "0.7", "linewidth": 1}
    )
    right.plot(range(1, 65), likelihood[:, digit], **own)
right.set(
    xlabel="pixels seen", ylabel=f"likelihood, of {label} in red", ylim=(0, 1)
)
right.grid(alpha=0.3)

# %% [markdown]
# The last answer is that of the model on the whole sequence. A prefix that is there already goes
# through at once by `run`; `state` can be read, saved and set, for example to answer two ways to go
# on; `reset` forgets.

# %%
with torch.no_grad():
    whole = small(image[None])[0]
print(f"stream and model differ by {(logits[-1] - whole).abs().max():.1e}")

stream.reset()
stream.run(image[:40])
after_prefix = stream.state
print({name: tuple(x.shape) for name, x in after_prefix.items()})
rest = stream.run(image[40:])
stream.state = after_prefix
again = stream.run(image[40:])
print("the same from the same state:", torch.equal(rest, again))

# %% [markdown]
# A step of a model this small takes some ten microseconds, most of them spent between the products.
# The number of states begins to show where layers have hundreds.

# %%
start = time.perf_counter()
for _ in range(20):
    for pixel in image:
        stream.step(pixel)
print(
    f"{(time.perf_counter() - start) / (20 * len(image)) * 1e6:.0f} µs a step"
)

# %% [markdown]
# ## Save and load
#
# One safetensors file holds the parameters and what the model is made of. Loading it runs no code
# out of it, and a byte that has changed is found.

# %%
lt.save(small, folder / "digits.safetensors")
loaded = lt.load(folder / "digits.safetensors")
print(
    "size of the file:", (folder / "digits.safetensors").stat().st_size, "bytes"
)
print("the same answers:", torch.equal(loaded(test_x), small(test_x)))

# %% [markdown]
# ## A PyTorch program
#
# [export_program](../reference/deployment.md#lticore_torch.export_program) needs an example of the
# inputs. The program has core operators of PyTorch only, takes any batch and length, and is loaded
# by `torch.export.load` where lticore is not installed.

# %%
program = lt.export_program(small, test_x[:2])
torch.export.save(program, folder / "digits.pt2")
elsewhere = torch.export.load(folder / "digits.pt2").module()
with torch.no_grad():
    print(f"differs by {(elsewhere(test_x) - small(test_x)).abs().max():.1e}")

# %% [markdown]
# ## ONNX
#
# The same as an ONNX file, for whole sequences:

# %%
lt.export_onnx(small, folder / "digits.onnx", test_x[:2])
session = onnxruntime.InferenceSession(folder / "digits.onnx")
(answers,) = session.run(["y"], {"u": test_x.numpy()})
with torch.no_grad():
    print(f"differs by {np.abs(answers - small(test_x).numpy()).max():.1e}")

# %% [markdown]
# With `step=True` it is a program of one step: states go in beside the sample and come out beside
# the answer. They have the names and shapes of `stream.state`, and begin at zero. The example is a
# whole sequence here too.

# %%
lt.export_onnx(small, folder / "step.onnx", test_x[:2], step=True)
session = onnxruntime.InferenceSession(folder / "step.onnx")
print("inputs: ", [x.name for x in session.get_inputs()])
states = {
    name: np.zeros((1, *x.shape), np.float32)
    for name, x in stream.state.items()
}
for pixel in image.numpy():
    answer, *following = session.run(None, {"u": pixel[None], **states})
    states = dict(zip(states, following, strict=True))
print(
    f"after 64 steps differs by {np.abs(answer[0] - whole.numpy()).max():.1e}"
)

# %% [markdown]
# ## NumPy
#
# The file of the model holds arrays, and a rotation layer turns its states by angles and shrinks
# them by radii. So NumPy and safetensors are enough, on any computer that has them. This is
# `examples/numpy_classifier.py` of the repository, which reads any classifier of rotation layers
# with batch norms.


# %%
def logits_of(p: dict[str, np.ndarray], u: np.ndarray) -> np.ndarray:
    v, depth = u @ p["encoder.weight"].T + p["encoder.bias"], 0
    while (block := f"blocks.{depth}.") + "ssm.B" in p:
        b = {
            name.removeprefix(block): x
            for name, x in p.items()
            if name.startswith(block)
        }
        scale = b["norm.weight"] / np.sqrt(b["norm.running_var"] + 1e-5)
        z = (v - b["norm.running_mean"]) * scale + b["norm.bias"]
        pole = expit(b["ssm.radius_logit"]) * np.exp(
            -1j * np.pi * expit(b["ssm.angle_logit"])
        )
        real, n = np.tanh(b["ssm.real_atanh"]), 2 * len(pole)
        x, drive, y = (
            np.zeros((len(u), len(b["ssm.B"]))),
            z @ b["ssm.B"].T,
            np.empty_like(z),
        )
        for k in range(
            z.shape[1]
        ):  # neighbours are real and imaginary part of one state
            turned = pole * (x[:, 0:n:2] + 1j * x[:, 1:n:2])
            x[:, 0:n:2], x[:, 1:n:2], x[:, n:] = (
                turned.real,
                turned.imag,
                real * x[:, n:],
            )
            x += drive[:, k]
            y[:, k] = x @ b["ssm.C"].T + b["ssm.D"] * z[:, k]
        a = y * (1 + erf(y / np.sqrt(2))) / 2
        v, depth = (
            v + a * expit(a @ b["gate.weight"].T + b["gate.bias"]),
            depth + 1,
        )
    return v.mean(axis=1) @ p["decoder.weight"].T + p["decoder.bias"]


parameters = {
    name: x.astype(np.float64)
    for name, x in load_file(folder / "digits.safetensors").items()
}
found = logits_of(parameters, test_x.numpy())
print(
    f"test accuracy {100 * (found.argmax(axis=1) == test_y.numpy()).mean():.1f} %"
)

# %% [markdown]
# Of a single layer, [export_arrays](../reference/deployment.md#lticore_torch.export_arrays) gives
# A, B, C and D, for any kind.
#
# ## Where to go from here
#
# - [What it costs](../benchmarks.md): single steps of larger models.
# - [Streaming and export](../reference/deployment.md), the reference.
