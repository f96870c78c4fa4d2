"""What defines a run: frozen dataclasses, to JSON and back."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import inspect
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from lticore.errors import ArgumentError
from lticore_torch.layers import LAYERS

T = TypeVar("T")

# Evaluated once per class: files of results hold many configs.
_hints: Callable[[type], dict[str, Any]] = cache(typing.get_type_hints)
_reader: Callable[[type], TypeAdapter[Any]] = cache(TypeAdapter)
# A file with a misspelt field or a number in quotes is refused, not read as something else.
#: Arguments of a layer that are no choices of a model.
_NO_OPTIONS = {"features", "order", "device", "dtype"}

_strict = with_config(ConfigDict(strict=True, extra="forbid"))


@_strict
@dataclass(frozen=True)
class DataConfig:
    """Which data, and how much of it."""

    name: str = "digits"
    """A data set; `python -m experiments data list` shows them."""
    options: dict[str, int | str | tuple[int, ...]] = field(default_factory=dict)
    """Settings of its loader or generator."""
    pool: int = 1
    """Average pool × pool pixels of an image before it becomes a sequence."""
    length: int | None = None
    """Only the first steps of each sequence."""
    train: int | None = None
    """Only so many training sequences, always the same ones."""
    test: int | None = None
    """Only so many sequences in each of the other splits, always the same ones."""
    validation: bool = True
    """Hold out the validation split; otherwise it is trained on."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "pool", "length", "train", "test")


@_strict
@dataclass(frozen=True)
class ModelConfig:
    """Shape of the classifier; what the data decide (inputs, classes, vocabulary) is not here."""

    layer: str = "rotation"
    """Kind of state-space layer."""
    features: int = 32
    """Width of the blocks."""
    order: int = 64
    """Stored real states of each layer (2 per conjugate pair)."""
    depth: int = 2
    """Number of blocks."""
    dropout: float = 0.0
    """Dropout probability."""
    dropout_mask: Literal["sequence", "step"] = "sequence"
    """One mask for all time steps of a sequence, or a new one at each."""
    norm: Literal["batch", "batch-plain", "layer"] = "batch"
    """Normalisation before each layer."""
    gate: Literal["half-glu", "glu", "gelu"] = "half-glu"
    """Nonlinearity after each layer."""
    bidirectional: bool = False
    """Scan in both directions."""
    layer_options: dict[str, float] = field(default_factory=dict)
    """Keyword arguments of the layer."""
    linear_init: Literal["torch", "lecun"] = "torch"
    """Initial linear maps outside the layers: uniform of variance 1/(3 inputs) with biases, or (as
    in flax) truncated normal of variance 1/inputs without."""

    def __post_init__(self) -> None:
        _choices(self)
        check_name("layer", self.layer, LAYERS)
        options = set(inspect.signature(LAYERS[self.layer]).parameters) - _NO_OPTIONS
        for name in self.layer_options:
            check_name(f"option of layer {self.layer},", name, options)
        _at_least(self, 1, "features", "order", "depth")
        if not 0 <= self.dropout < 1:
            raise ArgumentError(f"dropout must lie in [0, 1), but is {self.dropout}")


@_strict
@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW in two groups: parameters of the linear systems without decay, the rest with it."""

    learning_rate: float = 4e-3
    """Peak."""
    weight_decay: float = 0.05
    """Of everything outside the system group."""
    system: Literal["ABC", "AB"] = "ABC"
    """The system group: all of A, B, C, or (as for LRU) all but C. D always decays."""
    system_rate: float = 1.0
    """Learning rate of the system group as a multiple of the other."""
    pole_rate: float = 1.0
    """Learning rate of the radii and angles of pole pairs as a multiple of the system group's."""
    clip: float = 1.0
    """Largest norm of the gradient; 0: no clipping."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of everything but the state-space layers (automatic mixed precision)."""

    def __post_init__(self) -> None:
        _choices(self)
        for name in ("learning_rate", "system_rate", "pole_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ArgumentError(f"{name} must be positive, but is {getattr(self, name)}")
        _at_least(self, 0, "weight_decay", "clip")


@_strict
@dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up from `first` to 1 times the peak, then constant or cosine down to `last`."""

    shape: Literal["cosine", "constant"] = "cosine"
    """After the warm-up."""
    warmup: float = 0.1
    """Share of the steps that warm up."""
    warmup_steps: int | None = None
    """Their number, instead of the share."""
    first: float = 1e-2
    """Factor at the first step."""
    last: float = 0.0
    """Factor at the last step of a cosine."""

    def __post_init__(self) -> None:
        _choices(self)
        if not 0 <= self.warmup < 1:
            raise ArgumentError(f"warmup must lie in [0, 1), but is {self.warmup}")
        _at_least(self, 0, "warmup_steps")


@_strict
@dataclass(frozen=True)
class RegularizerConfig:
    """A penalty on the state-space layers, added to the loss."""

    kind: Literal["none", "hankel", "hankel-mean", "modal", "l1"] = "none"
    """Sum or mean of the Hankel singular values, mean |λ|, or sum of the block magnitudes."""
    weight: float = 0.0
    """Regularisation magnitude."""
    every: int = 1
    """Compute it in every k-th step, k times as large."""

    def __post_init__(self) -> None:
        _choices(self)
        _at_least(self, 1, "every")
        _at_least(self, 0, "weight")
        if (self.kind == "none") != (self.weight == 0):
            raise ArgumentError(
                f"kind={self.kind!r} with weight={self.weight}: a penalty needs a positive weight, "
                "and no penalty the weight 0"
            )


@_strict
@dataclass(frozen=True)
class ReductionConfig:
    """Reductions of the layers in the course of training (CompreSSM)."""

    mode: Literal["none", "tolerance", "fraction", "rollback"] = "none"
    """By energy given up, by a share of the states, or by a share unless validation drops."""
    amount: float = 0.0
    """The tolerance τ (share of Σσ given up) or the share of states removed each time."""
    steps: tuple[int, ...] = ()
    """After which steps a reduction is attempted."""
    selection: Literal["largest", "smallest", "random", "random-modes"] = "largest"
    """Which balanced states (or modes as they stand) stay; all but "largest" are ablations."""
    criterion: Literal["balanced", "data"] = "balanced"
    """Judged by the systems alone, or by what the training steps before excite and notice."""
    moments: Literal["transform", "reset"] = "transform"
    """What becomes of Adam's moments."""
    max_drop: float = 0.0
    """Drop of validation accuracy beyond which mode "rollback" takes a reduction back."""

    def __post_init__(self) -> None:
        _choices(self)
        if self.mode == "none":
            return
        if not 0 < self.amount < 1:
            raise ArgumentError(f"amount must lie in (0, 1), but is {self.amount}")
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 1:
            raise ArgumentError(f"steps must be ascending positive numbers, but are {self.steps}")


@_strict
@dataclass(frozen=True)
class BudgetConfig:
    """How long to train."""

    epochs: int | None = None
    """Passes over the training data."""
    steps: int | None = None
    """Optimizer steps, instead of epochs."""
    batch_size: int = 50
    """Sequences per step over all processes; the last, incomplete batch is used too."""
    evaluate_every: int = 0
    """Steps between evaluations on the validation split; 0: none."""
    keep: Literal["last", "best"] = "last"
    """Test the last model, or the best on the validation split since the last reduction."""
    track_every: int = 0
    """Steps between records of all Hankel singular values; 0: none."""

    def __post_init__(self) -> None:
        _choices(self)
        if self.steps is not None:
            object.__setattr__(self, "epochs", None)  # so that one run has one config
        elif self.epochs is None:
            raise ArgumentError("give epochs or steps: both are None")
        _at_least(self, 1, "epochs", "steps", "batch_size")
        _at_least(self, 0, "evaluate_every", "track_every")
        if self.keep == "best" and not self.evaluate_every:
            raise ArgumentError('keep="best" needs evaluate_every')


@_strict
@dataclass(frozen=True)
class RunConfig:
    """All that decides the result of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    regularizer: RegularizerConfig = field(default_factory=RegularizerConfig)
    reduction: ReductionConfig = field(default_factory=ReductionConfig)
    budget: BudgetConfig = field(default_factory=lambda: BudgetConfig(epochs=40))
    seed: int = 0

    def __post_init__(self) -> None:
        if self.data.validation:
            return
        if self.budget.evaluate_every or self.reduction.mode == "rollback":
            raise ArgumentError(
                'evaluate_every and mode="rollback" need a validation split, but '
                "data.validation=False trains on it"
            )

    @property
    def slug(self) -> str:
        """A name for people and folders; the digest keeps apart what it does not tell.

        Settings at their defaults do not enter it: a new one leaves the names of old runs alone.
        """
        parts = [self.model.layer, f"{self.model.depth}x{self.model.order}"]
        if self.regularizer.kind != "none":
            parts.append(f"{self.regularizer.kind}{self.regularizer.weight:g}")
        if self.reduction.mode != "none":
            parts.append(f"{self.reduction.mode}{self.reduction.amount:g}")
        parts.append(f"seed{self.seed}")
        told = json.dumps(changed_settings(self), sort_keys=True)
        digest = hashlib.sha256(told.encode()).hexdigest()
        return f"{self.data.name}/{'-'.join(parts)}-{digest[:8]}"


@_strict
@dataclass(frozen=True)
class Runtime:
    """How a run is carried out; none of it belongs to the experiment."""

    device: str = "auto"
    """"auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1"."""
    compile: bool = False
    """Compile the model with torch.compile."""
    threads: int = 0
    """CPU threads of torch; 0: its own choice."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints; 0: after every step."""
    log_every: int = 50
    """Steps between lines of metrics.jsonl."""
    progress: bool = True
    """Show a bar."""
    tensorboard: bool = True
    """Write event files for tensorboard."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "log_every")
        _at_least(self, 0, "threads", "checkpoint_minutes")


def to_json(config: Any) -> dict[str, Any]:
    """Built-in types only; :func:`from_json` gives the config back."""
    # Once read, a 0 given for 0.0 is the same setting, and what cannot be read is refused here.
    read: Any = from_json(type(config), dataclasses.asdict(config))
    return json.loads(json.dumps(dataclasses.asdict(read)))


def from_json(kind: type[T], values: Mapping[str, Any]) -> T:
    """The dataclass ``kind`` from :func:`to_json`; missing fields take their defaults.

    Raises
    ------
    ArgumentError
        For a field that ``kind`` does not have, with the nearest ones, and for a value of another
        type or beyond what the field allows, with the name of the field.
    """
    try:
        return _reader(kind).validate_json(json.dumps(values))
    except ValidationError as error:
        raise _refusal(kind, error) from error


def _refusal(kind: type, error: ValidationError) -> ArgumentError:
    """The first fault by the name of its field."""
    first = error.errors()[0]
    *path, name = first["loc"] or (kind.__name__,)
    if first["type"] == "value_error":
        return first["ctx"]["error"]
    if first["type"] == "unexpected_keyword_argument":
        for step in path:
            kind = _hints(kind)[str(step)]
        return _unknown(f"field of {kind.__name__}", str(name), _hints(kind))
    where = ".".join(map(str, (*path, name)))
    return ArgumentError(f"{where}: {first['msg'].lower()}, but is {first['input']!r}")


def changed_settings(config: RunConfig) -> dict[str, Any]:
    """The settings that are not at their defaults; :func:`with_settings` gives the config back."""
    return _unlike(to_json(config), _defaults())


def with_settings(settings: Mapping[str, Any]) -> RunConfig:
    """The run with these settings, all others at their defaults.

    Raises
    ------
    ArgumentError
        As :func:`from_json`.
    """
    return from_json(RunConfig, _filled(settings, _defaults()))


@cache
def _defaults() -> dict[str, Any]:
    return to_json(RunConfig())


def check_name(what: str, name: str, known: Iterable[str]) -> None:
    """Raise an ArgumentError with the nearest known names unless ``name`` is one of them."""
    known = list(known)
    if name not in known:
        raise _unknown(what, name, known)


def _unknown(what: str, name: str, known: Iterable[str]) -> ArgumentError:
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    return ArgumentError(f"unknown {what} {name!r}: {hint}")


def _unlike(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The entries that differ from the defaults."""
    return {
        name: _unlike(value, default) if isinstance(value, dict) and default else value
        for name, value in values.items()
        if value != (default := defaults.get(name))
    }


def _filled(values: Mapping[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`_unlike`."""
    given = {
        name: _filled(value, default)
        if isinstance(value, dict) and (default := defaults.get(name))
        else value
        for name, value in values.items()
    }
    return defaults | given


def _choices(config: Any) -> None:
    """Every field with a Literal type holds one of its values."""
    for name, hint in _hints(type(config)).items():
        if typing.get_origin(hint) is Literal:
            check_name(f"value of {name},", getattr(config, name), typing.get_args(hint))


def _at_least(config: Any, minimum: float, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not value >= minimum:
            raise ArgumentError(f"{name} must be at least {minimum}, but is {value}")
