"""ProtST: encoders, fusion, contrast on one and several ranks, the step of pre-training."""

import runpy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from domains.protein import checkpoints as protst
from domains.protein.preprocess import pack_fields
from domains.protein.residues import MASK_ID, RESIDUES
from shared.data.batch import Batch
from shared.distributed import rank, world_size
from shared.encoders.base import Embedding
from shared.model import Model
from shared.objectives.base import Encoded, Objective, Tensors, gather_encoded
from shared.objectives.masked_fusion import draw_number
from shared.schema import Schema
from shared.training.runner import Runner
from shared.weights import KeyMap, load_strictly
from zoo.plugins import plugins

Adapter = Callable[[Any], dict[str, Tensor]]
RANKS = Path(__file__).parents[2] / "shared/training/ranks.py"
MODALITIES = ("protein", "text")
VALINE = RESIDUES.index("V")
UPSTREAM_MASK = {"ESM-1b": 32, "ESM-2": 32, "ProtBert": VALINE}
"""Upstream's id of a masked residue; that of ProtBert is valine's, too, which is a bug."""
CONTRAST = {"directions": "sum", "min_scale": None, "max_scale": None, "chunk_rows": None}
"""By blocks, a rank's part of the scale's gradient would be another one; the ranks' mean is not."""


def keep_output(found: dict[str, Any], name: str, module: nn.Module) -> None:
    """Record what a module gives in each forward."""
    module.register_forward_hook(lambda _m, _i, out: found.update({name: out}))


def gradients(module: nn.Module, keys: KeyMap, case: Any) -> dict[str, Tensor]:
    """Under upstream's names."""
    ours = {keys.name(upstream): upstream for upstream in case.tensors("weights")}
    named = module.named_parameters()
    return {f"grad.{ours[n]}": p.grad for n, p in named if p.grad is not None}


def load(module: nn.Module, keys: KeyMap, case: Any) -> None:
    load_strictly(module, keys.convert(case.tensors("weights")), str(case.path))


def sequence_preprocessor(**settings: int) -> Any:
    registries = plugins().registries
    schema = Schema("protein", (), (), "str")
    return registries.preprocessors.build("protein_sequence", "parity", schema, **settings)


def protein_inputs(case: Any, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A batch of upstream's flattened residues, cut as ours are."""
    tensors = case.tensors("inputs")
    residues = tensors["residue_type"]
    if config["mask_modeling"]:
        residues = residues.masked_fill(residues == UPSTREAM_MASK[config["backbone"]], MASK_ID)
    # only ESM has a limit
    limit = {"max_length": len(residues)} if config["backbone"] == "ProtBert" else {}
    preprocessor = sequence_preprocessor(**limit)
    prepared = [
        {"input_ids": ids.numpy(), "attention_mask": torch.ones(len(ids)).bool().numpy()}
        for ids in residues.split(tensors["num_residues"].tolist())
    ]
    return preprocessor.collate([preprocessor.crop(sample, None) for sample in prepared])


def protein(case: Any) -> dict[str, Tensor]:
    config, tensors = case.config, case.tensors("inputs")
    keys = protst.PROTEIN if config["use_proj"] else protst.BACKBONE
    model = protst.build({"protein": config}, plugins().registries).eval()
    load(model, keys, case)
    encoder, found = model.encoders["protein"], {}
    keep_output(found, "tokens", encoder.frame)
    backbone = encoder.bert if config["backbone"] == "ProtBert" else encoder.esm
    keep_output(found, "backbone", backbone)
    keep_output(found, "hidden_0", backbone.embeddings)
    for number, layer in enumerate(backbone.encoder.layer[:-1], start=1):
        keep_output(found, f"hidden_{number}", layer)
    inputs = protein_inputs(case, config)
    embedding = model.encode("protein", inputs)
    head = model.heads["protein"] if config["use_proj"] else nn.Identity()
    graph = head(embedding.pooled)
    residues = model.project_tokens("protein", embedding.tokens)[inputs["attention_mask"]]
    loss = (graph * tensors["probe_graph"]).sum() + (residues * tensors["probe_residue"]).sum()
    loss.backward()
    last = found["backbone"].last_hidden_state
    found |= {"tokens": found["tokens"][0], "input_ids": found["tokens"][0]}
    found |= {"last_hidden_state": last, f"hidden_{config['layers']}": last}
    found |= {"pooler_output": found.pop("backbone").pooler_output}
    found |= {"graph_feature": graph, "residue_feature": residues, "probe_loss": loss}
    return found | gradients(model, keys, case)


def text(case: Any) -> dict[str, Tensor]:
    tensors = case.tensors("inputs")
    model = protst.build({"text": case.config}, plugins().registries).eval()
    load(model, protst.TEXT, case)
    embedding = model.encode("text", tensors)
    pooled = model.heads["text"](embedding.pooled)
    words = model.project_tokens("text", embedding.tokens)
    probed = words * tensors["probe_word"] * embedding.mask[..., None]
    loss = (pooled * tensors["probe_text"]).sum() + probed.sum()
    loss.backward()
    found = {"last_hidden_state": embedding.tokens, "text_feature": pooled, "word_feature": words}
    return found | {"probe_loss": loss} | gradients(model, protst.TEXT, case)


def text_pack(case: Any) -> dict[str, Tensor]:
    tensors = case.tensors("inputs")
    ids = tensors["flat_ids"].split(tensors["lengths"].flatten().tolist())
    number = tensors["lengths"].shape[1]
    samples = [
        [field.tolist() for field in ids[start : start + number]]
        for start in range(0, len(ids), number)
    ]
    # upstream cuts nothing
    special, longest = (protst.CLS_ID, protst.SEP_ID, 0), len(tensors["flat_ids"]) + number
    packed, mask = pack_fields(samples, *special, longest)
    return {"input_ids": torch.from_numpy(packed), "attention_mask": torch.from_numpy(mask)}


def sequence_tokens(case: Any) -> dict[str, Tensor]:
    """Exact lists of the JSON, compared here."""
    prepare = sequence_preprocessor()
    small = {"dim": 8, "depth": 1, "num_heads": 1, "ffn_dim": 8}
    build = plugins().registries.encoders.build
    frames = {
        "esm_tokens": build("esm", "parity", **small).frame,
        "protbert_ids": build("protbert", "parity", **small, max_positions=8).frame,
    }
    for sequence in case.spec["cases"]:
        inputs = prepare.collate([prepare(sequence["sequence"])])
        assert inputs["input_ids"][0].tolist() == sequence["residue_type"]
        for name, frame in frames.items():
            tokens, mask = frame(inputs["input_ids"], inputs["attention_mask"])
            assert mask.all()
            assert tokens[0].tolist() == sequence[name], name
    for name, frame in zip(("esm", "protbert"), frames.values(), strict=True):
        mapping = frame.table[: len(RESIDUES)].tolist()
        assert mapping == case.spec[f"protein_mapping_{name}"][: len(RESIDUES)]
        assert frame.vocab_size == len(case.spec[f"{name}_vocabulary"])
    return {}


def fusion(case: Any) -> dict[str, Tensor]:
    config, tensors = case.config, case.tensors("inputs")
    settings = protst.fusion_settings(config)
    dims = dict.fromkeys(MODALITIES, config["hidden_dim"])
    module = plugins().registries.encoders.build(settings.pop("name"), "parity", dims, **settings)
    load(module, protst.FUSION, case)
    module.train(config.get("train_mode", False))
    found: dict[str, Any] = {}
    for depth, layer in enumerate(module.layers):
        keep_output(found, f"attn_{depth}", layer)
    residues = tensors["residue_feature"].requires_grad_()
    words = tensors["word_feature"].requires_grad_()
    padded = pad_sequence(residues.split(tensors["num_residues"].tolist()), batch_first=True)
    mask = torch.arange(padded.shape[1]) < tensors["num_residues"][:, None]
    empty = torch.zeros(0)
    tokens = {
        "protein": Embedding(empty, padded, mask),
        "text": Embedding(empty, words, tensors["text_mask"].bool()),
    }
    joint = module(tokens, {}).tokens
    fused = joint[:, : padded.shape[1]][mask], joint[:, padded.shape[1] :]
    probes = (tensors["probe_residue"], tensors["probe_word"])
    loss = sum((x * probe).sum() for x, probe in zip(fused, probes, strict=True))
    loss.backward()
    for depth in range(config["num_layers"]):
        pair = found.pop(f"attn_{depth}")
        found |= {f"attn_{depth}.protein_padded": pair[0], f"attn_{depth}.text": pair[1]}
    ours = {protst.FUSION.name(n): n for n in case.tensors("weights")}
    found |= {f"after.{ours[name]}": buffer for name, buffer in module.named_buffers()}
    found |= {"residue_feature": fused[0], "word_feature": fused[1], "probe_loss": loss}
    found |= {"grad.input.residue_feature": residues.grad, "grad.input.word_feature": words.grad}
    return found | gradients(module, protst.FUSION, case)


def contrast_outputs(
    searches: Sequence[Any], own: slice, terms: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Logits, targets, cross-entropy and accuracy of both directions."""
    found = {}
    for search in searches:
        name = search.name.replace("->", "2")
        metric = f"metric.{search.name.title().replace('->', '2')}"
        target = torch.arange(search.logits.shape[1])[own]
        right = (search.logits.argmax(dim=1) == target).float().mean()
        found |= {f"logits_{name}": search.logits, "target": target}
        found |= {f"{metric}.accuracy": right, f"{metric}.cross entropy": terms[search.name].mean}
    return found


def contrast_on_rank(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Loss of this rank's part of the rows, and its gradients."""
    number = len(inputs["protein_feature"]) // world_size()
    own = slice(rank() * number, (rank() + 1) * number)
    leaves = {n: (t[own] if t.ndim else t).clone().requires_grad_() for n, t in inputs.items()}
    objective = plugins().registries.objectives.build(
        "contrastive", "parity", MODALITIES, **CONTRAST
    )
    present, everyone = torch.ones(number).bool(), torch.arange(number * world_size())
    encoded = {}
    for request in objective.requests:
        rows = nn.functional.normalize(leaves[f"{request.modality}_feature"], dim=-1)
        encoded[request] = gather_encoded(
            Encoded(rows, present), request.gather, [number] * world_size()
        )
    scalars = {"logit_scale": leaves["logit_scale"]}
    tensors = Tensors(encoded, scalars, torch.full_like(everyone, -1), everyone, own)
    output = objective(tensors)
    output.loss.backward()
    found = contrast_outputs(list(objective.searches(objective.joined(tensors))), own, output.terms)
    found |= {f"grad.{name}": leaf.grad for name, leaf in leaves.items()}
    return {name: t.detach() for name, t in found.items()} | {"loss": output.loss.detach()}


def contrast(case: Any) -> dict[str, Tensor]:
    return contrast_on_rank(case.tensors("inputs"))


def contrast_global(case: Any) -> dict[str, Tensor]:
    """In as many processes as the case has ranks."""
    run_ranks = runpy.run_path(str(RANKS))["run_ranks"]
    ranks = run_ranks(case.config["world_size"], contrast_on_rank, case.tensors("inputs"))
    return {f"rank{r}.{name}": t for r, found in enumerate(ranks) for name, t in found.items()}


def build_objective(config: Mapping[str, Any]) -> Objective:
    """The published loss with the weights of a case."""
    shared = {"rate": config["mask_rate"], "fused_weight": config["mmp_weight"]}
    masking = {
        "protein": {
            **shared,
            "vocab_size": len(RESIDUES),
            "mask_id": MASK_ID,
            "choice": "number",
            "weight": config["mlm_weight"],
        },
        "text": {
            **shared,
            "vocab_size": config["text"]["vocab_size"],
            "mask_id": protst.MASK_ID,
            "special_ids": [protst.CLS_ID, protst.SEP_ID],
            "weight": 0.0,
        },
    }
    return plugins().registries.objectives.build(
        "masked_fusion", "parity", MODALITIES, masking=masking, contrast=CONTRAST
    )


def make_batch(case: Any) -> Batch:
    """The samples before they are masked."""
    ids = case.tensors("inputs")["input_ids"]
    numbers, present = torch.arange(len(ids)), torch.ones(len(ids)).bool()
    inputs = {
        "protein": protein_inputs(case, {**case.config["protein"], "mask_modeling": False}),
        "text": {"input_ids": ids, "attention_mask": ids != 0},
    }
    return Batch(inputs, dict.fromkeys(MODALITIES, present), *[numbers] * 4)


def given_draws(case: Any, batch: Batch) -> dict[str, Tensor]:
    """Upstream's draws, those of proteins padded to the length of the batch."""
    tensors, residues = case.tensors("inputs"), batch.inputs["protein"]["attention_mask"]
    draws = torch.zeros(residues.shape)
    _, drawn = draw_number(draws, residues, case.config["mask_rate"])
    numbers = drawn.sum(dim=1).tolist()
    for row, given in zip(draws, tensors["u_protein"].split(numbers), strict=True):
        row[: len(given)] = given
    return {"protein": draws, "text": tensors["u_text"]}


def pretrain(case: Any) -> dict[str, Tensor]:
    """One step of the published loss through the runner."""
    config, found = case.config, {}
    model: Model = protst.build(config, plugins().registries)
    objective: Any = build_objective(config)
    runner = Runner(model, {"masked_fusion": objective}, {"masked_fusion": 1.0}).eval()
    load(model, protst.PROTST, case)
    load(objective, protst.OBJECTIVE, case)
    batch = make_batch(case)
    residues = batch.inputs["protein"]["attention_mask"]
    view = objective.view(batch, given_draws(case, batch))
    masked = view.inputs["protein"]["input_ids"]
    if config["protein"]["backbone"] == "ProtBert":
        # what shares the id of a masked residue upstream
        masked.masked_fill_(masked == VALINE, MASK_ID)
    batch.views["masked_fusion/masked"] = view

    kept: dict[str, Any] = {}
    modules = {"pred.mlm": objective.heads["protein"]}
    modules |= {f"pred.mmp_{m}": head for m, head in objective.fused_heads.items()}
    modules |= {"graph_feature": model.heads["protein"], "text_feature": model.heads["text"]}
    modules |= {"residues": model.token_heads["protein"], "word_feature": model.token_heads["text"]}
    for name, module in {**modules, "joint": model.fusion}.items():
        keep_output(kept, name, module)
    objective.register_forward_pre_hook(lambda _m, inputs: kept.update(tensors=inputs[0]))
    output = runner(batch, with_metrics=True)
    output.loss.backward()

    targets, prefix = view.targets, "masked_fusion/"
    places, drawn = targets["protein_places"], targets["protein_drawn"]
    starts = residues.sum(dim=1).cumsum(0) - residues.sum(dim=1)
    found["residue_index"] = (places + starts[:, None])[drawn]
    upstream_mask = UPSTREAM_MASK[config["protein"]["backbone"]]
    found["masked_residue_type"] = masked.masked_fill(masked == MASK_ID, upstream_mask)[residues]
    found["masked_input_ids"] = view.inputs["text"]["input_ids"]
    found["text_mask"] = targets["text_drawn"]
    found["residue_feature"] = kept["residues"][residues]
    length = residues.shape[1]
    found["fusion_residue_feature"] = kept["joint"].tokens[:, :length][residues]
    found["fusion_word_feature"] = kept["joint"].tokens[:, length:]
    for name, modality in (("mlm", "protein"), ("mmp_protein", "protein"), ("mmp_text", "text")):
        found[f"target.{name}"] = targets[f"{modality}_ids"][targets[f"{modality}_drawn"]]
    named = {"protein": "MLM", "protein_fused": "MMP.Protein", "text_fused": "MMP.Text"}
    for term, name in named.items():
        found[f"metric.{name}.cross entropy"] = output.terms[prefix + term].mean
        found[f"metric.{name}.accuracy"] = output.metrics[f"{prefix}{term}_accuracy"].mean
    searches = list(objective.contrast.searches(kept["tensors"]))
    terms = {name.removeprefix(prefix): term for name, term in output.terms.items()}
    contrasted = contrast_outputs(searches, slice(None), terms)
    for name in ("protein2text", "text2protein"):
        found[f"pred.{name}"] = contrasted[f"logits_{name}"]
        found[f"target.{name}"] = contrasted["target"]
    found |= {n: t for n, t in kept.items() if n not in ("residues", "joint", "tensors")}
    found |= contrasted | {"loss": output.loss}
    found |= gradients(objective, protst.OBJECTIVE, case)
    return found | gradients(model, protst.PROTST, case)


ADAPTERS: dict[str, Adapter] = {
    "protein": protein,
    "text": text,
    "text_pack": text_pack,
    "fusion": fusion,
    "contrast": contrast,
    "contrast_global": contrast_global,
    "pretrain": pretrain,
    "sequence_tokens": sequence_tokens,
}
