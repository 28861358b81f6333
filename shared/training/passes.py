"""How the forwards and backwards of one step are run; one class a way, chosen by config."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from shared.data.batch import Batch
from shared.errors import ConfigError
from shared.objectives.base import Position
from shared.random import uniform
from shared.training.chunks import Chunking, InChunks, at_once
from shared.training.micro_batch import find_micro_batch
from shared.training.runner import Runner, StepOutput

Backward = Callable[[Tensor], None]


class Passes(ABC):
    """Runs one step and leaves the gradients in the parameters."""

    def check(self, runner: Runner) -> None:  # noqa: B027 - some run anything
        """Raise ConfigError where these passes cannot run what the runner holds."""

    def prepare(self, runner: Runner, batch: Batch, position: Position) -> str:
        """Called before the first step with its batch: find out what only the data can tell.

        It draws nothing and leaves the runner as it was.

        Returns:
            What was found, in a line for whoever watches the run; empty: nothing.
        """
        return ""

    def state_dict(self) -> dict[str, int]:
        """What was found, for the run that resumes this one."""
        return {}

    def load_state_dict(self, state: Mapping[str, int]) -> None:  # noqa: B027 - see prepare
        """Take what the resumed run had found, so that nothing is looked for again."""

    @property
    def chunking(self) -> Chunking:
        """How many rows are encoded at once, in validation too."""
        return at_once

    @abstractmethod
    def __call__(
        self, runner: Runner, batch: Batch, position: Position, backward: Backward
    ) -> StepOutput: ...


class Plain(Passes):
    """One forward, one backward."""

    def __call__(
        self, runner: Runner, batch: Batch, position: Position, backward: Backward
    ) -> StepOutput:
        output: StepOutput = runner(runner.make_views(batch), position)
        backward(output.loss)
        return output


class Cached(Passes):
    """One loss over the whole batch, whose rows are encoded a micro-batch at a time (`InChunks`):
    activations take the memory of a micro-batch, gradients are those of the whole batch.

    Every encoder with its heads, and the fusion, holds the activations of `micro_batch` rows; of
    the others it holds what the objectives read. What an encoder draws (dropout, stochastic depth)
    it draws for a micro-batch: the same in both of its passes, but not what `plain` draws for the
    whole batch. Without such draws the gradients are those of `plain`.

    Args:
        micro_batch: Rows of one modality, or of one view of it, that are encoded at once; `auto`:
            the largest power of two whose activations fit, found at the first step.
        batch_norm: Of batch norms in what is encoded, which would see micro-batches instead of the
            batch: `refuse`, or `frozen`, normalise by the running statistics and leave these alone.
        memory_gib: What activations may take on a device, in GiB, for `auto`; None: a share of what
            is free then, which differs from machine to machine, and so do the draws of dropout.
    """

    def __init__(
        self,
        micro_batch: int | Literal["auto"] = 64,
        batch_norm: Literal["refuse", "frozen"] = "refuse",
        memory_gib: float | None = None,
    ) -> None:
        if micro_batch != "auto" and micro_batch < 1:
            raise ConfigError(f"passes: micro_batch={micro_batch} must be at least 1, or auto.")
        if memory_gib is not None and not 0 < memory_gib < math.inf:
            raise ConfigError(f"passes: memory_gib={memory_gib} has to be above 0.")
        if memory_gib is not None and micro_batch != "auto":
            raise ConfigError(
                f"passes: memory_gib={memory_gib} is what micro_batch=auto reads, and micro_batch "
                f"is {micro_batch}: leave one of the two out."
            )
        self.batch_norm, self.memory_gib = batch_norm, memory_gib
        self._micro_batch = None if micro_batch == "auto" else micro_batch

    def check(self, runner: Runner) -> None:
        # in training, but for what is frozen
        runner.train()
        for name, norm in _batch_norms(runner):
            if norm.running_mean is None:
                raise ConfigError(
                    f"passes=cached: {name} of the model is a batch norm without running "
                    "statistics, which would see micro-batches instead of the batch. Use "
                    "passes=plain."
                )
            if norm.training and self.batch_norm == "refuse":
                raise ConfigError(
                    f"passes=cached: {name} of the model is a batch norm, which would see "
                    "micro-batches instead of the batch. Use passes=plain, or "
                    "passes.batch_norm=frozen to normalise by its running statistics."
                )

    def prepare(self, runner: Runner, batch: Batch, position: Position) -> str:
        if self._micro_batch is not None:
            return ""
        self._freeze_norms(runner)
        self._micro_batch, line = find_micro_batch(runner, batch, position, self.memory_gib)
        return line

    def state_dict(self) -> dict[str, int]:
        return {} if self._micro_batch is None else {"micro_batch": self._micro_batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        # nothing was found before the first step
        self._micro_batch = state.get("micro_batch", self._micro_batch)

    def __call__(
        self, runner: Runner, batch: Batch, position: Position, backward: Backward
    ) -> StepOutput:
        self._freeze_norms(runner)
        output: StepOutput = runner(runner.make_views(batch), position, self.chunking)
        backward(output.loss)
        return output

    @property
    def chunking(self) -> Chunking:
        return at_once if self._micro_batch is None else InChunks(self._micro_batch)

    def _freeze_norms(self, runner: Runner) -> None:
        """Again at each step: whoever calls `train` takes them back."""
        for _, norm in _batch_norms(runner):
            norm.eval()


def _batch_norms(runner: Runner) -> Iterator[tuple[str, _BatchNorm]]:
    """Batch norms of what is run in chunks: encoders, heads and fusions of all towers."""
    teachers = [o.teacher for _, o in runner.named_objectives() if o.teacher is not None]
    for tower in (runner.model, *teachers):
        for name, module in tower.named_modules():
            if isinstance(module, _BatchNorm):
                yield name, module


class Perturbed(Passes):
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
