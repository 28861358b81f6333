"""The pairwise contrastive loss: closed forms, a brute-force reference, invariances."""

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from shared.errors import ConfigError
from shared.model import Model
from shared.model_config import ModelConfig
from shared.objectives.base import Encoded, Position, Request, Tensors, Term
from shared.objectives.contrastive import Contrastive, directed_term, pair_logits

NAMES = ("a", "b", "c")


def make(
    seed: int = 0,
    batch: int = 6,
    dim: int = 5,
    share: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    encoded = {}
    for name in NAMES:
        present = torch.rand(batch, generator=generator) < share
        rows = normalize(torch.randn(batch, dim, generator=generator), dim=-1)
        rows = (rows * present[:, None]).to(dtype).requires_grad_()
        encoded |= answers(name, Encoded(rows, present))
    scalars = {"logit_scale": torch.tensor(math.log(10.0), requires_grad=True)}
    labels = torch.randint(-1, 3, (batch,), generator=generator)
    return Tensors(encoded, scalars, labels, torch.randint(0, 3, (batch,), generator=generator))


def answers(name: str, encoded: Encoded) -> dict[Request, Encoded]:
    """To the requests for a modality, whether its rows are gathered or, by blocks, are not."""
    return dict.fromkeys((Request(name), Request(name, gather="none")), encoded)


def brute_force(tensors: Tensors, objective: Contrastive, key: Tensor | None) -> float:
    """The definition, row by row in float64: mean over rows that count of the mean over present
    positives of -log softmax over present candidates."""
    total = 0.0
    for pair in combinations(NAMES, 2):
        for first, second in (pair, pair[::-1]):
            x, y = tensors.encoded[Request(first)], tensors.encoded[Request(second)]
            losses = []
            for i in range(len(x.rows)):
                if not x.present[i]:
                    continue
                candidates = [j for j in range(len(y.rows)) if y.present[j]]
                scores = {
                    j: 10.0 * float(x.rows[i].double() @ y.rows[j].double()) for j in candidates
                }
                positives = [
                    j
                    for j in candidates
                    if j == i or (key is not None and key[i] >= 0 and key[i] == key[j])
                ]
                if positives:
                    partition = math.log(sum(math.exp(s) for s in scores.values()))
                    losses.append(sum(partition - scores[j] for j in positives) / len(positives))
            if losses:
                total += 0.5 / 3 * sum(losses) / len(losses)
    return total


@pytest.mark.parametrize("positives", ["sample", "group", "label"])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_equals_the_definition(positives: str, share: float) -> None:
    tensors = make(3, batch=9, share=share)
    objective = Contrastive(NAMES, positives=positives)  # type: ignore[arg-type]
    key = {"sample": None, "group": tensors.groups, "label": tensors.labels}[positives]
    assert float(objective(tensors).loss) == pytest.approx(
        brute_force(tensors, objective, key), rel=1e-5
    )


def test_two_samples_in_closed_form() -> None:
    """Orthogonal pairs: -log(e^s / (e^s + 1)) in every direction."""
    rows = Encoded(torch.eye(2), torch.ones(2, dtype=torch.bool))
    tensors = Tensors(
        answers("a", rows) | answers("b", rows),
        {"logit_scale": torch.tensor(math.log(3.0))},
        torch.full((2,), -1),
        torch.arange(2),
    )
    loss = Contrastive(("a", "b"))(tensors).loss
    assert float(loss) == pytest.approx(math.log1p(math.exp(-3.0)), rel=1e-6)


def test_batch_of_one_and_all_duplicates() -> None:
    assert float(Contrastive(NAMES)(make(batch=1)).loss) == 0.0
    row = normalize(torch.ones(7, 4), dim=-1)
    same = [answers(n, Encoded(row, torch.ones(7, dtype=torch.bool))) for n in NAMES]
    tensors = Tensors(
        same[0] | same[1] | same[2],
        {"logit_scale": torch.tensor(2.0)},
        torch.zeros(7),
        torch.arange(7),
    )
    assert float(Contrastive(NAMES)(tensors).loss) == pytest.approx(math.log(7), rel=1e-6)


def test_nobody_has_both() -> None:
    """No row counts: the loss is 0 and the gradients are 0, not NaN."""
    tensors = make(batch=4)
    half = torch.tensor([True, True, False, False])
    encoded = {
        **answers("a", Encoded(tensors.encoded[Request("a")].rows, half)),
        **answers("b", Encoded(tensors.encoded[Request("b")].rows, ~half)),
    }
    output = Contrastive(("a", "b"))(
        Tensors(encoded, tensors.scalars, tensors.labels, tensors.groups)
    )
    output.loss.backward()
    assert float(output.loss) == 0.0
    assert all(int(term.count) == 0 for term in output.terms.values())
    assert not tensors.encoded[Request("a")].rows.grad.any()


@given(st.integers(0, 1000), st.permutations(range(6)))
def test_does_not_depend_on_the_order_of_samples(seed: int, order: list[int]) -> None:
    tensors = make(seed, share=0.7)
    index = torch.tensor(order)
    shuffled = Tensors(
        {r: Encoded(e.rows[index], e.present[index]) for r, e in tensors.encoded.items()},
        tensors.scalars,
        tensors.labels[index],
        tensors.groups[index],
    )
    for positives in ("sample", "label"):
        objective = Contrastive(NAMES, positives=positives)  # type: ignore[arg-type]
        expected, found = objective(tensors), objective(shuffled)
        torch.testing.assert_close(found.loss, expected.loss)
        metric = "in_batch_accuracy"
        assert objective.metrics(tensors)[metric].count == objective.metrics(shuffled)[metric].count


@given(st.integers(0, 1000))
def test_is_symmetric_in_the_modalities(seed: int) -> None:
    tensors = make(seed, share=0.8)
    forward = Contrastive(("a", "b"))(tensors)
    backward = Contrastive(("b", "a"))(tensors)
    torch.testing.assert_close(forward.loss, backward.loss)
    torch.testing.assert_close(forward.terms["a->b"].total, backward.terms["a->b"].total)


def test_gradients_are_those_of_finite_differences() -> None:
    tensors = make(1, batch=4, dim=3, share=0.8)
    rows = [e.rows.detach().double().requires_grad_() for e in tensors.encoded.values()]
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    objective = Contrastive(NAMES, positives="label")

    def loss(scale: Tensor, *rows: Tensor) -> Tensor:
        encoded = {
            r: Encoded(x, e.present)
            for (r, e), x in zip(tensors.encoded.items(), rows, strict=True)
        }
        return objective(
            Tensors(encoded, {"logit_scale": scale}, tensors.labels, tensors.groups)
        ).loss

    # the loss itself is float32, so differences are taken with a wide step
    assert torch.autograd.gradcheck(loss, (scale, *rows), eps=1e-2, atol=5e-3, rtol=5e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_rows_give_a_float32_loss(dtype: torch.dtype) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss = Contrastive(NAMES)(make(2, dtype=dtype)).loss
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(Contrastive(NAMES)(make(2)).loss), rel=0.05)


def test_weights_reductions_and_scales() -> None:
    tensors = make(5)
    single = {
        pair: float(Contrastive(NAMES, pairs={pair: 1.0})(tensors).loss) for pair in ("a-b", "b-c")
    }
    weighted = Contrastive(NAMES, pairs={"a-b": 3.0, "b-c": 1.0})(tensors)
    assert float(weighted.loss) == pytest.approx(0.75 * single["a-b"] + 0.25 * single["b-c"])
    summed = Contrastive(NAMES, pairs={"a-b": 3.0}, directions="sum", pair_reduction="sum")(tensors)
    assert float(summed.loss) == pytest.approx(6 * single["a-b"])
    own = Contrastive(NAMES, scale="pair", initial_scale=20.0)
    assert own.model_scalars() == dict.fromkeys(
        ("logit_scale_a_b", "logit_scale_a_c", "logit_scale_b_c"), math.log(20.0)
    )


def test_clamp() -> None:
    above = {"logit_scale": torch.tensor(9.0, requires_grad=True)}
    kept = Contrastive(("a", "b"), clamp="forward")
    used = kept.used_scale(above, ("a", "b"))
    used.backward()
    assert float(used) == 100.0
    assert float(above["logit_scale"].grad) == 0.0
    for bound, expected in ((100.0, math.log(100.0)), (None, 9.0)):
        model = Model(ModelConfig("bounded", 1, {}), {}, {}, None, {"logit_scale": 9.0})
        with torch.no_grad():
            Contrastive(("a", "b"), max_scale=bound).after_step(model, Position())
        assert float(model.scalars["logit_scale"]) == pytest.approx(expected)


def test_absent_samples_do_not_matter() -> None:
    """Whatever stands in the rows of samples without the modality changes nothing."""
    tensors = make(4, share=0.6)
    objective = Contrastive(NAMES)
    changed = {
        r: Encoded(torch.where(e.present[:, None], e.rows, 7.0), e.present)
        for r, e in tensors.encoded.items()
    }
    other = Tensors(changed, tensors.scalars, tensors.labels, tensors.groups)
    torch.testing.assert_close(objective(other).loss, objective(tensors).loss)


@pytest.mark.parametrize("positives", ["sample", "label"])
def test_the_ranks_parts_make_the_whole(positives: str) -> None:
    """Sums and counts of a rank's own rows add up, and so do the gradients and the metric."""
    tensors = make(7, batch=9, share=0.7)
    objective = Contrastive(NAMES, positives=positives)  # type: ignore[arg-type]
    rows = [e.rows for e in tensors.encoded.values()]
    whole = objective(tensors)
    expected = torch.autograd.grad(whole.loss, rows)
    parts = [replace(tensors, own=slice(*ends)) for ends in ((0, 2), (2, 2), (2, 9))]
    made = [objective(part) for part in parts]
    loss = torch.zeros(())
    for name, term in whole.terms.items():
        total = torch.stack([output.terms[name].total for output in made]).sum()
        assert sum(int(output.terms[name].count) for output in made) == int(term.count)
        loss = loss + Term(total, term.count, term.weight).mean * term.weight
    torch.testing.assert_close(loss, whole.loss)
    for found, gradient in zip(torch.autograd.grad(loss, rows), expected, strict=True):
        torch.testing.assert_close(found, gradient)
    found = [objective.metrics(part)["in_batch_accuracy"] for part in parts]
    accuracy = objective.metrics(tensors)["in_batch_accuracy"]
    assert sum(int(term.total) for term in found) == int(accuracy.total)
    assert sum(int(term.count) for term in found) == int(accuracy.count)
    everywhere = Contrastive(NAMES, positives=positives, local_loss=False)  # type: ignore[arg-type]
    torch.testing.assert_close(everywhere(parts[0]).loss, whole.loss)


def test_a_bias_changes_nothing_but_the_logits() -> None:
    tensors = make(8, share=0.8)
    a, b = (tensors.encoded[Request(name)] for name in ("a", "b"))
    scale, bias = torch.tensor(20.0), torch.tensor(-1.25, requires_grad=True)
    plain, shifted = pair_logits(a, b, scale), pair_logits(a, b, scale, bias)
    torch.testing.assert_close(shifted[:, b.present], plain[:, b.present] - 1.25)
    losses = [directed_term(logits, a, b, slice(None)).mean for logits in (plain, shifted)]
    torch.testing.assert_close(*losses)
    losses[1].backward()
    assert float(bias.grad) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_largest_scale_does_not_overflow(dtype: torch.dtype) -> None:
    """exp(100) is beyond what any of these types holds."""
    rows = normalize(torch.ones(4, 8), dim=-1) * torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None]
    encoded = Encoded(rows.to(dtype).requires_grad_(), torch.ones(4, dtype=torch.bool))
    tensors = Tensors(
        answers("a", encoded) | answers("b", encoded),
        {"logit_scale": torch.tensor(math.log(100.0))},
        torch.full((4,), -1),
        torch.arange(4),
    )
    loss = Contrastive(("a", "b"))(tensors).loss
    loss.backward()
    assert float(loss) == pytest.approx(math.log(2), rel=1e-5)
    assert encoded.rows.grad.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pairs": {"a-d": 1.0}}, "pair 'a-d'"),
        ({"pairs": {"a-a": 1.0}}, "pair 'a-a'"),
        ({"pairs": {}}, "no pair"),
        ({"pairs": {"a-b": -1.0, "b-c": 1.0}}, "weight of pair 'a-b' is -1"),
        ({"pairs": {"a-b": math.nan}}, "weight of pair 'a-b' is nan"),
        ({"pairs": {"a-b": 1.0, "b-a": 1.0}}, "'b-a' is given twice"),
        ({"scale": "pairs"}, "Did you mean 'pair'"),
        ({"initial_scale": 1000.0}, "does not hold"),
        ({"gather_with_grad": False}, "the gradients would be wrong"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Contrastive(NAMES, **settings)  # type: ignore[arg-type]


def test_pairs_of_a_modality_that_the_data_lack_say_which_can_be_set() -> None:
    with pytest.raises(ConfigError) as caught:
        Contrastive(("a", "c"), pairs={"a-b": 1.0, "b-c": 1.0, "c-a": 1.0})
    hint = str(caught.value).split("'objective.contrastive.pairs=")[1].split("'")[0]
    assert hint == "{a-c: 1.0}"
    assert list(Contrastive(("a", "c"), pairs={"a-c": 1.0}).weights) == [("a", "c")]
