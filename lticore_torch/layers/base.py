"""What every state-space layer, and what every time-invariant one, offers to the rest."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

import lticore
from lticore.errors import ArgumentError, DtypeError, ShapeError, UnstableSystemError
from lticore.internal import counted, mapped, to_numpy, warn_precision

from ..ops.bridge import to_array
from .initial import InitialisedModule
from .on_data import OnData
from .parameters import check_plain_parameters, resized_like
from .responses import change_of_response
from .unstable import reflected

#: 1 − ρ of every pole stays above this: exact in float64, where poles are formed.
SMALLEST_GAP = 1e-13
#: A system is loaded without a word where rounding changes its response by less than this share.
_UNNOTICED = 1e-4
#: Logarithms beyond this make quantities, above e^30 or below e^−30, that no map needs.
LOG_LIMIT = 30.0


@dataclass(frozen=True, eq=False)
class Modes:
    """Which of a layer's pairs and of its real poles are those of one channel."""

    pairs: np.ndarray
    reals: np.ndarray


#: Reductions to an order: (system or batch, order) → one Reduction of all, or one of each.
Reduce: TypeAlias = Callable[[Any, int], list[lticore.Reduction]]
#: A reduction, and the system (or batch) that a layer has made of it.
Taken: TypeAlias = tuple[lticore.Reduction, Any]


class StateSpaceLayer(InitialisedModule):
    """A layer with states that can be made fewer, time-invariant or not.

    Attributes
    ----------
    features : int
        Width of the inputs.
    outputs : int
        Width of the outputs, that of the inputs unless the layer says otherwise.
    D : (features,) parameter, the feedthrough; (outputs, features) of layers that take ``outputs``

    Shapes: forward (..., L, features) → (..., L, outputs).
    """

    features: int
    D: nn.Parameter

    @property
    def outputs(self) -> int:
        return self.features

    @property
    @abstractmethod
    def order(self) -> int:
        """Number of stored real states n: 2 per conjugate pair, 1 per real pole."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Keyword arguments beside features and order that make a layer of this form."""

    @abstractmethod
    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One time step (..., features) → (y, state): streaming inference in constant memory."""

    @abstractmethod
    def flops_per_step(self) -> int:
        """Real multiplications and additions of :meth:`step` for one sequence."""

    @abstractmethod
    def judged(self) -> Any:
        """What compression judges the states by without data: a system.

        Raises
        ------
        ArgumentError
            For a layer whose states are judged on data.
        """

    @abstractmethod
    def sums_on(self, u: Tensor, g: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """(N P, N Q): what inputs u and cotangents g of the outputs, N sequences (..., L, features)
        of both, add to the Gramians on data."""

    @abstractmethod
    def judged_by(self, P: np.ndarray, Q: np.ndarray) -> Any:
        """What compression judges the states by on data."""

    @abstractmethod
    def reduce_states(self, order: int, judged: Any, reduce: Reduce) -> list[Taken]:
        """Replace the parameters by those of fewer states, of each channel where there are several.

        Returns
        -------
        For each channel of a time-invariant layer its reduction, and what the layer holds of it.
        """

    def system_parameters(self) -> list[nn.Parameter]:
        """The parameters that A, B and C are made of: those a Hankel penalty acts on."""
        return [p for name, p in self.named_parameters() if name != "D"]

    @abstractmethod
    def _shapes_of(self, stored: Mapping[str, torch.Size]) -> dict[str, tuple[int, ...]]:
        """Shapes of all parameters and buffers of the layer of this width whose sizes the stored
        shapes tell."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        resized_like(self, state_dict, prefix, self._shapes_of)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class SSMLayer(StateSpaceLayer):
    """A layer  x_k = A x_{k−1} + B u_k,  y_k = C x_k + D u_k  with D diagonal or dense.

    What A, B and C are made of is the layer's own business; regulariser and compression see it
    through the methods below. The feedthrough is a parameter named D, of one entry per feature
    where it is diagonal.

    Shapes: forward (..., L, features) → (..., L, outputs); with ``reverse=True`` the recurrence
    runs from the last step to the first.

    States: forward starts from ``state`` and with ``return_state=True`` gives (y, state after the
    last step processed), both as for :meth:`step`; x_{−1} = 0 where it is None. So a sequence may
    come in chunks, with ``reverse=True`` the last of them first:

        y_1, state = layer(u[:, :k], return_state=True);  y_2 = layer(u[:, k:], state=state)

    is layer(u), gradients too; ``state.detach()`` truncates back-propagation at the chunk.

    >>> layer, u = lt.LRU(4, 8).double(), torch.ones(2, 50, 4).double()
    >>> y, state = layer(u[:, :30], return_state=True)
    >>> rest = layer(u[:, 30:], state=state)
    >>> torch.allclose(torch.cat((y, rest), dim=1), layer(u))
    True
    """

    #: What :meth:`load_lti` takes.
    SYSTEMS: ClassVar[Any] = (lticore.LTI,)

    @abstractmethod
    def forward(
        self,
        u: Tensor,
        *,
        reverse: bool = False,
        state: Tensor | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]: ...

    @abstractmethod
    def system_tensors(self) -> tuple[str, tuple[Tensor, ...], Tensor, Tensor]:
        """(structure, parameters of A, B, C) of the real input-output map, differentiable, as
        :func:`lticore_torch.ops.spectral.spectral_sum` takes them; A in float64."""

    @abstractmethod
    def to_lti(self, *, continuous: bool = False) -> lticore.LTI:
        """The layer's (A, B, C, D) as a system over NumPy (CPU) or CuPy (CUDA) arrays, float64.

        With ``continuous=True`` the system in continuous time that the layer samples, with dt = 0
        and a step of the sequence as the unit of time: of S4D and S5. Sampled by the layer's own
        rule, which leaves C and D alone, it is the system in discrete time again, of "zoh"
        ``lticore.discretize(sys, step=1.0)``; with half the step it is the layer for inputs that
        come twice as often.

        Raises
        ------
        ArgumentError
            With ``continuous=True`` for layers in discrete time, and for real poles of zero or less
            where inputs are held, which are samples of no real system.
        """

    def judged(self) -> Any:
        return self.to_lti()

    def sums_on(self, u: Tensor, g: Tensor) -> tuple[np.ndarray, np.ndarray]:
        u, g = (_as_sequences(x) for x in (u, g))
        pair = [to_array(self.signals_of_channels(x).contiguous()) for x in (u, g)]
        P, Q = lticore.data_gramians(self.to_lti(), [(pair[0], pair[1])], timing="current")
        return len(u) * to_numpy(P), len(u) * to_numpy(Q)

    def judged_by(self, P: np.ndarray, Q: np.ndarray) -> OnData:
        return OnData(mapped(to_numpy, self.to_lti()), P, Q)

    def reduce_states(self, order: int, judged: Any, reduce: Reduce) -> list[Taken]:
        reductions = reduce(judged, order)
        self.load_channels([x for reduction in reductions for x in channels(reduction.system)])
        held = self.to_lti()
        together = bool(reductions[0].system.batch_shape)
        return list(zip(reductions, [held] if together else channels(held), strict=True))

    def load_lti(self, sys: Any, *, unstable: Literal["refuse", "reflect"] = "refuse") -> None:
        """Take over the map of a real stable system with this layer's width, of any order.

        The parameters are replaced (an optimizer must be given the new ones), keeping dtype,
        device and ``requires_grad``. With ``unstable="reflect"`` poles outside the unit circle are
        taken to 1/conj λ and their modes scaled by 1/|λ|, so that each keeps the size of its
        frequency response; a warning says how many there were and by how much the response of the
        whole system changed. Another one says by how much the response of the layer's own form,
        modes in its precision, differs from the system's where that is more than 1e-4: of poles
        next to each other (delays, Legendre memories) float32 keeps few digits or none.

        Raises
        ------
        ShapeError
            For another number of inputs, outputs or channels.
        ArgumentError
            When D is not diagonal, for another kind of system, and for a layer of whose parameters
            some are made of others, by a parametrisation or by pruning.
        UnstableSystemError
            Unless the unstable poles are to be reflected.
        """
        check_plain_parameters(self)
        if not isinstance(sys, self.SYSTEMS):
            raise ArgumentError(f"{type(self).__name__} cannot hold {sys!r}: give an lticore.LTI")
        self._check_width(sys)
        systems = channels(sys)
        if unstable == "reflect" and sys.spectral_radius >= 1:
            systems = [reflected(x, 1 - SMALLEST_GAP) for x in systems]
        self.load_channels(systems)
        change, size = change_of_response(systems, channels(self.to_lti()))
        if change > _UNNOTICED * size:
            warn_precision(
                f"the modes of a {type(self).__name__} in {self.D.dtype} differ from the system by "
                f"{change / size:.0e} of its largest frequency response: poles next to each other "
                "or to the unit circle are the usual cause"
            )

    def load_channels(self, systems: Sequence[Any]) -> None:
        """:meth:`load_lti` from the systems of all channels, whose orders may differ, without a
        look at what rounding did; all features of a layer with one system are one channel."""
        check_plain_parameters(self)
        radius = max(float(sys.spectral_radius) for sys in systems)
        if radius >= 1:
            raise UnstableSystemError(
                f"a layer is stable, but the system has spectral radius {radius:.17g}",
                'Give unstable="reflect" to reflect its unstable poles into the unit circle',
            )
        self._load(systems)

    def signals_of_channels(self, x: Tensor) -> Tensor:
        """Inputs or outputs (batch, L, features) as :meth:`to_lti` takes and gives them."""
        return x

    def _check_width(self, sys: Any) -> None:
        if sys.batch_shape or (sys.inputs, sys.outputs) != (self.features, self.outputs):
            raise ShapeError(
                f"a layer of {self.features} features cannot hold {sys!r}: it needs one system "
                f"with {counted(self.features, 'input')} and {counted(self.outputs, 'output')}"
            )

    @abstractmethod
    def _load(self, systems: Sequence[Any]) -> None:
        """:meth:`load_channels` after the checks common to all layers."""

    # --- what an optimizer knows --------------------------------------------------------------

    @abstractmethod
    def modes_of_channels(self) -> list[Modes]:
        """The pairs and the real poles of each channel."""

    @abstractmethod
    def pole_coordinates(self) -> tuple[Tensor, Tensor, Mapping[str, str | None]]:
        """(ρ, α, coordinates) of the pairs, differentiable: which of "radius" and "angle" each
        parameter with one entry per pair is there for."""

    @abstractmethod
    def moments_after(
        self,
        new: Any,
        states: Sequence[tuple[np.ndarray, np.ndarray]],
        values: Mapping[str, np.ndarray],
        power: int,
    ) -> dict[str, np.ndarray]:
        """Moments of the parameters that belong to states, by name, for the layer ``new`` that
        takes this one's place.

        Parameters
        ----------
        states : (T_B, T_C) of each channel, which take gradients in B to T_B g_B, in C to g_C T_C
        values : moments by name, of this layer
        power : 1 for means, 2 for variances, which follow the squares of the maps
        """


def channels(sys: Any) -> list[Any]:
    """The systems of a layer: one, or those of its channels."""
    return list(sys) if sys.batch_shape else [sys]


def ssm_layers(model: nn.Module) -> dict[str, SSMLayer]:
    """The linear time-invariant layers inside ``model`` (or ``model`` itself), by module name, in
    order.

    >>> model = torch.nn.Sequential(lt.LRU(4, 8), torch.nn.GELU(), lt.S5(4, 8))
    >>> list(lt.ssm_layers(model))
    ['0', '2']
    """
    return {name: module for name, module in model.named_modules() if isinstance(module, SSMLayer)}


def check_sizes(features: int, order: int, real_poles: int | None) -> tuple[int, int]:
    """(pairs, real poles) of a layer of this many real states; one real pole if they are odd."""
    real = order % 2 if real_poles is None else real_poles
    if features < 1 or order < 1:
        raise ArgumentError(f"features and order must be at least 1: {features}, {order}")
    if not 0 <= real <= order or (order - real) % 2:
        raise ArgumentError(
            f"order {order} cannot hold {real} real poles: what remains must fill blocks of two "
            "states"
        )
    return (order - real) // 2, real


def log_range(min_step: float, max_step: float) -> tuple[float, float]:
    """Logarithms of the smallest and the largest initial step size."""
    if not 0 < min_step <= max_step:
        raise ArgumentError(f"0 < min_step ≤ max_step is needed: {min_step}, {max_step}")
    return math.log(min_step), math.log(max_step)


def exponential(x: Tensor) -> Tensor:
    """e^x of logarithms among the parameters, in float64 and finite whatever they are."""
    return torch.exp(x.double().clamp(-LOG_LIMIT, LOG_LIMIT))


def wide(dtype: torch.dtype) -> torch.dtype:
    """What a layer with parameters of this dtype computes in: complex arithmetic knows no half
    precision."""
    return torch.promote_types(dtype, torch.float32)


def system_array(x: Tensor) -> Any:
    """A copy in float64, which training does not change, as a NumPy or CuPy array."""
    return to_array(x.double().clone())


def in_full_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a layer and its input without autocast: no half-precision products inside."""

    @wraps(method)
    def run(self: Any, u: Tensor, *rest: Any, **options: Any) -> Any:
        with torch.autocast(u.device.type, enabled=False):
            return method(self, u, *rest, **options)

    return run


def check_input(u: Tensor, features: int, *, steps: bool = True) -> Tensor:
    """``u``, of shape (..., L, features), or without ``steps`` (..., features).

    No sequences, no steps and NaN pass.

    Raises
    ------
    ShapeError
    DtypeError
        For integers and complex numbers, which the output could not hold.
    """
    expected = f"(..., L, {features})" if steps else f"(..., {features})"
    if u.ndim < 1 + steps or u.shape[-1] != features:
        raise ShapeError(
            f"a layer of {features} features takes {expected}, but its input has shape "
            f"{tuple(u.shape)}: put the features on the last axis"
            + (" and time on the one before it" if steps else "")
        )
    if not u.is_floating_point():
        raise DtypeError(
            f"a layer's input must be real floating-point, but is {u.dtype}: convert it, for "
            "example with .to(torch.float32)"
        )
    return u


def check_state(state: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """``state``, of this shape or None.

    Raises
    ------
    ShapeError, DtypeError
    """
    if state is None:
        return None
    if state.shape != shape:
        raise ShapeError(
            f"the state has shape {tuple(state.shape)}, but this layer and input need {shape}: "
            "give what the same layer returned for as many sequences; a layer that was compressed "
            "since starts anew, from None"
        )
    if not state.is_floating_point():
        raise DtypeError(f"a layer's state must be real floating-point, but is {state.dtype}")
    return state


def feedthrough_of(sys: lticore.LTI, *, dense: bool) -> np.ndarray:
    """D, or its diagonal, of a real system.

    Raises
    ------
    ArgumentError
        When only the diagonal is wanted and D has other entries.
    """
    D = np.zeros((sys.outputs, sys.inputs)) if sys.D is None else to_numpy(sys.D)
    D = D.real  # of a real system, which the conversion of A, B and C has checked
    if dense:
        return D
    if np.any(np.diag(np.diag(D)) != D):
        raise ArgumentError(
            "the layer's feedthrough is diagonal, but D has other entries: make the layer with "
            "outputs=, which gives it a dense D"
        )
    return np.diag(D)


def _as_sequences(x: Tensor) -> Tensor:
    """(batch, L, features) in a precision that arrays have."""
    x = x.reshape(-1, *x.shape[-2:])
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
