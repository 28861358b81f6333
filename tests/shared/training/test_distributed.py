"""Two gloo processes against one process on the joint batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shared.distributed import gather_rows


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(4, 4), (5, 2)])
def test_gather_equals_the_joint_batch(tmp_path: Path, sizes: tuple[int, int]) -> None:
    rows = torch.randn(sum(sizes), 3, generator=torch.Generator().manual_seed(0))
    present = torch.arange(sum(sizes)) % 3 > 0
    torch.save({"rows": rows, "present": present, "sizes": list(sizes)}, tmp_path / "input.pt")
    script = Path(__file__).with_name("two_ranks.py")
    ranks = [
        subprocess.Popen([sys.executable, str(script), str(rank), str(tmp_path)]) for rank in (0, 1)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]

    whole = rows.clone().requires_grad_()
    ((whole @ whole.T) * present).logsumexp(1).mean().backward()
    for result in found:
        assert torch.equal(result["joined"], rows)
        assert torch.equal(result["mask"], present)
    # every rank computes the whole loss; averaging the ranks' gradients divides the sum by two
    gradient = torch.cat([result["gradient"] for result in found]) / 2
    torch.testing.assert_close(gradient, whole.grad)


def test_one_process_is_left_alone() -> None:
    rows = torch.randn(3, 2)
    assert gather_rows(rows) is rows
