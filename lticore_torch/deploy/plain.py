"""Layers as modules of plain operators, what their parameters make computed beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import singledispatch
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from lticore.errors import ArgumentError

from ..layers import S4D, QuadraticSSM, SelectiveSSM, StateSpaceLayer, state_space_layers
from ..layers.base import exponential, wide
from ..layers.modal import ModalSSM
from ..layers.wrapped import copied

#: (real part, imaginary part with the sign that it has in the row) of the pole of each state.
_Turn: TypeAlias = tuple[Tensor, Tensor]


def plain(model: nn.Module, *, rounds: int) -> nn.Module:
    """A copy in evaluation mode, not to be trained, whose layers are of plain operators and right
    for sequences of up to 2^rounds steps."""
    own = copied(model).cpu().eval().requires_grad_(False)
    with torch.no_grad():
        wholes: dict[nn.Module, PlainLayer] = {
            layer: plain_layer(layer, rounds) for layer in state_space_layers(own).values()
        }
    if own in wholes:
        return wholes[own]
    for name, layer in list(own.named_modules(remove_duplicate=False)):
        if layer in wholes:  # one that is shared in all of its places
            own.set_submodule(name, wholes[layer])
    return own


class PlainLayer(nn.Module, ABC):
    """A layer as its original, (..., L, features) → (..., L, outputs), of real operators only.

    States of pairs are neighbours, x_{2j} and x_{2j+1}, turned by

        x_k = c ∘ x_{k−1} + s ∘ (x_{k−1} with neighbours exchanged) + drive_k,

    c the real part of their pole λ and s its imaginary part, negative in the first of the two. All
    steps come at once, by doubling: after round r each state holds its last 2^(r+1) drives, as
    x_k + λ^(2^r) x_{k−2^r} does.
    """

    #: Axes of the states after that of time.
    STATE_AXES = 1

    D: Tensor
    partner: Tensor

    def __init__(self, layer: StateSpaceLayer, pairs: int, reals: int, rounds: int) -> None:
        super().__init__()
        self.features, self.outputs = layer.features, layer.outputs
        self.rounds, self.pairs = rounds, pairs
        places = torch.arange(2 * pairs + reals)
        exchanged = torch.cat([places[: 2 * pairs] ^ 1, places[2 * pairs :]])
        self.register_buffer("partner", exchanged)

    @property
    @abstractmethod
    def state_shape(self) -> tuple[int, ...]:
        """Of the states of one sequence."""

    @abstractmethod
    def driven(self, x: Tensor) -> tuple[_Turn, Tensor]:
        """(turn at each step, or at all steps; what drives the states (..., L, *states))."""

    @abstractmethod
    def turns(self, turn: _Turn) -> Iterable[_Turn]:
        """Those of the rounds: λ, λ², λ⁴, …"""

    @abstractmethod
    def read(self, states: Tensor, x: Tensor) -> Tensor:
        """The outputs."""

    def forward(
        self,
        u: Tensor,
        *,
        reverse: bool = False,
        state: Tensor | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        x = u.to(self.D.dtype)
        x = x.flip(-2) if reverse else x
        turn, drive = self.driven(x)
        if state is not None:
            drive = self._started(drive, turn, state.to(x.dtype))
        states = self._doubled(drive, turn)
        y = self.read(states, x).to(u.dtype)
        y = y.flip(-2) if reverse else y
        return (y, states.select(self._time(states), -1)) if return_state else y

    def _doubled(self, x: Tensor, turn: _Turn) -> Tensor:
        for r, (c, s) in zip(range(self.rounds), self.turns(turn), strict=False):
            past = self._delayed(x, 2**r)
            x = x + self._turned(past, c, s)
        return x

    def _turned(self, x: Tensor, c: Tensor, s: Tensor) -> Tensor:
        turned = c * x
        return turned + s * x.index_select(-1, self.partner) if self.pairs else turned

    def _started(self, drive: Tensor, turn: _Turn, state: Tensor) -> Tensor:
        """The first drive, with what becomes of the initial state."""
        time = self._time(drive)
        c, s = (p.select(time, 0) if p.ndim == drive.ndim else p for p in turn)
        first = drive.select(time, 0) + self._turned(state, c, s)
        rest = drive.narrow(time, 1, drive.shape[time] - 1)
        return torch.cat([first.unsqueeze(time), rest], dim=time)

    def _delayed(self, x: Tensor, steps: int) -> Tensor:
        """x_{k − steps}, zero before the first."""
        time = self._time(x)
        before = [0, 0] * self.STATE_AXES + [steps, 0]
        return functional.pad(x, before).narrow(time, 0, x.shape[time])

    def _time(self, x: Tensor) -> int:
        return x.ndim - 1 - self.STATE_AXES


class _Constant(PlainLayer):
    """A layer whose poles do not change: their powers are made beforehand, in float64."""

    cosine: Tensor
    sine: Tensor

    def _keep_powers(self, poles: Tensor, real: Tensor, dtype: torch.dtype) -> None:
        """Of (..., pairs) and (..., reals); one power at least, for steps."""
        cosines, sines = [], []
        for _ in range(max(self.rounds, 1)):
            cosines.append(torch.cat([poles.real.repeat_interleave(2, dim=-1), real], dim=-1))
            signed = torch.stack([-poles.imag, poles.imag], dim=-1).flatten(-2)
            sines.append(torch.cat([signed, torch.zeros_like(real)], dim=-1))
            poles, real = poles * poles, real * real
        self.register_buffer("cosine", torch.stack(cosines).to(dtype))
        self.register_buffer("sine", torch.stack(sines).to(dtype))

    def turns(self, turn: _Turn) -> Iterator[_Turn]:
        return zip(self.cosine, self.sine, strict=True)


class _PlainModal(_Constant):
    """One system: y = C x + D u, with or without squares of outputs."""

    B: Tensor
    rows: Tensor
    s: Tensor | None

    def __init__(self, layer: ModalSSM, rounds: int) -> None:
        poles, real = layer._poles()
        super().__init__(layer, len(poles), len(real), rounds)
        _, B, rows, D = layer._at_work(layer.D)
        self._keep_powers(poles, real, D.dtype)
        for name, value in (("B", B), ("rows", rows), ("D", D)):
            self.register_buffer(name, value.detach().clone())
        self.register_buffer("s", layer.s.to(D.dtype) if isinstance(layer, QuadraticSSM) else None)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (len(self.partner),)

    def driven(self, x: Tensor) -> tuple[_Turn, Tensor]:
        return (self.cosine[0], self.sine[0]), functional.linear(x, self.B)

    def read(self, states: Tensor, x: Tensor) -> Tensor:
        z = functional.linear(states, self.rows)
        through = x * self.D if self.D.ndim == 1 else functional.linear(x, self.D)
        y = z[..., : self.outputs] + through
        if self.s is None:
            return y
        squares = z[..., self.outputs :].square().unflatten(-1, self.s.shape)
        return y + (squares * self.s).sum(dim=-1)


class _PlainChannels(_Constant):
    """One system of one input and one output for each channel."""

    STATE_AXES = 2

    B: Tensor
    C: Tensor

    def __init__(self, layer: S4D, rounds: int) -> None:
        (radius, angle, real), B, C = layer._padded()
        super().__init__(layer, radius.shape[-1], real.shape[-1], rounds)
        dtype = wide(layer.C.dtype)
        self._keep_powers(torch.polar(radius, -angle), real, dtype)
        for name, value in (("B", B[..., 0]), ("C", C[:, 0]), ("D", layer.D)):
            self.register_buffer(name, value.detach().to(dtype).clone())

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self.features, len(self.partner)

    def driven(self, x: Tensor) -> tuple[_Turn, Tensor]:
        return (self.cosine[0], self.sine[0]), x.unsqueeze(-1) * self.B

    def read(self, states: Tensor, x: Tensor) -> Tensor:
        return (states * self.C).sum(dim=-1) + x * self.D


class _PlainSelective(PlainLayer):
    """Poles, inputs and outputs that depend on the input."""

    STATE_AXES = 2

    step_map: Tensor
    step_bias: Tensor
    rate: Tensor
    frequency: Tensor
    B: Tensor
    C: Tensor

    def __init__(self, layer: SelectiveSSM, rounds: int) -> None:
        super().__init__(layer, len(layer.decay_log), layer.real_log.shape[-1], rounds)
        dtype = wide(layer.B.dtype)
        decay, turning, real = (
            x.double().expand(layer.features, x.shape[-1])
            for x in (exponential(layer.decay_log), layer.frequency, exponential(layer.real_log))
        )
        values = {
            "step_map": layer.step_up.double() @ layer.step_down.double(),
            "step_bias": layer.step_bias,
            "rate": torch.cat([decay.repeat_interleave(2, dim=-1), real], dim=-1),
            "frequency": torch.cat(
                [torch.stack([turning, -turning], dim=-1).flatten(-2), torch.zeros_like(real)],
                dim=-1,
            ),
            "B": layer.B,
            "C": layer.C,
            "D": layer.D,
        }
        for name, value in values.items():
            self.register_buffer(name, value.detach().to(dtype).clone())

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self.features, len(self.partner)

    def driven(self, x: Tensor) -> tuple[_Turn, Tensor]:
        reads = functional.linear(x, self.step_map, self.step_bias)
        step = functional.softplus(reads).unsqueeze(-1)
        drive = step * functional.linear(x, self.B).unsqueeze(-2) * x.unsqueeze(-1)
        decay = torch.exp(-step * self.rate)
        if not self.pairs:
            return (decay, decay), drive
        angle = step * self.frequency
        return (decay * torch.cos(angle), decay * torch.sin(angle)), drive

    def turns(self, turn: _Turn) -> Iterator[_Turn]:
        c, s = turn
        for r in range(self.rounds):
            yield c, s
            older_c, older_s = (self._delayed(p, 2**r) for p in (c, s))
            if self.pairs:
                c, s = c * older_c - s * older_s, c * older_s + s * older_c
            else:
                c = s = c * older_c

    def read(self, states: Tensor, x: Tensor) -> Tensor:
        c = functional.linear(x, self.C).unsqueeze(-2)
        return (states * c).sum(dim=-1) + x * self.D


@singledispatch
def plain_layer(layer: Any, rounds: int) -> PlainLayer:
    """The layer of plain operators.

    Raises
    ------
    ArgumentError
        For a kind that is not known.
    """
    raise ArgumentError(f"a {type(layer).__name__} is not known in plain operators")


plain_layer.register(ModalSSM, _PlainModal)
plain_layer.register(S4D, _PlainChannels)
plain_layer.register(SelectiveSSM, _PlainSelective)
