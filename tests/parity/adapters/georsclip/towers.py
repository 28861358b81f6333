"""GeoRSCLIP's two towers, their loss and gradients, and position tables of other sizes."""

from typing import Any

import torch
from torch import Tensor, nn

from shared.data.batch import Batch
from shared.encoders.checkpoints_clip import clip_keys, resize_grid, resize_length
from shared.objectives.base import Position
from shared.training.build import build_passes

from ..clip_losses import MODALITIES, build_runner


def record(model: Any, found: dict[str, Tensor]) -> None:
    """Note what the parts of both towers give when they run."""

    def note(name: str) -> Any:
        def hook(module: nn.Module, given: Any, made: Tensor) -> None:
            found[name] = made

        return hook

    for modality, tower in zip(MODALITIES, ("vision", "text"), strict=True):
        trunk = model.encoders[modality].trunk
        blocks = trunk.transformer.resblocks
        for number, block in enumerate(blocks):
            block.register_forward_hook(note(f"{tower}.block{number}"))
        blocks[0].register_forward_pre_hook(
            lambda module, given, tower=tower: found.__setitem__(f"{tower}.embeds", given[0])
        )


def clip(case: Any) -> dict[str, Tensor]:
    """Both towers, the contrastive objective on them, and the gradient of every parameter."""
    inputs, weights, keys = case.tensors("inputs"), case.tensors("weights"), clip_keys(*MODALITIES)
    runner = build_runner(case, weights)
    model, found = runner.model.eval(), {}
    record(model, found)
    rows = {"image": {"values": inputs["image"]}, "text": {"input_ids": inputs["text"]}}
    encoded = {m: model.encode(m, rows[m]) for m in MODALITIES}
    found["vision.embeds_ln_pre"] = found["vision.embeds"]
    found["vision.pooled_ln_post"], found["vision.patch_tokens_ln_post"] = encoded["image"][:2]
    found["text.pooled"], found["text.ln_final"] = encoded["text"][:2]
    unit = {m: model.project(m, encoded[m].pooled) for m in MODALITIES}
    for modality in MODALITIES:
        found[f"{modality}_features"] = model.apply_head(modality, encoded[modality].pooled)
        found[f"{modality}_features_normalized"] = unit[modality]
    found["logit_scale_exp"] = model.scalars["logit_scale"].exp()
    found["logits_per_image"] = found["logit_scale_exp"] * unit["image"] @ unit["text"].T
    present = torch.ones(len(inputs["image"]), dtype=torch.bool)
    numbers = torch.arange(len(present))
    batch = Batch(rows, dict.fromkeys(MODALITIES, present), numbers, numbers, numbers, numbers)
    passes = build_passes({"name": "plain"})
    found["clip_loss"] = passes(runner, batch, Position(), Tensor.backward).loss
    parameters = dict(model.named_parameters())
    for name in weights:
        gradient = parameters[str(keys.name(name))].grad
        found[f"grad.{name}"] = gradient.T if name in keys.transposed else gradient
    return found


def pos_embed_resize(case: Any) -> dict[str, Tensor]:
    tables = case.tensors("inputs")
    return {
        name: resize_grid(tables[name], sizes["new_grid"])
        if sizes["kind"] == "vision"
        else resize_length(tables[name], sizes["new_len"])
        for name, sizes in case.spec["cases"].items()
    }


ADAPTERS = {"clip_quickgelu": clip, "clip_gelu": clip, "pos_embed_resize": pos_embed_resize}
