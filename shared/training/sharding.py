"""Weights, gradients and optimiser state cut up over the ranks (FSDP, arXiv:2304.11277, as torch's
`fully_shard`), and what then has to be put together again."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from shared.model import Model
from shared.training.runner import Runner


def shard(runner: Runner, mesh: DeviceMesh) -> None:
    """Cut the parameters of a runner up over the ranks of a mesh, in place.

    Each encoder is put together when it is entered, everything else when the step is. Parameters of
    no dimension (scales) stay whole on every rank: see `average_whole_gradients`.
    """
    left = {p for p in runner.parameters() if p.ndim == 0}
    teachers = [o.teacher for _, o in runner.named_objectives() if o.teacher is not None]
    for tower in (runner.model, *teachers):
        for encoder in tower.encoders.values():
            fully_shard(encoder, mesh=mesh, ignored_params=left)
    fully_shard(runner, mesh=mesh, ignored_params=left)


def average_whole_gradients(module: nn.Module) -> None:
    """Average over ranks the gradients that sharding leaves to each of them; no effect without."""
    parameters = list(module.parameters())
    if any(isinstance(p, DTensor) for p in parameters):
        for parameter in parameters:
            if parameter.grad is not None and not isinstance(parameter, DTensor):
                dist.all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()


def clip_gradients(parameters: Iterable[nn.Parameter], bound: float) -> None:
    """Scale the gradients so that the norm of all of them together is at most `bound`."""
    given = [p for p in parameters if p.grad is not None]
    # torch takes no list of both
    kinds = [[p for p in given if isinstance(p, DTensor) is cut] for cut in (True, False)]
    norms = [get_total_norm([p.grad for p in kind if p.grad is not None]) for kind in kinds if kind]
    if norms:
        parts = [whole(norm) for norm in norms]
        total = parts[0] if len(parts) == 1 else torch.stack(parts).norm()
        for kind in kinds:
            clip_grads_with_norm_(kind, bound, total)


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together; every rank has to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(model: Model) -> dict[str, Tensor]:
    """The state of a model, put together; every rank has to ask for it."""
    return {name: whole(tensor) for name, tensor in model.state_dict().items()}
