"""Deep models around state-space layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lticore.errors import ArgumentError, ShapeError

from ..layers import LAYERS, Bidirectional
from ..ops.fused import half_glu
from .heads import pair_head

#: Choices of a configuration by the name of its field.
_CHOICES = {
    "layer": tuple(LAYERS),
    "norm": ("batch", "batch-plain", "layer"),
    "gate": ("half-glu", "glu", "gelu"),
    "dropout_mask": ("sequence", "step"),
    "documents": (1, 2),
}


@dataclass(frozen=True)
class SequenceClassifierConfig:
    """Shape of a :class:`SequenceClassifier`.

    inputs : channels of the sequence; with ``vocabulary`` not used
    classes : number of labels
    features : width h of the blocks
    order : stored real states n of each layer (S4D and selective: of each channel)
    depth : number of blocks
    layer : kind of state-space layer: "rotation", "lru", "s5", "s4d", "quadratic", "selective"
    dropout : probability, before and after each gate
    dropout_mask : what is dropped together: a feature of a whole "sequence" (HSVR, S5), or of each
        time "step" for itself (CompreSSM)
    norm : "batch" (affine, over batch and time), "batch-plain" (the same, not affine), "layer"
    gate : "half-glu", "glu" or "gelu", see :class:`SequenceBlock`
    vocabulary : number of tokens: inputs are (batch, L) integers and embedded instead of encoded
    bidirectional : each block reads the sequence from both ends
    documents : sequences per example: 2 for pairs of documents
    layer_options : keyword arguments of the layers

    >>> config = lt.SequenceClassifierConfig(
    ...     inputs=1, classes=10, features=8, order=16, depth=2, layer="s5"
    ... )
    >>> lt.SequenceClassifier(config).blocks[1].ssm
    S5(features=8, order=16, real_poles=0)
    """

    inputs: int
    classes: int
    features: int
    order: int
    depth: int
    layer: str = "rotation"
    dropout: float = 0.0
    dropout_mask: Literal["sequence", "step"] = "sequence"
    norm: Literal["batch", "batch-plain", "layer"] = "batch"
    gate: Literal["half-glu", "glu", "gelu"] = "half-glu"
    vocabulary: int | None = None
    bidirectional: bool = False
    documents: Literal[1, 2] = 1
    layer_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("inputs", "classes", "features", "order", "depth"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1, but is {getattr(self, name)}")
        if self.vocabulary is not None and self.vocabulary < 1:
            raise ArgumentError(f"vocabulary must be at least 1, but is {self.vocabulary}")
        if not 0 <= self.dropout < 1:
            raise ArgumentError(f"dropout must lie in [0, 1), but is {self.dropout}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ArgumentError(f"{name}={getattr(self, name)!r} is not one of {choices}")


class SequenceBlock(nn.Module):
    """v + N(ssm(norm(v))) with one of three gates N; (batch, L, h) → the same.

        a = gelu(z):   half-glu  a ∘ sigmoid(W a + b)
                       glu       (W_1 a + b_1) ∘ sigmoid(W_2 a + b_2)
                       gelu      a

    Dropout acts on a and on the result; ``dropout_mask`` says whether a mask is drawn for each
    sequence or for each of its time steps. The fused gate is for a plain nn.Linear; one with hooks
    or parametrisations, or a module in its place (an adapter, a quantised layer), is called.

    All but the layer acts on each step by itself, so ``state`` and ``return_state`` are those of
    the layer (:class:`lticore_torch.layers.SSMLayer`), and in evaluation mode a sequence may come
    in chunks. In training mode batch normalisation and dropout are those of each chunk.

    Source: Schwerdtner et al., HSVR, Appendix B; Smith et al., S5; Orvieto et al., LRU.

    Parameters
    ----------
    ssm : a state-space layer
    norm, gate, dropout, dropout_mask : as in :class:`SequenceClassifierConfig`
    device, dtype : of norm and gate

    >>> block = lt.SequenceBlock(lt.LRU(8, 16), norm="layer", gate="glu")
    >>> block(torch.zeros(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """

    def __init__(
        self,
        ssm: Any,
        *,
        dropout: float = 0.0,
        dropout_mask: str = "sequence",
        norm: str = "batch",
        gate: str = "half-glu",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        h = ssm.features
        if ssm.outputs != h:
            raise ArgumentError(
                f"a block adds the outputs of its layer to the inputs, so it needs as many of "
                f"both, but the layer has {h} features and {ssm.outputs} outputs"
            )
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.norm: nn.Module = (
            nn.LayerNorm(h, **made)
            if norm == "layer"
            else nn.BatchNorm1d(h, affine=norm == "batch", **made)
        )
        self.ssm = ssm
        widths = {"half-glu": h, "glu": 2 * h}
        self.gate: Any = nn.Linear(h, widths[gate], **made) if gate in widths else None
        self.dropout, self.dropout_mask = dropout, dropout_mask

    def forward(
        self,
        v: Tensor,
        valid: Tensor | None = None,
        *,
        state: Tensor | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """``valid`` (batch, L, 1): 0 at padded steps, which then do not enter the layer; its state
        passes through them."""
        z = self._normed(v)
        z = z if valid is None else z * valid
        last = None
        if return_state:
            z, last = self.ssm(z, state=state, return_state=True)
        else:
            z = self.ssm(z) if state is None else self.ssm(z, state=state)
        y, mask = self._gated(z, self._mask(v)), self._mask(v)
        y = torch.addcmul(v, y, mask) if mask is not None else v + y
        return y if last is None else (y, last)

    def _gated(self, z: Tensor, mask: Tensor | None) -> Tensor:
        gate = self.gate
        if is_plain_linear(gate) and gate.out_features == z.shape[-1]:
            return half_glu(z, gate.weight, gate.bias, mask)
        a = functional.gelu(z) if mask is None else functional.gelu(z) * mask
        if gate is None:
            return a
        w = gate(a)
        return a * torch.sigmoid(w) if w.shape == a.shape else functional.glu(w, dim=-1)

    def _normed(self, v: Tensor) -> Tensor:
        if isinstance(self.norm, nn.LayerNorm):
            return self.norm(v)
        return self.norm(v.flatten(0, -2)).reshape(v.shape)

    def _mask(self, v: Tensor) -> Tensor | None:
        """Factors of dropout, (batch, 1 or L, h); None where it is off."""
        if not self.training or self.dropout == 0:
            return None
        steps = v.shape[-2] if self.dropout_mask == "step" else 1
        return functional.dropout(v.new_ones(*v.shape[:-2], steps, v.shape[-1]), self.dropout)


def is_plain_linear(module: nn.Module | None) -> bool:
    """Whether to call the module is to compute W a + b, and nothing else: an nn.Linear itself,
    without hooks (pruning is one) and parametrisations, which make it another class."""
    if type(module) is not nn.Linear or module.bias is None:
        return False
    return not (
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
    )


class SequenceClassifier(nn.Module):
    """Encoder, blocks, mean over time, linear decoder.

    Shapes: (batch, L, inputs) → (batch, classes) logits; with ``vocabulary`` (batch, L) integers.
    ``lengths`` (batch,) are the valid steps of sequences padded at their ends: padding enters
    neither layers nor means, though training statistics of batch normalisation count it, as in
    the papers' codes.

    With ``documents`` = 2 examples are pairs, (batch, 2, L, inputs) or (batch, 2, L) integers, with
    ``lengths`` (batch, 2): encoder and blocks take each document by itself, as 2 · batch sequences,
    and the two means meet in :func:`pair_head`.

    Raises
    ------
    ShapeError
        For sequences or lengths of other shapes, and sequences of no steps, which have no mean.

    >>> config = lt.SequenceClassifierConfig(
    ...     inputs=1, classes=10, features=8, order=16, depth=2
    ... )
    >>> model = lt.SequenceClassifier(config)
    >>> model(torch.zeros(3, 50, 1), lengths=torch.tensor([50, 20, 30])).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        config: SequenceClassifierConfig,
        *,
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.encoder: nn.Module = (
            nn.Linear(config.inputs, config.features, **made)
            if config.vocabulary is None
            else nn.Embedding(config.vocabulary, config.features, **made)
        )
        self.blocks = nn.ModuleList(
            SequenceBlock(
                _layer(config, made),
                dropout=config.dropout,
                dropout_mask=config.dropout_mask,
                norm=config.norm,
                gate=config.gate,
                **made,
            )
            for _ in range(config.depth)
        )
        self.decoder: nn.Module = (
            nn.Linear(config.features, config.classes, **made)
            if config.documents == 1
            else pair_head(config.features, config.classes, **made)
        )

    def forward(self, sequences: Tensor, lengths: Tensor | None = None) -> Tensor:
        documents = self.config.documents
        _check_shapes(self.config, sequences, lengths)
        means = self._means(
            sequences.flatten(0, documents - 1), None if lengths is None else lengths.flatten()
        )
        return self.decoder(means.reshape(-1, documents * self.config.features))

    def _means(self, sequences: Tensor, lengths: Tensor | None) -> Tensor:
        """Outputs of the last block averaged over the valid steps, (number of sequences, h)."""
        v = self.encoder(sequences)
        if lengths is None:
            for block in self.blocks:
                v = block(v)
            return v.mean(dim=-2)
        steps = torch.arange(v.shape[-2], device=v.device)
        valid = (steps < lengths[:, None])[..., None].to(v.dtype)
        for block in self.blocks:
            v = block(v, valid)
        return (v * valid).sum(dim=-2) / lengths[:, None].clamp(min=1).to(v.dtype)


def _check_shapes(
    config: SequenceClassifierConfig, sequences: Tensor, lengths: Tensor | None
) -> None:
    pair = (config.documents,) if config.documents > 1 else ()
    channels = (config.inputs,) if config.vocabulary is None else ()
    expected, seen = ("batch", *pair, "L", *channels), tuple(sequences.shape)
    # By `!=`: torch.compile takes a dynamic size to be in no tuple of numbers.
    if len(seen) != len(expected) or any(
        isinstance(size, int) and found != size for size, found in zip(expected, seen, strict=True)
    ):
        raise ShapeError(
            f"sequences has shape {seen}, but a classifier with documents={config.documents} and "
            f"vocabulary={config.vocabulary} expects ({', '.join(map(str, expected))})"
        )
    if seen[config.documents] == 0:
        raise ShapeError(
            f"sequences has shape {seen}: sequences of no steps have no mean over time to classify"
        )
    if lengths is not None and lengths.shape != seen[: config.documents]:
        raise ShapeError(
            f"lengths has shape {tuple(lengths.shape)}, but sequences of shape {seen} need "
            f"lengths of shape {seen[: config.documents]}"
        )


def _layer(config: SequenceClassifierConfig, made: Mapping[str, Any]) -> nn.Module:
    make = LAYERS[config.layer]
    layers = [
        make(config.features, config.order, **config.layer_options, **made)
        for _ in range(2 if config.bidirectional else 1)
    ]
    return Bidirectional(*layers) if config.bidirectional else layers[0]
