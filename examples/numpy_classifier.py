"""Runs a saved SequenceClassifier of rotation layers with NumPy and safetensors alone.

    python examples/numpy_classifier.py model.safetensors sequences.npy

The sequences are (batch, L, inputs); the class of each is printed.
"""

import math
import sys

import numpy as np
from safetensors.numpy import load_file

erf = np.vectorize(math.erf)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def logits(p, u):
    v, depth = u @ p["encoder.weight"].T + p["encoder.bias"], 0
    while f"blocks.{depth}.ssm.B" in p:
        b = {name: p[name] for name in p if name.startswith(f"blocks.{depth}.")}
        b = {name.split(".", 2)[2]: value for name, value in b.items()}
        scale = b["norm.weight"] / np.sqrt(b["norm.running_var"] + 1e-5)
        z = (v - b["norm.running_mean"]) * scale + b["norm.bias"]
        radius, angle = sigmoid(b["ssm.radius_logit"]), np.pi * sigmoid(b["ssm.angle_logit"])
        pole, real = radius * np.exp(-1j * angle), np.tanh(b["ssm.real_atanh"])
        x, n, drive = np.zeros((len(u), len(b["ssm.B"]))), 2 * len(pole), z @ b["ssm.B"].T
        y = np.empty_like(z)
        for k in range(z.shape[1]):  # neighbours are real and imaginary part of one state
            turned = pole * (x[:, 0:n:2] + 1j * x[:, 1:n:2])
            x[:, 0:n:2], x[:, 1:n:2], x[:, n:] = turned.real, turned.imag, real * x[:, n:]
            x += drive[:, k]
            y[:, k] = x @ b["ssm.C"].T + b["ssm.D"] * z[:, k]
        a = y * (1 + erf(y / math.sqrt(2))) / 2
        v, depth = v + a * sigmoid(a @ b["gate.weight"].T + b["gate.bias"]), depth + 1
    return v.mean(axis=1) @ p["decoder.weight"].T + p["decoder.bias"]


if __name__ == "__main__":
    file, sequences = sys.argv[1:]
    parameters = {name: x.astype(np.float64) for name, x in load_file(file).items()}
    print(logits(parameters, np.load(sequences)).argmax(axis=1))
