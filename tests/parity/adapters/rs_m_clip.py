"""RS-M-CLIP: CLIP with an XLM-RoBERTa text tower, and its self-distillation between crops."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from domains.remote_sensing.rs_m_clip_files import KEYS
from shared.encoders.checkpoints_clip import clip_settings
from shared.model import Model
from shared.model_config import ModalityConfig, ModelConfig
from shared.objectives.base import Encoded, Tensors
from shared.objectives.contrastive import pair_logits
from shared.objectives.self_distillation import (
    Centre,
    DINOHead,
    build_dino_head,
    centred_targets,
)
from shared.weights import load_strictly
from zoo.plugins import plugins

Adapter = Callable[[Any], dict[str, Tensor]]
MODALITIES = ("image", "text")


def build_model(case: Any, scalars: Mapping[str, float]) -> Model:
    upstream, registries = case.config, plugins().registries
    text = upstream["text_xlm_roberta"]
    vision = {name: upstream[name] for name in ("quick_gelu", "vision_cfg")}
    image = clip_settings({**vision, "text_cfg": {}})[0]
    pooler = upstream["pooler"].removesuffix("_pooler")
    encoders = {
        "image": registries.encoders.build("clip_vision", "parity", **image),
        "text": registries.encoders.build(
            "hf_text",
            "parity",
            vocab_size=text["vocab_size"],
            pad_id=text["pad_token_id"],
            dim=text["hidden_size"],
            depth=text["num_hidden_layers"],
            num_heads=text["num_attention_heads"],
            hidden_dim=text["intermediate_size"],
            max_positions=text["max_position_embeddings"],
            dropout=text["hidden_dropout_prob"],
            pooler=pooler,
        ),
    }
    width = (text["hidden_size"] + upstream["embed_dim"]) // 2
    heads = {
        "image": {"name": "linear", "bias": False},
        "text": {"name": "mlp", "hidden_dim": width, "bias": False, "activation": "gelu"},
    }
    parts = {m: ModalityConfig({}, {}, heads[m]) for m in MODALITIES}
    config = ModelConfig("rs-m-clip", upstream["embed_dim"], parts)
    return Model(config, {}, encoders, None, scalars).eval()


def clip_xlmr(case: Any) -> dict[str, Tensor]:
    inputs, weights = case.tensors("inputs"), case.tensors("weights")
    objective = plugins().registries.objectives.build("contrastive", "parity", MODALITIES)
    model = build_model(case, objective.model_scalars())
    load_strictly(model, KEYS.convert(weights), str(case.path))
    given = {"image": {"values": inputs["image"]}, "text": {"input_ids": inputs["text"]}}
    embedded = {m: model.encode(m, given[m]) for m in MODALITIES}
    present = torch.ones(len(inputs["image"]), dtype=torch.bool)
    encoded = {m: Encoded(model.project(m, e.pooled), present) for m, e in embedded.items()}
    numbers = torch.arange(len(present))
    requests = {objective.request(m): e for m, e in encoded.items()}
    loss = objective(Tensors(requests, dict(model.scalars), numbers, numbers)).loss
    loss.backward()
    scale = model.scalars["logit_scale"].exp()
    found = {
        "clip_loss": loss,
        "logit_scale_exp": scale,
        "logits_per_image": pair_logits(encoded["image"], encoded["text"], scale),
        "text.last_hidden_state": embedded["text"].tokens,
        "text.mean_pooled": embedded["text"].pooled,
    }
    for modality, embedding in embedded.items():
        found[f"{modality}_features"] = model.heads[modality](embedding.pooled)
        found[f"{modality}_features_normalized"] = encoded[modality].rows
    for upstream in weights:
        gradient = dict(model.named_parameters())[str(KEYS.name(upstream))].grad
        assert gradient is not None
        found[f"grad.{upstream}"] = gradient.T if upstream in KEYS.transposed else gradient
    return found


def build_head(weights: Mapping[str, Tensor]) -> DINOHead:
    """The sizes by the shapes; gains of 1, which are not recorded."""
    first, last = weights["mlp.0.weight"], weights["last_layer.weight_v"]
    settings = {
        "prototypes": len(last),
        "hidden_dim": len(first),
        "bottleneck_dim": last.shape[1],
        "layers": sum(name.startswith("mlp.") and name.endswith(".weight") for name in weights),
    }
    head = build_dino_head(first.shape[1], settings, "parity")
    load_strictly(head, {**weights, "last_layer.weight_g": torch.ones(len(last), 1)}, "parity")
    return head


def local_global_distillation(case: Any) -> dict[str, Tensor]:
    inputs, found = case.tensors("inputs"), {}
    for group, settings in case.spec["cases"].items():
        parts = ((name.partition("."), tensor) for name, tensor in inputs.items())
        own = {name: tensor for (prefix, _, name), tensor in parts if prefix == group}
        head = build_head({n.removeprefix("head."): t for n, t in own.items() if n[:5] == "head."})
        objective = plugins().registries.objectives.build(
            "local_global",
            "parity",
            ["image"],
            student_temperature=settings["student_temp"],
            teacher_temperature=settings["teacher_temp"],
        )
        features = own["student_features"].requires_grad_()
        student = head(features).unflatten(0, (-1, settings["batch"]))
        teacher = head(own["teacher_features"]).detach().unflatten(0, (-1, settings["batch"]))
        centre = Centre(own["center"].shape[1], settings["center_momentum"])
        centre.value.copy_(own["center"][0])
        targets = centred_targets(teacher, centre.value, objective.teacher_temperature)
        centre.remember(teacher.flatten(0, 1))
        centre.update()
        loss = objective.term(student, targets).mean
        loss.backward()
        assert features.grad is not None
        made = {
            "student_logits": student.flatten(0, 1),
            "teacher_logits": teacher.flatten(0, 1),
            "loss": loss,
            "grad_student_features": features.grad,
            "new_center": centre.value[None],
        }
        found |= {f"{group}.{name}": tensor for name, tensor in made.items()}
    return found


ADAPTERS: dict[str, Adapter] = {
    adapter.__name__: adapter for adapter in (clip_xlmr, local_global_distillation)
}
