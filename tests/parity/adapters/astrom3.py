"""AstroM3: encoders, the whole model, its losses, training loops, preprocessing."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from domains.astro import checkpoints as astro
from domains.astro.encoders.informer import Informer
from shared.data.batch import Batch
from shared.model import Model
from shared.model_config import ModelConfig
from shared.objectives.base import Encoded, LossOutput, Objective, Request, Tensors, Term
from shared.objectives.contrastive import Contrastive, pair_logits
from shared.training.build import build_objectives, build_passes
from shared.training.config import TrainConfig
from shared.training.module import PretrainModule, TermSums
from shared.training.runner import Runner
from shared.training.trainer import build_trainer
from shared.weights import KeyMap, load_strictly
from zoo.config import compose_config, typed
from zoo.plugins import plugins

Adapter = Callable[[Any], dict[str, Tensor]]
LETTERS = {"photometry": "p", "spectra": "s", "metadata": "m"}


def gradients(model: nn.Module, keys: KeyMap, case: Any) -> dict[str, Tensor]:
    """Under upstream's names."""
    ours = {keys.name(upstream): upstream for upstream in case.tensors("weights")}
    named = model.named_parameters()
    return {f"grad.{ours[n]}": p.grad for n, p in named if p.grad is not None}


def keep_output(found: dict[Any, Any], name: str, module: nn.Module) -> None:
    """Record what a module gives in each forward."""
    module.register_forward_hook(lambda _m, _i, out: found.update({name: out}))


def keep_input(found: dict[Any, Any], name: str | int, module: nn.Module) -> None:
    """Record the arguments of a module in each forward."""
    module.register_forward_pre_hook(lambda _m, arguments: found.update({name: arguments}))


def build_single(case: Any, modality: str, length: int) -> Model:
    model = astro.single(modality, case.config, plugins().registries, length).eval()
    load_strictly(model, astro.SINGLE[modality].convert(case.tensors("weights")), str(case.path))
    return model


def run_single(
    case: Any, model: Model, modality: str, inputs: dict[str, Tensor], x: Tensor
) -> dict[str, Tensor]:
    """Outputs of an encoder, or its classifier, and gradients of a probe loss."""
    pooled = model.encode(modality, inputs).pooled
    output = pooled
    if model.classifier is not None:
        present = torch.ones(len(x), dtype=torch.bool)
        output = model.classify({modality: pooled}, {modality: present})
    loss = (output * case.tensors("inputs")["probe_weight"]).sum() / len(x)
    loss.backward()
    found = {"hidden": pooled, "output": output, "probe_loss": loss, "grad.x": x.grad}
    return found | gradients(model, astro.SINGLE[modality], case)


def galspecnet(case: Any) -> dict[str, Tensor]:
    x = case.tensors("inputs")["spectra"].requires_grad_()
    model = build_single(case, "spectra", x.shape[-1])
    found: dict[str, Tensor] = {}
    for index, layer in enumerate(model.encoders["spectra"].layers):
        keep_output(found, f"layers.{index}", layer)
    return run_single(case, model, "spectra", {"values": x}, x) | found


def metamodel(case: Any) -> dict[str, Tensor]:
    x = case.tensors("inputs")["metadata"].requires_grad_()
    model = build_single(case, "metadata", 0)
    return run_single(case, model, "metadata", {"values": x}, x)


def draw_samples(encoder: Informer, seed: int) -> Tensor:
    """What training draws after a seed, as upstream always does."""
    torch.manual_seed(seed)
    samples = encoder.train().draw_samples()
    encoder.eval()
    return samples


def informer(case: Any) -> dict[str, Tensor]:
    tensors = case.tensors("inputs")
    x = tensors["photometry"].requires_grad_()
    model = build_single(case, "photometry", 0)
    encoder = model.encoders["photometry"]
    inputs = {"values": x, "mask": tensors["mask"]}
    found: dict[str, Any] = {}
    for index, layer in enumerate(encoder.layers):
        keep_output(found, f"layer{index}", layer)
        keep_input(found, index, layer.attention)
    keep_output(found, "encoder_norm_out", encoder.norm)
    keep_input(found, "context", encoder.layers[0].attention.out)
    # outputs of layers were recorded in a forward of their own
    samples = draw_samples(encoder, case.spec["seed_layer_outputs"])
    encoder(inputs | {"index_sample": samples})
    layers = {name: value for name, value in found.items() if isinstance(value, Tensor)}

    samples = draw_samples(encoder, case.spec["seed_before_forward"])
    outputs = run_single(case, model, "photometry", inputs | {"index_sample": samples}, x)
    for index, layer in enumerate(encoder.layers):
        query, key, _ = layer.attention.project(found[index][0])
        chosen = layer.attention.select_queries(query, key, samples[index])
        outputs[f"top_index_sorted.{index}"] = chosen.sort(-1).values
    outputs["layer0_context_BHLD"] = found["context"][0].view(query.shape)
    return layers | outputs | {"index_sample": samples, "embedding": encoder.embed(x)}


def compose(objective: str, overrides: Sequence[str] = ()) -> TrainConfig:
    config = compose_config("train", ["domain=astro", f"objective=[{objective}]", *overrides])
    return typed(TrainConfig, config)


def build_objective(name: str) -> tuple[str, Objective]:
    """An objective as its config file sets it, and the name of its term."""
    node = compose(name).objective
    objectives, _ = build_objectives(node, list(LETTERS), plugins().registries)
    return next(iter(objectives.items()))


def pair_outputs(
    objective: Contrastive,
    rows: Mapping[str, Tensor],
    scalars: Mapping[str, Tensor],
    terms: Mapping[str, Term],
) -> dict[str, Tensor]:
    """Logits and loss of each pair of modalities."""
    found = {}
    encoded = {m: Encoded(r, torch.ones(len(r), dtype=torch.bool)) for m, r in rows.items()}
    for a, b in objective.weights:
        pair = LETTERS[a] + LETTERS[b]
        scale = objective.used_scale(scalars, (a, b))
        found[f"logits_{pair}"] = pair_logits(encoded[a], encoded[b], scale)
        directions = (terms[f"{a}->{b}"], terms[f"{b}->{a}"])
        found[f"loss_{pair}"] = sum(t.weight * t.mean for t in directions)
    return found


def astrom3_loss(case: Any) -> dict[str, Tensor]:
    """The published loss as a config: objective=astrom3."""
    _, objective = build_objective("astrom3")
    inputs = {name: t.clone().requires_grad_() for name, t in case.tensors("inputs").items()}
    raw = {m: inputs[f"{letter}_raw"] for m, letter in LETTERS.items()}
    rows = {m: nn.functional.normalize(t, dim=-1) for m, t in raw.items()}
    batch = len(rows["photometry"])
    scalars = {
        f"logit_scale_{a}_{b}": inputs[f"logit_scale_{LETTERS[a]}{LETTERS[b]}"]
        for a, b in objective.weights
    }
    assert set(scalars) == set(objective.model_scalars())
    present = torch.ones(batch, dtype=torch.bool)
    tensors = Tensors(
        {Request(m): Encoded(r, present) for m, r in rows.items()},
        scalars,
        torch.full((batch,), -1),
        torch.arange(batch),
    )
    output = objective(tensors)
    output.loss.backward()
    found = {f"{LETTERS[m]}_emb": r for m, r in rows.items()}
    found |= pair_outputs(objective, rows, scalars, output.terms)
    found["correct"] = objective.metrics(tensors)["in_batch_accuracy"].total
    return found | {f"grad.{n}": t.grad for n, t in inputs.items()} | {"loss": output.loss}


def make_batch(tensors: Mapping[str, Tensor], rows: slice = slice(None)) -> Batch:
    """Samples of a case that have every modality."""
    labels = tensors["labels"][rows]
    inputs = {m: {"values": tensors[m][rows]} for m in LETTERS}
    inputs["photometry"]["mask"] = tensors["photometry_mask"][rows]
    present = {m: torch.ones(len(labels), dtype=torch.bool) for m in LETTERS}
    numbers = torch.arange(len(labels))
    return Batch(inputs, present, labels, numbers, numbers)


def build_runner(case: Any, name: str, length: int) -> Runner:
    """A model of all three with upstream's weights, and an objective."""
    model = astro.trimodal(case.config, plugins().registries, length)
    load_strictly(model, astro.TRIMODAL.convert(case.tensors("weights")), str(case.path))
    term, objective = build_objective(name)
    return Runner(model, {term: objective}, {term: 1.0})


def astrom3_model(case: Any, name: str) -> dict[str, Tensor]:
    """One forward and backward of the whole model."""
    tensors = case.tensors("inputs")
    runner = build_runner(case, name, tensors["spectra"].shape[-1]).eval()
    model, batch = runner.model, make_batch(tensors)
    found: dict[str, Tensor] = {}
    for modality in LETTERS:
        keep_output(found, f"{modality}_proj", model.heads[modality])
        model.encoders[modality].register_forward_hook(
            lambda _m, _i, out, m=modality: found.update({f"{m}_encoder": out.pooled})
        )
    if model.classifier is not None:
        keep_output(found, "logits", model.classifier)
    samples = draw_samples(model.encoders["photometry"], case.spec["seed_before_forward"])
    batch.inputs["photometry"]["index_sample"] = samples
    output = runner(batch)
    output.loss.backward()
    rows = {m: model.project(m, found[f"{m}_encoder"]) for m in LETTERS}
    found |= {f"{LETTERS[m]}_emb": r for m, r in rows.items()}
    for term, objective in runner.named_objectives():
        if isinstance(objective, Contrastive):
            terms = {n.removeprefix(f"{term}/"): t for n, t in output.terms.items()}
            found |= pair_outputs(objective, rows, model.scalars, terms)
    found |= {"loss": output.loss, "index_sample": samples}
    return found | gradients(model, astro.TRIMODAL, case)


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
    batches = [Batch({}, {}, none, none, none)]
    history = fit(config, runner, batches, batches)
    rates = pytest.approx([epoch["lr_used"] for epoch in trace], rel=1e-9)
    assert [epoch["lr"] for epoch in history] == rates
    for key in ("es_counter", "stop"):
        assert [epoch[key] for epoch in history] == [epoch[key] for epoch in trace], key
    return {}


def prep_spectra(case: Any) -> dict[str, Tensor]:
    schema = plugins().registries.datasets.get("simulated_variable_stars").schemas["spectra"]
    # upstream takes spectra however little of the grid they cover
    prepare = plugins().registries.preprocessors.build(
        "spectrum", "parity", schema, min_coverage=0.0
    )
    raw = case.tensors("inputs")["spectrum"].double().numpy()
    return {"spectra": torch.from_numpy(prepare(raw)["values"])}


ADAPTERS: dict[str, Adapter] = {
    "galspecnet": galspecnet,
    "metamodel": metamodel,
    "informer": informer,
    "loss": astrom3_loss,
    "astrom3_clip": partial(astrom3_model, name="astrom3"),
    "astrom3_cls": partial(astrom3_model, name="classification"),
    "train_clip": partial(train_loop, name="astrom3"),
    "train_all": partial(train_loop, name="classification"),
    "schedule": schedule,
    "prep_spectra": prep_spectra,
}
