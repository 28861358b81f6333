"""Our modules, built through the registry, against upstream's recorded numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from domains.astro import checkpoints as astro
from shared.objectives.base import Encoded, Request, Tensors
from shared.objectives.contrastive import Contrastive, pair_logits
from shared.weights import KeyMap, load_strictly
from zoo.config import compose_config
from zoo.plugins import plugins

Adapter = Callable[[Any], dict[str, Tensor]]


def run_encoder(
    case: Any, name: str, settings: dict[str, Any], keys: KeyMap, features: str | None
) -> dict[str, Tensor]:
    """An encoder and, for classifiers, a linear head: outputs and gradients of a probe loss."""
    encoder = plugins().registries.encoders.build(name, "parity", **settings)
    parts = {"encoder": encoder}
    if case.config["classification"]:
        parts["head"] = nn.Linear(encoder.dim, case.config["num_classes"])
    model = nn.ModuleDict(parts).eval()
    load_strictly(model, keys.convert(case.tensors("weights")), str(case.path))
    inputs = case.tensors("inputs")
    x = next(t for n, t in inputs.items() if n != "probe_weight").clone().requires_grad_()
    outputs: dict[str, Tensor] = {}
    for index, layer in enumerate(getattr(encoder, "layers", [])):
        layer.register_forward_hook(
            lambda _m, _i, out, i=index: outputs.update({f"layers.{i}": out})
        )
    pooled = encoder({"values": x}).pooled
    if features is not None:
        outputs[features] = pooled
    output = model["head"](pooled) if "head" in parts else pooled
    loss = (output * inputs["probe_weight"]).sum() / len(x)
    loss.backward()
    outputs |= {"output": output, "probe_loss": loss, "grad.x": x.grad}
    ours = {keys.name(upstream): upstream for upstream in case.tensors("weights")}
    gradients = {n: p.grad for n, p in model.named_parameters()}
    return outputs | {f"grad.{ours[n]}": g for n, g in gradients.items()}


def galspecnet(case: Any) -> dict[str, Tensor]:
    settings = astro.galspecnet_settings(case.config, case.tensors("inputs")["spectra"].shape[-1])
    return run_encoder(case, "galspecnet", settings, astro.GALSPECNET, None)


def metamodel(case: Any) -> dict[str, Tensor]:
    settings = astro.metadata_mlp_settings(case.config)
    return run_encoder(case, "metadata_mlp", settings, astro.METADATA_MLP, "hidden")


def astrom3_loss(case: Any) -> dict[str, Tensor]:
    """The published loss as a config: objective=astrom3."""
    config = compose_config("train", ["domain=astro", "objective=[astrom3]"])["objective"]
    node = {k: v for k, v in config["contrastive"].items() if k not in ("name", "weight")}
    modalities = {"p": "photometry", "s": "spectra", "m": "metadata"}
    objective: Contrastive = plugins().registries.objectives.build(
        "contrastive", "parity", list(modalities.values()), **node
    )
    inputs = {name: t.clone().requires_grad_() for name, t in case.tensors("inputs").items()}
    raw = {m: inputs[f"{letter}_raw"] for letter, m in modalities.items()}
    rows = {m: nn.functional.normalize(t, dim=-1) for m, t in raw.items()}
    batch = len(rows["photometry"])
    letters = {m: letter for letter, m in modalities.items()}
    scalars = {
        f"logit_scale_{a}_{b}": inputs[f"logit_scale_{letters[a]}{letters[b]}"]
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
    found = {f"{letters[m]}_emb": r for m, r in rows.items()}
    for a, b in objective.weights:
        pair = letters[a] + letters[b]
        scale = objective.used_scale(scalars, (a, b))
        found[f"logits_{pair}"] = pair_logits(
            tensors.encoded[Request(a)], tensors.encoded[Request(b)], scale
        )
        terms = [output.terms[f"{a}->{b}"], output.terms[f"{b}->{a}"]]
        found[f"loss_{pair}"] = sum(t.weight * t.mean for t in terms)
    correct = objective.metrics(tensors)["in_batch_accuracy"].total
    gradients = {f"grad.{name}": t.grad for name, t in inputs.items()}
    return found | gradients | {"loss": output.loss, "correct": correct}


def prep_spectra(case: Any) -> dict[str, Tensor]:
    schema = plugins().registries.datasets.get("simulated_variable_stars").schemas["spectra"]
    # upstream takes spectra however little of the grid they cover
    prepare = plugins().registries.preprocessors.build(
        "spectrum", "parity", schema, min_coverage=0.0
    )
    raw = case.tensors("inputs")["spectrum"].double().numpy()
    return {"spectra": torch.from_numpy(prepare(raw)["values"])}


ADAPTERS: dict[tuple[str, str], Adapter] = {
    ("astrom3", "galspecnet"): galspecnet,
    ("astrom3", "metamodel"): metamodel,
    ("astrom3", "loss"): astrom3_loss,
    ("astrom3", "prep_spectra"): prep_spectra,
}


def test_parity(case: Any) -> None:
    if case.component not in ADAPTERS:
        pytest.skip(f"no adapter yet for {'/'.join(case.component)}")
    case.compare(ADAPTERS[case.component](case))
