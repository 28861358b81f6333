"""Whole training steps against the peers' losses and heads on the same encoders.

    pip install lightly open_clip_torch
    python benchmarks/steps.py [--device cpu] [--rounds 5] [--steps 4] [STEP ...]

A step is: forward of student and teacher, loss, backward, AdamW, teacher update. Views and masks
are made beforehand, the same for both. The peers are assembled plainly, as their documentation
shows: lightly's DINOLoss, IBOTPatchLoss, KoLeoLoss, DINOv2ProjectionHead and MAEDecoderTIMM,
open_clip's ClipLoss. Ours run through Runner and Passes, as in `zoo train`. Both take turns in one
process; peak memory is over what a process of its own holds before its first step, the median of
three.
"""

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from shared.data.batch import Batch, View
from shared.encoders.base import Encoder
from shared.model import Model
from shared.model_config import ModelConfig
from shared.objectives.base import Objective, Position
from shared.schema import Channel, Schema
from shared.training.passes import Plain
from shared.training.runner import Runner
from zoo.plugins import plugins

Step = Callable[[], None]
ROWS, SIZE, LOCAL_SIZE, PATCH, LOCAL_CROPS, PROTOTYPES = 16, 96, 48, 8, 4, 8192
HEAD = {"prototypes": PROTOTYPES, "hidden_dim": 512, "bottleneck_dim": 128}
DECODER = {"decoder_dim": 128, "decoder_depth": 4, "decoder_num_heads": 4}


def build(objective: str, settings: dict[str, Any], device: str, **vit: Any) -> Runner:
    """A ViT of DINOv2's or MAE's layout for each modality, and one objective."""
    registries = plugins().registries
    modalities = ("left", "right") if objective == "contrastive" else ("image",)
    encoder = {"name": "vit", "patch_size": PATCH, "dim": 192, "depth": 6, "num_heads": 3, **vit}
    parts = {
        "preprocess": {"name": "image", "image_size": SIZE},
        "encoder": encoder,
        "head": {"name": "linear"} if len(modalities) > 1 else None,
    }
    config = {"name": "benchmark", "embed_dim": 192, "modalities": dict.fromkeys(modalities, parts)}
    channels = tuple(Channel(name, "") for name in "rgb")
    schemas = {m: Schema(m, ("height", "width", "channel"), channels) for m in modalities}
    torch.manual_seed(0)
    built: Objective = registries.objectives.build(objective, "benchmark", modalities, **settings)
    model = Model.build(ModelConfig.from_dict(config), schemas, registries, built.model_scalars())
    return Runner(model, {objective: built}, {objective: 1.0}).to(device)


def make_batch(runner: Runner, device: str) -> Batch:
    """Random images with the views of the objective."""
    inputs = {m: {"values": torch.randn(ROWS, 3, SIZE, SIZE)} for m in runner.model.modalities}
    present = {m: torch.ones(ROWS, dtype=torch.bool) for m in inputs}
    rows = torch.arange(ROWS)
    batch = Batch(inputs, present, torch.zeros(ROWS).long(), rows, rows, rows)
    return runner.make_views(batch.to(device))


def ours(runner: Runner, batch: Batch) -> Step:
    """A step as `zoo train` takes it."""
    trained = [p for p in runner.parameters() if p.requires_grad]
    optimizer, passes = torch.optim.AdamW(trained, lr=1e-4), Plain()
    runner.train()

    def step() -> None:
        optimizer.zero_grad()
        passes(runner, batch, Position(), Tensor.backward)
        optimizer.step()
        runner.after_step(Position())

    return step


def updated(loss: Callable[[], Tensor], modules: list[nn.Module], after: Step) -> Step:
    """A step of a bare loop."""
    optimizer = torch.optim.AdamW([p for m in modules for p in m.parameters()], lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        after()

    return step


def dinov2(device: str, peer: bool) -> Step:
    settings = {
        "local_crops": LOCAL_CROPS,
        "global_size": SIZE,
        "local_size": LOCAL_SIZE,
        "head": HEAD,
    }
    runner = build("dinov2", settings, device, mask_token=True)
    batch = make_batch(runner, device)
    if not peer:
        return ours(runner, batch)
    from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
    from lightly.models.modules import DINOv2ProjectionHead
    from lightly.models.utils import update_momentum

    views: dict[str, View] = {k.removeprefix("dinov2/"): v for k, v in batch.views.items()}
    student: Encoder = runner.model.encoders["image"].train()  # type: ignore[assignment]
    widths = (192, HEAD["hidden_dim"], HEAD["bottleneck_dim"], PROTOTYPES)
    head, teacher_head = (DINOv2ProjectionHead(*widths).to(device) for _ in range(2))
    teacher = deepcopy(student).eval()
    for module in (teacher, teacher_head):
        module.requires_grad_(False)
    dino, ibot, koleo = (
        loss.to(device) for loss in (DINOLoss(PROTOTYPES), IBOTPatchLoss(PROTOTYPES), KoLeoLoss())
    )
    mask = views["global"].inputs["image"]["token_mask"]
    grid = mask.view(len(mask), SIZE // PATCH, SIZE // PATCH)

    def loss() -> Tensor:
        with torch.no_grad():
            seen = teacher(views["teacher"].inputs["image"])
            targets = teacher_head(seen.pooled).chunk(2)
            patch_targets = teacher_head(seen.tokens[mask])
        masked = student(views["global"].inputs["image"])
        local = student(views["local"].inputs["image"])
        crops = [*head(masked.pooled).chunk(2), *head(local.pooled).chunk(LOCAL_CROPS)]
        total: Tensor = dino(list(targets), crops)
        total = total + ibot(patch_targets, head(masked.tokens[mask]), grid)
        return total + 0.1 * sum(koleo(view) for view in masked.pooled.chunk(2))

    def after() -> None:
        update_momentum(student, teacher, 0.992)
        update_momentum(head, teacher_head, 0.992)

    return updated(loss, [student, head], after)


def mae(device: str, peer: bool) -> Step:
    vit = {"layer_scale": None, "positions": "sincos", "init": "xavier"}
    runner = build("mae", DECODER, device, **vit)
    batch = make_batch(runner, device)
    if not peer:
        return ours(runner, batch)
    from lightly.models import utils
    from lightly.models.modules import MAEDecoderTIMM

    encoder: Encoder = runner.model.encoders["image"].train()  # type: ignore[assignment]
    patches = (SIZE // PATCH) ** 2
    decoder = MAEDecoderTIMM(
        num_patches=patches,
        patch_size=PATCH,
        embed_dim=192,
        decoder_embed_dim=DECODER["decoder_dim"],
        decoder_depth=DECODER["decoder_depth"],
        decoder_num_heads=DECODER["decoder_num_heads"],
    ).to(device)
    images = batch.inputs["image"]["values"]
    keep, hidden = utils.random_token_mask((ROWS, patches + 1), 0.75, device=device)

    def loss() -> Tensor:
        # lightly counts the class token, which is always kept
        seen = encoder({"values": images, "ids_keep": keep[:, 1:] - 1})
        tokens = decoder.embed(torch.cat([seen.pooled[:, None], seen.tokens], dim=1))
        filled = decoder.mask_token.repeat(ROWS, patches + 1, 1)
        filled = utils.set_at_index(filled, keep, tokens.type_as(filled))
        decoded = decoder.decode(filled)
        predicted = decoder.predict(utils.get_at_index(decoded, hidden))
        wanted = utils.get_at_index(utils.patchify(images, PATCH), hidden - 1)
        return nn.functional.mse_loss(predicted, utils.normalize_mean_var(wanted))

    return updated(loss, [encoder, decoder], lambda: None)


def contrastive(device: str, peer: bool) -> Step:
    runner = build("contrastive", {}, device)
    batch = make_batch(runner, device)
    if not peer:
        return ours(runner, batch)
    from open_clip.loss import ClipLoss

    model, clip = runner.model.train(), ClipLoss()
    scale = model.scalars["logit_scale"]

    def loss() -> Tensor:
        left, right = (
            nn.functional.normalize(model.heads[m](model.encoders[m](batch.inputs[m]).pooled))
            for m in model.modalities
        )
        found: Tensor = clip(left, right, scale.exp())
        return found

    def after() -> None:
        with torch.no_grad():
            scale.clamp_(0, torch.tensor(100.0).log().item())

    return updated(loss, [model], after)


STEPS = {"dinov2": dinov2, "mae": mae, "contrastive": contrastive}
PEERS = {"dinov2": "lightly", "mae": "lightly", "contrastive": "open_clip"}


def seconds(step: Step, number: int, device: str) -> float:
    """Seconds a step."""
    began = time.perf_counter()
    for _ in range(number):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / number


def peak(name: str, peer: bool, device: str) -> float:
    """MiB that three steps need, in a process of their own; the median of three processes."""
    command = [sys.executable, __file__, name, "--device", device, "--peak", str(int(peer))]
    found = []
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(float(done.stdout.split()[-1]))
    return statistics.median(found)


def memory(field: str) -> float:
    """MiB of a field of this process's status: VmRSS now, VmHWM at most so far."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**10


def print_peak(name: str, peer: bool, device: str) -> None:
    step = STEPS[name](device, peer)
    before = memory("VmRSS")
    for _ in range(3):
        step()
    cuda = device == "cuda"
    print(torch.cuda.max_memory_allocated() / 2**20 if cuda else memory("VmHWM") - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", dest="number", type=int, default=4)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    chosen = options.steps or list(STEPS)
    if options.peak is not None:
        print_peak(chosen[0], bool(options.peak), options.device)
        return
    threads = torch.get_num_threads()
    table = Table(title=f"ms a step, {options.device}, {threads} threads, {ROWS} images of {SIZE}²")
    for column in ("step", "", "median", "min", "max", "peak MiB", "ratio by round", "memory"):
        table.add_column(column, justify="right")
    for name in chosen:
        contenders = {PEERS[name]: True, "zoo": False}
        made = {who: STEPS[name](options.device, peer) for who, peer in contenders.items()}
        times: dict[str, list[float]] = {who: [] for who in made}
        for step in made.values():
            seconds(step, 1, options.device)
        for _ in range(options.rounds):
            for who, step in made.items():
                times[who].append(1e3 * seconds(step, options.number, options.device))
        peaks = {who: peak(name, peer, options.device) for who, peer in contenders.items()}
        ratios = [a / b for a, b in zip(times["zoo"], times[PEERS[name]], strict=True)]
        for who, values in times.items():
            last = who == "zoo"
            table.add_row(
                name,
                who,
                *(f"{f(values):.1f}" for f in (statistics.median, min, max)),
                f"{peaks[who]:.0f}",
                " ".join(f"{ratio:.2f}" for ratio in ratios) if last else "",
                f"{peaks['zoo'] / peaks[PEERS[name]]:.2f}" if last else "",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
