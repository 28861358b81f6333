"""Masked modelling beside contrast: what is drawn, what counts, closed forms, the runner."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from shared.data.batch import Batch
from shared.errors import ConfigError, DataError
from shared.model import Model
from shared.model_config import ModalityConfig, ModelConfig
from shared.objectives.masked_fusion import MaskedFusion, draw_each, draw_number
from shared.training.runner import Runner
from zoo.plugins import plugins

CLS, MASK, VOCABULARY = 1, 2, 12
MASKING = {"vocab_size": VOCABULARY, "mask_id": MASK, "special_ids": [CLS], "rate": 0.4}


def make_model(fusion: bool = True) -> Model:
    torch.manual_seed(0)
    encoder = {
        "name": "bert_text",
        "vocab_size": VOCABULARY,
        "dim": 8,
        "depth": 1,
        "num_heads": 2,
        "ffn_dim": 16,
        "max_positions": 16,
        "dropout": 0.0,
    }
    registries = plugins().registries
    settings = {key: value for key, value in encoder.items() if key != "name"}
    encoders = {m: registries.encoders.build("bert_text", "test", **settings) for m in "ab"}
    parts = {m: ModalityConfig({}, encoder, {"name": "mlp"}, {"name": "mlp"}) for m in "ab"}
    joint = None
    if fusion:
        joint = registries.encoders.build(
            "cross_attention_fusion", "test", {"a": 6, "b": 6}, num_heads=2, batch_norm=False
        )
    scalars = {"logit_scale": math.log(1 / 0.07)}
    return Model(ModelConfig("test", 6, parts), {}, encoders, joint, scalars)


def make_objective(**masking: dict[str, Any]) -> MaskedFusion:
    settings = {m: {**MASKING, **masking.get(m, {})} for m in "ab"}
    return MaskedFusion(["a", "b"], settings, {"directions": "sum", "max_scale": None})


def make_runner(**masking: dict[str, Any]) -> tuple[Runner, MaskedFusion]:
    objective = make_objective(**masking)
    runner = Runner(make_model(), {"o": objective}, {"o": 1.0}).eval()
    return runner, objective


def tokens(*rows: Sequence[int]) -> dict[str, Tensor]:
    longest = max(map(len, rows), default=1)
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows]).view(-1, longest)
    return {"input_ids": ids, "attention_mask": ids != 0}


def make_batch(number: int = 4, absent: Sequence[int] = ()) -> Batch:
    """Random ids of random lengths; some samples lack the modality `b`."""
    generator = torch.Generator().manual_seed(1)
    has = torch.tensor([row not in absent for row in range(number)])

    def rows(count: int) -> list[list[int]]:
        lengths = torch.randint(4, 10, (count,), generator=generator).tolist()
        return [[CLS, *torch.randint(3, VOCABULARY, (n,), generator=generator)] for n in lengths]

    inputs = {"a": tokens(*rows(number)), "b": tokens(*rows(int(has.sum())))}
    present = {"a": torch.ones(number).bool(), "b": has}
    return Batch(inputs, present, torch.full((number,), -1), *[torch.arange(number)] * 3)


def test_number_of_draws() -> None:
    for length in range(1, 60):
        places, drawn = draw_number(torch.rand(1, length), torch.ones(1, length).bool(), 0.15)
        assert int(drawn.sum()) == max(1, length * 15 // 100)
        assert int(places.max()) < length
    rates = draw_number(torch.rand(1, 100), torch.ones(1, 100).bool(), 0.29)[1]
    # 0.29 * 100 is 28.999… in floating point
    assert int(rates.sum()) == 29


def test_draws_with_replacement_are_places_among_the_maskable() -> None:
    maskable = torch.tensor([[False, True, False, True, True], [True, False, False, False, False]])
    draws = torch.tensor([[0.0, 0.34, 0.99, 0.5, 0.5], [0.999, 0.1, 0.2, 0.3, 0.4]])
    places, drawn = draw_number(draws, maskable, 1.0)
    assert places[drawn].tolist() == [1, 3, 4, 0]
    assert drawn.sum(dim=1).tolist() == [3, 1]
    nothing = draw_number(draws, torch.zeros(2, 5).bool(), 1.0)[1]
    assert not nothing.any()


def test_draws_of_each_place() -> None:
    maskable = torch.tensor([[True, True, False]])
    places, drawn = draw_each(torch.tensor([[0.1, 0.2, 0.0]]), maskable, 0.15)
    assert places[drawn].tolist() == [0]
    assert not draw_each(torch.ones(0, 3), maskable[:0], 0.5)[1].any()


@pytest.mark.parametrize("choice", ["each", "number"])
def test_special_ids_and_padding_are_never_masked(choice: str) -> None:
    batch = make_batch(16, absent=[3, 5])
    objective = make_objective(a={"choice": choice, "rate": 1.0}, b={"choice": choice})
    view = objective.make_views(batch)["masked"]
    for modality in "ab":
        before, after = batch.inputs[modality]["input_ids"], view.inputs[modality]["input_ids"]
        changed = before != after
        assert (after[changed] == MASK).all()
        assert not changed[(before == CLS) | (before == 0)].any()
        assert torch.equal(
            view.inputs[modality]["attention_mask"], batch.inputs[modality]["attention_mask"]
        )
        present, drawn = batch.present[modality], view.targets[f"{modality}_drawn"]
        assert not drawn[~present].any()
        if choice == "number":
            # at least one of every sequence
            assert drawn[present].any(dim=1).all()
        ids = view.targets[f"{modality}_ids"][present][drawn[present]]
        places = view.targets[f"{modality}_places"][present]
        assert torch.equal(before.gather(1, places)[drawn[present]], ids)
    assert view.targets["whole"].tolist() == batch.present["b"].tolist()


def test_views_follow_the_seed() -> None:
    batch, objective = make_batch(), make_objective()
    found = []
    for seed in (0, 0, 1):
        seeds = torch.arange(4) + 4 * seed
        view = objective.make_views(replace(batch, seeds=seeds))["masked"]
        found.append(view.inputs["a"]["input_ids"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_terms_by_hand() -> None:
    """Mean cross-entropy over drawn places, those drawn twice counting twice."""
    runner, objective = make_runner(a={"choice": "number", "rate": 1.0}, b={"weight": 0.0})
    batch = make_batch(5, absent=[2])
    batch = runner.make_views(batch)
    terms = runner(batch).terms
    view = batch.views["o/masked"]
    model = runner.model
    encoded = {m: model.encode(m, view.inputs[m]) for m in "ab"}
    features = model.project_tokens("a", encoded["a"].tokens)
    places, drawn = view.targets["a_places"], view.targets["a_drawn"]
    losses = []
    for row in range(5):
        for place, counts in zip(places[row], drawn[row], strict=True):
            if counts:
                target = batch.inputs["a"]["input_ids"][row, place]
                losses.append(cross_entropy(objective.heads["a"](features[row, place]), target))
    assert len(losses) > len({(r, int(p)) for r in range(5) for p in places[r][drawn[r]]})
    torch.testing.assert_close(terms["o/a"].mean, torch.stack(losses).mean())
    assert set(terms) == {"o/a->b", "o/b->a", "o/a", "o/a_fused", "o/b_fused"}
    # without its partner a sample has nothing to be fused with
    number = int(drawn[view.targets["whole"]].sum())
    assert int(terms["o/a_fused"].count) == number < int(drawn.sum())


def test_permuting_the_samples_changes_nothing() -> None:
    runner, _ = make_runner()
    batch = make_batch(5)
    batch = runner.make_views(batch)
    order = torch.tensor([3, 0, 4, 1, 2])
    view = batch.views["o/masked"]
    shuffled = Batch(
        {m: {k: t[order] for k, t in named.items()} for m, named in batch.inputs.items()},
        {m: t[order] for m, t in batch.present.items()},
        batch.labels,
        batch.groups,
        batch.rows,
        batch.seeds,
        {
            "o/masked": type(view)(
                {m: {k: t[order] for k, t in named.items()} for m, named in view.inputs.items()},
                targets={k: t[order] for k, t in view.targets.items()},
            )
        },
    )
    torch.testing.assert_close(runner(shuffled).loss, runner(batch).loss)


def test_duplicates_and_a_batch_of_one() -> None:
    runner, _ = make_runner()
    one = make_batch(1)
    many = Batch(
        {m: {k: t.expand(4, -1) for k, t in named.items()} for m, named in one.inputs.items()},
        {m: t.expand(4) for m, t in one.present.items()},
        *[torch.arange(4)] * 4,
    )
    objective = runner.objectives["o"]
    draws = {
        m: torch.full_like(t["input_ids"], 0.1, dtype=torch.float) for m, t in many.inputs.items()
    }
    many.views["o/masked"] = objective.view(many, draws)
    terms = runner(many).terms
    assert float(terms["o/a->b"].mean) == pytest.approx(math.log(4), rel=1e-5)
    one.views["o/masked"] = objective.view(one, {m: d[:1] for m, d in draws.items()})
    alone = runner(one)
    assert float(alone.terms["o/a->b"].mean) == 0.0
    torch.testing.assert_close(alone.terms["o/a_fused"].mean, terms["o/a_fused"].mean)
    alone.loss.backward()
    assert all(p.grad.isfinite().all() for p in runner.parameters() if p.grad is not None)


def test_nothing_drawn_gives_no_loss_but_gradients() -> None:
    runner, objective = make_runner()
    batch = make_batch(3)
    draws = {m: torch.ones(t["input_ids"].shape) for m, t in batch.inputs.items()}
    batch.views["o/masked"] = objective.view(batch, draws)
    output = runner(batch)
    output.loss.backward()
    assert float(output.terms["o/a"].mean) == 0.0
    assert all(p.grad is not None for p in objective.parameters())


def test_accuracies_are_watched() -> None:
    runner, objective = make_runner()
    for head in (objective.heads["a"], objective.fused_heads["b"]):
        torch.nn.init.zeros_(head.layers[1].weight)
        torch.nn.init.zeros_(head.layers[1].bias)
        head.layers[1].bias.data[5] = 1.0
    batch = make_batch(6)
    batch = runner.make_views(batch)
    found = runner(batch, with_metrics=True).metrics
    targets = batch.views["o/masked"].targets
    for name, modality in (("a", "a"), ("b_fused", "b")):
        right = targets[f"{modality}_ids"][targets[f"{modality}_drawn"]] == 5
        expected = float(right.float().mean())
        assert float(found[f"o/{name}_accuracy"].mean) == pytest.approx(expected)
    assert "o/in_batch_accuracy" in found


def test_float32_under_autocast() -> None:
    runner, _ = make_runner()
    batch = runner.make_views(make_batch(4, absent=[1]))
    with torch.autocast("cpu", torch.bfloat16):
        output = runner(batch)
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    assert output.loss.isfinite()


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="masking is given for a"):
        MaskedFusion(["a", "b"], {"a": MASKING})
    with pytest.raises(ConfigError, match=r"masking\.a.*'rat'"):
        make_objective(a={"rat": 0.1})
    with pytest.raises(ConfigError, match=r"contrast.*'temperature'"):
        MaskedFusion(["a", "b"], {m: MASKING for m in "ab"}, {"temperature": 1.0})
    with pytest.raises(ConfigError, match=r"set model\.fusion"):
        make_objective().bind(make_model(fusion=False))
    without = make_objective(a={"fused_weight": 0.0}, b={"fused_weight": 0.0})
    without.bind(make_model(fusion=False))
    assert not without.fused_heads


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("vocab_size", 0, "at least 1"),
        ("mask_id", -1, "at least 0"),
        ("rate", 0.0, "above 0 and at most 1"),
        ("rate", 1.5, "above 0 and at most 1"),
        ("weight", -1.0, "at least 0 and finite"),
        ("weight", math.nan, "at least 0 and finite"),
        ("fused_weight", math.inf, "at least 0 and finite"),
    ],
)
def test_values_out_of_range_are_named(name: str, value: float, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"masking\.a: {name}={value} has to be {words}"):
        make_objective(a={name: value})


def test_the_mask_may_lie_outside_the_vocabulary() -> None:
    view = make_objective(a={"mask_id": VOCABULARY, "rate": 1.0}).make_views(make_batch())["masked"]
    assert (view.inputs["a"]["input_ids"] == VOCABULARY).any()


def test_ids_outside_the_vocabulary_are_named() -> None:
    batch = make_batch()
    batch.inputs["b"]["input_ids"][0, 1] = VOCABULARY
    with pytest.raises(DataError, match=f"b has the id {VOCABULARY}, and vocab_size={VOCABULARY}"):
        make_objective().make_views(batch)
    # nothing is predicted in their place
    for settings in ({"special_ids": [CLS, VOCABULARY]}, {"weight": 0.0, "fused_weight": 0.0}):
        make_objective(b=settings).make_views(batch)
