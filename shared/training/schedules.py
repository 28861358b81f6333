"""Learning rate and weight decay over a run: functions of the position, so that a resumed run needs
no state; only a plateau has some."""

from typing import Any

import torch

from shared.objectives.base import Position
from shared.schedule import cosine, linear
from shared.training.config import ScheduleConfig

SCHEDULES = ("cosine", "constant", "plateau")


def rate_at(position: Position, config: ScheduleConfig) -> float:
    """Learning rate over its peak, without what a plateau takes off.

    A linear warm-up, then half a cosine (`shared.schedule`) or constant.
    """
    step, total = position.step, position.total_steps
    warmup = round(total * config.warmup_fraction)
    if config.warmup_epochs is not None:
        warmup = round(config.warmup_epochs * position.steps_per_epoch)
    if config.warmup_steps is not None:
        warmup = config.warmup_steps
    if config.name == "plateau":
        # rates of a whole epoch
        step -= step % position.steps_per_epoch
    if step < warmup:
        start = 1 / (warmup + 1) if config.warmup_start is None else config.warmup_start
        return linear(step, warmup if config.warmup_ends_at_peak else warmup + 1, start, 1.0)
    if config.name != "cosine":
        return 1.0
    return cosine(step - warmup, total - warmup, 1.0, config.final_ratio)


def decay_at(position: Position, weight_decay: float, config: ScheduleConfig) -> float:
    """Weight decay of a step."""
    if config.final_weight_decay is None:
        return weight_decay
    return cosine(position.step, position.total_steps, weight_decay, config.final_weight_decay)


class Plateau:
    """Lowers the rate when the validation loss stands still: torch's ReduceLROnPlateau, kept apart
    from the optimiser, whose rates are set anew every step.

    Attributes:
        rate: What is left of the peak.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        # the scheduler acts on a parameter of its own
        self._optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self._scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._optimizer, factor=config.factor, patience=config.patience
        )

    @property
    def rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def step(self, loss: float) -> None:
        """Told the validation loss of an epoch after the warm-up."""
        self._scheduler.step(loss)

    def state_dict(self) -> dict[str, Any]:
        return {"rate": self.rate, "scheduler": self._scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._optimizer.param_groups[0]["lr"] = state["rate"]
        self._scheduler.load_state_dict(state["scheduler"])
