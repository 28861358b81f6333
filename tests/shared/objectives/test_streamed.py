"""The streamed softmax contrast: against the definition in float64, on one rank and on several."""

import math
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from shared.distributed import mean_over_ranks, rank, world_size
from shared.objectives.base import Encoded, Request, Tensors, gather_encoded
from shared.objectives.blocks import Rows
from shared.objectives.contrastive import Contrastive
from shared.objectives.streamed import Settings, streamed_lse

run_ranks = runpy.run_path(str(Path(__file__).parents[1] / "training/ranks.py"))["run_ranks"]
NAMES = ("a", "b", "c")


def unit_rows(n: int, m: int, dim: int, kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """In all directions, all the same, or all opposite."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (normalize(torch.randn(k, dim, generator=generator), dim=-1) for k in (n, m))
    if kind != "random" and n:
        a, b = a[:1].repeat(n, 1), (1 if kind == "same" else -1) * a[:1].repeat(m, 1)
    return a.requires_grad_(), b.requires_grad_()


@settings(max_examples=50)
@given(
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(1, 9),
    st.integers(1, 5),
    st.sampled_from(["random", "same", "opposite"]),
    st.sampled_from([1.0, 14.0, 100.0]),
    st.booleans(),
    st.integers(1, 14),
)
@example(9, 9, 4, 1, "opposite", 100.0, True, 14)
@example(9, 7, 4, 1, "random", 100.0, False, 1)
@example(1, 1, 4, 3, "same", 14.0, True, 1)
def test_equals_the_definition(
    n: int, m: int, side: int, dim: int, kind: str, scale: float, exclusive: bool, classes: int
) -> None:
    a, b = unit_rows(n, m, dim, kind, n + 31 * m)
    s = torch.tensor(scale, requires_grad=True)
    rows = (Rows(r, torch.arange(len(r)) % classes) for r in (a, b))
    found = streamed_lse(*rows, s, Settings(side, exclusive, joined=False))
    exact = [t.detach().double().requires_grad_() for t in (a, b, s)]
    logits = exact[2] * exact[0] @ exact[1].T
    if exclusive:
        same = torch.arange(n)[:, None] % classes == torch.arange(m) % classes
        logits = logits.masked_fill(same, -torch.inf)
    wanted = [
        logits.logsumexp(dim) if logits.numel() else f.double()
        for dim, f in ((1, found[0]), (0, found[1]))
    ]
    for f, w in zip(found, wanted, strict=True):
        torch.testing.assert_close(f.double(), w, rtol=1e-6, atol=3e-7 * scale)
    # −∞ is a constant
    losses = [
        sum((v[v.isfinite()] * torch.arange(1, 1 + int(v.isfinite().sum()))).sum() for v in values)
        for values in (found, wanted)
    ]
    gradients = torch.autograd.grad(losses[0], (a, b, s), allow_unused=True)
    expected = (
        torch.autograd.grad(losses[1], exact, allow_unused=True)
        if logits.numel()
        else [torch.zeros_like(t) for t in exact]
    )
    size = (n + m) ** 2 * scale
    for g, w in zip(gradients, expected, strict=True):
        # a logit is off by its rounding, scale · 1e-7, and the softmaxes by as much
        atol = size * max(scale, 10.0) * 1e-7
        torch.testing.assert_close(g.double(), w.nan_to_num(), rtol=1e-5, atol=atol)


def batch(seed: int, number: int, share: float, scale: float) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    encoded = {}
    for name in NAMES:
        present = torch.rand(number, generator=generator) < share
        rows = normalize(torch.randn(number, 4, generator=generator), dim=-1) * present[:, None]
        answer = Encoded(rows.requires_grad_(), present)
        encoded |= dict.fromkeys((Request(name), Request(name, gather="none")), answer)
    return Tensors(
        encoded,
        {"logit_scale": torch.tensor(math.log(scale), requires_grad=True)},
        torch.randint(-1, 3, (number,), generator=generator),
        torch.randint(0, 3, (number,), generator=generator),
    )


@settings(max_examples=30)
@given(
    st.integers(0, 999),
    st.integers(1, 14),
    st.sampled_from([0.0, 0.6, 1.0]),
    st.sampled_from([1.0, 14.0, 100.0]),
    st.sampled_from(["sample", "group", "label"]),
    st.integers(1, 5),
)
def test_blocks_give_what_the_whole_matrix_gives(
    seed: int, number: int, share: float, scale: float, positives: Any, chunk_rows: int
) -> None:
    tensors = batch(seed, number, share, scale)
    leaves = [tensors.encoded[Request(m)].rows for m in NAMES] + [tensors.scalars["logit_scale"]]
    made = []
    for side in (None, chunk_rows):
        objective = Contrastive(NAMES, positives=positives, chunk_rows=side)
        output = objective(tensors)
        gradients = torch.autograd.grad(output.loss, leaves, allow_unused=True)
        watched = objective.metrics(tensors)["in_batch_accuracy"]
        counts = [int(term.count) for term in output.terms.values()]
        found = (int(watched.total), int(watched.count))
        made.append((output.loss.detach(), gradients, counts, found))
    (loss, whole, *numbers), (streamed, blocks, *others) = made
    assert numbers == others
    torch.testing.assert_close(streamed, loss, rtol=1e-6, atol=2e-7 * scale)
    for g, w in zip(blocks, whole, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-5, atol=3e-7 * max(scale, 10.0) ** 2 / 10)


def test_a_converged_loss_keeps_its_digits() -> None:
    """Every pair at cosine 1, all others orthogonal: log(1 + 7 e⁻⁵⁰), which the difference of two
    logarithms rounds to 0."""
    rows = Encoded(torch.eye(8), torch.ones(8, dtype=torch.bool))
    scale = torch.tensor(math.log(50.0))
    keys = torch.arange(8)
    objective = Contrastive(("a", "b"), chunk_rows=3)
    tensors = Tensors(dict.fromkeys(objective.requests, rows), {"logit_scale": scale}, keys, keys)
    loss = float(objective(tensors).loss)
    assert loss == pytest.approx(math.log1p(7 * math.exp(-50)), rel=1e-4)


@pytest.mark.parametrize("positives", ["sample", "group"])
def test_nothing_is_as_large_as_the_matrix(largest: Any, positives: Any) -> None:
    tensors = batch(0, 96, 0.9, 14.0)
    objective = Contrastive(NAMES, positives=positives, chunk_rows=16)
    with largest:
        objective(tensors).loss.backward()
        with torch.no_grad():
            objective.metrics(tensors)
    assert largest.elements <= 96 * 4


def test_low_precision_rows() -> None:
    """As float32 rows of the same values; gradients come in the rows' own type."""
    low = [r.detach().bfloat16().requires_grad_() for r in unit_rows(9, 7, 5, "random", 1)]
    same = [r.detach().float().requires_grad_() for r in low]
    scale, settings = torch.tensor(10.0), Settings(4, False, joined=False)
    with torch.autocast("cpu", torch.bfloat16):
        sums = []
        for pair in (low, same):
            rows = (Rows(r, torch.arange(len(r))) for r in pair)
            sums.append(torch.cat(streamed_lse(*rows, scale, settings)))
    assert torch.equal(*sums)
    assert sums[0].dtype == torch.float32
    for values in sums:
        values.sum().backward()
    for half, full in zip(low, same, strict=True):
        assert torch.equal(half.grad, full.grad.bfloat16())


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_gradient_wanted_alone(which: int) -> None:
    """A frozen tower, or a learned scale alone."""
    leaves = [*unit_rows(6, 5, 3, "random", 2), torch.tensor(10.0, requires_grad=True)]
    settings = Settings(2, False, joined=False)

    def total(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
        rows = (Rows(r, torch.arange(len(r))) for r in (a, b))
        return torch.cat(streamed_lse(*rows, scale, settings)).square().sum()

    expected = torch.autograd.grad(total(*leaves), leaves)[which]
    alone = [t if i == which else t.detach() for i, t in enumerate(leaves)]
    (found,) = torch.autograd.grad(total(*alone), leaves[which])
    torch.testing.assert_close(found, expected)


def on_a_rank(rows: dict[str, Tensor], positives: list[str], sizes: list[int]) -> dict[str, Tensor]:
    """Totals and gradients of this rank's rows, as DDP averages them."""
    found = {}
    start, number = sum(sizes[: rank()]), sizes[rank()]
    for name in positives:
        own = {m: rows[m][start : start + number].clone().requires_grad_() for m in NAMES}
        scale = torch.tensor(math.log(14.0), requires_grad=True)
        objective = Contrastive(NAMES, positives=name, chunk_rows=3)  # type: ignore[arg-type]
        encoded = {
            r: gather_encoded(
                Encoded(own[m], rows[f"has {m}"][start : start + number]), r.gather, sizes
            )
            for m, r in zip(NAMES, objective.requests, strict=True)
        }
        tensors = Tensors(
            encoded,
            {"logit_scale": scale},
            rows["labels"],
            rows["groups"],
            slice(start, start + number),
        )
        terms = objective(tensors).terms
        counts = [mean_over_ranks(torch.as_tensor(t.count).float()) for t in terms.values()]
        parts = [t.weight * t.total / c for t, c in zip(terms.values(), counts, strict=True)]
        loss = torch.stack(parts).sum()
        loss.backward()
        found[f"{name} loss"] = mean_over_ranks(loss)
        found[f"{name} scale"] = mean_over_ranks(scale.grad)
        for m in NAMES:
            found[f"{name} {m}"] = own[m].grad / world_size()
        watched = objective.metrics(tensors)["in_batch_accuracy"]
        found[f"{name} found"] = torch.stack([watched.total, watched.count])
    return found


@pytest.mark.parametrize("sizes", [[5, 8], [6, 0, 7]])
def test_ranks_give_what_one_process_gives(sizes: list[int]) -> None:
    """Of different sizes, one of them without a row."""
    tensors = batch(7, sum(sizes), 0.8, 14.0)
    rows = {m: tensors.encoded[Request(m)].rows.detach() for m in NAMES}
    rows |= {f"has {m}": tensors.encoded[Request(m)].present for m in NAMES}
    rows |= {"labels": tensors.labels, "groups": tensors.groups}
    choices = ["sample", "group", "label"]
    ranks = run_ranks(len(sizes), on_a_rank, rows, choices, sizes)
    leaves = [tensors.encoded[Request(m)].rows for m in NAMES] + [tensors.scalars["logit_scale"]]
    for name in choices:
        objective = Contrastive(NAMES, positives=name, chunk_rows=None)  # type: ignore[arg-type]
        loss = objective(tensors).loss
        *gradients, of_scale = torch.autograd.grad(loss, leaves)
        watched = objective.metrics(tensors)["in_batch_accuracy"]
        found = sum(r[f"{name} found"] for r in ranks)
        assert found.tolist() == [int(watched.total), int(watched.count)]
        torch.testing.assert_close(ranks[0][f"{name} loss"], loss.detach())
        torch.testing.assert_close(ranks[0][f"{name} scale"], of_scale, rtol=1e-5, atol=1e-6)
        for m, gradient in zip(NAMES, gradients, strict=True):
            joined = torch.cat([r[f"{name} {m}"] for r in ranks])
            torch.testing.assert_close(joined, gradient, rtol=1e-5, atol=1e-6)
