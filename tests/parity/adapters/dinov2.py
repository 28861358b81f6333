"""DINOv2: backbone, stochastic depth, heads, losses, masks, schedules and the whole step."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from shared.data.batch import Batch
from shared.data.image_files import IMAGE
from shared.encoders.checkpoints_vit import (
    DINOV2,
    dinov2_objective_settings,
    dinov2_settings,
    dinov2_training,
)
from shared.encoders.transformer import Block, draw_rows
from shared.encoders.vit import VisionTransformer
from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.embeddings.vectors import normalise
from shared.evaluation.protocols import knn
from shared.evaluation.run import evaluate_arrays
from shared.objectives.base import Position
from shared.objectives.block_masks import block_mask, draw_masks, ratio_bounds
from shared.objectives.dinov2 import DINOv2
from shared.objectives.self_distillation import (
    Centre,
    build_dino_head,
    centred_targets,
    koleo_losses,
    masked_weights,
    nearest_neighbours,
    sinkhorn_targets,
)
from shared.training.build import assemble, build_passes
from shared.training.config import OptimizerConfig, ScheduleConfig, TrainConfig, TrainerConfig
from shared.training.module import PretrainModule
from shared.training.optimization import set_rates
from shared.training.schedules import rate_at
from shared.training.trainer import build_trainer
from shared.weights import KeyMap, load_strictly
from zoo.plugins import plugins

Adapter = Callable[[Any], dict[str, Tensor]]


def gradients(module: nn.Module, keys: KeyMap, upstream: Iterable[str]) -> dict[str, Tensor]:
    """Under upstream's names."""
    ours = dict(module.named_parameters())
    return {f"grad.{name}": ours[str(keys.name(name))].grad for name in upstream}


def vit_forward(case: Any) -> dict[str, Tensor]:
    weights, inputs = case.tensors("weights"), case.tensors("inputs")
    encoder: VisionTransformer = plugins().registries.encoders.build(
        "vit", "parity", **dinov2_settings(case.config)
    )
    load_strictly(encoder, DINOV2.convert(weights), str(case.path))
    encoder.eval()
    found: dict[str, Tensor] = {}
    for name in [key for key in inputs if key.startswith("image_")]:
        values = inputs[name]
        mask = inputs.get(f"masks_{name}")
        grid = [side // encoder.patch_size for side in values.shape[-2:]]
        tokens = encoder.embed(values, mask)
        output = encoder({"values": values} | ({} if mask is None else {"token_mask": mask}))
        x = tokens
        for block in encoder.blocks:
            x = block(x)
        found |= {
            f"{name}.pos_embed": encoder.positions(*grid),
            f"{name}.tokens": tokens,
            f"{name}.x_prenorm": x,
            f"{name}.x_norm_clstoken": output.pooled,
            f"{name}.x_norm_patchtokens": output.tokens,
            f"{name}.x_norm_regtokens": encoder.norm(x)[:, 1 : 1 + encoder.num_registers],
        }
        for number, (cls, patches) in enumerate(encoder.intermediate_layers(values, 2)):
            patch_map = patches.transpose(1, 2).unflatten(2, grid)
            found[f"{name}.last2_norm.{number}.cls"] = cls
            found[f"{name}.last2_norm.{number}.patch_map"] = patch_map
        ends = encoder.intermediate_layers(values, [0, encoder.depth - 1], norm=False)
        for number, (_, patches) in enumerate(ends):
            found[f"{name}.blocks_first_last_prenorm.{number}"] = patches
    output = encoder({"values": inputs["image_native"], "token_mask": inputs["masks_grad"]})
    loss = (output.pooled * inputs["grad_w_cls"]).sum()
    loss = loss + (output.tokens * inputs["grad_w_patch"]).sum()
    loss.backward()
    return found | gradients(encoder, DINOV2, weights) | {"grad_loss": loss}


def stochastic_depth(case: Any) -> dict[str, Tensor]:
    config, inputs = case.config, case.tensors("inputs")
    rate = config["drop_path"]
    block = Block(config["dim"], config["num_heads"], layer_scale=1.0, drop_path=rate)
    load_strictly(block, case.tensors("weights"), str(case.path))
    x, x_local, device = inputs["x"], inputs["x_local"], inputs["x"].device
    found = {"eval_out": block.eval()(x)}
    torch.manual_seed(config["torch_seed"])
    found["train_out"] = block.train()(x)
    torch.manual_seed(config["torch_seed"])
    for name in ("attn", "ffn"):
        found[f"perm_{name}"] = draw_rows(len(x), rate, device)
    torch.manual_seed(config["torch_seed"])
    for name in ("attn", "ffn"):
        found[f"list.perm_{name}_global"] = draw_rows(len(x), rate, device)
        found[f"list.perm_{name}_local"] = draw_rows(len(x_local), rate, device)
    for size, tensor in (("global", x), ("local", x_local)):
        kept = (found[f"list.perm_attn_{size}"], found[f"list.perm_ffn_{size}"])
        found[f"list.train_out_{size}"] = block(tensor, kept=kept)
    return found


def dino_head(case: Any) -> dict[str, Tensor]:
    weights, inputs = case.tensors("weights"), case.tensors("inputs")
    upstream = case.config
    settings = {
        "prototypes": upstream["out_dim"],
        "hidden_dim": upstream["hidden_dim"],
        "bottleneck_dim": upstream["bottleneck_dim"],
        "layers": upstream["nlayers"],
    }
    head, x = build_dino_head(upstream["in_dim"], settings, "parity"), inputs["x"].requires_grad_()
    load_strictly(head, weights, str(case.path))
    logits = head(x)
    (logits * inputs["grad_w"]).sum().backward()
    found = {"mlp_out": head.mlp(x), "bottleneck_normalised": head.bottleneck(x), "logits": logits}
    return found | gradients(head, KeyMap((("*", "*"),)), weights) | {"grad.x": x.grad}


def make_targets(kind: str, logits: Tensor, centre: Tensor, upstream: Mapping[str, Any]) -> Tensor:
    temperature = upstream["teacher_temp"]
    if kind == "sinkhorn":
        return sinkhorn_targets(logits, temperature, upstream["n_iterations"])
    return centred_targets(logits, centre, temperature)


def moved_centre(start: Tensor, logits: Tensor, momentum: float) -> Tensor:
    """The centre after a step, in upstream's shape."""
    centre = Centre(start.shape[-1], momentum)
    centre.value.copy_(start.flatten())
    centre.remember(logits)
    centre.update()
    return centre.value.view_as(start)


def build_objective(**settings: Any) -> DINOv2:
    registry = plugins().registries.objectives
    return registry.build("dinov2", "parity", ["image"], **settings)


def dino_loss(case: Any) -> dict[str, Tensor]:
    inputs, upstream = case.tensors("inputs"), case.config
    swapped, centre = inputs["teacher_logits"], inputs["center0"]
    images = len(swapped) // 2
    student = (inputs["student_global_logits"], inputs.get("student_local_logits", swapped[:0]))
    number = len(student[1]) // images
    objective = build_objective(local_crops=number, student_temperature=upstream["student_temp"])
    found = {"center_after_update": moved_centre(centre, swapped, upstream["center_momentum"])}
    for kind in ("centering", "sinkhorn"):
        targets = make_targets(kind, swapped, centre, upstream)
        crops, local = (logits.clone().requires_grad_() for logits in student)
        terms = objective.crop_terms(crops, local, targets.roll(images, dims=0))
        sum(term.weight * term.mean for term in terms.values()).backward()
        found |= {
            f"teacher_probs_{kind}": targets,
            f"{kind}.raw_global": terms["global"].mean,
            f"{kind}.raw_local_sum": terms["local"].mean if number else None,
            f"{kind}.grad.student_global_logits": crops.grad,
            f"{kind}.grad.student_local_logits": local.grad,
        }
        for name, term in terms.items():
            found[f"{kind}.dino_{name}_crops_loss"] = term.weight * term.mean
    return found


def ibot_loss(case: Any) -> dict[str, Tensor]:
    inputs, upstream = case.tensors("inputs"), case.config
    logits, centre, masks = inputs["teacher_masked_logits"], inputs["center0"], inputs["masks"]
    objective = build_objective(student_temperature=upstream["student_temp"])
    weights = masked_weights(masks)
    found = {
        "center_after_update": moved_centre(centre, logits, upstream["center_momentum"]),
        "masks_weight": weights,
    }
    for kind in ("centering", "sinkhorn"):
        targets = make_targets(kind, logits, centre.flatten(), upstream)
        student = inputs["student_masked_logits"].clone().requires_grad_()
        loss = objective.patch_term(student, targets, weights, len(masks)).mean
        loss.backward()
        found |= {
            f"teacher_probs_{kind}": targets,
            f"{kind}.forward_masked": loss,
            f"{kind}.grad.student_masked_logits": student.grad,
        }
    dense = [inputs[name][masks] for name in ("student_dense_logits", "teacher_dense_probs")]
    found["dense.forward"] = objective.patch_term(*dense, weights, len(masks)).mean
    return found


def koleo_loss(case: Any) -> dict[str, Tensor]:
    x, halves = (case.tensors("inputs")["x"].requires_grad_() for _ in range(2))
    loss = koleo_losses(x).mean()
    loss.backward()
    rows = nn.functional.normalize(x.detach(), dim=-1)
    nearest = nearest_neighbours(rows, rows, torch.arange(len(rows)))
    found = {"loss": loss, "grad.x": x.grad, "nearest_index": nearest}
    if "weighted_two_chunk_loss" in case.tensors("outputs"):
        term = build_objective(koleo_weight=case.config["weight"]).koleo_term(halves)
        weighted = term.weight * term.mean
        weighted.backward()
        found |= {"weighted_two_chunk_loss": weighted, "grad.x_two_chunk": halves.grad}
    return found


def masking_generator(case: Any) -> dict[str, Tensor]:
    found = {}
    for number, (grid, largest, requested, seed) in enumerate(case.config["cases"]):
        rng = Random(seed)
        for repeat in range(case.config["repeats"]):
            found[f"mask.{number}.{repeat}"] = block_mask(
                rng, *grid, requested, largest, case.config["min_num_patches"]
            )
    return found


def collate(case: Any) -> dict[str, Tensor]:
    inputs, upstream = case.tensors("inputs"), case.config
    small = inputs.get("local_crops", inputs["global_crops"][:0])
    crops, local = inputs["global_crops"].flatten(0, 1), small.flatten(0, 1)
    side = upstream["global_size"] // upstream["patch_size"]
    share, ratio = upstream["mask_sample_probability"], upstream["mask_ratio_min_max"]
    rng = Random(upstream["python_random_seed"])
    masks = draw_masks(rng, len(crops), (side, side), share, ratio)
    views = build_objective(local_crops=len(small)).views(crops, local, masks)
    masked, targets = views["global"].inputs["image"], views["global"].targets
    bounds = ratio_bounds(int(len(crops) * share), ratio)[1:]
    return {
        "collated_global_crops": masked["values"],
        "collated_local_crops": views["local"].inputs["image"]["values"] if len(small) else local,
        "collated_masks": masked["token_mask"],
        "mask_indices_list": targets["masked"],
        "masks_weight": targets["weights"],
        "n_masked_patches": torch.tensor([len(targets["masked"])]),
        "upperbound": torch.tensor(sum(int(side * side * bound) for bound in bounds)),
    }


def schedules(case: Any) -> dict[str, Tensor]:
    optim, teacher = case.config["optim"], case.config["teacher"]
    length = case.config["epoch_length"]
    total = optim["epochs"] * length
    objective = build_objective(
        teacher_momentum=teacher["momentum_teacher"],
        final_teacher_momentum=teacher["final_momentum_teacher"],
        teacher_temperature=teacher["teacher_temp"],
        warmup_teacher_temperature=teacher["warmup_teacher_temp"],
        temperature_warmup_epochs=teacher["warmup_teacher_temp_epochs"],
    )
    groups = torch.optim.SGD(
        [
            {"params": [torch.zeros(1)], "scales": (1.0, 1.0, frozen)}
            for frozen in (0, optim["freeze_last_layer_epochs"])
        ]
    )
    optimizer = OptimizerConfig(lr=optim["lr"], weight_decay=optim["weight_decay"])
    schedule = ScheduleConfig(
        warmup_epochs=optim["warmup_epochs"],
        warmup_start=0.0,
        warmup_ends_at_peak=True,
        final_ratio=optim["min_lr"] / optim["lr"],
        final_weight_decay=optim["weight_decay_end"],
    )
    rows = []
    # and a little beyond the end
    for step in range(total + 3):
        position = Position(step, total, length)
        set_rates(groups, rate_at(position, schedule), position, optimizer, schedule)
        body, last = groups.param_groups
        rows.append(
            {
                "lr": body["lr"],
                "last_layer_lr": last["lr"],
                "weight_decay": body["weight_decay"],
                "momentum": objective.momentum_at(position),
                "teacher_temp": objective.temperature_at(position),
            }
        )
    return {n: torch.tensor([row[n] for row in rows], dtype=torch.float64) for n in rows[0]}


def step_config(case: Any) -> TrainConfig:
    """Upstream's settings of one step as a config of `zoo train`."""
    upstream, overrides = case.config, case.config["overrides"]
    student, optim = overrides["student"], overrides["optim"]
    size = overrides["crops"]["global_crops_size"]
    encoder = dinov2_settings({**upstream["vit"], **student, "img_size": size})
    # these two follow from the data
    del encoder["in_channels"], encoder["image_size"]
    image = {
        "preprocess": {"name": "image", "image_size": size},
        "encoder": {"name": "vit", **encoder, "drop_path": student["drop_path_rate"]},
        "head": None,
    }
    term = {
        "name": "dinov2",
        **dinov2_objective_settings(overrides),
        "teacher_momentum": upstream["momentum"],
        "warmup_teacher_temperature": upstream["teacher_temp"],
    }
    patches = {"match": "*patch_embed*", "lr_scale": optim["patch_embed_lr_mult"]}
    last = {"match": "*last_layer*", "lr_scale": upstream["last_layer_lr"] / upstream["lr"]}
    model = {"name": "vit", "embed_dim": encoder["dim"], "modalities": {"image": image}}
    return TrainConfig(
        domain="astro",
        data={},
        model=model,
        objective={"dinov2": term},
        optimizer=OptimizerConfig(
            lr=upstream["lr"],
            weight_decay=upstream["wd"],
            betas=[0.9, 0.999],
            layer_decay=optim["layerwise_decay"],
            rules=[patches, last],
        ),
        schedule=ScheduleConfig(name="constant", warmup_fraction=0.0),
        trainer=TrainerConfig(
            max_epochs=1,
            device="cpu",
            gradient_clip_norm=optim["clip_grad"] or None,
            gradient_clip_per="part",
        ),
    )


class Unclipped(pl.Callback):
    """Gradients of the trained parameters as the backward pass leaves them."""

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}

    def on_after_backward(self, trainer: Any, module: Any) -> None:
        named = module.runner.named_parameters()
        self.gradients = {n: p.grad.clone() for n, p in named if p.grad is not None}


def train_step(case: Any) -> dict[str, Tensor]:
    """The zoo's own loop for one step."""
    config, keys = step_config(case), dinov2_training("image", "dinov2")
    runner = assemble(config, config.model, {"image": IMAGE}, plugins().registries)
    weights = {
        name: t.flatten() if "center" in name else t for name, t in case.tensors("weights").items()
    }
    load_strictly(runner, keys.convert(weights), str(case.path))
    inputs = case.tensors("inputs")
    crops = inputs["collated_global_crops"]
    local = inputs.get("collated_local_crops", crops[:0])
    objective = cast(DINOv2, runner.objectives["dinov2"])
    views = objective.views(crops, local, inputs["collated_masks"])
    rows = torch.arange(len(crops) // 2)
    data, present = {"image": {"values": crops[rows]}}, {"image": torch.ones_like(rows).bool()}
    named = {f"dinov2/{name}": view for name, view in views.items()}
    batch = Batch(data, present, torch.full_like(rows, -1), rows, rows, rows, named)
    module = PretrainModule(runner, build_passes(config.passes), config, {"total_steps": 1})
    unclipped = Unclipped()
    with TemporaryDirectory() as folder:
        loader = DataLoader([batch], batch_size=None)
        build_trainer(config, Path(folder), [unclipped]).fit(module, loader)
    assert module.last_output is not None
    terms = {name: t.weight * t.mean for name, t in module.last_output.terms.items()}
    found = {
        "total_loss": sum(terms.values()),
        "logged.dino_global_crops_loss": terms["dinov2/global"],
        "logged.dino_local_crops_loss": terms.get("dinov2/local"),
        "logged.koleo_loss": terms["dinov2/koleo"] / 2,
        "logged.ibot_loss": terms["dinov2/ibot"] / 2,
        "dino_center_after": objective.dino_centre.value[None],
        "ibot_center_after": objective.ibot_centre.value[None, None],
    }
    parameters = dict(runner.named_parameters())
    norms: dict[str, list[Tensor]] = {}
    for name in weights:
        ours = str(keys.name(name))
        tower, _, rest = name.partition(".")
        if tower in ("student", "teacher"):
            found[f"{tower}_after.{rest}"] = parameters[ours]
        if tower == "student":
            found[f"grad.{rest}"] = unclipped.gradients[ours]
            norms.setdefault(rest.partition(".")[0], []).append(unclipped.gradients[ours])
    return found | {
        f"grad_norm_before_clip.{part}": nn.utils.get_total_norm(gradients)
        for part, gradients in norms.items()
    }


def knn_eval(case: Any) -> dict[str, Tensor]:
    """Upstream's votes are softmaxed over the largest k, so those of a smaller k do not sum to 1:
    accuracy is that of the registered protocol, which does not depend on that."""
    inputs, config = case.tensors("inputs"), case.config
    x = {s: normalise(inputs[f"{s}_features"].numpy()) for s in ("train", "test")}
    y = {s: inputs[f"{s}_labels"].numpy() for s in ("train", "test")}
    sizes = [len(x["train"]), len(x["test"])]
    ids = np.arange(sum(sizes)).astype(str)
    embeddings = EmbeddingSet(
        ids=ids,
        vectors={"image": np.concatenate([x["train"], x["test"]]).astype(np.float32)},
        present={"image": np.ones(len(ids), dtype=bool)},
        labels=np.concatenate([y["train"], y["test"]]),
        classes=tuple(str(c) for c in range(config["num_classes"])),
        splits=np.repeat(["train", "test"], sizes),
        groups=ids,
        dataset="recorded",
        model="recorded",
        synthetic=True,
        fingerprint="",
    )
    temperature = config["temperature"]
    most = knn.nearest_neighbours(
        x["train"], x["test"], max(config["nb_knn"]), temperature=temperature
    )
    protocol = plugins().registries.protocols.get("knn")
    found = {}
    for k in config["nb_knn"]:
        nearest = knn.Neighbours(most.rows[:, :k], most.weights[:, :k])
        votes = nearest.shares(y["train"], config["num_classes"])
        found[f"scores.{k}"] = torch.tensor(votes, dtype=torch.float32)
        settings = {"knn": {"k": k, "temperature": temperature}}
        run = evaluate_arrays(embeddings, [protocol], settings=settings, n_resamples=0).runs[0]
        found[f"top1.{k}"] = torch.tensor(run.scores["accuracy"].value, dtype=torch.float32)
    return found


_COMPONENTS = (vit_forward, stochastic_depth, dino_head, dino_loss, ibot_loss, koleo_loss)
_COMPONENTS += (masking_generator, collate, schedules, train_step, knn_eval)
ADAPTERS: dict[str, Adapter] = {adapter.__name__: adapter for adapter in _COMPONENTS}
