"""GraphCLIP: positional encoding, graph and text encoder, losses, the whole model and its step."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from domains.graph import checkpoints as graph
from domains.graph.encoders.gps import GPS, centres
from domains.graph.preprocess import Subgraph, augment
from shared.data.batch import Batch
from shared.objectives.base import Encoded, Objective, Tensors
from shared.objectives.contrastive import pair_logits
from shared.objectives.supcon import supervised_contrastive
from shared.preprocess import Prepared
from shared.schema import Schema
from shared.training.build import build_objectives, build_passes
from shared.training.config import OptimizerConfig, ScheduleConfig, TrainConfig, TrainerConfig
from shared.training.module import PretrainModule
from shared.training.optimization import freeze
from shared.training.runner import Runner
from shared.training.trainer import build_trainer
from shared.weights import load_strictly
from zoo.plugins import plugins

Adapter = Callable[[Any], dict[str, Tensor]]
# the scale has no bounds upstream; the lower one cannot be left out and is out of reach
INFONCE = {
    "name": "contrastive",
    "pairs": {"graph-text": 1.0},
    "min_scale": None,
    "max_scale": None,
}


def prepare(
    tensors: Mapping[str, Tensor], walk_length: int = graph.WALK_LENGTH
) -> tuple[Subgraph, list[Prepared]]:
    """The preprocessor, and the graphs of a case through it."""
    subgraph: Subgraph = plugins().registries.preprocessors.build(
        "subgraph",
        "parity",
        Schema("graph", ("node", "feature"), dtype="float32"),
        in_channels=tensors["x"].shape[1],
        walk_length=walk_length,
    )
    nodes, edges = (tensors[f"{kind}_ptr"].diff().tolist() for kind in ("node", "edge"))
    raws = zip(
        tensors["x"].split(nodes),
        tensors["edge_index"].split(edges, dim=1),
        tensors["root_n_index"],
        strict=True,
    )
    return subgraph, [
        subgraph({"x": x.numpy(), "edge_index": pairs.numpy(), "root": root.numpy()})
        for x, pairs, root in raws
    ]


def collate(subgraph: Subgraph, graphs: list[Prepared], tensors: Mapping[str, Tensor]) -> Any:
    """A batch with upstream's positional encoding."""
    encodings = tensors["pe"].split([len(g["nodes"]) for g in graphs])
    pairs = zip(graphs, encodings, strict=True)
    return subgraph.collate([{**g, "positional": pe.numpy()} for g, pe in pairs])


def rwpe(case: Any) -> dict[str, Tensor]:
    length = case.config.get("walk_length", graph.WALK_LENGTH)
    _, graphs = prepare(case.tensors("inputs"), length)
    return {"pe": torch.from_numpy(np.concatenate([g["positional"] for g in graphs]))}


def joined(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A padded batch as upstream numbers it: nodes of all graphs one after the other."""
    mask, edges = inputs["mask"], inputs["edges"]
    number = mask.flatten().cumsum(0).view(mask.shape) - 1
    ends = number.gather(1, edges.flatten(1)).view(edges.shape)
    return {
        "batch": mask.nonzero()[:, 0],
        "batched_edge_index": ends[inputs["edge_mask"]].T,
        "batched_root_n_index": number.gather(1, inputs["root"][:, None])[:, 0],
    }


def watch(encoder: GPS) -> dict[str, Tensor]:
    """What the parts of the encoder give, filled in by each forward."""
    found: dict[str, Tensor] = {}
    parts = {
        "node_emb": encoder.node_embedding,
        "pe_norm": encoder.positional_norm,
        "pe_lin": encoder.positional_embedding,
    }
    for number, layer in enumerate(encoder.layers):
        own = {"sage": layer.sage, "attn": layer.attention, "ffn": layer.mlp, "out": layer}
        own |= {"norm1": layer.norm1, "norm2": layer.norm2}
        parts |= {f"layer{number}.{name}": module for name, module in own.items()}
    for name, module in parts.items():
        module.register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out}))
    encoder.layers[0].register_forward_pre_hook(lambda _m, args: found.update(input_concat=args[0]))

    def read_out(_module: Any, args: tuple[Tensor]) -> None:
        found["mean_pool"], found["center"] = args[0].chunk(2, dim=1)

    encoder.head.register_forward_pre_hook(read_out)
    return found


def infonce() -> Objective:
    objectives, _ = build_objectives(
        {"contrastive": INFONCE}, ["graph", "text"], plugins().registries
    )
    return objectives["contrastive"]


def contrast(pooled: Mapping[str, Tensor], log_scale: Tensor) -> dict[str, Tensor]:
    """Loss and logits of embeddings that are not normalised yet."""
    present = torch.ones(len(pooled["graph"]), dtype=torch.bool)
    objective = infonce()
    encoded = {m: Encoded(normalize(rows, dim=-1), present) for m, rows in pooled.items()}
    answers = {objective.request(m): rows for m, rows in encoded.items()}
    numbers = torch.arange(len(present))
    tensors = Tensors(answers, {"logit_scale": log_scale}, numbers, numbers)
    logits = pair_logits(encoded["graph"], encoded["text"], log_scale.exp())
    loss = objective(tensors).loss
    return {"loss": loss, "logits_per_graph": logits, "logits_per_text": logits.T}


def gps(case: Any) -> dict[str, Tensor]:
    tensors = case.tensors("inputs")
    subgraph, graphs = prepare(tensors)
    inputs = collate(subgraph, graphs, tensors)
    weights = graph.GRAPH.convert(case.tensors("weights"))
    upstream = {graph.GRAPH.name(n): n for n in case.tensors("weights")}
    found = joined(inputs)
    for mode in ("eval", "train"):
        encoder: GPS = plugins().registries.encoders.build(
            "gps", "parity", **graph.gps_settings(case.config)
        )
        load_strictly(encoder, weights, str(case.path))
        encoder.train(mode == "train")
        parts = watch(encoder)
        nodes = inputs["nodes"].clone().requires_grad_()
        log_scale = tensors["logit_scale"].clone().requires_grad_()
        output = encoder({**inputs, "nodes": nodes})
        assert encoder.centre_head is not None
        made = {
            "graph_emb": output.pooled,
            "center_emb": encoder.centre_head(centres(output.tokens, inputs["root"])),
            **contrast({"graph": output.pooled, "text": tensors["text_emb"]}, log_scale),
        }
        made["loss"].backward()
        made["grad/x"] = nodes.grad[inputs["mask"]]
        made["grad/logit_scale"] = log_scale.grad
        for name, parameter in encoder.named_parameters():
            if parameter.grad is not None:
                made[f"grad/{upstream[name]}"] = parameter.grad
        for name, buffer in encoder.named_buffers():
            made[f"buffers_after/{upstream[name]}"] = buffer
        found |= {f"{mode}/{name}": tensor for name, tensor in {**parts, **made}.items()}
    return found


def loss(case: Any) -> dict[str, Tensor]:
    found = {}
    inputs = {name: t.requires_grad_() for name, t in case.tensors("inputs").items()}
    for size in case.spec["batch_sizes"]:
        own = {n: inputs[f"{n}_{size}"] for n in ("graph", "text", "logit_scale")}
        pooled = {m: own[m] for m in ("graph", "text")}
        made = contrast(pooled, own["logit_scale"])
        made["loss"].backward()
        made |= {f"grad_{name}": tensor.grad for name, tensor in own.items()}
        found |= {f"{name}_{size}": tensor for name, tensor in made.items()}
    return found


def supcon(case: Any) -> dict[str, Tensor]:
    found = {}
    for run in case.spec["runs"]:
        inputs = case.tensors("inputs")
        features = inputs[run["features"]].requires_grad_()
        positive = torch.eye(len(features), dtype=torch.bool)
        if run.get("labels"):
            labels = inputs[run["labels"]]
            positive = labels[:, None] == labels
        elif run.get("mask"):
            positive = inputs[run["mask"]].bool()
        losses = supervised_contrastive(
            features.flatten(2),
            positive,
            anchors=run["contrast_mode"],
            temperature=run["temperature"],
            base_temperature=run["base_temperature"],
        )
        # upstream's mean is over all anchors, 0 / 0 for those without a positive
        mean = (losses.total / losses.positives).mean()
        mean.backward()
        found |= {f"loss/{run['name']}": mean, f"grad/{run['name']}": features.grad}
    return found


def text(case: Any) -> dict[str, Tensor]:
    encoder = (
        plugins()
        .registries.encoders.build("bert_text", "parity", **graph.text_settings(case.config))
        .eval()
    )
    load_strictly(encoder, graph.TEXT.convert(case.tensors("weights")), str(case.path))
    output = encoder(case.tensors("inputs"))
    return {"last_hidden_state": output.tokens, "text_emb": output.pooled}


def build_runner(case: Any) -> Runner:
    """Upstream's model under the published loss, its texts frozen."""
    model = graph.graphclip(case.config, plugins().registries)
    load_strictly(model, graph.GRAPHCLIP.convert(case.tensors("weights")), str(case.path))
    runner = Runner(model, {"contrastive": infonce()}, {"contrastive": 1.0})
    freeze(runner, ["model.encoders.text.*"])
    return runner


def make_batch(inputs: dict[str, Tensor], tensors: Mapping[str, Tensor]) -> Batch:
    """Padded graphs beside their texts."""
    texts = {name: tensors[name] for name in ("input_ids", "attention_mask")}
    numbers = torch.arange(len(inputs["root"]))
    present = torch.ones(len(numbers), dtype=torch.bool)
    both = {"graph": inputs, "text": texts}
    return Batch(both, dict.fromkeys(both, present), tensors["y"], *[numbers] * 3)


def gradients(runner: Runner, case: Any) -> dict[str, Tensor]:
    upstream = {f"model.{graph.GRAPHCLIP.name(n)}": n for n in case.tensors("weights")}
    named = runner.named_parameters()
    return {f"grad/{upstream[n]}": p.grad for n, p in named if p.grad is not None}


def clip(case: Any) -> dict[str, Tensor]:
    tensors = case.tensors("inputs")
    inputs = collate(*prepare(tensors), tensors)
    runner = build_runner(case).eval()
    model = runner.model
    made: dict[str, Any] = {}
    for name, encoder in model.encoders.items():
        encoder.register_forward_hook(lambda _m, _i, out, name=name: made.update({name: out}))
    output = runner(make_batch(inputs, tensors))
    output.loss.backward()
    pooled = {name: embedding.pooled for name, embedding in made.items()}
    states = centres(made["graph"].tokens, inputs["root"])
    return {
        **contrast(pooled, model.scalars["logit_scale"]),
        "loss": output.loss,
        "graph_emb": pooled["graph"],
        "text_emb": pooled["text"],
        "center_emb": model.encoders["graph"].centre_head(states),
        **gradients(runner, case),
    }


def step_config(spec: Mapping[str, Any]) -> TrainConfig:
    """Upstream's recipe of one step."""
    return TrainConfig(
        domain="graph",
        data={},
        model={},
        objective={"contrastive": INFONCE},
        passes={
            "name": "perturbed",
            "modality": "graph",
            "input": "nodes",
            "step_size": spec["step_size"],
            "steps": spec["m"],
            "accumulate": True,
        },
        optimizer=OptimizerConfig(
            lr=spec["lr"], weight_decay=spec["weight_decay"], betas=[0.9, 0.999], decay_all=True
        ),
        schedule=ScheduleConfig(name="constant", warmup_fraction=0.0),
        trainer=TrainerConfig(max_epochs=1, device="cpu", gradient_clip_norm=None),
    )


def augmented(case: Any, graphs: list[Prepared]) -> tuple[list[Prepared], dict[str, Tensor]]:
    """Graphs after the draws that upstream makes from a seed, and what it recorded of them."""
    torch.manual_seed(case.spec["seed"])
    made, masks = [], []
    for prepared in graphs:
        nodes, edges = prepared["nodes"], prepared["edges"]
        features, pairs = torch.rand(nodes.shape[1]).numpy(), torch.rand(len(edges)).numpy()
        drops = case.spec["feature_drop"], case.spec["edge_drop"]
        nodes, edges = augment(nodes, edges, features, pairs, *drops)
        masks.append(features < case.spec["feature_drop"])
        present = np.ones(len(edges), dtype=bool)
        made.append({**prepared, "nodes": nodes, "edges": edges, "edge_mask": present})
    edges = [torch.from_numpy(g["edges"]) for g in made]
    return made, {
        "aug_x": torch.from_numpy(np.concatenate([g["nodes"] for g in made])),
        "aug_edge_index": torch.cat(edges).T,
        "aug_edge_ptr": torch.tensor([0, *map(len, edges)]).cumsum(0),
        "feature_drop_mask": torch.from_numpy(np.stack(masks)),
    }


def trainstep(case: Any) -> dict[str, Tensor]:
    """The zoo's own loop for one step."""
    tensors, weights = case.tensors("inputs"), case.tensors("weights")
    subgraph, graphs = prepare(tensors)
    graphs, found = augmented(case, graphs)
    size = case.spec["step_size"]
    starts = [torch.empty(g["nodes"].shape).uniform_(-size, size) for g in graphs]
    inputs = collate(subgraph, graphs, tensors)
    config, runner = step_config(case.spec), build_runner(case)
    passes = build_passes(config.passes)
    passes.start = lambda clean, seeds: pad_sequence(starts, batch_first=True)
    seen: list[Tensor] = []
    losses: list[Tensor] = []

    def look(_module: Any, args: tuple[dict[str, Tensor]]) -> None:
        args[0]["nodes"].retain_grad()
        seen.append(args[0]["nodes"])

    runner.model.encoders["graph"].register_forward_pre_hook(look)
    runner.register_forward_hook(lambda _m, _i, out: losses.append(out.loss.detach()))
    module = PretrainModule(runner, passes, config, {"total_steps": 1})
    with TemporaryDirectory() as folder:
        loader = DataLoader([make_batch(inputs, tensors)], batch_size=None)
        build_trainer(config, Path(folder), []).fit(module, loader)
    mask = inputs["mask"]
    shifts = torch.stack([x.detach()[mask] for x in [inputs["nodes"], *seen]]).diff(dim=0)
    for k, x in enumerate(seen):
        found |= {f"x_seen/{k}": x[mask], f"raw_loss/{k}": losses[k], f"perturb/{k}": shifts[k]}
        # upstream adds one and the same tensor to the input of all passes up to this one
        found[f"perturb_grad/{k}"] = (k + 1) * x.grad[mask]
    found["logged_loss"] = losses[-1].double() / len(losses)
    state = runner.model.state_dict()
    for name, tensor in weights.items():
        ours = graph.GRAPHCLIP.name(name)
        # what has no place in the model cannot change
        found[f"after_step/{name}"] = found[f"buffers_after/{name}"] = (
            tensor if ours is None else state[ours]
        )
    return found | gradients(runner, case)


ADAPTERS: dict[str, Adapter] = {
    "rwpe": rwpe,
    "gps": gps,
    "text": text,
    "loss": loss,
    "supcon": supcon,
    "clip": clip,
    "trainstep": trainstep,
}
