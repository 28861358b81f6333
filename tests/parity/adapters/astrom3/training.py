"""AstroM3's training loops, run by the zoo's own trainer."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from domains.astro import checkpoints as astro
from shared.data.batch import Batch
from shared.model import Model
from shared.model_config import ModelConfig
from shared.objectives.base import LossOutput, Objective, Tensors, Term
from shared.training.build import build_passes
from shared.training.config import TrainConfig
from shared.training.module import PretrainModule, TermSums
from shared.training.runner import Runner
from shared.training.trainer import build_trainer

from .model import build_runner, make_batch
from .recipe import build_objective, compose


class History(pl.Callback):
    """What upstream's loop records of each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []
        self._losses: list[float] = []
        self._metrics = TermSums()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Batch, _: int) -> None:
        with torch.no_grad():
            self._metrics.add(module.runner(batch, with_metrics=True).metrics)

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self._losses.append(module.last_output.value)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        validation = trainer.callback_metrics
        metrics = self._metrics.means()
        self.epochs.append(
            {
                "lr": trainer.optimizers[0].param_groups[0]["lr"],
                "train_loss": sum(self._losses) / len(self._losses),
                "val_loss": float(validation["val/loss"]),
                "train_acc": next(iter(metrics.values()), None),
                "val_acc": next((float(validation[f"val/{n}"]) for n in metrics), None),
                "scalars": {n: float(s.detach()) for n, s in module.runner.model.scalars.items()},
            }
        )
        self._losses, self._metrics = [], TermSums()

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        # early stopping judges an epoch after all other callbacks
        if self.epochs:
            counter = trainer.early_stopping_callback.wait_count
            self.epochs[-1] |= {"es_counter": counter, "stop": trainer.should_stop}

    on_train_end = on_train_epoch_start


def fit(
    config: TrainConfig, runner: Runner, train: Sequence[Batch], val: Sequence[Batch]
) -> list[dict[str, Any]]:
    """The zoo's own loop on ready-made batches."""
    guard = {"total_steps": len(train) * config.trainer.max_epochs}
    module = PretrainModule(runner, build_passes(config.passes), config, guard)
    history = History()
    with TemporaryDirectory() as folder:
        # Lightning takes a list of batches for several loaders
        loaders = [DataLoader(batches, batch_size=None) for batches in (train, val)]
        build_trainer(config, Path(folder), [history]).fit(module, *loaders)
    return history.epochs


def recipe(objective: str, spec: Mapping[str, Any], epochs: int) -> TrainConfig:
    """AstroM3's schedule and early stopping."""
    return compose(
        objective,
        [
            f"optimizer.lr={spec['lr']}",
            "schedule.name=plateau",
            f"schedule.warmup_epochs={spec['warmup_epochs']}",
            "schedule.warmup_start=1e-5",
            f"schedule.factor={spec['scheduler_factor']}",
            f"schedule.patience={spec['scheduler_patience']}",
            f"selection.patience={spec['early_stopping_patience']}",
            "selection.first_epoch_counts=true",
            "trainer.validation_mean=batches",
            "trainer.device=cpu",
            f"trainer.max_epochs={epochs}",
        ],
    )


def make_batches(case: Any, split: str) -> list[Batch]:
    """Consecutive slices."""
    tensors = {
        name.removeprefix(f"{split}."): tensor
        for name, tensor in case.tensors("inputs").items()
        if name.startswith(f"{split}.")
    }
    size, total = case.spec[f"{split}_batch_size"], len(tensors["labels"])
    end = total - total % size if case.spec[f"{split}_drop_last"] else total
    return [make_batch(tensors, slice(start, start + size)) for start in range(0, end, size)]


def train_loop(case: Any, name: str) -> dict[str, Tensor]:
    """A whole training; the numbers of each epoch are compared here."""
    upstream = case.config
    config = recipe(name, upstream, upstream["epochs"])
    config.optimizer.name, config.optimizer.decay_all = "adam", True
    config.optimizer.betas = [upstream["beta1"], upstream["beta2"]]
    config.optimizer.weight_decay = upstream["weight_decay"]
    config.trainer.gradient_clip_norm = upstream["clip_value"] if upstream["clip_grad"] else None
    train, val = make_batches(case, "train"), make_batches(case, "val")
    runner = build_runner(case, name, case.tensors("inputs")["train.spectra"].shape[-1])
    runner.model.encoders["photometry"].embedding_dropout.p = 0.0
    history = fit(config, runner, train, val)
    bound = case.spec["tolerance"]["*"]
    # upstream's order: ps, sm, mp
    scales = [f"logit_scale_{a}_{b}" for a, b in build_objective("astrom3")[1].weights]
    for ours, theirs in zip(history, case.spec["history"], strict=True):
        ours["logit_scales"] = [ours["scalars"][name] for name in scales]
        for key, value in theirs.items():
            expected = pytest.approx(value, rel=bound["rtol"], abs=bound["atol"])
            assert ours[key] == expected, key
        assert ours["lr"] == pytest.approx(theirs["lr"], rel=1e-9)
    assert len(history) == case.spec["epochs_run"]
    best = pytest.approx(case.spec["best_val_loss"], rel=bound["rtol"], abs=bound["atol"])
    assert min(epoch["val_loss"] for epoch in history) == best
    assert history[-1]["stop"] == case.spec["stopped_early"]
    names = {astro.TRIMODAL.name(n): n for n in case.tensors("weights")}
    return {f"final.{names[n]}": p for n, p in runner.model.named_parameters()}


class Told(Objective):
    """Given validation losses, to see what the loop makes of them; one step an epoch."""

    requests = ()

    def __init__(self, losses: Sequence[float]) -> None:
        super().__init__(())
        self.losses = losses

    def model_scalars(self) -> dict[str, float]:
        return {"weight": 0.0}

    def forward(self, tensors: Tensors) -> LossOutput:
        # an epoch is validated after its step
        loss = self.losses[tensors.position.step - 1] + 0.0 * tensors.scalars["weight"]
        return LossOutput({"loss": Term(loss, torch.ones(()))})


def schedule(case: Any) -> dict[str, Tensor]:
    """Learning rate and early stopping of the zoo's loop, given the validation losses."""
    spec, trace = case.spec, case.spec["trace"]
    named = {"scheduler_factor": spec["factor"], "scheduler_patience": spec["plateau_patience"]}
    config = recipe("astrom3", spec | named, len(trace))
    objective = Told([float(epoch["val_loss"]) for epoch in trace])
    model = Model(ModelConfig("told", 1, {}), {}, {}, None, objective.model_scalars())
    runner = Runner(model, {"told": objective}, {"told": 1.0})
    none = torch.zeros(1, dtype=torch.int64)
    batches = [Batch({}, {}, none, none, none, none)]
    history = fit(config, runner, batches, batches)
    rates = pytest.approx([epoch["lr_used"] for epoch in trace], rel=1e-9)
    assert [epoch["lr"] for epoch in history] == rates
    for key in ("es_counter", "stop"):
        assert [epoch[key] for epoch in history] == [epoch[key] for epoch in trace], key
    return {}


ADAPTERS = {
    "train_clip": partial(train_loop, name="astrom3"),
    "train_all": partial(train_loop, name="classification"),
    "schedule": schedule,
}
