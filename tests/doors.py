"""What goes in at the doors of `lticore`: its public functions, one row each."""

from __future__ import annotations

import dataclasses

import numpy as np

import lticore as lti

U = np.random.default_rng(1).standard_normal((6, 2))
Y = np.random.default_rng(2).standard_normal((6, 2))
OMEGA = np.array([0.5, 1.0, 2.0])
#: What a second system is compared with: the same signals, two states.
OTHER = lti.LTI(lti.Diagonal([0.5, -0.25]), [[1.0, 0.5], [0.5, 1.0]], [[1.0, 0.5], [0.0, 1.0]])


def _gradient(sys):
    value, gradient = lti.hankel_sum_and_gradient(sys)
    return value, gradient.A, gradient.B, gradient.C


def _reduced(reduction):
    """What systems with quadratic outputs have too."""
    return reduction.system, reduction.singular_values, reduction.h2_error


def steps_of(sys):
    """Four steps, or times of systems in continuous time."""
    return np.array([0.0, 0.5, 0.75, 3.0]) if is_continuous(sys) else 4


def step_of(sys):
    """A time between samples, for systems in continuous time."""
    return 0.25 if is_continuous(sys) else None


def is_continuous(sys):
    dt = sys[4] if isinstance(sys, tuple | list) and len(sys) == 5 else getattr(sys, "dt", True)
    return dt is None or (dt is not True and dt == 0)


#: Functions of a system; r states are asked for where there is a choice.
SYSTEM_ROWS = {
    "controllability_gramian": lambda sys, r: lti.controllability_gramian(sys),
    "observability_gramian": lambda sys, r: lti.observability_gramian(sys),
    "gramian_factors": lambda sys, r: lti.gramian_factors(sys),
    "hankel_singular_values": lambda sys, r: lti.hankel_singular_values(sys),
    "hankel_sum": lambda sys, r: lti.hankel_sum(sys, "log"),
    "hankel_sum_and_gradient": lambda sys, r: _gradient(sys),
    "hankel_norm": lambda sys, r: lti.hankel_norm(sys),
    "h2_norm": lambda sys, r: lti.h2_norm(sys),
    "h2_error": lambda sys, r: lti.h2_error(sys, OTHER),
    "h2_error, reduced": lambda sys, r: lti.h2_error(OTHER, sys),
    "hinf_norm": lambda sys, r: lti.hinf_norm(sys),
    "hinf_error": lambda sys, r: lti.hinf_error(sys, OTHER),
    "hinf_error, reduced": lambda sys, r: lti.hinf_error(OTHER, sys),
    "hankel_error": lambda sys, r: lti.hankel_error(sys, OTHER),
    "hankel_error, reduced": lambda sys, r: lti.hankel_error(OTHER, sys),
    "feedback": lambda sys, r: lti.feedback(sys, np.eye(2) / 8),
    "output_shift": lambda sys, r: lti.output_shift(sys, OTHER),
    "output_shift, reduced": lambda sys, r: lti.output_shift(OTHER, sys),
    "frequency_response": lambda sys, r: lti.frequency_response(sys, OMEGA),
    "impulse_response": lambda sys, r: lti.impulse_response(sys, steps_of(sys)),
    "step_response": lambda sys, r: lti.step_response(sys, steps_of(sys)),
    "simulate": lambda sys, r: lti.simulate(sys, U, step=step_of(sys)),
    "balanced_truncation": lambda sys, r: _reduced(lti.balanced_truncation(sys, order=r)),
    "complex_balanced_truncation": lambda sys, r: lti.complex_balanced_truncation(sys, order=r),
    "modal_truncation": lambda sys, r: lti.modal_truncation(sys, r),
    "h2_reduction": lambda sys, r: _reduced(lti.h2_reduction(sys, r, starts=0)),
    "minimal_realization": lambda sys, r: lti.minimal_realization(sys),
    "data_gramians": lambda sys, r: lti.data_gramians(sys, [(U, Y)]),
    "weighted_gramians": lambda sys, r: lti.weighted_gramians(sys),
    "band_gramians": lambda sys, r: lti.band_gramians(sys, [(0.5, 1.0)]),
    "refit_outputs": lambda sys, r: lti.refit_outputs(sys, [(U, Y)]),
    "allocate_modal_orders": lambda sys, r: lti.allocate_modal_orders([sys], ratio=0.5),
    "diagonalize": lambda sys, r: lti.diagonalize(sys),
    "to_rotation": lambda sys, r: lti.to_rotation(sys),
    "eigenvector_condition": lambda sys, r: lti.eigenvector_condition(sys),
    "well_conditioned": lambda sys, r: lti.well_conditioned(sys),
    "to_continuous": lambda sys, r: lti.to_continuous(sys, "bilinear", step=0.1),
    "from_statespace": lambda sys, r: lti.from_statespace(sys),
    "to_statespace": lambda sys, r: lti.to_statespace(sys),
    "certificate.system_lipschitz": lambda sys, r: lti.certificate.system_lipschitz(
        sys, timing="current"
    ),
}
#: Those that are meant for quadratic outputs too.
QUADRATIC = {
    "data_gramians",
    "controllability_gramian",
    "observability_gramian",
    "h2_norm",
    "h2_error",
    "h2_error, reduced",
    "output_shift",
    "output_shift, reduced",
    "simulate",
    "balanced_truncation",
    "h2_reduction",
    "eigenvector_condition",
}

#: Those that exist in discrete time only.
DISCRETE = {
    "to_continuous",
    "data_gramians",
    "refit_outputs",
    "certificate.system_lipschitz",
}


def name_in(row):
    """What errors of the row call the system."""
    return {
        "refit_outputs": "reduced",
        "allocate_modal_orders": "systems[0]",
        "from_statespace": "obj",
    }.get(row, "reduced" if row.endswith("reduced") else "sys")


#: Functions of arrays, by the names that their errors give to these: integers that are stable where
#: stability counts, so that all kinds of arrays hold the same numbers.
ARRAY_ROWS = {
    "Diagonal": (lti.Diagonal, {"poles": [2.0, 0.0, 1.0]}),
    "Rotation": (lti.Rotation, {"radius": [2.0, 1.0], "angle": [1.0, 3.0], "real_poles": [3.0]}),
    "LTI": (
        lti.LTI,
        {
            "A": [[0.0, 1.0], [2.0, 3.0]],
            "B": [[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]],
            "C": [[3.0, 1.0], [0.0, 2.0]],
            "D": [[1.0, 0.0, 2.0], [0.0, 5.0, 1.0]],
        },
    ),
    "QuadraticOutputLTI": (
        lti.QuadraticOutputLTI,
        {
            "A": [[0.0, 1.0], [2.0, 3.0]],
            "B": [[1.0], [2.0]],
            "C": [[3.0, 1.0]],
            "M": [[[1.0, 2.0], [2.0, 0.0]]],
        },
    ),
    "QuadraticOutputLTI of factors": (
        lambda V, s: lti.QuadraticOutputLTI(np.zeros((2, 2)), np.ones((2, 1)), [[1, 0]], (V, s)),
        {"V of M": [[[1.0, 0.0], [2.0, 1.0]]], "s of M": [[1.0, -2.0]]},
    ),
    "Oscillation": (
        lti.Oscillation,
        {"decay": [2.0, 1.0], "frequency": [1.0, 3.0], "real_poles": [-3.0]},
    ),
    "solve_lyapunov": (
        lti.solve_lyapunov,
        {
            "A": [[-1.0, 2.0], [0.0, -1.0]],
            "Q": [[1.0, 2.0, 3.0], [0.0, 1.0, 4.0]],
            "B": [[-2.0, 1.0, 2.0], [0.0, -1.0, 3.0], [0.0, 0.0, -2.0]],
        },
    ),
    "solve_stein": (
        lti.solve_stein,
        {
            "A": [[0.0, 2.0], [0.0, 0.0]],
            "Q": [[1.0, 2.0, 3.0], [0.0, 1.0, 4.0]],
            "B": [[0.0, 1.0, 2.0], [0.0, 0.0, 3.0], [0.0, 0.0, 2.0]],
        },
    ),
    "discretize": (
        lambda A, B, C, D, step, E: lti.discretize(A, B, C, D, step, E=E),
        {
            "A": [[-1.0, 2.0], [0.0, -3.0]],
            "B": [[1.0, 2.0], [0.0, 1.0]],
            "C": [[3.0, 1.0]],
            "D": [[1.0, 0.0]],
            "step": [1.0, 2.0],
            "E": [[2.0, 1.0], [0.0, 1.0]],
        },
    ),
    "from_lru": (
        lambda poles, B, C, D, gamma: lti.from_lru(poles, B, C, D, gamma=gamma),
        {
            "poles": [0.0, 2.0],
            "B": [[1.0, 2.0, 0.0], [3.0, 1.0, 0.0]],
            "C": [[3.0, 1.0], [2.0, 0.0], [1.0, 1.0]],
            "D": [1.0, 2.0, 3.0],
            "gamma": [1.0, 2.0],
        },
    ),
    "from_s5": (
        lambda poles, B, C, D, step: lti.from_s5(poles, B, C, D, step=step),
        {
            "poles": [-1.0, -2.0],
            "B": [[1.0, 2.0], [3.0, 1.0]],
            "C": [[3.0, 1.0], [2.0, 0.0]],
            "D": [[1.0, 2.0], [0.0, 4.0]],
            "step": [1.0, 2.0],
        },
    ),
    "from_s4d": (
        lambda poles, C, D, B, step: lti.from_s4d(poles, C, D, B=B, step=step),
        {
            "poles": [[-1.0, -2.0], [-3.0, -1.0]],
            "C": [[3.0, 1.0], [2.0, 0.0]],
            "D": [1.0, 4.0],
            "B": [[1.0, 2.0], [3.0, 1.0]],
            "step": [1.0, 2.0],
        },
    ),
    "from_impulse_response": (
        lambda h: lti.from_impulse_response(h, order=2),
        {"h": [[[1.0]], [[4.0]], [[2.0]], [[3.0]], [[1.0]], [[1.0]], [[0.0]], [[0.0]]]},
    ),
    "linear_recurrence": (
        lambda poles, inputs, initial: lti.linear_recurrence(poles, inputs, initial=initial),
        {
            "poles": [2.0, -1.0],
            "inputs": [[1.0, 2.0], [3.0, 0.0], [1.0, 1.0]],
            "initial": [1.0, 3.0],
        },
    ),
    "time_varying_recurrence": (
        lambda poles, inputs, initial: lti.time_varying_recurrence(poles, inputs, initial=initial),
        {
            "poles": [[2.0, -1.0], [1.0, 0.0], [3.0, 2.0]],
            "inputs": [[1.0, 2.0], [3.0, 0.0], [1.0, 1.0]],
            "initial": [1.0, 3.0],
        },
    ),
    "simulate": (
        lambda inputs, initial: lti.simulate(OTHER, inputs, initial=initial),
        {"inputs": [[1.0, 2.0], [3.0, 0.0], [1.0, 1.0]], "initial": [1.0, 3.0]},
    ),
    "frequency_response": (
        lambda frequencies: lti.frequency_response(OTHER, frequencies),
        {"frequencies": [0.0, 1.0, -2.0]},
    ),
    "data_gramians": (
        lambda inputs, cotangents: lti.data_gramians(OTHER, [(inputs, cotangents)]),
        {
            "inputs of batch 0": [[1.0, 2.0], [3.0, 0.0], [1.0, 1.0]],
            "cotangents of batch 0": [[1.0, 0.0], [2.0, 3.0], [0.0, 1.0]],
        },
    ),
    "refit_outputs": (
        lambda inputs, outputs: lti.refit_outputs(OTHER, [(inputs, outputs)]),
        {
            "inputs of batch 0": [[1.0, 2.0], [3.0, 0.0], [1.0, 1.0]],
            "outputs of batch 0": [[1.0, 0.0], [2.0, 3.0], [0.0, 1.0]],
        },
    ),
    "allocate_orders": (
        lambda *values: lti.allocate_orders(values, budget=3),
        {"singular_values[0]": [3.0, 2.0, 1.0], "singular_values[1]": [4.0, 0.0]},
    ),
    "allocate_orders_by_error": (
        lambda *errors: lti.allocate_orders_by_error(errors, budget=3),
        {"errors[0]": [3.0, 2.0, 1.0], "errors[1]": [4.0, 0.0]},
    ),
    "certificate.LayerConstants": (
        lti.certificate.LayerConstants,
        {
            "nonlinearity": [1.0, 2.0],
            "system": [3.0, 1.0],
            "normalization": [1.0, 4.0],
            "error": [1.0, 0.0],
            "input_size": [2.0, 5.0],
            "reduced_input_size": [2.0, 4.0],
        },
    ),
    "certificate.deep_error_bound": (
        lambda system, error: lti.certificate.deep_error_bound(
            [lti.certificate.LayerConstants(1.0, system, 1.0, error)] * 2
        ),
        {"system": [3.0, 1.0], "error": [1.0, 2.0]},
    ),
    "certificate.layer_error": (
        lambda size, values: lti.certificate.layer_error(size, discarded_values=values),
        {"input_size": [1.0, 3.0], "discarded_values": [4.0, 2.0, 1.0]},
    ),
    "certificate.layer_error in h2": (
        lambda size, h2, quadratic: lti.certificate.layer_error(
            size, h2_error=h2, quadratic_h2_error=quadratic, length=4
        ),
        {"input_size": [1.0, 3.0], "h2_error": [4.0, 2.0], "quadratic_h2_error": [1.0, 2.0]},
    ),
    "certificate.layer_error in hinf": (
        lambda size, hinf: lti.certificate.layer_error(size, hinf_error=hinf),
        {"input_size": [1.0, 3.0], "hinf_error": [4.0, 2.0]},
    ),
    "certificate.logit_error_bound": (
        lambda decoder, error: lti.certificate.logit_error_bound(decoder, error, 4),
        {"decoder": [[1.0, 2.0], [0.0, 3.0]], "error": [1.0, 2.0]},
    ),
    "certificate.gated_unit_lipschitz": (
        lambda gate, size, value: lti.certificate.gated_unit_lipschitz(gate, size, value=value),
        {"gate": [[1.0, 2.0], [0.0, 3.0]], "size": [1.0, 2.0], "value": [[1.0, 0.0], [2.0, 1.0]]},
    ),
    "certificate.layer_norm_lipschitz": (
        lambda scale, variance: lti.certificate.layer_norm_lipschitz(scale, 1.0, variance=variance),
        {"scale": [1.0, 2.0], "variance": [3.0, 8.0]},
    ),
    "certificate.batch_norm_lipschitz": (
        lambda scale, variance: lti.certificate.batch_norm_lipschitz(scale, variance, 1.0),
        {"scale": [1.0, 2.0], "variance": [3.0, 8.0]},
    ),
}
#: What takes neither systems nor arrays: results, and functions of numbers.
NOT_DOORS = {
    # of numbers and coefficients, and of one system: tests of their own
    "from_descriptor",
    "from_sections",
    "from_transfer_function",
    "from_zpk",
    "to_sections",
    "to_zpk",
    "zeros",
    # of a sparse matrix: tests of its own
    "Sparse",
    "LTIGradient",
    "NearbySystem",
    "Reduction",
    "Convergence",
    "Refit",
    "SpectralFunction",
    "schatten",
    "tail",
    "certificate",
    "plot",
}


def public_functions():
    """All public names but errors; those of the certificate with their module."""
    names = {name for name in lti.__all__ if not _is_error(getattr(lti, name))}
    module = vars(lti.certificate)
    own = {name for name, x in module.items() if getattr(x, "__module__", "") == module["__name__"]}
    return names | {f"certificate.{name}" for name in own if not name.startswith("_")}


def _is_error(x):
    return isinstance(x, type) and issubclass(x, Exception)


def in_rows():
    """The public names that the tables have rows for."""
    return {name.split(",")[0].split(" ")[0] for name in (*SYSTEM_ROWS, *ARRAY_ROWS)}


def arrays_of(result):
    """The arrays and numbers in a result, whatever holds them, but for sampling times."""
    if isinstance(result, tuple | list):
        return [x for part in result for x in arrays_of(part)]
    if dataclasses.is_dataclass(result):
        names = [field.name for field in dataclasses.fields(result) if field.name != "dt"]
        return arrays_of([getattr(result, name) for name in names])
    if all(hasattr(result, name) for name in "ABCD"):  # of SciPy
        return [result.A, result.B, result.C, result.D]
    return [] if result is None else [np.asarray(result)]


def outcome(function, *arguments):
    """The arrays of a result, or the error and its message."""
    try:
        return arrays_of(function(*arguments))
    except lti.LticoreError as error:
        return type(error), str(error)


def assert_same(found, expected, rtol):
    """Equal errors, or arrays within ``rtol`` of the largest entry."""
    if isinstance(expected, tuple):
        assert found == expected
        return
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        assert x.shape == y.shape
        assert x.dtype == y.dtype
        size = np.abs(y).max(initial=0)
        assert np.all(np.abs(x - y) <= rtol * size), (x, y)
