"""S4D by the formulas of state-spaces/s4, models/s4/s4d.py, under its class names and with its
parameters: the repository is no package."""

import math

import torch
from torch import nn


class S4DKernel(nn.Module):
    """K_k = 2 Re Σ C (e^{λΔ} − 1)/λ e^{λΔ k},  λ = −e^{log_A_real} + i A_imag,  Δ = e^{log_dt}."""

    def __init__(self, channels, states):
        super().__init__()
        shape = (channels, states // 2)
        self.log_dt = nn.Parameter(torch.empty(channels).uniform_(math.log(1e-3), math.log(1e-1)))
        self.C = nn.Parameter(torch.randn(*shape, 2))
        self.log_A_real = nn.Parameter(math.log(0.5) + 0.1 * torch.randn(shape))
        self.A_imag = nn.Parameter(math.pi * torch.arange(shape[1]) + 0.1 * torch.randn(shape))

    def forward(self, L):
        rates = torch.complex(-self.log_A_real.exp(), self.A_imag)
        exponents = rates * self.log_dt.exp()[:, None]
        weights = torch.view_as_complex(self.C) * (exponents.exp() - 1) / rates
        powers = torch.exp(exponents[..., None] * torch.arange(L))
        return 2 * (weights[..., None] * powers).sum(dim=1).real


class S4D(nn.Module):
    """GLU of a map of GELU(K ∗ u + D u), channels before time unless not ``transposed``."""

    def __init__(self, d_model, d_state=64, dropout=0.0, transposed=True):
        super().__init__()
        self.transposed = transposed
        self.D = nn.Parameter(torch.randn(d_model))
        self.kernel = S4DKernel(d_model, d_state)
        self.activation = nn.GELU()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.output_linear = nn.Sequential(nn.Conv1d(d_model, 2 * d_model, 1), nn.GLU(dim=-2))

    def recurrence(self, u):
        """(batch, channels, L) → the same: K ∗ u + D u, by FFT."""
        L = u.shape[-1]
        spectra = (torch.fft.rfft(x, 2 * L) for x in (self.kernel(L), u))
        return torch.fft.irfft(math.prod(spectra), 2 * L)[..., :L] + u * self.D[:, None]

    def forward(self, u, **_):
        y = self.recurrence(u if self.transposed else u.mT)
        y = self.output_linear(self.dropout(self.activation(y)))
        return (y if self.transposed else y.mT), None
