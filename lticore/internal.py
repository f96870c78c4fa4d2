"""What ``lticore_torch`` and ``experiments`` use of the core beside its public names.

Names may change from one version to the next; nothing else of the core is used from outside.
"""

from . import kernels
from .analysis.certificate import LayerConstants
from .arrays.checks import (
    check_integer,
    check_one_given,
)
from .arrays.linalg import pad_values
from .arrays.namespaces import (
    asking,
    namespace,
    to_numpy,
)
from .convert.rotation import scaled_by_first_input
from .equations.recurrence import (
    adjoint_into_reference,
    recur_into_reference,
    recurrence_adjoint_reference,
    time_varying_recurrence_reference,
)
from .errors import counted, warn_precision
from .hankel.directions import leading_directions
from .hankel.functions import (
    SpectralLike,
    as_spectral_function,
)
from .hankel.sums import sum_and_gradient
from .kernels import one_thread
from .reduction.balanced import truncate, truncate_all_to_order
from .reduction.complex_balanced import complex_half
from .reduction.modal import (
    keep_modes,
    random_modes,
)
from .reduction.orders import (
    check_budget,
    order_for_energy,
    order_for_error,
)
from .systems.lti import in_double, unchecked
from .systems.pairs import (
    complex_columns,
    complex_rows,
    join_pairs,
    real_columns,
    real_rows,
    split_pairs,
)
from .systems.quadratic import (
    dense_forms,
    linear_part,
    mapped,
)
from .systems.structure import unchecked_structure

__all__ = [
    "LayerConstants",
    "SpectralLike",
    "adjoint_into_reference",
    "as_spectral_function",
    "asking",
    "check_budget",
    "check_integer",
    "check_one_given",
    "complex_columns",
    "complex_half",
    "complex_rows",
    "counted",
    "dense_forms",
    "in_double",
    "join_pairs",
    "keep_modes",
    "kernels",
    "leading_directions",
    "linear_part",
    "mapped",
    "namespace",
    "one_thread",
    "order_for_energy",
    "order_for_error",
    "pad_values",
    "random_modes",
    "real_columns",
    "real_rows",
    "recur_into_reference",
    "recurrence_adjoint_reference",
    "scaled_by_first_input",
    "split_pairs",
    "sum_and_gradient",
    "time_varying_recurrence_reference",
    "to_numpy",
    "truncate",
    "truncate_all_to_order",
    "unchecked",
    "unchecked_structure",
    "warn_precision",
]
