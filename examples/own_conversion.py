"""A layer of one's own for `convert`: the Legendre memory unit's, of one input and q outputs.

    python examples/own_conversion.py

Source: Voelker, Kajić & Eliasmith, Legendre Memory Units (2019), eq. (1) and (2).
"""

import numpy as np
import torch
from scipy.signal import cont2discrete
from torch import nn

import lticore
from lticore_torch import RotationSSM, convert, hankel_sum, register_conversion


class Memory(nn.Module):
    """m_k = A m_{k−1} + B u_k, (batch, L, 1) → (batch, L, order): Legendre coefficients of the last
    ``window`` steps. The modes of more than eight coefficients need the model in float64."""

    def __init__(self, order, window):
        super().__init__()
        i = np.arange(order)
        A = np.where(i[:, None] < i, -1.0, (-1.0) ** (i[:, None] - i + 1))
        rows = (2 * i[:, None] + 1) / window
        system = rows * A, rows * (-1.0) ** i[:, None], np.eye(order), np.zeros((order, 1))
        A, B, *_ = cont2discrete(system, 1.0)
        self.register_buffer("A", torch.tensor(A, dtype=torch.float32))
        self.register_buffer("B", torch.tensor(B, dtype=torch.float32))

    def forward(self, u):
        m, memories = u.new_zeros(len(self.A)), []
        for step in u.unbind(dim=-2):
            m = m @ self.A.mT + step @ self.B.mT
            memories.append(m)
        return torch.stack(memories, dim=-2)


def from_memory(layer, unstable):
    q = len(layer.A)
    ours = RotationSSM(1, q, outputs=q).to(layer.A)
    A, B = (x.double().cpu().numpy() for x in (layer.A, layer.B))
    ours.load_lti(lticore.LTI(A, B, np.eye(q)), unstable=unstable)
    return ours


register_conversion(Memory, from_memory)

if __name__ == "__main__":
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 1), Memory(order=6, window=50), nn.Linear(6, 2))
    converted, report = convert(model)
    print(report)
    print(hankel_sum(converted).item())
