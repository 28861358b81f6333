"""Gathers and batch norms on several gloo processes against one process on the joint batch."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shared.distributed import gather_rows
from shared.training.batch_norm import JointBatchNorm, join_batch_norms

HERE = Path(__file__).resolve()
LAYOUTS = {2: [[4, 4], [5, 3], [8, 0], [7, 1]], 3: [[3, 4, 1], [0, 8, 0], [2, 3, 3]]}

worker = runpy.run_path(str(HERE.with_name("joint_ranks.py")))
run_ranks = runpy.run_path(str(HERE.with_name("ranks.py")))["run_ranks"]


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request: pytest.FixtureRequest) -> list[list[dict[str, torch.Tensor]]]:
    """By rank and layout."""
    found: list[list[dict[str, torch.Tensor]]]
    found = run_ranks(request.param, worker["on_ranks"], LAYOUTS[request.param])
    return found


def assert_close(found: torch.Tensor, expected: torch.Tensor, where: str) -> None:
    """Up to rounding of the largest entry, of which sums are made."""
    bound = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(
        found, expected, rtol=0, atol=bound, msg=lambda text: f"{where}: {text}"
    )


@pytest.mark.slow
def test_ranks_equal_the_joint_batch(ranks: list[list[dict[str, torch.Tensor]]]) -> None:
    joint: dict[str, Any] = worker["in_one_process"]()
    for number, parts in enumerate(LAYOUTS[len(ranks)]):
        found = [rank[number] for rank in ranks]
        for step in found:
            assert torch.equal(step["gathered"], joint["rows"])
            assert torch.equal(step["constants"], joint["rows"])
            assert torch.equal(step["mask"], joint["mask"])
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                assert_close(step[name], joint[name], f"{name}, {parts}")
        torch.testing.assert_close(
            torch.cat([step["gather gradient"] for step in found]) / len(ranks),
            joint["gather gradient"],
        )
        # only the own rows have one: nothing is summed over ranks
        torch.testing.assert_close(
            torch.cat([step["constants gradient"] for step in found]), joint["gather gradient"]
        )
        for name in ("normed", "normed gradient", "evaluated"):
            assert_close(torch.cat([step[name] for step in found]), joint[name], f"{name}, {parts}")


def test_one_process_is_left_alone() -> None:
    rows = torch.randn(3, 2)
    assert gather_rows(rows) is rows
    plain = nn.Sequential(nn.Linear(2, 4), nn.ModuleList([nn.BatchNorm1d(4)])[0])
    plain(rows)
    expected = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    parameters = [id(p) for p in plain.parameters()]
    join_batch_norms(plain)
    assert isinstance(plain[1], JointBatchNorm)
    assert [id(p) for p in plain.parameters()] == parameters
    assert all(torch.equal(tensor, expected[n]) for n, tensor in plain.state_dict().items())
    twin = nn.BatchNorm1d(4)
    twin.load_state_dict(plain[1].state_dict())
    hidden = plain[0](rows)
    assert torch.equal(plain[1](hidden), twin(hidden))
    assert torch.equal(plain[1].eval()(hidden), twin.eval()(hidden))
