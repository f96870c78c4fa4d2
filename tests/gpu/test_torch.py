"""CUDA tensors go to the device's arrays and come back."""

import pytest


def test_model_on_the_device(device):
    torch = pytest.importorskip("torch")
    from lticore_torch import (
        SequenceClassifier,
        SequenceClassifierConfig,
        compress,
        hankel_sum,
    )

    torch.manual_seed(0)
    model = SequenceClassifier(SequenceClassifierConfig(1, 3, features=4, order=9, depth=2))
    expected = hankel_sum(model)
    expected.backward()
    gradient = model.blocks[0].ssm.B.grad.clone()
    _, report = compress(model, ratio=0.5)
    model.zero_grad()
    with device() as place:
        model.to(place)

        value = hankel_sum(model)
        value.backward()
        assert value.device.type == place
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)
        torch.testing.assert_close(model.blocks[0].ssm.B.grad.cpu(), gradient, rtol=1e-4, atol=1e-6)
        small, on_device = compress(model, ratio=0.5)
        assert on_device.orders == report.orders
        assert next(small.parameters()).device.type == place
        assert small(torch.randn(2, 8, 1, device=place)).device.type == place


@pytest.mark.gpu
def test_regulariser_in_a_cuda_graph(real_cupy):
    """Captured once, replayed with other parameters: the gradient is that of the new ones."""
    torch = pytest.importorskip("torch")
    from lticore_torch import SequenceClassifier, SequenceClassifierConfig, hankel_sum

    torch.manual_seed(0)
    model = SequenceClassifier(SequenceClassifierConfig(1, 3, features=16, order=24, depth=2))
    model.cuda()
    parameters = [p for block in model.blocks for p in block.ssm.system_parameters()]

    def run():
        value = hankel_sum(model)
        return value, torch.autograd.grad(value, parameters)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value, gradients = run()
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(0.9)
    graph.replay()
    torch.cuda.synchronize()
    expected_value, expected = run()
    assert value.item() == pytest.approx(expected_value.item(), rel=1e-6)
    for g, h in zip(gradients, expected, strict=True):
        torch.testing.assert_close(g, h, rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
def test_regulariser_compiled_with_less_overhead(real_cupy):
    torch = pytest.importorskip("torch")
    from lticore_torch import RotationSSM, hankel_sum

    torch.manual_seed(0)
    layer = RotationSSM(8, 12).cuda()
    compiled = torch.compile(lambda: hankel_sum(layer), mode="reduce-overhead", fullgraph=True)
    for _ in range(4):
        value = compiled()
        value.backward()
        with torch.no_grad():
            layer.B.mul_(0.9)
    assert compiled().item() == pytest.approx(hankel_sum(layer).item(), rel=1e-5)


@pytest.mark.gpu
def test_regulariser_runs_on_the_current_stream(real_cupy):
    torch = pytest.importorskip("torch")
    from lticore_torch import RotationSSM, hankel_sum

    torch.manual_seed(0)
    layer = RotationSSM(8, 12).cuda()
    expected = hankel_sum(layer).item()
    with torch.cuda.stream(torch.cuda.Stream()):
        with torch.no_grad():
            # Work still under way on this stream must be waited for.
            torch.cuda._sleep(50_000_000)
            layer.B.mul_(2)
        assert hankel_sum(layer).item() == pytest.approx(2 * expected, rel=1e-5)


KINDS = ("rotation", "lru", "s5", "s4d", "quadratic", "selective")


@pytest.mark.parametrize("kind", KINDS)
def test_layers_on_the_device_are_those_of_the_host(device, kind):
    """Outputs, gradients, streaming and compression agree between the two."""
    torch = pytest.importorskip("torch")
    from lticore_torch import compress
    from lticore_torch.layers import LAYERS

    torch.manual_seed(0)
    layer = LAYERS[kind](6, 8)
    u = torch.randn(3, 70, 6)

    def results(place):
        layer.to(place).zero_grad()
        x = u.to(place).requires_grad_()
        y = layer(x, reverse=True) + layer(x)
        y.square().sum().backward()
        streamed, state = [], None
        for step in range(5):
            out, state = layer.step(x[:, step], state)
            streamed.append(out)
        torch.testing.assert_close(torch.stack(streamed, 1), layer(x[:, :5]), rtol=1e-4, atol=1e-5)
        small, report = compress(layer, ratio=0.5, calibration=x.detach())
        gradients = {name: p.grad.cpu() for name, p in layer.named_parameters()}
        return y.detach().cpu(), x.grad.cpu(), gradients, report.orders, small(x).cpu()

    expected = results("cpu")
    with device() as place:
        found = results(place)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("keep_states", [True, False])
def test_layers_with_and_without_their_states(device, keep_states):
    torch = pytest.importorskip("torch")
    from lticore_torch import LRU

    torch.manual_seed(0)
    layer, u = LRU(8, 16), torch.randn(2, 200, 8)
    expected = layer(u)
    expected.sum().backward()
    gradient = layer.B.grad.clone()
    with device() as place:
        layer.to(place).zero_grad()
        layer.keep_states = keep_states
        found = layer(u.to(place))
        found.sum().backward()
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.B.grad.cpu(), gradient, rtol=1e-3, atol=1e-4)


def test_reduction_in_training_on_the_device(device):
    torch = pytest.importorskip("torch")
    from lticore_torch import (
        InTrainingCompressor,
        SequenceClassifier,
        SequenceClassifierConfig,
    )

    torch.manual_seed(0)
    config = SequenceClassifierConfig(1, 3, features=6, order=16, depth=2, layer="lru")
    with device() as place:
        model = SequenceClassifier(config).to(place)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        compressor = InTrainingCompressor(model, optimizer, fraction=0.5, steps=[2])
        x = torch.randn(8, 40, 1, device=place)
        for _ in range(4):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
            compressor.step()
        assert [block.ssm.order for block in model.blocks] == [8, 8]
        assert all(p.device.type == place for p in model.parameters())
        assert all(p.isfinite().all() for p in model.parameters())
