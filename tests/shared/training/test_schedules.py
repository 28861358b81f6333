"""Rates over a run: closed forms, torch's own plateau, and when a run stops."""

import math
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from shared.objectives.base import Position
from shared.training.config import ScheduleConfig, TrainConfig
from shared.training.schedules import Plateau, decay_at, rate_at
from shared.training.trainer import build_trainer
from zoo.config import compose_config, typed


def rates(config: ScheduleConfig, total: int = 40, per_epoch: int = 4) -> list[float]:
    return [rate_at(Position(step, total, per_epoch), config) for step in range(total + 1)]


def test_cosine() -> None:
    found = rates(ScheduleConfig("cosine", warmup_fraction=0.0, final_ratio=0.1))
    assert found[0] == 1
    assert found[20] == pytest.approx((1 + 0.1) / 2)
    assert found[10] == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)
    assert found[-1] == pytest.approx(0.1)
    assert found == sorted(found, reverse=True)


def test_warm_up_rises_by_even_steps() -> None:
    found = rates(ScheduleConfig("constant", warmup_fraction=0.1))
    assert found[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_warm_up_in_epochs_from_a_start() -> None:
    config = ScheduleConfig("constant", warmup_epochs=2, warmup_start=0.5)
    assert rates(config)[:9] == pytest.approx([*(0.5 + n / 16 for n in range(8)), 1])


def test_half_an_epoch_of_warm_up() -> None:
    config = ScheduleConfig("cosine", warmup_epochs=0.5, warmup_start=0.0)
    assert rates(config)[:3] == pytest.approx([0, 0.5, 1])


def test_warm_up_in_steps_as_open_clip_has_it() -> None:
    """lr · (step + 1) / warmup, then half a cosine over the other steps (`cosine_lr`)."""
    config = ScheduleConfig(warmup_steps=8, warmup_start=1 / 8, warmup_ends_at_peak=True)
    after = [(1 + math.cos(math.pi * step / 32)) / 2 for step in range(33)]
    assert rates(config) == pytest.approx([*((step + 1) / 8 for step in range(8)), *after])


def test_plateau_warms_up_by_epochs() -> None:
    found = rates(ScheduleConfig("plateau", warmup_epochs=3, warmup_start=1e-5))
    warmup = [1e-5 + (1 - 1e-5) * epoch / 3 for epoch in range(3) for _ in range(4)]
    assert found == pytest.approx([*warmup, *[1.0] * 29])


def test_weight_decay() -> None:
    assert decay_at(Position(7, 40), 0.04, ScheduleConfig()) == 0.04
    rising = ScheduleConfig(final_weight_decay=0.4)
    found = [decay_at(Position(step, 40), 0.04, rising) for step in (0, 20, 40)]
    assert found == pytest.approx([0.04, 0.22, 0.4])


LOSSES = [5, 4, 4, 3.9999, 3.9, 4, 4, 4, 4, 2, 3, 3, 3, 3, 3, 3]


def test_plateau_is_torchs() -> None:
    config = ScheduleConfig("plateau", factor=0.3, patience=2)
    ours = Plateau(config)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.7)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=2)
    for loss in LOSSES:
        ours.step(loss)
        theirs.step(loss)
        assert 0.7 * ours.rate == pytest.approx(optimizer.param_groups[0]["lr"])
    assert ours.rate < 0.3


@pytest.mark.parametrize("interrupted", range(len(LOSSES)))
def test_plateau_goes_on_where_it_was(interrupted: int) -> None:
    config = ScheduleConfig("plateau", factor=0.3, patience=2)
    whole, first, second = Plateau(config), Plateau(config), Plateau(config)
    for loss in LOSSES:
        whole.step(loss)
    for loss in LOSSES[:interrupted]:
        first.step(loss)
    second.load_state_dict(first.state_dict())
    for loss in LOSSES[interrupted:]:
        second.step(loss)
    assert second.rate == whole.rate


class Losses(pl.LightningModule):
    """Validates to one given loss after another."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.losses, self.weight = losses, torch.nn.Parameter(torch.zeros(()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.weight.square()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.losses[self.current_epoch])


@pytest.mark.parametrize(
    ("losses", "counts", "epochs"),
    [
        ([3, 3, 3, 3, 3, 3], False, 4),
        ([3, 3, 3, 3, 3, 3], True, 3),
        ([3, 2, 2, 2, 2, 2], False, 5),
        ([3, 2, 2, 2, 2, 2], True, 5),
        ([3, 3, 2, 3, 3, 3], True, 6),
        ([6, 5, 4, 3, 2, 1], True, 6),
    ],
)
def test_epochs_before_a_run_stops(
    losses: list[float], counts: bool, epochs: int, tmp_path: Path
) -> None:
    overrides = [
        "domain=astro",
        "selection.patience=3",
        f"selection.first_epoch_counts={str(counts).lower()}",
        f"trainer.max_epochs={len(losses)}",
        "trainer.device=cpu",
    ]
    config = typed(TrainConfig, compose_config("train", overrides))
    loader = torch.utils.data.DataLoader(torch.zeros(1))  # type: ignore[arg-type]
    trainer = build_trainer(config, tmp_path, [])
    trainer.fit(Losses([float(loss) for loss in losses]), loader, loader)
    assert trainer.current_epoch == epochs
