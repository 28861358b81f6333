"""How the forwards and backwards of one step are run; one class a way, chosen by config."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from shared.data.batch import Batch
from shared.training.runner import Runner, StepOutput

Backward = Callable[[Tensor], None]


class Passes(Protocol):
    """Runs one step and leaves the gradients in the parameters."""

    def __call__(self, runner: Runner, batch: Batch, backward: Backward) -> StepOutput: ...


class Plain:
    """One forward, one backward."""

    def __call__(self, runner: Runner, batch: Batch, backward: Backward) -> StepOutput:
        output: StepOutput = runner(batch)
        backward(output.loss)
        return output


PASSES: dict[str, type[Passes]] = {"plain": Plain}
