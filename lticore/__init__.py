"""Structured linear algebra for compressible state-space models.

import lticore as lti

sys = lti.LTI(lti.Rotation(radius, angle), B, C)     # x⁺ = A x + B u,  y = C x + D u
lti.hankel_singular_values(sys)                      # how much each state matters
reduced = lti.balanced_truncation(sys, order=8)      # .system, .error_bound, …

Discrete-time systems of python-control and scipy.signal and tuples (A, B, C, D) are systems too.
"""

from . import certificate
from .convert.diagonal import diagonalize, eigenvector_condition
from .convert.discretize import discretize
from .convert.layers import from_lru, from_s4d, from_s5
from .convert.nearby import NearbySystem, well_conditioned
from .convert.rotation import to_rotation
from .convert.statespace import from_statespace, to_statespace
from .differences import hankel_error, hinf_error
from .errors import (
    ArgumentError,
    ArrayLibraryError,
    BatchIndexError,
    DtypeError,
    LticoreError,
    MemoryLimitError,
    NonFiniteError,
    NotRealError,
    PrecisionWarning,
    ShapeError,
    SingularEquationError,
    UnstableSystemError,
)
from .feedback import feedback
from .gramians import controllability_gramian, gramian_factors, observability_gramian
from .hankel import hankel_singular_values
from .hinf import hinf_norm
from .norms import h2_error, h2_norm, hankel_norm, output_shift
from .quadratic import QuadraticOutputLTI
from .recurrence import linear_recurrence, time_varying_recurrence
from .reduction.balanced import balanced_truncation
from .reduction.complex_balanced import complex_balanced_truncation
from .reduction.h2 import h2_reduction
from .reduction.modal import allocate_modal_orders, modal_truncation
from .reduction.orders import allocate_orders, allocate_orders_by_error
from .reduction.refit import Refit, refit_outputs
from .reduction.result import Convergence, Reduction
from .response import frequency_response, impulse_response, simulate
from .spectral import SpectralFunction, schatten, tail
from .spectral_sums import LTIGradient, hankel_sum, hankel_sum_and_gradient
from .stein import solve_stein
from .structure import Diagonal, Rotation
from .systems import LTI

__version__ = "0.1.0"

__all__ = [
    # systems
    "Diagonal",
    "Rotation",
    "LTI",
    "QuadraticOutputLTI",
    "feedback",
    # equations and Gramians
    "solve_stein",
    "controllability_gramian",
    "observability_gramian",
    "gramian_factors",
    # Hankel singular values
    "hankel_singular_values",
    "hankel_sum",
    "hankel_sum_and_gradient",
    "LTIGradient",
    "SpectralFunction",
    "schatten",
    "tail",
    # norms and responses
    "hankel_norm",
    "h2_norm",
    "h2_error",
    "hankel_error",
    "hinf_norm",
    "hinf_error",
    "output_shift",
    "frequency_response",
    "impulse_response",
    "simulate",
    "linear_recurrence",
    "time_varying_recurrence",
    # reduction
    "balanced_truncation",
    "complex_balanced_truncation",
    "modal_truncation",
    "h2_reduction",
    "Reduction",
    "Convergence",
    "refit_outputs",
    "Refit",
    "allocate_orders",
    "allocate_modal_orders",
    "allocate_orders_by_error",
    "certificate",
    # coordinates and representations
    "diagonalize",
    "to_rotation",
    "eigenvector_condition",
    "well_conditioned",
    "NearbySystem",
    "discretize",
    "from_statespace",
    "to_statespace",
    "from_lru",
    "from_s5",
    "from_s4d",
    # errors
    "LticoreError",
    "ShapeError",
    "BatchIndexError",
    "DtypeError",
    "ArrayLibraryError",
    "NonFiniteError",
    "ArgumentError",
    "UnstableSystemError",
    "SingularEquationError",
    "NotRealError",
    "MemoryLimitError",
    "PrecisionWarning",
]
