"""MAE and MultiMAE: masks, losses and the whole forward through the runner."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from shared.data.batch import Batch
from shared.data.image_files import IMAGE
from shared.encoders.checkpoints_mae import mae_training, multimae_training
from shared.encoders.checkpoints_vit import mae_settings
from shared.model import Model
from shared.model_config import ModalityConfig, ModelConfig
from shared.objectives.base import Tensors
from shared.objectives.mae import MAE
from shared.objectives.masked_patches import (
    PatchLoss,
    allocate_visible,
    keep_lowest,
    masked_mean,
    mean_of_masked_means,
    patch_losses,
    patchify,
    standardise_patches,
    unpatchify,
    visible_numbers,
)
from shared.objectives.multimae import MultiMAE
from shared.training.runner import Runner
from shared.weights import load_strictly
from zoo.plugins import plugins

Adapter = Callable[[Any], dict[str, Tensor]]


def make_batch(inputs: Mapping[str, Tensor]) -> Batch:
    """Samples that have every modality."""
    number = len(next(iter(inputs.values())))
    rows = torch.arange(number)
    return Batch(
        {m: {"values": values} for m, values in inputs.items()},
        {m: torch.ones(number, dtype=torch.bool) for m in inputs},
        torch.full((number,), -1),
        rows,
        rows,
        rows,
    )


def read_tensors(runner: Runner, batch: Batch) -> Tensors:
    """What the only objective is given in a forward."""
    found: list[Tensors] = []
    ((_, objective),) = runner.named_objectives()
    hook = objective.register_forward_pre_hook(lambda _m, arguments: found.append(arguments[0]))
    runner(batch)
    hook.remove()
    return found[0]


def build_mae(config: Mapping[str, Any], norm_pix_loss: bool) -> Runner:
    registries = plugins().registries
    encoder = {"name": "vit", **mae_settings(config)}
    # these two follow from the data
    del encoder["in_channels"], encoder["image_size"]
    preprocess = {"name": "image", "image_size": config["img_size"]}
    image = ModalityConfig(preprocess, encoder, head=None)
    model = Model.build(
        ModelConfig("mae", config["embed_dim"], {"image": image}), {"image": IMAGE}, registries
    )
    settings = {
        "mask_ratio": config["mask_ratio"],
        "norm_pix_loss": norm_pix_loss,
        "decoder_dim": config["decoder_embed_dim"],
        "decoder_depth": config["decoder_depth"],
        "decoder_num_heads": config["decoder_num_heads"],
    }
    objective = registries.objectives.build("mae", "parity", ["image"], **settings)
    return Runner(model, {"mae": objective}, {"mae": 1.0})


def mae_forward(case: Any) -> dict[str, Tensor]:
    weights, inputs, keys = (
        case.tensors("weights"),
        case.tensors("inputs"),
        mae_training("image", "mae"),
    )
    runners = {norm: build_mae(case.config, norm) for norm in (True, False)}
    runner = runners[case.config["norm_pix_loss"]]
    start = {n: t.clone() for n, t in runner.state_dict().items() if "pos_embed" in n}
    found = {
        f"sincos_{name}_init": start[str(keys.name(name))]
        for name in ("pos_embed", "decoder_pos_embed")
    }
    for norm, run in runners.items():
        load_strictly(run, keys.convert(weights), str(case.path))
        objective = cast(MAE, run.objectives["mae"])
        batch = make_batch({"image": inputs["imgs"]})
        views = objective.views(inputs["imgs"], inputs["noise"], batch.present["image"])
        batch.views = {f"mae/{name}": view for name, view in views.items()}
        output = run(batch)
        output.loss.backward()
        found["loss_norm_pix" if norm else "loss_pix"] = output.loss
        if run is not runner:
            continue
        tensors, targets = read_tensors(run, batch), views["masked"].targets
        cls, visible = (tensors.encoded[request].rows for request in objective.requests)
        pred = objective.predict(tensors)
        grid = (objective.grid, objective.grid)
        found |= {
            "loss": output.loss,
            "latent": torch.cat([cls[:, None], visible], dim=1),
            "mask": targets["mask"].float(),
            "ids_restore": targets["ids_restore"],
            "pred": pred,
            "target_patches": patchify(inputs["imgs"], objective.patch_size),
            "unpatchified_pred": unpatchify(pred, objective.patch_size, grid),
        }
        ours = dict(run.named_parameters())
        mapped = {name: str(keys.name(name)) for name in weights}
        found |= {f"grad.{name}": ours[o].grad for name, o in mapped.items() if o in ours}
    return found


def mae_loss(case: Any) -> dict[str, Tensor]:
    inputs, patch_size = case.tensors("inputs"), case.config["patch_size"]
    pred = inputs["pred"].requires_grad_()
    target = patchify(inputs["imgs"], patch_size)
    if case.config["norm_pix_loss"]:
        target = standardise_patches(target)
    loss = masked_mean((pred - target).square().mean(dim=2), inputs["mask"]).mean
    loss.backward()
    return {"loss": loss, "grad.pred": pred.grad}


def multimae_masks(case: Any) -> dict[str, Tensor]:
    inputs, budget = case.tensors("inputs"), case.config["num_encoded_tokens"]
    shares, sizes = inputs["task_distribution"], case.config["tokens"]
    numbers = visible_numbers(shares, budget)
    noises = [inputs[f"noise_task_{task}"] for task in range(len(sizes))]
    present = torch.ones_like(shares, dtype=torch.bool)
    masking = allocate_visible(numbers, noises, inputs["noise_all"], budget, present)
    masks = masking.mask.split(sizes, dim=1)
    return {
        "samples_per_task": numbers,
        "ids_keep": masking.ids_keep,
        "ids_restore": masking.ids_restore,
        **{f"mask.t{task}": mask for task, mask in enumerate(masks)},
    }


def multimae_loss(case: Any) -> dict[str, Tensor]:
    inputs = case.tensors("inputs")
    patch_size = case.config["patch_size"] // case.config["stride"]
    masks = {
        "mask": inputs["mask"],
        "none": torch.ones_like(inputs["mask"]),
        "all_visible": torch.zeros_like(inputs["mask"]),
    }
    kinds: dict[str, PatchLoss] = {
        "mse": "mse",
        "mse_norm": "norm_mse",
        "l1": "l1",
        "ce": "cross_entropy",
    }
    found = {}
    for name, kind in kinds.items():
        given, target = ("logits", "labels") if name == "ce" else ("pred", "target")
        for where, mask in masks.items():
            pred = inputs[given].clone().requires_grad_()
            losses = patch_losses(kind, pred, inputs[target], patch_size)
            loss = mean_of_masked_means(losses, mask).mean
            loss.backward()
            assert pred.grad is not None
            assert pred.grad.isfinite().all()
            found |= {
                f"{name}.{where}.loss": loss,
                f"{name}.{where}.grad": pred.grad,
                f"{name}.{where}.grad_rows_from_1": pred.grad[1:],
            }
        found[f"{name}.all_visible"] = found[f"{name}.all_visible.loss"]
        pred = inputs[given].clone().requires_grad_()
        upstream_mean(
            patch_losses(kind, pred, inputs[target], patch_size), masks["mask"]
        ).backward()
        assert pred.grad is not None
        found[f"{name}.mask.grad_row0_all_nan"] = pred.grad[0].isnan().all()
    return found


def upstream_mean(losses: Tensor, mask: Tensor) -> Tensor:
    """What `mean_of_masked_means` must not be: it divides before it selects, so that samples
    without a masked patch get NaN gradients. The cases record that upstream's do."""
    return ((losses * mask).sum(dim=1) / mask.sum(dim=1)).nanmean()


def build_multimae(config: Mapping[str, Any], shapes: Mapping[str, torch.Size]) -> Runner:
    """With upstream's names of modalities and tasks.

    Args:
        config: Of the case.
        shapes: Of each modality's patch projection and, of classes, their embedding.
    """
    registries, modalities = plugins().registries, config["domains"]
    encoders, tasks = {}, {}
    for modality in modalities:
        dim, in_channels, patch_size, _ = shapes[f"input_adapters.{modality}.proj.weight"]
        settings = {"patch_size": patch_size, "dim": dim}
        settings["image_size"] = config["image_size"] // config["patch_size"] * patch_size
        classes = shapes.get(f"input_adapters.{modality}.class_emb.weight")
        if classes is None:
            settings["in_channels"] = in_channels
            tasks[modality] = {"modality": modality, "loss": "mse"}
        else:
            settings |= {"num_classes": classes[0], "class_dim": classes[1]}
            tasks[modality] = {"modality": modality, "loss": "cross_entropy"}
        kind = "patch_tokens" if classes is None else "label_patch_tokens"
        encoders[modality] = registries.encoders.build(kind, "parity", **settings)
    if config.get("extra_norm_pix"):
        tasks["norm_rgb"] = {"modality": "rgb", "loss": "norm_mse"}
    blocks = {"depth": config["depth"], "num_heads": config["num_heads"]}
    dims = {m: encoder.dim for m, encoder in encoders.items()}
    fusion = registries.encoders.build("joint_masked", "parity", dims, **blocks)
    settings = {f"decoder_{n}": config[f"decoder_{n}"] for n in ("dim", "depth", "num_heads")}
    settings |= {"num_encoded_tokens": config["num_encoded_tokens"], "tasks": tasks}
    objective = registries.objectives.build("multimae", "parity", modalities, **settings)
    parts = {m: ModalityConfig({}, {}, head=None) for m in modalities}
    model = Model(ModelConfig("multimae", config["dim"], parts), {}, encoders, fusion, {})
    return Runner(model, {"multimae": objective}, {"multimae": 1.0})


def multimae_forward(case: Any) -> dict[str, Tensor]:
    weights, inputs = case.tensors("weights"), case.tensors("inputs")
    runner = build_multimae(case.config, {name: t.shape for name, t in weights.items()})
    load_strictly(runner, multimae_training("multimae").convert(weights), str(case.path))
    batch = make_batch({m: inputs[m] for m in case.config["domains"]})
    mask = torch.cat([inputs[f"mask.{m}"] for m in batch.inputs], dim=1)
    objective = cast(MultiMAE, runner.objectives["multimae"])
    views = objective.views(batch, keep_lowest(mask, int((mask[0] == 0).sum())))
    batch.views = {f"multimae/{name}": view for name, view in views.items()}
    found = {f"pred.{t}": p for t, p in objective.predict(read_tensors(runner, batch)).items()}
    for modality, named in batch.inputs.items():
        tokens = runner.model.encode(modality, named).tokens
        assert tokens is not None
        found[f"tokens.{modality}"] = tokens
    return found


ADAPTERS: dict[str, Adapter] = {
    "mae_forward": mae_forward,
    "mae_loss": mae_loss,
    "multimae_masks": multimae_masks,
    "multimae_loss": multimae_loss,
    "multimae_forward": multimae_forward,
}
