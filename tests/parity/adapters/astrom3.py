"""AstroM3: encoders, the whole model, its losses, training loops, preprocessing."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from domains.astro import checkpoints as astro
from domains.astro.encoders.informer import Informer
from shared.data.batch import Batch
from shared.model import Model
from shared.objectives.base import Encoded, Objective, Request, Tensors, Term
from shared.objectives.contrastive import Contrastive, pair_logits
from shared.training.build import build_objectives
from shared.training.config import TrainConfig
from shared.training.runner import Runner
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


def keep_output(found: dict[str, Tensor], name: str, module: nn.Module) -> None:
    """Record what a module gives in each forward."""
    module.register_forward_hook(lambda _m, _i, out: found.update({name: out}))


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
    layers: dict[str, Tensor] = {}
    hooked = {f"layer{i}": layer for i, layer in enumerate(encoder.layers)}
    for name, module in (hooked | {"encoder_norm_out": encoder.norm}).items():
        keep_output(layers, name, module)
    samples = draw_samples(encoder, case.spec["seed_layer_outputs"])
    encoder(inputs | {"index_sample": samples})
    layers = dict(layers)

    found: dict[str, Tensor] = {}

    def keep_queries(name: str, attention: Any, arguments: tuple[Tensor, Tensor]) -> None:
        query, key, _ = attention.project(arguments[0])
        found[name] = attention.select_queries(query, key, arguments[1]).sort(-1).values

    for index, layer in enumerate(encoder.layers):
        layer.attention.register_forward_pre_hook(
            partial(keep_queries, f"top_index_sorted.{index}")
        )
    contexts: dict[str, Tensor] = {}
    attention = encoder.layers[0].attention
    attention.out.register_forward_pre_hook(lambda _m, args: contexts.update(flat=args[0]))
    samples = draw_samples(encoder, case.spec["seed_before_forward"])
    outputs = run_single(case, model, "photometry", inputs | {"index_sample": samples}, x)
    batch, length, dim = contexts["flat"].shape
    heads = attention.num_heads
    found["layer0_context_BHLD"] = contexts["flat"].view(batch, heads, length, dim // heads)
    return layers | outputs | found | {"index_sample": samples, "embedding": encoder.embed(x)}


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
    "prep_spectra": prep_spectra,
}
