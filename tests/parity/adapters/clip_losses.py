"""open_clip's losses in one and in several processes, FILIP, and exact accumulation."""

import runpy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.data.batch import Batch
from shared.data.generic import TEXT
from shared.encoders.checkpoints_clip import clip_keys, clip_settings
from shared.model import Model
from shared.model_config import ModalityConfig, ModelConfig
from shared.objectives.base import Encoded, Position, Tensors
from shared.objectives.contrastive import directed_term, pair_logits
from shared.training.build import build_passes
from shared.training.runner import Runner
from shared.weights import load_strictly
from zoo.plugins import plugins

Adapter = Callable[[Any], dict[str, Tensor]]
TRAINING = Path(__file__).parents[2] / "shared/training"
run_ranks = runpy.run_path(str(TRAINING / "ranks.py"))["run_ranks"]
worker = runpy.run_path(str(TRAINING / "loss_ranks.py"))

MODALITIES = ("image", "text")
# all exchanges of texts that upstream offers; gathering them gives what each of them does
EXCHANGES = ("bidir", "shift", "reduce", "gather")
TEACHER = {
    "timage": "teacher_image",
    "ttext": "teacher_text",
    "tlogit_scale": "teacher_logit_scale",
}


def groups(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors of `<group>.<name>`, by group."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        group, name = key.split(".", 1)
        found.setdefault(group, {})[name] = tensor
    return found


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def tolerance(case: Any) -> dict[str, float]:
    """Of what has none of its own in the case."""
    bound: dict[str, float] = case.spec["tolerance"]["*"]
    return {name: bound[name] for name in ("rtol", "atol")}


def clip_loss(case: Any) -> dict[str, Tensor]:
    """Through the objective where it can be; it has no bias, which its functions take."""
    found = {}
    for group, given in groups(case.tensors("inputs")).items():
        rows = worker["leaves"](given)
        present = torch.ones(len(rows["image"]), dtype=torch.bool)
        a, b = (Encoded(rows[m], present) for m in MODALITIES)
        made, bias = {}, rows.get("logit_bias")
        made["logits_per_image"] = pair_logits(a, b, rows["logit_scale"], bias)
        if bias is None:
            # by blocks of two rows, and the whole matrix
            streamed = worker["loss_of"]("contrastive", {"chunk_rows": 2}, given)
            made |= worker["loss_of"]("contrastive", {"chunk_rows": None}, given)
            torch.testing.assert_close(streamed, {n: made[n] for n in streamed}, **tolerance(case))
        else:
            made["loss"] = torch.stack(
                [
                    directed_term(
                        pair_logits(x, y, rows["logit_scale"], bias), x, y, slice(None)
                    ).mean
                    for x, y in ((a, b), (b, a))
                ]
            ).mean()
            made["loss"].backward()
            made |= worker["gradients"](rows)
        found |= prefixed(group, made)
    return found


def siglip_loss(case: Any) -> dict[str, Tensor]:
    found = {}
    for group, rows in groups(case.tensors("inputs")).items():
        found |= prefixed(group, worker["loss_of"]("sigmoid", {"chunk_rows": None}, rows))
        chunked = worker["loss_of"]("sigmoid", {"chunk_rows": 3}, rows)
        found[f"{group}.loss_chunk3"] = chunked["loss"]
    return found


def distill_clip_loss(case: Any) -> dict[str, Tensor]:
    found = {}
    for group, given in groups(case.tensors("inputs")).items():
        for part, weights in {"distill": (0, 1), "total": (1, 1)}.items():
            rows = worker["leaves"](given)
            objective = worker["build"]("distillation", {"teacher": ""}, rows)
            terms = objective(worker["tensors_of"](objective, rows)).terms
            kinds = {
                kind: torch.stack(
                    [t.weight * t.mean for n, t in terms.items() if n.startswith("distill") == flag]
                ).sum()
                for kind, flag in (("contrastive", False), ("distill", True))
            }
            loss = weights[0] * kinds["contrastive"] + weights[1] * kinds["distill"]
            loss.backward()
            found |= {f"{group}.{kind}_loss": value for kind, value in kinds.items()}
            for name, gradient in worker["gradients"](rows).items():
                found[f"{group}.{name.replace('grad_', f'grad_{part}_')}"] = gradient
    return found


def over_ranks(
    runs: Sequence[tuple[str, str, Mapping[str, Any]]], rows: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Results of every rank stacked, of as many processes as the rows have parts."""
    ranks = run_ranks(len(rows["image"]), worker["losses"], list(runs), dict(rows))
    return {name: torch.stack([found[name] for found in ranks]) for name in ranks[0]}


def alone(name: str, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An objective on the rows of all ranks in this process."""
    joint = {key: t.flatten(0, 1) if t.ndim else t for key, t in rows.items()}
    made = worker["loss_of"](name, {}, joint)
    return {
        k: t.view(rows[k.removeprefix("grad_")].shape) if t.ndim else t for k, t in made.items()
    }


def clip_loss_distributed(case: Any) -> dict[str, Tensor]:
    found = {}
    runs = []
    for local in (False, True):
        for grad in (False, True):
            name = "" if local and not grad else "contrastive"
            settings = {"local_loss": local, "gather_with_grad": grad, "chunk_rows": None}
            prefix = f"local{local:d}_gather_grad{grad:d}"
            runs.append((prefix, name, settings))
            if name:
                runs.append((f"streamed_{prefix}", name, {**settings, "chunk_rows": 2}))
    for group, rows in groups(case.tensors("inputs")).items():
        made = over_ranks(runs, rows)
        for name in [n for n in made if n.startswith("streamed_")]:
            # a rank's part of the scale's gradient is that of its rows of the matrix: only the
            # mean over ranks is upstream's
            by_blocks, whole = made.pop(name), made[name.removeprefix("streamed_")]
            if name.endswith("scale"):
                by_blocks, whole = by_blocks.mean(), whole.mean()
            torch.testing.assert_close(by_blocks, whole, **tolerance(case))
        found |= prefixed(group, made)
        found |= prefixed(f"{group}.global", alone("contrastive", rows))
    return found


def siglip_loss_distributed(case: Any) -> dict[str, Tensor]:
    """Half of upstream's exchanges against the whole matrix of logits, half against blocks."""
    found = {}
    runs = [(e, "sigmoid", {"chunk_rows": 2 if i % 2 else None}) for i, e in enumerate(EXCHANGES)]
    for group, rows in groups(case.tensors("inputs")).items():
        found |= prefixed(group, over_ranks(runs, rows))
        found |= prefixed(f"{group}.global", alone("sigmoid", rows))
    return found


def distill_clip_loss_distributed(case: Any) -> dict[str, Tensor]:
    """Cases may hold several worlds, as those of the other losses, or one without a prefix."""
    inputs, found = case.tensors("inputs"), {}
    runs = []
    for local, grad in ((False, False), (False, True), (True, True)):
        settings = {"teacher": "", "local_loss": local, "gather_with_grad": grad}
        runs.append((f"local{local:d}_gather_grad{grad:d}", "distillation", settings))
    worlds = {"": inputs} if "image" in inputs else groups(inputs)
    for world, given in worlds.items():
        made = over_ranks(runs, {TEACHER.get(name, name): t for name, t in given.items()})
        found |= prefixed(world, made) if world else made
    return found


def filip_loss(case: Any) -> dict[str, Tensor]:
    found = {}
    for group, given in groups(case.tensors("inputs")).items():
        rows = {n: t.requires_grad_(t.is_floating_point()) for n, t in given.items()}
        objective = plugins().registries.objectives.build(
            "filip", "parity", MODALITIES, chunk_rows=2
        )
        present = torch.ones(len(rows["image_tokens"]), dtype=torch.bool)
        encoded = {m: Encoded(rows[f"{m}_tokens"], present, rows[f"{m}_mask"]) for m in MODALITIES}
        numbers = torch.arange(len(present))
        tensors = Tensors(
            {objective.request(m): e for m, e in encoded.items()},
            {"logit_scale": rows["logit_scale"].log()},
            numbers,
            numbers,
        )
        output = objective(tensors)
        output.loss.backward()
        image, text = objective.joined(tensors).encoded.values()
        made = {
            "loss": output.loss,
            "loss_image": output.terms["image->text"].mean,
            "loss_text": output.terms["text->image"].mean,
            "sim_image_to_text": objective.similarities(image, text),
            "sim_text_to_image": objective.similarities(text, image),
            **worker["gradients"](rows),
        }
        found |= prefixed(group, made)
    return found


def build_runner(case: Any, weights: Mapping[str, Tensor]) -> Runner:
    """Upstream's CLIP with its softmax loss, or the sigmoid one where the model has a bias."""
    registries = plugins().registries
    name = "sigmoid" if "logit_bias" in weights else "contrastive"
    objective = registries.objectives.build(name, "parity", MODALITIES)
    settings = dict(zip(MODALITIES, clip_settings(case.config), strict=True))
    encoders = {
        "image": registries.encoders.build("clip_vision", "parity", **settings["image"]),
        "text": registries.encoders.build("clip_text", "parity", **settings["text"]),
    }
    head = {"name": "linear", "bias": False}
    parts = {m: ModalityConfig({}, {}, head) for m in MODALITIES}
    config = ModelConfig("clip", case.config["embed_dim"], parts)
    model = Model(config, {}, encoders, None, objective.model_scalars())
    load_strictly(model, clip_keys(*MODALITIES).convert(weights), str(case.path))
    return Runner(model, {name: objective}, {name: 1.0})


def grad_accumulation(case: Any) -> dict[str, Tensor]:
    found = {}
    weights, keys = groups(case.tensors("weights")), clip_keys(*MODALITIES)
    for group, inputs in groups(case.tensors("inputs")).items():
        observed = case.spec["observations"][group]
        present = torch.ones(len(inputs["image"]), dtype=torch.bool)
        numbers = torch.arange(len(present))
        batch = Batch(
            {"image": {"values": inputs["image"]}, "text": {"input_ids": inputs["text"]}},
            dict.fromkeys(MODALITIES, present),
            numbers,
            numbers,
            numbers,
            numbers,
        )
        ways = {
            "full": {"name": "plain"},
            "accum": {"name": "cached", "micro_batch": observed["micro_batch"]},
        }
        for way, passes in ways.items():
            runner = build_runner(case, weights[group])
            output = build_passes(passes)(runner, batch, Position(), Tensor.backward)
            found[f"{group}.{way}.loss"] = output.loss
            parameters = dict(runner.model.named_parameters())
            for upstream in weights[group]:
                gradient = parameters[str(keys.name(upstream))].grad
                if upstream in keys.transposed:
                    gradient = gradient.T
                if way == "accum" and upstream.startswith("logit_"):
                    # ours are those of the whole batch; upstream adds up the scalars' gradient of
                    # the whole loss once a micro-batch
                    gradient = observed["accum_freq"] * gradient
                found[f"{group}.{way}.grad.{upstream}"] = gradient
    return found


def tokenizer_clip_bpe(case: Any) -> dict[str, Tensor]:
    """The ids stand in the JSON, one text after another, for several lengths of the context."""
    spec, build = case.spec, plugins().registries.preprocessors.get("clip_tokens")
    lengths = {key: key.removeprefix("ids_ctx") for key in spec["cases"][0] if key[:3] == "ids"}
    for key, length in lengths.items():
        context = spec["context_length"] if key == "ids" else int(length)
        tokens = build(TEXT, context_length=context)
        for entry in spec["cases"]:
            ids = tokens.crop(tokens(entry["text"]), None)["input_ids"].tolist()
            padding = [spec["pad"]] * (context - len(entry[key]))
            assert ids == entry[key] + padding, (key, entry["text"])
    return {}


ADAPTERS: dict[str, Adapter] = {
    "clip_loss": clip_loss,
    "clip_loss_distributed": clip_loss_distributed,
    "siglip_loss": siglip_loss,
    "siglip_loss_distributed": siglip_loss_distributed,
    "distill_clip_loss": distill_clip_loss,
    "distill_clip_loss_distributed": distill_clip_loss_distributed,
    "filip_loss": filip_loss,
    "grad_accumulation": grad_accumulation,
    "tokenizer_clip_bpe": tokenizer_clip_bpe,
}
