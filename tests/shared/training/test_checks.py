"""Values that cannot be, each told before anything is read."""

import pytest

from shared.errors import ConfigError
from shared.training.checks import check_config
from shared.training.config import TrainConfig
from zoo.config import compose_config, typed
from zoo.plugins import plugins


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.gradient_clip_norm=-1", "trainer.gradient_clip_norm=-1.0 has to be"),
        ("trainer.gradient_clip_norm=0", "trainer.gradient_clip_norm=0.0 has to be"),
        ("trainer.gradient_clip_per=all", "trainer.gradient_clip_per='all'"),
        ("trainer.checkpoint_every_n_steps=-1", "checkpoint_every_n_steps=-1 has to be"),
        ("optimizer.lr=inf", "optimizer.lr=inf has to be"),
        ("optimizer.layer_decay=0", "optimizer.layer_decay=0.0 has to be"),
        ("optimizer.rules=[{lr_scale: 2.0}]", "lacks match"),
        ("schedule.warmup_start=-0.1", "schedule.warmup_start=-0.1 has to be"),
        ("schedule.final_weight_decay=-1", "schedule.final_weight_decay=-1.0 has to be"),
        ("schedule.warmup_epochs=31", "longer than the run"),
        ("schedule.warmup_steps=-1", "schedule.warmup_steps=-1 has to be"),
        ("optimizer.eps=0", "optimizer.eps=0.0 has to be"),
        ("schedule.name=plateau", "set schedule.warmup_epochs"),
        ("schedule.name=cosinus", "Did you mean 'cosine'"),
        ("selection.patience=0", "selection.patience=0 has to be"),
        ("trainer.timeout=0", "trainer.timeout=0.0 has to be"),
        ("trainer.devices=0", "trainer.devices=0 must be at least 1"),
        ("trainer.strategy=dpp", "Did you mean 'ddp'"),
        ("trainer.strategy=fsdp", "fsdp needs GPUs"),
        ("passes.name=cashed", "Did you mean 'cached'"),
    ],
)
def test_mistakes(override: str, message: str) -> None:
    overrides = ["domain=astro", "trainer.device=cpu", override]
    config = typed(TrainConfig, compose_config("train", overrides))
    with pytest.raises(ConfigError) as caught:
        check_config(config, plugins().registries)
    assert message in str(caught.value)


def test_the_warm_up_has_one_length() -> None:
    overrides = ["domain=astro", "schedule.warmup_steps=3", "schedule.warmup_epochs=1"]
    config = typed(TrainConfig, compose_config("train", overrides))
    with pytest.raises(ConfigError, match="set one to null"):
        check_config(config, plugins().registries)


def test_a_batch_has_a_sample_for_every_process() -> None:
    overrides = ["domain=astro", "trainer.device=cpu", "trainer.devices=3", "loader.batch_size=2"]
    config = typed(TrainConfig, compose_config("train", overrides))
    with pytest.raises(ConfigError, match="all 3 processes"):
        check_config(config, plugins().registries)
