"""Parameters of a model as an optimizer should take them."""

from __future__ import annotations

from typing import Any

from torch import nn

from lticore.errors import ArgumentError

from . import state_space_layers


def parameter_groups(
    model: nn.Module, *, lr: float, weight_decay: float = 0.0, pole_rate: float = 0.25
) -> list[dict[str, Any]]:
    """Groups for an optimizer: poles and step sizes slowly and without decay.

    ================================================  ==============  ============
    parameters                                        learning rate   weight decay
    ================================================  ==============  ============
    poles and step sizes of state-space layers        lr · pole_rate  0
    of one dimension (biases, norms, D), and those
    marked ``_no_weight_decay``                       lr              0
    all other                                         lr              weight_decay
    ================================================  ==============  ============

    Decay moves poles although no gradient does: in 1 000 steps of AdamW with its default rate and
    weight_decay 0.1 a logit of 4 becomes 3.6, and a radius of 0.982 one of 0.974. A dictionary
    ``_optim`` at a parameter, as S4's code attaches it, is taken over what the table says.

    Parameters
    ----------
    model : nn.Module
        Also with layers of other packages in it.
    lr, weight_decay : of the optimizer
    pole_rate : float > 0
        0.25 is that of LRU; S5 and S4 have rates of their own, of 1/4 to 1/10.

    Raises
    ------
    ArgumentError

    Source: Orvieto et al., LRU, Appendix; Smith et al., S5, Appendix; Gu, Goel & Ré, S4.

    >>> groups = lt.parameter_groups(lt.LRU(4, 8), lr=4e-3, weight_decay=0.05)
    >>> [(group["lr"], group["weight_decay"]) for group in groups]
    [(0.001, 0.0), (0.004, 0.05), (0.004, 0.0)]
    >>> optimizer = torch.optim.AdamW(groups)
    """
    for name, value in (("lr", lr), ("pole_rate", pole_rate)):
        if not 0 < value < float("inf"):
            raise ArgumentError(f"{name} must be a finite number above 0, but is {value!r}")
    if not 0 <= weight_decay < float("inf"):
        raise ArgumentError(f"weight_decay must be a finite number ≥ 0, but is {weight_decay!r}")
    poles = _poles(model)
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for p in model.parameters():
        free = id(p) in poles or p.ndim < 2 or getattr(p, "_no_weight_decay", False)
        settings = {
            "lr": lr * pole_rate if id(p) in poles else lr,
            "weight_decay": 0.0 if free else weight_decay,
            **getattr(p, "_optim", {}),
        }
        key = tuple(sorted(settings.items()))
        groups.setdefault(key, {"params": [], **settings})["params"].append(p)
    return list(groups.values())


def _poles(model: nn.Module) -> set[int]:
    """Of poles and step sizes, also of what parametrisations make them from."""
    return {
        id(p)
        for layer in state_space_layers(model).values()
        for name, p in layer.named_parameters()
        if name.removeprefix("parametrizations.").split(".")[0] in layer.pole_parameters
    }
