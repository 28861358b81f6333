"""Losses and gradients of contrastive objectives on this rank's rows; for `run_ranks`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from shared.distributed import gather_rows, rank
from shared.model import Model
from shared.model_config import ModelConfig
from shared.objectives.base import Encoded, Objective, Request, Tensors, gather_encoded
from shared.objectives.contrastive import directed_term, pair_logits
from zoo.plugins import plugins

MODALITIES = ("image", "text")


def build(name: str, settings: Mapping[str, Any], rows: Mapping[str, Tensor]) -> Objective:
    """An objective; where there are teacher's rows, with a teacher that has nothing but a scale."""
    objective: Objective = plugins().registries.objectives.build(
        name, "test", MODALITIES, **settings
    )
    if "teacher_logit_scale" in rows:
        scalars = {"logit_scale": float(rows["teacher_logit_scale"].log())}
        objective.teacher = Model(ModelConfig("teacher", 1, {}), {}, {}, None, scalars)
    return objective


def tensors_of(objective: Objective, rows: Mapping[str, Tensor]) -> Tensors:
    """What the runner would give for the rows of this rank, gathered as the requests say.

    Args:
        objective: Its requests are answered.
        rows: `image`, `text`, `teacher_image`, … (batch, dim), `logit_scale` as a multiplier.
    """
    number = len(rows["image"])
    present, counts = torch.ones(number, dtype=torch.bool), gather_rows(torch.tensor([number]))

    def answer(request: Request) -> Encoded:
        prefix = "teacher_" if request.tower == "teacher" else ""
        encoded = Encoded(rows[f"{prefix}{request.modality}"], present)
        return gather_encoded(encoded, request.gather, counts.tolist())

    scalars = {"logit_scale": rows["logit_scale"].log()}
    if "logit_bias" in rows:
        scalars["logit_bias"] = rows["logit_bias"]
    everyone, start = torch.arange(int(counts.sum())), int(counts[: rank()].sum())
    return Tensors(
        {r: answer(r) for r in objective.requests},
        scalars,
        torch.full_like(everyone, -1),
        everyone,
        slice(start, start + number),
    )


def leaves(rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with own gradients; a teacher's have none."""
    return {
        name: tensor.clone().requires_grad_(not name.startswith("teacher_"))
        for name, tensor in rows.items()
    }


def gradients(rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"grad_{name}": t.grad for name, t in rows.items() if t.grad is not None}


def loss_of(name: str, settings: Mapping[str, Any], rows: Mapping[str, Tensor]) -> dict[str, Any]:
    """Loss of an objective and its gradients, on this rank."""
    rows = leaves(rows)
    objective = build(name, settings, rows)
    loss = objective(tensors_of(objective, rows)).loss
    loss.backward()
    return {"loss": loss.detach(), **gradients(rows)}


def loss_among_constants(rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Own rows against candidates without gradient, which the objective refuses."""
    rows = leaves(rows)
    own = slice(rank() * len(rows["image"]), (rank() + 1) * len(rows["image"]))
    loss = torch.zeros(())
    for source, target in (MODALITIES, MODALITIES[::-1]):
        candidates = gather_rows(rows[target].detach())
        a, b = (
            Encoded(r, torch.ones(len(r), dtype=torch.bool)) for r in (rows[source], candidates)
        )
        logits = pair_logits(a, b, rows["logit_scale"])
        loss = loss + 0.5 * directed_term(logits, a, b, own).mean
    loss.backward()
    return {"loss": loss.detach(), **gradients(rows)}


def losses(
    runs: Sequence[tuple[str, str, Mapping[str, Any]]], rows: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Losses and gradients of several settings on this rank's part of the rows.

    Args:
        runs: Prefix of the results, name and settings of an objective; no name for
            `loss_among_constants`.
        rows: (ranks, batch, dim), and scalars.
    """
    own = {name: t[rank()] if t.ndim else t for name, t in rows.items()}
    found = {}
    for prefix, name, settings in runs:
        made = loss_of(name, settings, own) if name else loss_among_constants(own)
        found |= {f"{prefix}.{key}": tensor for key, tensor in made.items()}
    return found
