"""Mamba of mambapy and of transformers: the recurrence becomes ours, the rest of a block stays."""

import numpy as np
import pytest
import torch
from foreign.kinds import mambapy_model, transformers_model
from torch import nn

import lticore as lti
from lticore_torch import ConversionError, SelectiveSSM, compress, convert

# --- mambapy ----------------------------------------------------------------------------------


OPTIONS = [{}, {"bias": True}, {"conv_bias": False}, {"pscan": False}, {"dt_rank": 3, "d_conv": 2}]


@pytest.mark.parametrize("options", OPTIONS)
def test_mambapy_models_answer_as_before(options):
    model = mambapy_model(**options)
    converted, report = convert(model)
    assert dict(report) == {f"layers.{i}.mixer": "SelectiveSSM" for i in range(2)}
    assert all(layer.difference < 1e-5 for layer in report.layers)
    u = torch.randn(2, 30, 6)
    torch.testing.assert_close(converted(u), model(u), rtol=1e-4, atol=1e-4)


def test_the_recurrence_holds_every_parameter_of_its_own():
    """A of each channel, the maps and the steps, in double precision to the last digits; against
    the scan as it is written in the paper, not as mambapy computes it."""
    block = mambapy_model().double().layers[0].mixer
    converted, _ = convert(block)
    ssm = converted.ssm
    assert torch.equal(ssm.real_log, block.A_log)
    assert ssm.channel_poles
    x = torch.randn(2, 15, 12, dtype=torch.float64)
    delta, b, c = (block.x_proj.weight @ x.mT).mT.split([1, 4, 4], dim=-1)
    step = torch.log1p(torch.exp(delta @ block.dt_proj.weight.mT + block.dt_proj.bias))
    state, outputs = 0, []
    for k in range(15):
        decay = torch.exp(-step[:, k, :, None] * torch.exp(block.A_log))
        state = decay * state + (step * x)[:, k, :, None] * b[:, k, None]
        outputs.append((state * c[:, k, None]).sum(dim=-1) + block.D * x[:, k])
    torch.testing.assert_close(ssm(x), torch.stack(outputs, dim=1), rtol=1e-11, atol=1e-12)


def test_mambapy_gradients_are_those_of_the_original():
    model = mambapy_model().double()
    converted, _ = convert(model)
    u = torch.randn(2, 12, 6, dtype=torch.float64)
    gradients = []
    for one in (model, converted):
        x = u.clone().requires_grad_()
        one(x).square().sum().backward()
        gradients.append(x.grad)
    # mambapy rounds A and D to float32 whatever the dtype.
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)
    mixers = model.layers[0].mixer, converted.layers[0].mixer
    for name in ("in_proj", "conv1d", "out_proj"):
        one, other = (getattr(mixer, name).weight.grad for mixer in mixers)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
    one, other = mixers[0].A_log.grad, mixers[1].ssm.real_log.grad
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_mambapy_steps():
    model = mambapy_model()
    converted, _ = convert(model)
    u, caches, own = torch.randn(2, 9, 6), *([(None, torch.zeros(2, 12, 3))] * 2 for _ in "ab")
    for k in range(9):
        expected, caches = model.step(u[:, k], caches)
        y, own = converted.step(u[:, k], own)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


def test_kept_modules_are_copies():
    """What trains the converted model leaves the original alone."""
    model = mambapy_model()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    converted, _ = convert(model)
    with torch.no_grad():
        for p in converted.parameters():
            p.add_(1)
    for name, x in model.state_dict().items():
        assert torch.equal(x, before[name])


def test_kept_modules_stay_shared_and_keep_their_hooks():
    model = mambapy_model()
    first, second = (layer.mixer for layer in model.layers)
    second.in_proj = first.in_proj
    second.out_proj.weight = first.out_proj.weight
    seen = []
    first.out_proj.register_forward_hook(lambda *_: seen.append(1))
    converted, _ = convert(model)
    first, second = (layer.mixer for layer in converted.layers)
    assert first.in_proj is second.in_proj
    assert first.in_proj is not model.layers[0].mixer.in_proj
    assert first.out_proj.weight is second.out_proj.weight
    seen.clear()
    converted(torch.randn(1, 4, 6))
    assert seen == [1]


def test_compression_on_data():
    model = mambapy_model()
    converted, _ = convert(model)
    u = torch.randn(4, 30, 6)
    whole, _ = compress(converted, ratio=0.0, calibration=u)
    torch.testing.assert_close(whole(u), converted(u), rtol=1e-3, atol=1e-3)
    small, report = compress(converted, ratio=0.5, calibration=u)
    assert sum(report.orders) == 4
    assert report.parameters_after < report.parameters_before
    cache = [(None, torch.zeros(4, 12, 3))] * 2
    for k in range(30):
        y, cache = small.step(u[:, k], cache)
    torch.testing.assert_close(y, small(u)[:, -1], rtol=1e-4, atol=1e-4)


def test_mambapy_blocks_that_are_refused():
    with pytest.raises(ConversionError, match=r"normalises steps.*dt_layernorm, B_layernorm"):
        convert(mambapy_model(inner_layernorms=True))
    model = mambapy_model()
    model.layers[1].mixer.dt_proj = nn.Sequential(nn.Linear(1, 12))
    with pytest.raises(ConversionError, match=r"'layers.1.mixer', .* its dt_proj is not the plain"):
        convert(model)


def test_no_steps_and_complex_inputs():
    converted, _ = convert(mambapy_model())
    assert converted(torch.zeros(2, 0, 6)).shape == (2, 0, 6)
    with pytest.raises(RuntimeError, match="same dtype"):  # of torch's own linear map
        converted.layers[0].mixer(torch.zeros(2, 3, 6, dtype=torch.complex64))


# --- transformers -------------------------------------------------------------------------------


def tokens(length=12):
    torch.manual_seed(3)
    return torch.randint(0, 20, (2, length))


@pytest.mark.parametrize("options", [{}, {"use_bias": True, "use_conv_bias": False}])
def test_transformers_models_answer_as_before(options):
    model = transformers_model(**options)
    converted, report = convert(model)
    assert dict(report) == {f"backbone.layers.{i}.mixer": "SelectiveSSM" for i in range(2)}
    ids, mask = tokens(), torch.ones(2, 12, dtype=torch.int64)
    mask[0, :3] = 0
    for extra in ({}, {"attention_mask": mask}, {"use_cache": False}):
        expected, found = (one(ids, **extra).logits for one in (model, converted))
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_transformers_generate_the_same():
    """Through their caches: a prefix at once, then token by token; tied weights stay tied."""
    model = transformers_model()
    converted, _ = convert(model)
    assert converted.lm_head.weight is converted.backbone.embeddings.weight
    options = {"max_new_tokens": 10, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    mask = torch.ones(2, 12, dtype=torch.int64)
    expected, found = (
        one.generate(tokens(), attention_mask=mask, **options) for one in (model, converted)
    )
    assert torch.equal(found, expected)
    assert len(expected.unique()) > 3


def test_a_prefix_in_two_parts():
    """The second part starts from the states of the first, as one token does."""
    converted, _ = convert(transformers_model())
    ids = tokens()
    first = converted(ids[:, :7], use_cache=True)
    second = converted(ids[:, 7:], cache=first.cache, use_cache=True)
    torch.testing.assert_close(second.logits, converted(ids).logits[:, 7:], rtol=1e-3, atol=1e-4)


def test_compressed_transformers_generate():
    converted, _ = convert(transformers_model())
    small, report = compress(converted, ratio=0.5, calibration=[{"input_ids": tokens(30)}])
    assert sum(report.orders) == 4
    ids = tokens()
    mask = torch.ones(2, 12, dtype=torch.int64)
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    longer = small.generate(ids, attention_mask=mask, **options)
    for _ in range(3):
        last = small(ids, use_cache=False).logits[:, -1].argmax(dim=-1)
        ids = torch.cat([ids, last[:, None]], dim=1)
    assert torch.equal(longer, ids)


def test_caches_of_other_versions_are_refused():
    block = convert(transformers_model())[0].backbone.layers[0].mixer
    with pytest.raises(lti.ArgumentError, match=r"a dict has no get_recurrent_state.*use_cache"):
        block(torch.zeros(1, 3, 8), cache_params={"conv_states": None})


def test_a_mixer_alone():
    mixer = transformers_model("MambaModel").layers[1].mixer
    converted, report = convert(mixer)
    assert isinstance(converted.ssm, SelectiveSSM)
    u = torch.randn(2, 50, 8)
    expected = mixer(u).detach()
    atol = 1e-5 * float(expected.abs().max())
    np.testing.assert_allclose(converted(u).detach(), expected, rtol=0, atol=atol)
    assert report.layers[0].difference < 1e-5


# --- what users of transformers try next ----------------------------------------------------------

GENERATED = {"max_new_tokens": 6, "pad_token_id": 0, "eos_token_id": None}


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": False, "num_beams": 3},
        {"do_sample": True},
        {"do_sample": False, "use_cache": False},
    ],
)
def test_beams_samples_and_no_cache(options):
    model = transformers_model()
    converted, _ = convert(model)
    mask = torch.ones(2, 12, dtype=torch.int64)
    mask[0, :4] = 0  # a prompt padded on its left
    answers = []
    for one in (model, converted):
        torch.manual_seed(0)
        answers.append(one.generate(tokens(), attention_mask=mask, **GENERATED, **options))
    assert torch.equal(*answers)


def test_checkpoints_load_into_a_freshly_converted_model():
    """Also of compressed ones, whose orders differ."""
    converted, _ = convert(transformers_model())
    small, _ = compress(converted, ratio=0.5, calibration=[{"input_ids": tokens(30)}])
    for source in (converted, small):
        fresh, _ = convert(type(converted)(converted.config))
        fresh.load_state_dict(source.state_dict())
        found, expected = (x.eval()(tokens()).logits for x in (fresh, source))
        assert torch.equal(found, expected)


def test_generation_in_bfloat16():
    model = transformers_model().to(torch.bfloat16)
    converted, report = convert(model)
    assert all(layer.difference < 1e-5 for layer in report.layers)
    assert converted.backbone.layers[0].mixer.ssm.B.dtype == torch.bfloat16
    found, expected = (one(tokens()).logits.float().detach() for one in (converted, model))
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))
    assert converted.generate(tokens(), do_sample=False, **GENERATED).shape == (2, 18)


def test_adapters_beside_the_recurrence():
    """LoRA of the projections that a block keeps, before conversion and after it; of those that
    went into the recurrence it must be merged before."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["in_proj"], init_lora_weights=False)
    before = peft.inject_adapter_in_model(config, transformers_model()).eval()
    converted, _ = convert(before)
    torch.testing.assert_close(
        converted(tokens()).logits, before(tokens()).logits, rtol=1e-3, atol=1e-4
    )
    plain, _ = convert(transformers_model())
    after = peft.inject_adapter_in_model(config, plain).eval()
    expected = after(tokens()).logits
    for layer in after.backbone.layers:
        layer.mixer.in_proj.merge()
    torch.testing.assert_close(after(tokens()).logits, expected, rtol=1e-3, atol=1e-4)
    inside = peft.LoraConfig(r=2, target_modules=["x_proj"])
    with pytest.raises(ConversionError, match=r"its x_proj is not the .*merge adapters before"):
        convert(peft.inject_adapter_in_model(inside, transformers_model()))


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
@pytest.mark.filterwarnings("ignore:.*quantize:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning")
def test_quantised_after_conversion():
    """Half a unit of 8 bits of the weights and of what each projection reads."""
    model, u = mambapy_model(), torch.randn(2, 9, 6)
    converted, _ = convert(model)
    small = torch.ao.quantization.quantize_dynamic(converted, {nn.Linear})
    expected = model(u)
    assert 0 < (small(u) - expected).abs().max() < 0.05 * expected.abs().max()
    with pytest.raises(ConversionError, match=r"its x_proj is not the plain .*quantise and"):
        convert(torch.ao.quantization.quantize_dynamic(model, {nn.Linear}))
