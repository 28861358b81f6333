"""The steps that throughput.py measures: ours, and the peers' as their documentation has them."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared.data.batch import Batch
from shared.data.generic import TEXT
from shared.data.image_files import IMAGE
from shared.encoders.checkpoints_clip import clip_keys
from shared.model import Model
from shared.model_config import ModelConfig
from shared.objectives.base import Objective, Position
from shared.training.config import OptimizerConfig
from shared.training.optimization import build_optimizer
from shared.training.passes import Plain
from shared.training.runner import Runner
from zoo.plugins import plugins

Step = Callable[[], Tensor]
"""Takes an optimiser step; the loss before it."""
OPTIMIZER = OptimizerConfig(lr=5e-4, weight_decay=0.2, betas=[0.9, 0.98], eps=1e-6)
"""open_clip's for its ViTs (its `get_default_params`, and --wd)."""


@dataclass(frozen=True)
class Sizes:
    """Of both towers of CLIP, and of DINO's encoder, crops and head."""

    image: int = 224
    patch: int = 16
    dim: int = 768
    depth: int = 12
    heads: int = 12
    text_dim: int = 512
    text_depth: int = 12
    text_heads: int = 8
    context: int = 77
    vocabulary: int = 49408
    embed_dim: int = 512
    dino_patch: int = 14
    local: int = 98
    local_crops: int = 8
    prototypes: int = 65536
    hidden: int = 2048
    bottleneck: int = 256


SMALL = Sizes(
    **{"image": 56, "patch": 8, "dim": 192, "depth": 4, "heads": 3, "text_dim": 128},
    **{"text_depth": 2, "text_heads": 2, "context": 32, "vocabulary": 4096, "embed_dim": 128},
    **{"local": 28, "local_crops": 4, "prototypes": 4096, "hidden": 256, "bottleneck": 64},
)


@dataclass(frozen=True)
class Setup:
    """What both contenders are given."""

    sizes: Sizes
    batch_size: int
    device: str
    dtype: str
    compile: bool
    channels_last: bool

    def autocast(self) -> AbstractContextManager[None]:
        """As Lightning's bf16-mixed and open_clip's amp_bf16: weights stay float32."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.dtype == "bfloat16")

    def place(self, module: nn.Module) -> nn.Module:
        module = module.to(self.device)
        return module.to(memory_format=torch.channels_last) if self.channels_last else module

    def images(self) -> Tensor:
        return torch.randn(self.batch_size, 3, self.sizes.image, self.sizes.image)


def our_model(config: Mapping[str, Any], objective: str, **settings: Any) -> Runner:
    """A model of images, and of texts where the config has them, with one objective."""
    registries = plugins().registries
    modalities = tuple(config["modalities"])
    built: Objective = registries.objectives.build(objective, "benchmark", modalities, **settings)
    schemas = {m: {"image": IMAGE, "text": TEXT}[m] for m in modalities}
    filled = ModelConfig.from_dict(dict(config))
    model = Model.build(filled, schemas, registries, built.model_scalars())
    return Runner(model, {objective: built}, {objective: 1.0})


def make_batch(inputs: dict[str, dict[str, Tensor]]) -> Batch:
    number = len(next(iter(inputs["image"].values())))
    present = {m: torch.ones(number, dtype=torch.bool) for m in inputs}
    rows = torch.arange(number)
    return Batch(inputs, present, torch.zeros(number).long(), rows, rows, rows)


def our_step(setup: Setup, runner: Runner, batch: Batch) -> Step:
    """As `zoo train` takes it."""
    passes = Plain()
    setup.place(runner).train()
    batch = runner.make_views(batch.to(setup.device))
    optimizer = build_optimizer(runner, OPTIMIZER)

    def step() -> Tensor:
        optimizer.zero_grad()
        with setup.autocast():
            output = passes(runner, batch, Position(), Tensor.backward)
        optimizer.step()
        runner.after_step(Position())
        return output.loss.detach()

    return step


def peer_step(
    setup: Setup, parts: list[nn.Module], loss: Callable[[], Tensor], after: Callable[[], None]
) -> Step:
    """A bare loop with the same optimiser over the same groups, as torch makes it by default."""
    trained = [p for part in parts for p in part.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": OPTIMIZER.weight_decay},
    ]
    betas = (OPTIMIZER.betas[0], OPTIMIZER.betas[1])
    optimizer = torch.optim.AdamW(groups, lr=OPTIMIZER.lr, betas=betas, eps=OPTIMIZER.eps)

    def step() -> Tensor:
        optimizer.zero_grad()
        with setup.autocast():
            total = loss()
        total.backward()
        optimizer.step()
        with torch.no_grad():
            after()
        return total.detach()

    return step


def clip_pair(setup: Setup) -> tuple[dict[str, Any], nn.Module]:
    """Our config, and open_clip's model of the same sizes."""
    import open_clip

    s = setup.sizes
    # no QuickGELU, as open_clip's own ViT-B-16
    vision = {"image_size": s.image, "patch_size": s.patch, "width": s.dim, "layers": s.depth}
    text = {"context_length": s.context, "vocab_size": s.vocabulary, "width": s.text_dim}
    text |= {"heads": s.text_heads, "layers": s.text_depth}
    peer = open_clip.CLIP(s.embed_dim, {**vision, "head_width": s.dim // s.heads}, text)
    head = {"name": "linear", "bias": False}
    towers = {
        "image": {
            "preprocess": {"name": "clip_image", "image_size": s.image},
            "encoder": {"name": "clip_vision", "patch_size": s.patch, "dim": s.dim}
            | {"depth": s.depth, "num_heads": s.heads},
            "head": head,
        },
        "text": {
            "preprocess": {"name": "clip_tokens", "context_length": s.context},
            "encoder": {"name": "clip_text", "vocab_size": s.vocabulary, "dim": s.text_dim}
            | {"depth": s.text_depth, "num_heads": s.text_heads},
            "head": head,
        },
    }
    return {"name": "benchmark", "embed_dim": s.embed_dim, "modalities": towers}, peer


def clip(setup: Setup, peer: bool) -> tuple[Step, Callable[[], None]]:
    from open_clip import ClipLoss

    config, theirs = clip_pair(setup)
    images = setup.images()
    texts = torch.randint(1, setup.sizes.vocabulary - 1, (setup.batch_size, setup.sizes.context))
    texts[:, -1] = setup.sizes.vocabulary - 1  # the end of a text is its largest id
    if not peer:
        runner = our_model(config, "contrastive")
        state = clip_keys("image", "text").convert(theirs.state_dict())
        runner.model.load_state_dict(state)
        batch = make_batch({"image": {"values": images}, "text": {"input_ids": texts}})
        return our_step(setup, runner, batch), runner.compile_encoders
    model: Any = setup.place(theirs).train()
    images, texts, criterion = images.to(setup.device), texts.to(setup.device), ClipLoss()

    def loss() -> Tensor:
        found: Tensor = criterion(*model(images, texts))
        return found

    def clamp() -> None:
        model.logit_scale.clamp_(0, torch.tensor(100.0).log().item())

    return peer_step(setup, [model], loss, clamp), model.compile


def dino(setup: Setup, peer: bool) -> tuple[Step, Callable[[], None]]:
    s = setup.sizes
    head = {"prototypes": s.prototypes, "hidden_dim": s.hidden, "bottleneck_dim": s.bottleneck}
    encoder = {"name": "vit", "patch_size": s.dino_patch, "dim": s.dim, "depth": s.depth}
    encoder |= {"num_heads": s.heads, "mask_token": True}
    parts = {"preprocess": {"name": "image", "image_size": s.image}, "encoder": encoder}
    config = {"name": "benchmark", "embed_dim": s.dim, "modalities": {"image": parts}}
    crops = {"local_crops": s.local_crops, "global_size": s.image, "local_size": s.local}
    runner = our_model(config, "dinov2", **crops, head=head)
    batch = make_batch({"image": {"values": setup.images()}})
    if not peer:
        return our_step(setup, runner, batch), runner.compile_encoders
    from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
    from lightly.models.modules import DINOv2ProjectionHead, MaskedVisionTransformerTIMM
    from lightly.models.utils import update_momentum
    from timm.models.vision_transformer import VisionTransformer

    # the crops and masks that ours gets
    made = runner.make_views(batch).views
    views = {n: made[f"dinov2/{n}"].to(setup.device) for n in ("teacher", "global", "local")}
    vit = VisionTransformer(
        img_size=s.image,
        patch_size=s.dino_patch,
        embed_dim=s.dim,
        depth=s.depth,
        num_heads=s.heads,
        num_classes=0,
        init_values=1e-5,
        dynamic_img_size=True,
    )
    student = MaskedVisionTransformerTIMM(vit=vit, pos_embed_initialization="skip")
    student = setup.place(student).train()
    widths = (s.dim, s.hidden, s.bottleneck, s.prototypes)
    student_head = DINOv2ProjectionHead(*widths).to(setup.device)
    teacher_head = DINOv2ProjectionHead(*widths).to(setup.device)
    teacher = deepcopy(student).eval()
    for module in (teacher, teacher_head):
        module.requires_grad_(False)
    losses = (DINOLoss(s.prototypes), IBOTPatchLoss(s.prototypes), KoLeoLoss())
    dino_loss, ibot_loss, koleo = (loss.to(setup.device) for loss in losses)
    images = {name: view.inputs["image"]["values"] for name, view in views.items()}
    mask = views["global"].inputs["image"]["token_mask"]
    grid = mask.view(len(mask), s.image // s.dino_patch, s.image // s.dino_patch)
    with_class = nn.functional.pad(mask, (1, 0))

    def loss() -> Tensor:
        with torch.no_grad():
            seen = teacher.encode(images["teacher"])
            targets = teacher_head(seen[:, 0]).chunk(2)
            patch_targets = teacher_head(seen[:, 1:][mask])
        masked = student.encode(images["global"], mask=with_class)
        local = student.encode(images["local"])[:, 0]
        crops = [*student_head(masked[:, 0]).chunk(2)]
        crops += student_head(local).chunk(s.local_crops)
        total: Tensor = dino_loss(list(targets), crops)
        total = total + ibot_loss(patch_targets, student_head(masked[:, 1:][mask]), grid)
        return total + 0.1 * sum(koleo(view) for view in masked[:, 0].chunk(2))

    def after() -> None:
        update_momentum(student, teacher, 0.992)
        update_momentum(student_head, teacher_head, 0.992)

    def compile_both() -> None:
        # not `encode`, which is no call of the module: its blocks
        for tower in (student, teacher):
            tower.vit.blocks.compile()

    return peer_step(setup, [student, student_head], loss, after), compile_both


STEPS = {"clip": clip, "dino": dino}
PEERS = {"clip": "open_clip", "dino": "lightly"}
