"""The LRU of minimal-LRU (JAX) by its formulas, as a module of torch: real and imaginary parts of B
and C, a diagonal D."""

import math

import torch
from torch import nn


class LRU(nn.Module):
    """x_k = λ x_{k−1} + e^{gamma_log} B u_k,  y_k = Re(C x_k) + D u_k."""

    def __init__(self, d_hidden, d_model):
        super().__init__()
        radius, angle = 0.2 + 0.79 * torch.rand(d_hidden), 6 * torch.rand(d_hidden)
        self.theta_log = nn.Parameter(angle.log())
        self.nu_log = nn.Parameter((-radius.log()).log())
        self.gamma_log = nn.Parameter((1 - radius**2).sqrt().log())
        for name in ("B_re", "B_im"):
            B = torch.randn(d_hidden, d_model) / math.sqrt(2 * d_model)
            self.register_parameter(name, nn.Parameter(B))
        for name in ("C_re", "C_im"):
            C = torch.randn(d_model, d_hidden) / math.sqrt(d_hidden)
            self.register_parameter(name, nn.Parameter(C))
        self.D = nn.Parameter(torch.randn(d_model))

    def scale(self):
        return self.gamma_log.exp()

    def forward(self, u):
        poles = torch.exp(torch.complex(-self.nu_log.exp(), self.theta_log.exp()))
        B = torch.complex(self.B_re, self.B_im) * self.scale()[:, None]
        C = torch.complex(self.C_re, self.C_im)
        x, outputs = 0, []
        for step in u.unbind(dim=-2):
            x = poles * x + step.to(B.dtype) @ B.mT
            outputs.append((x @ C.mT).real + self.D * step)
        return torch.stack(outputs, dim=-2)
