"""The fusion against plain loops, gradients, padding, absent modalities."""

import runpy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from domains.protein.fusion import CrossAttentionFusion
from shared.encoders.base import Embedding
from shared.errors import ConfigError

LENGTHS = {"a": (4, 2, 1), "b": (3, 5, 2)}


def make(**settings: object) -> CrossAttentionFusion:
    torch.manual_seed(0)
    module = CrossAttentionFusion({"a": 6, "b": 6}, **{"num_heads": 2, **settings})  # type: ignore[arg-type]
    return module.double().eval()


def tokens_of(modality: str, seed: int = 1) -> Embedding:
    generator = torch.Generator().manual_seed(seed + ord(modality))
    lengths = torch.tensor(LENGTHS[modality])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    tokens = torch.randn(*mask.shape, 6, generator=generator, dtype=torch.float64)
    return Embedding(torch.zeros(0), tokens, mask)


def slowly(module: CrossAttentionFusion, x: Tensor, y: Tensor, number: int) -> Tensor:
    """What the tokens of one sample and modality attend to, without padding."""
    layer, width = module.layers[0], 3
    out = torch.zeros_like(x)
    for i, token in enumerate(x):
        for head in range(2):
            part = slice(head * width, (head + 1) * width)
            query = layer.query[number](token)[part]
            for which, others in ((number, x), (1 - number, y)):
                keys, values = (
                    layer.key[which](others)[:, part],
                    layer.value[which](others)[:, part],
                )
                out[i, part] += 0.5 * (keys @ query).softmax(dim=0) @ values
    return out


def test_equals_loops_over_samples_tokens_and_heads() -> None:
    module = make(batch_norm=False)
    given = {m: tokens_of(m) for m in "ab"}
    joint = module(given, {})
    parts = joint.tokens.split([4, 5], dim=1)
    for row in range(3):
        x, y = (given[m].tokens[row, : LENGTHS[m][row]] for m in "ab")
        pairs = {"a": slowly(module, x, y, 0), "b": slowly(module, y, x, 1)}
        for part, (modality, expected) in zip(parts, pairs.items(), strict=True):
            length = LENGTHS[modality][row]
            torch.testing.assert_close(part[row, :length], expected.relu())
            assert not part[row, length:].any()
    assert torch.equal(joint.mask, torch.cat([given[m].mask for m in "ab"], dim=1))


def test_gradients() -> None:
    module = make(depth=2)
    a, b = tokens_of("a"), tokens_of("b")

    def joint(x: Tensor, y: Tensor) -> Tensor:
        found = module({"a": a._replace(tokens=x), "b": b._replace(tokens=y)}, {})
        # relu has no derivative at the zeros of padded places
        return found.tokens[found.mask]

    leaves = (a.tokens.clone().requires_grad_(), b.tokens.clone().requires_grad_())
    assert torch.autograd.gradcheck(joint, leaves)


def test_what_stands_in_padded_places_does_not_matter() -> None:
    module = make()
    given = {m: tokens_of(m) for m in "ab"}
    other = {
        m: e._replace(tokens=e.tokens.masked_fill(~e.mask[..., None], 9.0))
        for m, e in given.items()
    }
    assert torch.equal(module(other, {}).tokens, module(given, {}).tokens)


def test_batch_norm_sees_padding() -> None:
    module = make()
    given = {m: tokens_of(m) for m in "ab"}
    kept: list[tuple[Tensor, ...]] = []
    module.layers[0].register_forward_hook(lambda _m, _i, out: kept.append(out))
    module.train()(given, {})
    for norms, attended in zip(module.norms, kept[0], strict=True):
        mean = attended.sum(dim=(0, 1)) / (attended.shape[0] * attended.shape[1])
        torch.testing.assert_close(norms[0].running_mean, 0.1 * mean)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_absent_modality_adds_nothing(dtype: torch.dtype) -> None:
    module = make(batch_norm=False).to(dtype)
    a = tokens_of("a")
    empty = Embedding(torch.zeros(0), torch.zeros(3, 5, 6), torch.zeros(3, 5).bool())
    given = {m: e._replace(tokens=e.tokens.to(dtype)) for m, e in {"a": a, "b": empty}.items()}
    leaf = given["a"].tokens.requires_grad_()
    found = module({**given, "a": given["a"]._replace(tokens=leaf)}, {})
    found.pooled.float().sum().backward()
    assert found.tokens.isfinite().all()
    assert leaf.grad.isfinite().all()
    assert not found.tokens[:, 4:].any()


def test_two_modalities_of_one_width() -> None:
    for dims in ({"a": 8}, {"a": 8, "b": 16}, {"a": 8, "b": 8, "c": 8}, {"a": 9, "b": 9}):
        with pytest.raises(ConfigError, match="two modalities with tokens of one width"):
            CrossAttentionFusion(dims, num_heads=8)


def test_an_empty_batch_leaves_the_batch_norms_alone() -> None:
    module = make().train()
    given = {m: Embedding(*(t[:0] for t in tokens_of(m))) for m in "ab"}
    joint = module(given, {})
    joint.tokens.sum().backward()
    assert joint.tokens.shape == (0, 9, 6)
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())
    assert not module.norms[0][0].running_mean.any()


@pytest.mark.slow
def test_ranks_that_pad_otherwise_equal_one_process() -> None:
    ranks = Path(__file__).parents[2] / "shared/training/ranks.py"
    worker = runpy.run_path(str(Path(__file__).with_name("fusion_ranks.py")))
    found = runpy.run_path(str(ranks))["run_ranks"](2, worker["on_ranks"])
    tokens, state = worker["fuse"](0, 4)
    for row, expected in zip([row for rows, _ in found for row in rows], tokens, strict=True):
        torch.testing.assert_close(row, expected)
    for _, own in found:
        torch.testing.assert_close(own, state)
