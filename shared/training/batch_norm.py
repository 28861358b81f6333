"""Batch norm over the rows of all ranks."""

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from shared.distributed import world_size
from shared.errors import DataError


class _SumOverRanks(torch.autograd.Function):
    """all_reduce whose backward is one too; torch's own is deprecated."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class JointBatchNorm(_BatchNorm):
    """A batch norm whose mean and variance are those of the rows of all ranks, as one process would
    have them; ranks may have any number of rows, also none.

    torch's SyncBatchNorm is the same for GPUs only, and cannot be tried without one.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """(rows, channels, …) → the same shape.

        Raises:
            DataError: In training, or where no statistics are kept, all ranks together have a
                single value a channel.
        """
        of_batch = self.training or self.running_mean is None
        if not of_batch or world_size() == 1:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            x = input.float().transpose(0, 1).flatten(1)
            own = x.new_tensor(x.shape[1]).expand(1)
            joint: Tensor = _SumOverRanks.apply(torch.cat([x.sum(dim=1), own]))  # type: ignore[no-untyped-call]
            number = joint[-1].detach().clamp(min=1)
            if joint[-1] == 1:
                raise DataError(
                    "A batch norm has a single row in the batch of all processes, which has no "
                    "variance. Use larger batches."
                )
            mean = joint[:-1] / number
            deviation = x - mean[:, None]
            squares: Tensor = _SumOverRanks.apply(deviation.square().sum(dim=1))  # type: ignore[no-untyped-call]
            variance = squares / number
            if joint[-1] > 0:
                self._follow(mean.detach(), (squares / (number - 1)).detach())
            scaled = deviation * (variance + self.eps).rsqrt()[:, None]
            if self.affine:
                scaled = torch.addcmul(self.bias[:, None], scaled, self.weight[:, None])
        shape = (input.shape[1], input.shape[0], *input.shape[2:])
        return scaled.view(shape).transpose(0, 1).to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, of which the variance is the unbiased one."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        step = self.momentum
        if step is None:
            step = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, step)
        self.running_var.lerp_(variance, step)


def join_batch_norms(module: nn.Module) -> None:
    """Make every batch norm inside a module one over the rows of all ranks, in place: parameters,
    statistics and their names stay."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, JointBatchNorm):
            setattr(module, name, _joint(child))
        else:
            join_batch_norms(child)


def _joint(norm: _BatchNorm) -> JointBatchNorm:
    made = JointBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    for name, parameter in norm.named_parameters():
        setattr(made, name, parameter)
    for name, buffer in norm.named_buffers():
        setattr(made, name, buffer)
    return made.train(norm.training)
