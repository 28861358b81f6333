"""AstroM3's encoders, the whole model and its losses."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from domains.astro import checkpoints as astro
from domains.astro.encoders.informer import Informer
from shared.data.batch import Batch
from shared.model import Model
from shared.objectives.base import Encoded, Tensors, Term
from shared.objectives.contrastive import Contrastive, pair_logits
from shared.schema import Channel, Schema
from shared.training.runner import Runner
from shared.weights import KeyMap, load_strictly
from zoo.plugins import plugins

from .recipe import LETTERS, build_objective


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


def build_model(case: Any, keys: KeyMap, length: int) -> Model:
    """Upstream's model with its weights, for prepared inputs of its own sizes."""
    config, schemas = case.config, {}
    widths = {
        "photometry": config.get("p_enc_in", config.get("enc_in")),
        "spectra": config.get("s_conv_channels", config.get("conv_channels", [None]))[0],
        "metadata": config.get("m_input_dim", config.get("input_dim")),
    }
    for modality in astro.modalities_of(config):
        channels = tuple(Channel(f"channel_{i}") for i in range(widths[modality]))
        axes = astro.SCHEMAS["processed"][modality].axes
        schemas[modality] = Schema(modality, axes, channels)
    ours = astro.model_config(config, spectrum_length=length)
    model = astro.build(ours, schemas, plugins().registries)
    load_strictly(model, keys.convert(case.tensors("weights")), str(case.path))
    return model


def build_single(case: Any, modality: str, length: int = 1) -> Model:
    return build_model(case, astro.SINGLE[modality], length).eval()


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
    model = build_single(case, "metadata")
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
    model = build_single(case, "photometry")
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
        {objective.request(m): Encoded(r, present) for m, r in rows.items()},
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
    return Batch(inputs, present, labels, numbers, numbers, numbers)


def build_runner(case: Any, name: str, length: int) -> Runner:
    """A model of all three with upstream's weights, and an objective."""
    model = build_model(case, astro.TRIMODAL, length)
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


ADAPTERS = {
    "galspecnet": galspecnet,
    "metamodel": metamodel,
    "informer": informer,
    "loss": astrom3_loss,
    "astrom3_clip": partial(astrom3_model, name="astrom3"),
    "astrom3_cls": partial(astrom3_model, name="classification"),
}
