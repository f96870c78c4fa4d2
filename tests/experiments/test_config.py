"""Configs: round trip, refusal of what cannot be, nearest names."""

from dataclasses import replace

import pytest

from experiments.config import (
    BudgetConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ReductionConfig,
    RegularizerConfig,
    RunConfig,
    ScheduleConfig,
    from_json,
    to_json,
)
from lticore.errors import ArgumentError


def test_json_round_trip():
    config = RunConfig(
        data=DataConfig("digits", options={"seed": 3, "size": (1, 2)}, train=100),
        reduction=ReductionConfig("tolerance", 0.1, steps=(2, 4)),
        regularizer=RegularizerConfig("hankel", 1e-3),
        budget=BudgetConfig(steps=7, evaluate_every=2, keep="best"),
    )
    assert from_json(RunConfig, to_json(config)) == config


def test_integers_are_numbers_and_lists_tuples():
    values = {"optimizer": {"learning_rate": 1}, "budget": {"steps": 3}}
    assert from_json(RunConfig, values).optimizer.learning_rate == 1.0
    values = {"reduction": {"mode": "tolerance", "amount": 0.1, "steps": [2, 4]}}
    assert from_json(RunConfig, values).reduction.steps == (2, 4)


def test_every_setting_changes_the_folder_and_the_same_config_keeps_it():
    config = RunConfig()
    assert config.slug == from_json(RunConfig, to_json(config)).slug
    for rate in (1, 1.0):
        config = replace(config, optimizer=OptimizerConfig(learning_rate=rate))
        assert config.slug == from_json(RunConfig, to_json(config)).slug
    changes = [
        {"seed": 1},
        {"data": DataConfig(train=9)},
        {"optimizer": OptimizerConfig(clip=0.5)},
        {"schedule": ScheduleConfig(shape="constant")},
    ]
    assert len({config.slug, *(replace(config, **change).slug for change in changes)}) == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataConfig(train=0), "train must be at least 1"),
        (lambda: ModelConfig("rotatoin"), "did you mean rotation"),
        (lambda: ModelConfig(gate="half"), "did you mean half-glu"),
        (lambda: ModelConfig(norm="bach"), "did you mean batch"),
        (lambda: ModelConfig("lru", layer_options={"min_radios": 0.5}), "did you mean min_radius"),
        (
            lambda: RunConfig(
                data=DataConfig(validation=False), budget=BudgetConfig(steps=2, evaluate_every=1)
            ),
            "need a validation split",
        ),
        (lambda: OptimizerConfig(learning_rate=float("nan")), "learning_rate must be positive"),
        (lambda: OptimizerConfig(precision="bfloat"), "did you mean bfloat16"),
        (lambda: ScheduleConfig(shape="cosin"), "did you mean cosine"),
        (lambda: RegularizerConfig("hankel"), "needs a positive weight"),
        (lambda: RegularizerConfig(weight=1.0), "no penalty the weight 0"),
        (lambda: ReductionConfig("tolerance", 1.5, (1,)), r"amount must lie in \(0, 1\)"),
        (lambda: ReductionConfig("tolerance", 0.1, (3, 2)), "ascending"),
        (lambda: BudgetConfig(), "give epochs or steps"),
        (lambda: BudgetConfig(steps=1, keep="best"), "needs evaluate_every"),
        (lambda: from_json(RunConfig, {"modell": {}}), "did you mean model"),
        (lambda: from_json(RunConfig, {"model": {"ordr": 3}}), "did you mean order"),
        (lambda: from_json(RunConfig, {"model": 3}), "model: input should be an object, but is 3"),
        (lambda: from_json(RunConfig, {"seed": "x"}), "seed: input should be a valid integer"),
        (lambda: from_json(RunConfig, {"seed": True}), "seed: input should be a valid integer"),
        (lambda: from_json(RunConfig, {"seed": None}), "seed: .* but is None"),
        (lambda: from_json(RunConfig, {"model": {"order": 3.5}}), r"model\.order: .* but is 3\.5"),
        (lambda: from_json(RunConfig, {"model": {"gate": "half"}}), "model.gate: .*'half-glu'"),
        (
            lambda: from_json(RunConfig, {"reduction": {"steps": [1, "2"]}}),
            r"reduction\.steps\.1: ",
        ),
        (lambda: from_json(RunConfig, {"data": {"train": 0}}), "train must be at least 1"),
        (lambda: from_json(RunConfig, {"data": {"options": {"a": {}}}}), r"data\.options\.a"),
        (lambda: to_json(RunConfig(seed="x")), "seed: input should be a valid integer"),
        (lambda: from_json(RunConfig, []), "RunConfig: input should be an object"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_steps_take_the_place_of_epochs():
    assert BudgetConfig(epochs=40, steps=5) == BudgetConfig(steps=5)
