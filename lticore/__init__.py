"""Structured linear algebra for compressible state-space models.

import lticore as lti

sys = lti.LTI(lti.Rotation(radius, angle), B, C)     # x⁺ = A x + B u,  y = C x + D u
lti.hankel_singular_values(sys)                      # how much each state matters
reduced = lti.balanced_truncation(sys, order=8)      # .system, .error_bound, …

Discrete-time systems of python-control and scipy.signal and tuples (A, B, C, D) are systems too.
"""

from . import plot
from .analysis import certificate
from .analysis.differences import hankel_error, hinf_error
from .analysis.hinf import hinf_norm
from .analysis.impulse import impulse_response, step_response
from .analysis.norms import h2_error, h2_norm, hankel_norm, output_shift
from .analysis.response import frequency_response
from .analysis.simulation import simulate
from .analysis.zeros import zeros
from .convert.descriptor import from_descriptor
from .convert.diagonal import diagonalize, eigenvector_condition
from .convert.nearby import NearbySystem, well_conditioned
from .convert.published_layers import from_lru, from_s4d, from_s5
from .convert.rational import (
    from_sections,
    from_transfer_function,
    from_zpk,
    to_sections,
    to_zpk,
)
from .convert.rotation import to_rotation
from .convert.statespace import from_statespace, to_statespace
from .equations.lyapunov import solve_lyapunov
from .equations.recurrence import linear_recurrence, time_varying_recurrence
from .equations.stein import solve_stein
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
from .hankel.data_gramians import data_gramians
from .hankel.functions import SpectralFunction, schatten, tail
from .hankel.gramians import (
    controllability_gramian,
    gramian_factors,
    observability_gramian,
)
from .hankel.other_gramians import band_gramians, weighted_gramians
from .hankel.sums import LTIGradient, hankel_sum, hankel_sum_and_gradient
from .hankel.values import hankel_singular_values
from .reduction.balanced import balanced_truncation
from .reduction.complex_balanced import complex_balanced_truncation
from .reduction.h2.reduce import h2_reduction
from .reduction.impulse_response import from_impulse_response
from .reduction.minimal import minimal_realization
from .reduction.modal import allocate_modal_orders, modal_truncation
from .reduction.orders import allocate_orders, allocate_orders_by_error
from .reduction.refit import Refit, refit_outputs
from .reduction.result import Convergence, Reduction
from .sampling.discretize import discretize
from .sampling.to_continuous import to_continuous
from .systems.diagonal import Diagonal
from .systems.feedback import feedback
from .systems.lti import LTI
from .systems.oscillation import Oscillation
from .systems.quadratic import QuadraticOutputLTI
from .systems.rotation import Rotation
from .systems.sparse import Sparse

__version__ = "0.2.0"

__all__ = [
    # systems
    "Diagonal",
    "Rotation",
    "Oscillation",
    "Sparse",
    "LTI",
    "QuadraticOutputLTI",
    "feedback",
    # equations and Gramians
    "solve_stein",
    "solve_lyapunov",
    "controllability_gramian",
    "observability_gramian",
    "gramian_factors",
    "data_gramians",
    "weighted_gramians",
    "band_gramians",
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
    "zeros",
    "impulse_response",
    "step_response",
    "simulate",
    "linear_recurrence",
    "time_varying_recurrence",
    # reduction
    "balanced_truncation",
    "complex_balanced_truncation",
    "modal_truncation",
    "h2_reduction",
    "minimal_realization",
    "Reduction",
    "Convergence",
    "refit_outputs",
    "Refit",
    "allocate_orders",
    "allocate_modal_orders",
    "allocate_orders_by_error",
    "certificate",
    # pictures
    "plot",
    # coordinates and representations
    "diagonalize",
    "to_rotation",
    "eigenvector_condition",
    "well_conditioned",
    "NearbySystem",
    "discretize",
    "to_continuous",
    "from_impulse_response",
    "from_statespace",
    "to_statespace",
    "from_descriptor",
    "from_transfer_function",
    "from_zpk",
    "from_sections",
    "to_zpk",
    "to_sections",
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
