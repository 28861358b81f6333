"""Run by test_distributed.py in two processes: torch only, since Lightning is slow to import."""

import sys
from pathlib import Path

import torch
from torch import distributed as dist

from shared.distributed import gather_rows


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    data = torch.load(folder / "input.pt", weights_only=True)
    part = data["rows"].split(data["sizes"])[rank].clone().requires_grad_()
    present = data["present"].split(data["sizes"])[rank]
    joined, mask = gather_rows(part), gather_rows(present)
    loss = ((joined @ joined.T) * mask).logsumexp(1).mean()
    loss.backward()
    torch.save({"joined": joined, "mask": mask, "gradient": part.grad}, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
