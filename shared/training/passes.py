"""How the forwards and backwards of one step are run; one class a way, chosen by config."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from shared.data.batch import Batch
from shared.errors import ConfigError
from shared.objectives.base import Position
from shared.random import uniform
from shared.training.runner import Runner, StepOutput

Backward = Callable[[Tensor], None]


class Passes(Protocol):
    """Runs one step and leaves the gradients in the parameters."""

    def check(self, runner: Runner) -> None:
        """Raise ConfigError where these passes cannot run what the runner holds."""

    def __call__(
        self, runner: Runner, batch: Batch, position: Position, backward: Backward
    ) -> StepOutput: ...


class Plain:
    """One forward, one backward."""

    def check(self, runner: Runner) -> None:
        pass

    def __call__(
        self, runner: Runner, batch: Batch, position: Position, backward: Backward
    ) -> StepOutput:
        output: StepOutput = runner(runner.make_views(batch), position)
        backward(output.loss)
        return output


class Cached:
    """One loss over the whole batch, whose rows are encoded a chunk at a time (GradCache,
    arXiv:2101.06983): memory follows the chunk, gradients are those of the whole batch.

    Args:
        chunk_size: Rows of one modality that are encoded at once.
    """

    def __init__(self, chunk_size: int = 64) -> None:
        if chunk_size < 1:
            raise ConfigError(f"passes: chunk_size={chunk_size} must be at least 1.")
        self.chunk_size = chunk_size

    def check(self, runner: Runner) -> None:
        for name, module in runner.model.encoders.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                raise ConfigError(
                    f"passes=cached: {name} of the model is a batch norm, which would see chunks "
                    "instead of the batch. Use passes=plain."
                )

    def __call__(
        self, runner: Runner, batch: Batch, position: Position, backward: Backward
    ) -> StepOutput:
        output: StepOutput = runner(runner.make_views(batch), position, self.chunk_size)
        backward(output.loss)
        return output


class Perturbed:
    """Several passes over inputs that move along the sign of their gradient, whose parameter
    gradients are averaged ("free" adversarial training; FLAG, arXiv:2010.09891, alg. 1).

    Args:
        modality: Whose input is perturbed.
        input: Name of that input, a floating-point tensor.
        step_size: Bound of the uniform start and length of each step, in units of the input.
        steps: Number of passes.
        accumulate: Whether each pass adds its perturbation to the input of the one before, as
            GraphCLIP's code does, instead of to the clean input.
    """

    def __init__(
        self,
        modality: str,
        input: str,
        step_size: float = 0.01,
        steps: int = 3,
        accumulate: bool = False,
    ) -> None:
        if steps < 1 or not 0 <= step_size < math.inf:
            raise ConfigError(
                f"passes: steps={steps} must be at least 1 and step_size={step_size} not negative."
            )
        self.modality, self.input, self.step_size = modality, input, step_size
        self.steps, self.accumulate = steps, accumulate

    def check(self, runner: Runner) -> None:
        if self.modality not in runner.model.modalities:
            raise ConfigError(
                f"passes.modality={self.modality}: the model has "
                f"{', '.join(runner.model.modalities)}."
            )

    def __call__(
        self, runner: Runner, batch: Batch, position: Position, backward: Backward
    ) -> StepOutput:
        batch = runner.make_views(batch)
        clean = self._read(batch)
        delta = self.start(clean, batch.seeds_of(self.modality))
        moved = torch.zeros_like(clean)
        for _ in range(self.steps):
            delta = delta.detach().requires_grad_()
            shift = moved + delta
            output: StepOutput = runner(self._write(batch, clean + shift), position)
            backward(output.loss / self.steps)
            if self.accumulate:
                moved = shift.detach()
            if delta.grad is None:
                raise ConfigError(
                    f"passes=perturbed: no objective reads {self.modality} as it is in the batch, "
                    "only views made of it. Use passes=plain."
                )
            delta = delta + self.step_size * delta.grad.sign()
        return output

    def start(self, clean: Tensor, seeds: Tensor) -> Tensor:
        """The first perturbation: uniform in ± step_size, of each sample by its seed."""
        return self.step_size * (2 * uniform(seeds, *clean.shape[1:]).to(clean.dtype) - 1)

    def _read(self, batch: Batch) -> Tensor:
        inputs = batch.inputs[self.modality]
        if self.input not in inputs or not inputs[self.input].is_floating_point():
            names = [name for name, tensor in inputs.items() if tensor.is_floating_point()]
            raise ConfigError(
                f"passes.input={self.input}: {self.modality} has the floating-point inputs "
                f"{', '.join(names)}."
            )
        return inputs[self.input]

    def _write(self, batch: Batch, value: Tensor) -> Batch:
        inputs = {**batch.inputs[self.modality], self.input: value}
        return replace(batch, inputs={**batch.inputs, self.modality: inputs})


PASSES: dict[str, type[Passes]] = {"plain": Plain, "cached": Cached, "perturbed": Perturbed}
