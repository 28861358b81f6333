"""FSDP's whole way through the trainer on two gloo processes; what is not tried here is the GPU."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from shared.run_folder import read_best
from shared.training.sharding import clip_gradients
from zoo.cli.main import main

HERE = Path(__file__).resolve()
SHORT = [
    "trainer.max_epochs=2",
    "trainer.devices=2",
    "trainer.device=cpu",
    "trainer.gradient_clip_norm=0.1",
    "trainer.gradient_clip_per=part",
    "loader.batch_size=16",
    "online_probe=false",
]
# a learned scale, which cannot be cut up; a teacher
NAMES = ["contrastive", "dinov2"]


@pytest.fixture(scope="module")
def folder(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs, replicated, cut up, and cut up and resumed."""
    folder = tmp_path_factory.mktemp("fsdp")
    run_ranks = runpy.run_path(str(HERE.with_name("ranks.py")))["run_ranks"]
    worker = runpy.run_path(str(HERE.with_name("fsdp_ranks.py")))
    smoke = yaml.safe_load((HERE.parents[2] / "toy_domain" / "smoke.yaml").read_text())
    # as in objective_ranks.py, so that rounding does not choose KoLeo's neighbours
    smoke["dinov2"] += ["+model.modalities.image.encoder.layer_scale=null"]
    # every chunk gathers the weights, so the ranks need as many
    smoke["contrastive"] += ["passes=cached", "passes.micro_batch=3"]
    runs = {name: smoke[name] + SHORT for name in NAMES}
    assert run_ranks(2, worker["train_all"], runs, str(folder)) == [[False, True, True] * 2] * 2
    return folder


def state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_cut_up_equals_replicated(folder: Path, name: str) -> None:
    one, other = state(folder / f"{name}-ddp"), state(folder / f"{name}-fsdp")
    assert other["global_step"] == one["global_step"] > 4
    torch.testing.assert_close(other["state_dict"], one["state_dict"], atol=1e-4, rtol=1e-3)
    theirs, ours = (s["optimizer_states"][0]["state"] for s in (one, other))
    assert len(ours) == len(theirs) > 0
    kept = [
        read_best(folder / f"{name}-{s}/checkpoints/best.safetensors")[0] for s in ("ddp", "fsdp")
    ]
    torch.testing.assert_close(kept[1], kept[0], atol=1e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_cut_up_resumes_to_the_same_bits(folder: Path, name: str) -> None:
    one, other = state(folder / f"{name}-fsdp"), state(folder / f"{name}-resumed")
    torch.testing.assert_close(other["state_dict"], one["state_dict"], atol=0, rtol=0)
    theirs, ours = (s["optimizer_states"][0]["state"] for s in (one, other))
    torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


def test_without_gpus_it_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "domain=astro", "trainer=fsdp", "--dry-run"]) == 0
    assert "strategy: fsdp" in capsys.readouterr().out
    run = tmp_path / "run"
    settings = ["domain=astro", "trainer=fsdp", "trainer.device=cpu", f"run_folder={run}"]
    assert main(["train", *settings]) == 2
    assert "fsdp needs GPUs" in capsys.readouterr().err
    assert not run.exists()


def test_clipping_is_torch_s() -> None:
    torch.manual_seed(0)
    one, other = ([nn.Parameter(torch.zeros(n)) for n in (3, 5)] for _ in range(2))
    unused = nn.Parameter(torch.zeros(1))
    for p, q in zip(one, other, strict=True):
        p.grad = torch.randn_like(p)
        q.grad = p.grad.clone()
    clip_gradients([*one, unused], 0.5)
    nn.utils.clip_grad_norm_(other, 0.5)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(one, other, strict=True))  # type: ignore[arg-type]
    clip_gradients([unused], 0.5)
