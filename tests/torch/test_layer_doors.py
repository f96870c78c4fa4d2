"""What layers of every kind take and refuse, in whole sequences and step by step."""

import pytest
import torch
from layer_kinds import ALL, make

import lticore as lti
from lticore_torch import Bidirectional

KINDS = {
    **{kind: lambda kind=kind: make(kind) for kind in ALL},
    "bidirectional": lambda: Bidirectional(make("lru"), make("s4d", seed=1)),
}
STREAMING = list(ALL)

#: shape or tensor of the input, error, message; all layers have 3 features.
REFUSED = {
    "narrow": (torch.zeros(2, 4, 1), lti.ShapeError, r"takes \(..., L, 3\).*shape \(2, 4, 1\)"),
    "wide": (torch.zeros(2, 4, 5), lti.ShapeError, r"takes \(..., L, 3\).*shape \(2, 4, 5\)"),
    "no time": (torch.zeros(3), lti.ShapeError, r"takes \(..., L, 3\).*shape \(3,\)"),
    "scalar": (torch.zeros(()), lti.ShapeError, r"takes \(..., L, 3\).*shape \(\)"),
    "integers": (torch.zeros(2, 4, 3, dtype=torch.int64), lti.DtypeError, "is torch.int64"),
    "booleans": (torch.zeros(2, 4, 3, dtype=torch.bool), lti.DtypeError, "is torch.bool"),
    "complex": (torch.zeros(2, 4, 3, dtype=torch.complex64), lti.DtypeError, "is torch.complex64"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_another_form_are_refused(kind, case):
    u, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        KINDS[kind]()(u)


@pytest.mark.parametrize("kind", STREAMING)
def test_steps_of_another_form_are_refused(kind):
    layer = make(kind)
    for shape in ((2, 1), (2, 5), ()):
        with pytest.raises(lti.ShapeError, match=r"takes \(..., 3\)"):
            layer.step(torch.zeros(shape))
    for dtype in (torch.int64, torch.complex64):
        with pytest.raises(lti.DtypeError, match=f"is {dtype}"):
            layer.step(torch.zeros(2, 3, dtype=dtype))


@pytest.mark.parametrize("features", [1, 4])
def test_channels_are_not_broadcast(features):
    layer = make("s4d", features, 6)
    for width in {1, 4, 5} - {features}:
        with pytest.raises(lti.ShapeError, match=f"layer of {features} features"):
            layer(torch.zeros(2, 7, width, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 4, 3), (0, 0, 3), (0, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_nothing_out(kind, shape):
    """Differentiable too: the gradients of an empty sum are zero, not missing."""
    layer, u = KINDS[kind](), torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    y = layer(u)
    assert y.shape == shape
    y.sum().backward()
    assert u.grad.shape == shape
    assert not any(p.grad.any() for p in layer.parameters() if p.requires_grad)


@pytest.mark.parametrize("kind", STREAMING)
def test_no_sequences_stream(kind):
    layer, u = make(kind), torch.zeros(0, 3, dtype=torch.float64)
    y, state = layer.step(*layer.step(u))
    assert y.shape == (0, 3)
    assert state.shape[0] == 0


@pytest.mark.parametrize("kind", STREAMING)
def test_no_steps_leave_the_state(kind):
    layer, u = make(kind), torch.randn(2, 3, dtype=torch.float64)
    _, state = layer.step(u)
    for reverse in (False, True):
        y, last = layer(u[:, None][:, :0], state=state, return_state=True, reverse=reverse)
        assert y.shape == (2, 0, 3)
        assert torch.equal(last, state)
        _, last = layer(u[:, None][:, :0], return_state=True, reverse=reverse)
        assert torch.equal(last, torch.zeros_like(state))


@pytest.mark.parametrize("kind", KINDS)
def test_not_a_number_passes(kind):
    """Where training notices it."""
    u = torch.zeros(2, 4, 3, dtype=torch.float64)
    u[0, 2] = torch.nan
    y = KINDS[kind]()(u)
    assert y[0, 2].isnan().all()
    assert not y[1].isnan().any()


@pytest.mark.parametrize("kind", STREAMING)
def test_states_of_another_form_are_refused(kind):
    layer, u = make(kind), torch.zeros(2, 4, 3, dtype=torch.float64)
    _, state = layer.step(u[:, 0])
    for run in (layer, layer.step):
        given = u if run is layer else u[:, 0]
        for bad in (state[:1], state[..., :-1], state[0]):
            with pytest.raises(lti.ShapeError, match=r"state has shape .* need \(2, "):
                run(given, state=bad)
        with pytest.raises(lti.DtypeError, match="state must be real"):
            run(given, state=state.to(torch.complex64))
