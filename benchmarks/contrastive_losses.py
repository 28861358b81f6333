"""Contrastive losses, ours and the peers', on the rows of this rank; for contrastive.py."""

import os
import time
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from contrastive_reference import gradient_error
from torch import Tensor
from torch.nn.functional import normalize

WIDTH = 512
TOKENS, TOKEN_WIDTH = (50, 32), 256
"""Of a sample of either modality, for FILIP."""
SCALES = {"softmax": (1 / 0.07, 0.0), "filip": (1 / 0.07, 0.0), "sigmoid": (10.0, -10.0)}
"""Scale and bias, as they are at the start of training."""
OBJECTIVES = {"softmax": "contrastive", "sigmoid": "sigmoid", "filip": "filip"}
WARM_UP = 64


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        section: Of the table.
        who: `zoo`, `open_clip`, or `plain`: ours with the whole matrix.
        loss: A key of OBJECTIVES.
        batch: Rows of all ranks.
        modalities: Number.
        ranks: Number.
    """

    section: str
    who: str
    loss: str
    batch: int
    modalities: int = 2
    ranks: int = 1


def make_rows(case: Case) -> list[Tensor]:
    """(batch, width) unit rows of each modality, or (batch, tokens, width)."""
    generator = torch.Generator().manual_seed(case.batch)
    if case.loss == "filip":
        shapes = [(case.batch, length, TOKEN_WIDTH) for length in TOKENS]
        return [torch.randn(shape, generator=generator) for shape in shapes]
    common = torch.randn(case.batch, WIDTH, generator=generator)
    noise = (torch.randn(common.shape, generator=generator) for _ in range(case.modalities))
    return [normalize(common + 3 * own, dim=-1) for own in noise]


def peer_loss(case: Case, rows: list[Tensor], log_scale: Tensor, bias: Tensor) -> Tensor:
    """open_clip's, averaged over pairs of modalities."""
    from open_clip.loss import ClipLoss, SigLipLoss

    world: dict[str, Any] = {"rank": int(os.environ["RANK"]), "world_size": case.ranks}
    if case.loss == "softmax":
        module: torch.nn.Module = ClipLoss(local_loss=True, gather_with_grad=True, **world)
    else:
        module = SigLipLoss(**world)
    biases = (bias,) if case.loss == "sigmoid" else ()
    losses = [module(a, b, log_scale.exp(), *biases) for a, b in combinations(rows, 2)]
    return torch.stack(losses).mean()


@cache
def objective_of(case: Case) -> Any:
    """Ours, built as `zoo train` builds it."""
    from zoo.plugins import plugins

    settings: dict[str, Any] = {"chunk_rows": None} if case.who == "plain" else {}
    names = [str(number) for number in range(case.modalities)]
    return plugins().registries.objectives.build(
        OBJECTIVES[case.loss], "benchmark", names, **settings
    )


def our_loss(case: Case, rows: list[Tensor], log_scale: Tensor, bias: Tensor) -> Tensor:
    """The objective's, with its requests answered as the runner does."""
    from shared.distributed import numbers_of_ranks, rank
    from shared.objectives.base import Encoded, Request, Tensors, gather_encoded

    objective = objective_of(case)
    number = len(rows[0])
    present, counts = torch.ones(number, dtype=torch.bool), numbers_of_ranks(number, rows[0].device)

    def answer(request: Request) -> Encoded:
        found = rows[int(str(request.modality))]
        mask = torch.ones(found.shape[:2], dtype=torch.bool) if found.ndim == 3 else None
        encoded = Encoded(found, present, mask)
        return gather_encoded(encoded, request.gather, counts)

    everyone, start = torch.arange(sum(counts)), sum(counts[: rank()])
    tensors = Tensors(
        {request: answer(request) for request in objective.requests},
        {"logit_scale": log_scale, "logit_bias": bias},
        torch.full_like(everyone, -1),
        everyone,
        slice(start, start + number),
    )
    loss: Tensor = objective(tensors).loss
    return loss


def memory(field: str) -> float:
    """MiB of a field of this process's status: VmRSS now, VmHWM at most so far."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**10


def measure(case: Case, reference: str) -> dict[str, float | None]:
    """Seconds, MiB and gradient error of one forward and backward of this rank."""
    own = case.batch // case.ranks
    rank = int(os.environ["RANK"])
    scale, bias = SCALES[case.loss]
    # a copy: the rows of other ranks go
    rows = [r[rank * own : (rank + 1) * own].clone() for r in make_rows(case)]
    loss = peer_loss if case.who == "open_clip" else our_loss

    def step(number: int) -> tuple[list[Tensor], Tensor]:
        leaves = [r[:number].detach().requires_grad_() for r in rows]
        log_scale, offset = torch.tensor(scale).log().requires_grad_(), torch.tensor(bias)
        loss(case, leaves, log_scale, offset.requires_grad_()).backward()
        return leaves, log_scale

    step(WARM_UP)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, began = memory("VmRSS"), time.perf_counter()
    leaves, log_scale = step(own)
    seconds = time.perf_counter() - began
    peak = memory("VmHWM") - before
    error = gradient_error(Path(reference), leaves, log_scale) if reference else None
    return {"seconds": seconds, "peak": peak, "error": error}


def measure_ceiling(seconds: float = 2.0) -> float:
    """GFLOP/s of the fastest of many products of float32 matrices, on this process's threads."""
    side, best = 2048, float("inf")
    a, b, out = (torch.randn(side, side) for _ in range(3))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best / 1e9
