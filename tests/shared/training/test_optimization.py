"""Which parameters are trained at which rate."""

import pytest
import torch

from shared.errors import ConfigError
from shared.objectives.base import Position
from shared.training.optimization import build_optimizer, parameter_scales, set_rates


def test_matrices_decay_and_vectors_do_not(make_run) -> None:
    config, runner, _ = make_run()
    for name, scales in parameter_scales(runner, config.optimizer).items():
        parameter = runner.get_parameter(name)
        assert scales.weight_decay == (parameter.ndim >= 2), name
        assert scales.lr == 1
    config.optimizer.decay_all = True
    assert {s.weight_decay for s in parameter_scales(runner, config.optimizer).values()} == {1.0}


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_eps_is_of_adam(make_run, name: str) -> None:
    config, runner, _ = make_run(f"optimizer.name={name}", "optimizer.eps=1e-6")
    optimizer = build_optimizer(runner, config.optimizer)
    assert optimizer.defaults.get("eps", 1e-6) == 1e-6


def test_rules_multiply(make_run) -> None:
    config, runner, _ = make_run()
    config.optimizer.rules = [
        {"match": "model.encoders.*", "lr_scale": 0.1},
        {"match": "*metadata*", "lr_scale": 0.5, "weight_decay_scale": 0.0, "freeze_epochs": 2},
    ]
    scales = parameter_scales(runner, config.optimizer)
    encoder = next(n for n in scales if n.startswith("model.encoders.metadata") and "weight" in n)
    assert scales[encoder].lr == pytest.approx(0.05)
    assert scales[encoder].weight_decay == 0
    assert scales["model.heads.metadata.weight"].lr == pytest.approx(0.5)
    assert scales["model.heads.spectra.weight"].lr == 1


def test_rates_of_a_step(make_run) -> None:
    config, runner, _ = make_run("optimizer.lr=0.5", "optimizer.weight_decay=0.2")
    config.optimizer.rules = [{"match": "model.heads.*", "lr_scale": 0.1, "freeze_epochs": 1}]
    config.schedule.final_weight_decay = 0.6
    optimizer = build_optimizer(runner, config.optimizer)
    head = runner.model.heads["spectra"].weight
    of_head = next(g for g in optimizer.param_groups if any(p is head for p in g["params"]))
    for step, lr, decay in ((0, 0.0, 0.2), (10, 0.04, 0.4), (20, 0.04, 0.6)):
        position = Position(step, total_steps=20, steps_per_epoch=10)
        set_rates(optimizer, 0.8, position, config.optimizer, config.schedule)
        assert of_head["lr"] == pytest.approx(lr)
        assert of_head["weight_decay"] == pytest.approx(decay)
        assert any(g["lr"] == pytest.approx(0.4) for g in optimizer.param_groups)


def test_the_scales_survive_a_checkpoint(make_run) -> None:
    config, runner, _ = make_run()
    optimizer = build_optimizer(runner, config.optimizer)
    state = optimizer.state_dict()
    again = build_optimizer(runner, config.optimizer)
    again.load_state_dict(state)
    assert [g["scales"] for g in again.param_groups] == [
        g["scales"] for g in optimizer.param_groups
    ]


def test_frozen_parameters_stay(make_run) -> None:
    config, runner, batch = make_run("optimizer.frozen=[model.encoders.spectra.*]")
    frozen = {n for n, p in runner.named_parameters() if not p.requires_grad}
    assert frozen == {n for n in frozen if n.startswith("model.encoders.spectra.")} != set()
    before = runner.model.encoders["spectra"].state_dict()
    before = {n: t.clone() for n, t in before.items()}
    optimizer = build_optimizer(runner, config.optimizer)
    runner(runner.make_views(batch)).loss.backward()
    optimizer.step()
    after = runner.model.encoders["spectra"].state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"match": "model.encoder.*"}, "no parameter matches"),
        ({"match": "*", "lr_scal": 1.0}, "Did you mean 'lr_scale'"),
        ({"lr_scale": 1.0}, "lacks match"),
        ({"match": "*", "lr_scale": -1.0}, "cannot be negative"),
    ],
)
def test_mistakes_in_rules(make_run, rule: dict, message: str) -> None:
    config, runner, _ = make_run()
    config.optimizer.rules = [rule]
    with pytest.raises(ConfigError, match=message):
        parameter_scales(runner, config.optimizer)


def test_frozen_pattern_that_matches_nothing(make_run) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.frozen: no parameter matches 'x\*'"):
        make_run("optimizer.frozen=[x*]")
