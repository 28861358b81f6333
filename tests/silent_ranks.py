"""A contrastive loss with right and with wrong targets on several ranks; for `run_ranks`."""

import runpy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from shared.distributed import rank
from shared.objectives.contrastive import directed_term

helpers = runpy.run_path(str(Path(__file__).parent / "shared" / "training" / "loss_ranks.py"))


def all_losses(rows: Mapping[str, Tensor], layouts: list[list[int]]) -> list[dict[str, Tensor]]:
    """`losses` for each of several sizes."""
    return [losses(rows, sizes) for sizes in layouts]


def losses(rows: Mapping[str, Tensor], sizes: list[int]) -> dict[str, Tensor]:
    """Total and count of the terms of this rank's part, (terms, 2): with its rows' places in the
    joint batch as targets, and as if every rank held the first rows.

    Args:
        rows: `image` and `text` (batch, dim) of all ranks, `logit_scale` as a multiplier.
        sizes: Rows of each rank.
    """
    start, number = sum(sizes[: rank()]), sizes[rank()]
    own = {n: t[start : start + number] if t.ndim else t for n, t in rows.items()}
    objective = helpers["build"]("contrastive", {}, own)
    tensors = helpers["tensors_of"](objective, own)
    found: dict[str, list[Tensor]] = {"right": [], "wrong": []}
    for search in objective.searches(objective.joined(tensors)):
        for name, targets in (("right", tensors.own), ("wrong", slice(0, number))):
            term = directed_term(search.logits, search.a, search.b, targets)
            found[name].append(torch.stack([term.total, torch.as_tensor(term.count).float()]))
    return {name: torch.stack(terms) for name, terms in found.items()}
