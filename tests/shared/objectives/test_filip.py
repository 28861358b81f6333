"""Token-wise late interaction: closed forms, a brute-force reference, chunks and parts."""

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from shared.errors import ConfigError
from shared.objectives.base import Encoded, LossOutput, Tensors
from shared.objectives.contrastive import Contrastive
from shared.objectives.filip import FILIP, late_interaction

NAMES = ("a", "b")
LENGTHS = {"a": 4, "b": 6}


def make(seed: int = 0, batch: int = 5, share: float = 1.0) -> Tensors:
    """Raw tokens; each sample has at least one of each present modality."""
    generator = torch.Generator().manual_seed(seed)
    encoded = {}
    for name, length in LENGTHS.items():
        present = torch.rand(batch, generator=generator) < share
        mask = torch.rand(batch, length, generator=generator) < 0.7
        mask[:, 0] = True
        mask &= present[:, None]
        tokens = torch.randn(batch, length, 3, generator=generator) * present[:, None, None]
        encoded[FILIP(NAMES).request(name)] = Encoded(tokens.requires_grad_(), present, mask)
    scalars = {"logit_scale": torch.tensor(math.log(10.0), requires_grad=True)}
    labels = torch.randint(-1, 3, (batch,), generator=generator)
    return Tensors(encoded, scalars, labels, torch.arange(batch))


def loss_of(tensors: Tensors, names: Sequence[str] = NAMES, **settings: Any) -> LossOutput:
    """The objective, whose settings choose what is gathered, on these tokens."""
    objective = FILIP(names, **settings)
    encoded = {objective.request(str(r.modality)): e for r, e in tensors.encoded.items()}
    return objective(replace(tensors, encoded=encoded))


def leaves(tensors: Tensors) -> list[Tensor]:
    return [*(e.rows for e in tensors.encoded.values()), tensors.scalars["logit_scale"]]


def brute_force(tensors: Tensors) -> Tensor:
    """The definition, token by token in float64."""
    a, b = tensors.encoded.values()
    scale = tensors.scalars["logit_scale"].double().exp()
    loss = torch.zeros((), dtype=torch.float64)
    for x, y in ((a, b), (b, a)):
        losses = []
        for i in range(len(x.rows)):
            if not (x.present[i] and y.present[i]):
                continue
            scores = {}
            for j in range(len(y.rows)):
                if y.present[j]:
                    ours, theirs = (
                        normalize(t.rows[k][t.mask[k]].double(), dim=-1)
                        for t, k in ((x, i), (y, j))
                    )
                    best = [max((u @ v for v in theirs), key=float) for u in ours]
                    scores[j] = scale * torch.stack(best).mean()
            losses.append(torch.stack(list(scores.values())).logsumexp(0) - scores[i])
        loss = loss + 0.5 * torch.stack(losses).mean()
    return loss


@pytest.mark.parametrize("share", [1.0, 0.7])
@pytest.mark.parametrize("chunk_rows", [None, 2])
def test_equals_the_definition(share: float, chunk_rows: int | None) -> None:
    tensors = make(1, batch=6, share=share)
    expected, loss = brute_force(tensors), loss_of(tensors, chunk_rows=chunk_rows).loss
    torch.testing.assert_close(loss, expected.float())
    wanted = torch.autograd.grad(expected, leaves(tensors))
    for found, gradient in zip(torch.autograd.grad(loss, leaves(tensors)), wanted, strict=True):
        torch.testing.assert_close(found, gradient.to(found.dtype), atol=1e-5, rtol=1e-4)


def test_one_token_each_is_the_plain_contrast() -> None:
    tensors = make(2)
    single = {
        r: Encoded(e.rows[:, :1], e.present, e.mask[:, :1]) for r, e in tensors.encoded.items()
    }
    contrastive = Contrastive(NAMES)
    pooled = {
        contrastive.request(m): Encoded(normalize(e.rows[:, 0], dim=-1), e.present)
        for m, e in zip(NAMES, single.values(), strict=True)
    }
    found = loss_of(replace(tensors, encoded=single)).loss
    torch.testing.assert_close(found, contrastive(replace(tensors, encoded=pooled)).loss)


def test_duplicates_and_a_batch_of_one() -> None:
    tensors = make(3, batch=1)
    assert float(loss_of(tensors).loss) == 0.0
    repeated = {
        r: Encoded(e.rows.repeat(5, 1, 1), e.present.repeat(5), e.mask.repeat(5, 1))
        for r, e in tensors.encoded.items()
    }
    numbers = torch.arange(5)
    same = Tensors(repeated, tensors.scalars, numbers, numbers)
    assert float(loss_of(same, chunk_rows=2).loss) == pytest.approx(math.log(5), rel=1e-6)


@given(st.integers(0, 1000), st.permutations(range(5)))
def test_symmetries(seed: int, order: list[int]) -> None:
    """Order of samples, of modalities and of tokens, and what stands where there is no token."""
    tensors, index = make(seed, share=0.8), torch.tensor(order)
    changed = {}
    for request, e in tensors.encoded.items():
        rows = torch.where(e.mask[..., None], e.rows, 7.0)
        changed[request] = Encoded(rows[index].flip(1), e.present[index], e.mask[index].flip(1))
    expected = loss_of(tensors).loss
    torch.testing.assert_close(loss_of(replace(tensors, encoded=changed)).loss, expected)
    torch.testing.assert_close(loss_of(tensors, NAMES[::-1]).loss, expected)


@pytest.mark.parametrize("positives", ["sample", "label"])
def test_the_ranks_parts_make_the_whole(positives: str) -> None:
    tensors, settings = make(5, share=0.8), {"positives": positives, "chunk_rows": None}
    parts = [loss_of(replace(tensors, own=slice(*ends)), **settings) for ends in ((0, 2), (2, 5))]
    for name, term in loss_of(tensors, **settings).terms.items():
        total = torch.stack([part.terms[name].total for part in parts]).sum()
        torch.testing.assert_close(total, term.total)
        assert sum(int(part.terms[name].count) for part in parts) == int(term.count)


def test_accuracy_and_what_is_sent_to_other_ranks() -> None:
    """The first modality of a pair stays where it is, unless the whole matrix is made."""
    tensors = make(6, batch=7, share=0.8)
    found = []
    for chunk_rows, gathers in ((None, ["grad", "grad"]), (2, ["none", "grad"])):
        objective = FILIP(NAMES, chunk_rows=chunk_rows)
        assert [request.gather for request in objective.requests] == gathers
        encoded = {objective.request(str(r.modality)): e for r, e in tensors.encoded.items()}
        term = objective.metrics(replace(tensors, encoded=encoded))["in_batch_accuracy"]
        found.append((int(term.total), int(term.count)))
    assert found[0] == found[1]
    between = FILIP(("a", "b", "c"))
    assert [request.gather for request in between.requests] == ["none", "grad", "grad"]


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (
        torch.randn(2, n, 3, generator=generator, dtype=torch.float64).requires_grad_()
        for n in (3, 4)
    )
    a_mask, b_mask = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool)
    a_mask[0, 2] = b_mask[1, 0] = False
    assert torch.autograd.gradcheck(lambda x, y: late_interaction(x, a_mask, y, b_mask), (a, b))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_tokens_give_a_float32_loss(dtype: torch.dtype) -> None:
    tensors = replace(make(2), scalars={"logit_scale": torch.tensor(math.log(100.0))})
    low = {r: Encoded(e.rows.to(dtype), e.present, e.mask) for r, e in tensors.encoded.items()}
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(replace(tensors, encoded=low)).loss
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(loss_of(tensors).loss), rel=0.1)


def test_tokens_of_other_widths_are_refused():
    wide, narrow = SimpleNamespace(token_dim=8), SimpleNamespace(token_dim=4)
    model = SimpleNamespace(
        encoders={"a": wide, "b": narrow},
        token_heads={},
        scalars={"logit_scale": torch.tensor(0.0)},
        config=SimpleNamespace(embed_dim=4),
    )
    with pytest.raises(ConfigError, match="a 8, b 4"):
        FILIP(NAMES).bind(model)
    model.token_heads["a"] = None
    FILIP(NAMES).bind(model)
