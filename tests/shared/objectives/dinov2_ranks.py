"""Run by test_dinov2.py in several processes: a step a case on this rank's part of a batch."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from shared.data.batch import Batch
from shared.data.image_files import IMAGE
from shared.objectives.base import Position
from shared.objectives.dinov2 import DINOv2
from shared.training.build import assemble
from shared.training.config import TrainConfig
from zoo.plugins import plugins

LOCAL_CROPS = 2


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world
    )
    cases = torch.load(folder / "input.pt", weights_only=True)
    results = [step(case, rank, world) for case in cases]
    torch.save(results, folder / f"{world}.{rank}.pt")
    dist.destroy_process_group()


def step(case: dict[str, Any], rank: int, world: int) -> dict[str, Any]:
    """Terms, gradients and the state after the step."""
    config = TrainConfig(
        domain="astro",
        data={},
        model={"name": "vit", "embed_dim": 16, "modalities": {"image": case["image"]}},
        objective={"dinov2": {"name": "dinov2", "local_crops": LOCAL_CROPS, **case["objective"]}},
    )
    runner = assemble(config, config.model, {"image": IMAGE}, plugins().registries)
    objective = runner.objectives["dinov2"]
    assert isinstance(objective, DINOv2)

    number = len(case["present"])
    start, stop = (0, number) if world == 1 else case["parts"][rank]
    rows = torch.arange(start, stop)
    present = case["present"][rows]
    crops, local, masks = (
        case[name].unflatten(0, (-1, number))[:, rows[present]].flatten(0, 1)
        for name in ("crops", "local", "masks")
    )
    views = objective.views(crops, local, masks)
    batch = Batch(
        {"image": {"values": crops[: int(present.sum())]}},
        {"image": present},
        torch.full_like(rows, -1),
        rows,
        rows,
        rows,
        {f"dinov2/{name}": view for name, view in views.items()},
    )
    # kept until the backward pass, which reduces the gradients
    replica = DistributedDataParallel(runner)
    output = replica(batch)
    output.loss.backward()
    trained = {n: p for n, p in runner.named_parameters() if p.requires_grad}
    gradients = {name: parameter.grad.clone() for name, parameter in trained.items()}
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter -= gradients[name]
    runner.after_step(Position(0, 10))
    terms = {name: float(term.mean) for name, term in output.terms.items()}
    return {"terms": terms, "gradients": gradients, "after": objective.state_dict()}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
