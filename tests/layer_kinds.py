"""Small layers of every kind, and what each computes by its published formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lticore_torch import LRU, S4D, S5, QuadraticSSM, RotationSSM, SelectiveSSM

#: Time-invariant kinds: names → (class, options).
LINEAR: dict[str, tuple[type, dict[str, Any]]] = {
    "rotation": (RotationSSM, {}),
    "rotation real": (RotationSSM, {"real_poles": 5}),
    "canonical": (RotationSSM, {"canonical": True}),
    "lru": (LRU, {}),
    "s5": (S5, {}),
    "s5 bilinear": (S5, {"sampling": "bilinear"}),
    "s5 blocks": (S5, {"blocks": 2, "real_poles": 1}),
    "s4d": (S4D, {}),
    "s4d inv": (S4D, {"start": "inv"}),
    "s4d legs": (S4D, {"start": "legs"}),
}
TIME_INVARIANT = {**LINEAR, "quadratic": (QuadraticSSM, {"rank": 2})}
ALL = {
    **TIME_INVARIANT,
    "selective": (SelectiveSSM, {"rank": 2}),
    "selective channels": (SelectiveSSM, {"rank": 2, "channel_poles": True}),
}


def make(kind: str, features: int = 3, order: int = 5, *, seed: int = 0, **options: Any) -> Any:
    """A layer in float64."""
    torch.manual_seed(seed)
    layer_type, own = ALL[kind]
    return layer_type(features, order, **{**own, **options}).double()


def selective_with_pairs() -> Any:
    """As compression may leave a selective layer: two pairs that turn, and a real pole."""
    layer = make("selective")
    layer.decay_log = torch.nn.Parameter(torch.tensor([0.3, -1.0], dtype=torch.float64))
    layer.frequency = torch.nn.Parameter(torch.tensor([5.0, -9.0], dtype=torch.float64))
    layer.real_log = torch.nn.Parameter(layer.real_log[:1].detach())
    return layer


def published(layer: Any, u: np.ndarray) -> np.ndarray:
    """Answer (L, h) to one sequence, step by step in complex arithmetic."""
    p = {name: x.detach().numpy() for name, x in layer.named_parameters()}
    if isinstance(layer, SelectiveSSM):
        return _selective(p, u)
    if isinstance(layer, S4D):
        return _s4d(p, layer.pair_channel.numpy(), layer.real_channel.numpy(), u)
    form = _FORMS[type(layer)](layer, p)
    q = len(form.poles)
    B, C, D = form.B, p["C"], p["D"]
    b, c = form.scale[:, None] * (B[0 : 2 * q : 2] + 1j * B[1 : 2 * q : 2]), C[:, : 2 * q]
    c = c[:, 0::2] - 1j * c[:, 1::2]
    z, x, outputs = np.zeros(q, dtype=complex), np.zeros(len(p["real_atanh"])), []
    for step in u:
        z = form.poles * z + b @ step
        x = np.tanh(p["real_atanh"]) * x + B[2 * q :] @ step
        y = form.gain * ((c @ z).real + C[:, 2 * q :] @ x) + D * step
        if isinstance(layer, QuadraticSSM):
            state = np.concatenate([np.column_stack([z.real, z.imag]).ravel(), x])
            forms = np.einsum("inc,ic,imc->inm", p["V"], p["s"], p["V"])
            y = y + np.einsum("n,inm,m->i", state, forms, state)
        outputs.append(y)
    return np.array(outputs)


@dataclass(frozen=True)
class _Form:
    poles: np.ndarray
    scale: np.ndarray
    B: np.ndarray
    gain: float = 1.0


def _rotation(layer: Any, p: dict[str, np.ndarray]) -> _Form:
    radius, turn = 1 / (1 + np.exp(-p["radius_logit"])), 1 / (1 + np.exp(-p["angle_logit"]))
    B, q = p["B"], len(radius)
    if layer.canonical:
        real = len(p["real_atanh"])
        B = np.column_stack([np.concatenate([np.tile([1.0, 0.0], q), np.ones(real)]), B])
    return _Form(radius * np.exp(-1j * np.pi * turn), np.ones(q), B)


def _lru(layer: Any, p: dict[str, np.ndarray]) -> _Form:
    poles = np.exp(-np.exp(p["nu_log"]) - 1j * np.exp(p["theta_log"]))
    return _Form(poles, np.exp(p["gamma_log"]), p["B"])


def _s5(layer: Any, p: dict[str, np.ndarray]) -> _Form:
    poles, step = -np.exp(p["decay_log"]) - 1j * p["frequency"], np.exp(p["step_log"])
    if layer.sampling == "zoh":
        sampled = np.exp(poles * step)
        return _Form(sampled, (sampled - 1) / poles, p["B"], 2.0)
    gap = 1 - poles * step / 2
    return _Form((1 + poles * step / 2) / gap, step / gap, p["B"], 2.0)


_FORMS: dict[type, Callable[[Any, dict[str, np.ndarray]], _Form]] = {
    RotationSSM: _rotation,
    QuadraticSSM: _rotation,
    LRU: _lru,
    S5: _s5,
}


def _s4d(
    p: dict[str, np.ndarray], pair_channel: np.ndarray, real_channel: np.ndarray, u: np.ndarray
) -> np.ndarray:
    poles = -np.exp(p["decay_log"]) - 1j * p["frequency"]
    sampled = np.exp(poles * np.exp(p["step_log"])[pair_channel])
    b, c = (sampled - 1) / poles, p["C"][:, 0] - 1j * p["C"][:, 1]
    z, x, outputs = np.zeros(len(poles), dtype=complex), np.zeros(len(real_channel)), []
    for step in u:
        z = sampled * z + b * step[pair_channel]
        x = np.tanh(p["real_atanh"]) * x + step[real_channel]
        y = p["D"] * step
        np.add.at(y, pair_channel, 2 * (c * z).real)
        np.add.at(y, real_channel, p["real_C"] * x)
        outputs.append(y)
    return np.array(outputs)


def _selective(p: dict[str, np.ndarray], u: np.ndarray) -> np.ndarray:
    pair = -np.exp(p["decay_log"]) - 1j * p["frequency"]
    q, real, h = len(pair), -np.exp(p["real_log"]), u.shape[1]
    z, x, outputs = np.zeros((h, q), dtype=complex), np.zeros((h, real.shape[-1])), []
    for step in u:
        delta = np.log1p(np.exp(p["step_up"] @ (p["step_down"] @ step) + p["step_bias"]))[:, None]
        b, c = p["B"] @ step, p["C"] @ step
        drive = delta * step[:, None]
        z = np.exp(delta * pair) * z + drive * (b[0 : 2 * q : 2] + 1j * b[1 : 2 * q : 2])
        x = np.exp(delta * real) * x + drive * b[2 * q :]
        pairs = (z * (c[0 : 2 * q : 2] - 1j * c[1 : 2 * q : 2])).real.sum(axis=1)
        outputs.append(pairs + x @ c[2 * q :] + p["D"] * step)
    return np.array(outputs)
