"""ESM and ProtBert: padding, masked residues, empty batches, what reaches transformers."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from domains.protein.encoders import esm, protbert
from domains.protein.encoders.esm import Esm
from domains.protein.encoders.protbert import ProtBert
from domains.protein.residues import MASK_ID, RESIDUES
from shared.encoders.base import Encoder
from shared.errors import DataError

SIZES = {"dim": 16, "depth": 2, "num_heads": 2, "ffn_dim": 32}


def make(kind: str, **settings: Any) -> Encoder:
    torch.manual_seed(0)
    if kind == "protbert":
        return ProtBert(**{**SIZES, "max_positions": 40, **settings}).eval()
    return Esm(variant=kind, **{**SIZES, **settings}).eval()


def batch(*sequences: list[int]) -> dict[str, Tensor]:
    rows = [torch.tensor(sequence) for sequence in sequences]
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(row)) > 0 for row in rows], batch_first=True)
    return {
        "input_ids": nn.utils.rnn.pad_sequence(rows, batch_first=True),
        "attention_mask": mask,
    }


KINDS = ["esm1b", "esm2", "protbert"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_neighbour_does_not_matter(kind: str) -> None:
    encoder = make(kind)
    alone = encoder(batch([3, 1, 4, 1, 5]))
    beside = encoder(batch([3, 1, 4, 1, 5], list(range(12))))
    torch.testing.assert_close(beside.pooled[:1], alone.pooled)
    torch.testing.assert_close(beside.tokens[:1, :5], alone.tokens)
    assert beside.mask.sum(dim=1).tolist() == [5, 12]


def test_protst_attends_padding() -> None:
    encoder = make("protbert", attend_padding=True)
    alone = encoder(batch([3, 1, 4]))
    beside = encoder(batch([3, 1, 4], list(range(12))))
    assert float((beside.pooled[:1] - alone.pooled).detach().abs().max()) > 1e-4
    torch.testing.assert_close(make("protbert")(batch([3, 1, 4])).pooled, alone.pooled)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch_has_gradients_of_zero(kind: str) -> None:
    encoder = make(kind)
    found = encoder({name: tensor[:0] for name, tensor in batch([1, 2, 3]).items()})
    assert found.pooled.shape == (0, 16)
    assert found.tokens.shape == (0, 3, 16)
    (found.pooled.sum() + found.tokens.sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in encoder.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_readouts(kind: str) -> None:
    inputs = batch([1, 2], [3, 4, 5])
    found = make(kind, readout="mean")(inputs)
    expected = torch.stack([found.tokens[0, :2].mean(dim=0), found.tokens[1].mean(dim=0)])
    torch.testing.assert_close(found.pooled, expected)
    if kind != "protbert":
        total = make(kind, readout="sum")(inputs).pooled
        torch.testing.assert_close(total, expected * torch.tensor([[2.0], [3.0]]))


def test_only_what_is_used_is_trained() -> None:
    assert all(p.requires_grad for p in make("protbert").parameters())
    frozen = [
        n for n, p in make("protbert", readout="mean").named_parameters() if not p.requires_grad
    ]
    assert frozen == ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]
    names = make("esm2").state_dict()
    assert not [n for n in names if "contact" in n or "inv_freq" in n or "frame" in n]


@pytest.mark.parametrize("kind", ["esm1b", "esm2"])
def test_esm_scales_embeddings_and_zeroes_masked_ones(kind: str) -> None:
    encoder = make(kind)
    rows = encoder.esm.embeddings.word_embeddings.weight
    seen = []
    hidden = encoder.esm.embeddings
    if kind == "esm2":
        # nothing is added to them or normalised
        hidden.register_forward_hook(lambda _m, _i, out: seen.append(out[0]))
        encoder(batch([0, 1, 2]))
        tokens = encoder.frame.table[:3]
        torch.testing.assert_close(seen[0][1:4], 0.88 * rows[tokens])
    with torch.no_grad():
        before = encoder(batch([0, MASK_ID, 2])).pooled
        rows[encoder.frame.mask_id] += 1.0
        assert torch.equal(encoder(batch([0, MASK_ID, 2])).pooled, before)


def test_epsilon_of_every_layer_norm() -> None:
    for kind, epsilon in {"esm1b": 1e-5, "esm2": 1e-5, "protbert": 1e-12}.items():
        norms = [m for m in make(kind).modules() if isinstance(m, nn.LayerNorm)]
        assert {norm.eps for norm in norms} == {epsilon}


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_without_dropout(kind: str) -> None:
    encoder, inputs = make(kind), batch([3, 1, 4])
    torch.testing.assert_close(encoder.train()(inputs).tokens, encoder.eval()(inputs).tokens)


def test_too_long_proteins() -> None:
    with pytest.raises(DataError, match="ESM-1b takes 6"):
        make("esm1b", max_positions=10)(batch([0] * 7))
    assert make("esm1b", max_positions=10)(batch([0] * 6)).pooled.isfinite().all()
    assert make("esm2", max_positions=10)(batch([0] * 7)).pooled.isfinite().all()
    with pytest.raises(DataError, match="ProtBert takes 38"):
        make("protbert")(batch([0] * 39))


@pytest.mark.parametrize(
    ("kind", "vocabulary"), [("esm2", esm.VOCABULARY), ("protbert", protbert.VOCABULARY)]
)
def test_frame(kind: str, vocabulary: tuple[str, ...]) -> None:
    inputs = batch([RESIDUES.index("M"), MASK_ID], [RESIDUES.index("W")])
    tokens, mask = make(kind).frame(inputs["input_ids"], inputs["attention_mask"])
    words = [[vocabulary[i] for i in row] for row in tokens.tolist()]
    begin, end = (vocabulary[0], "<eos>") if kind == "esm2" else ("[CLS]", "[SEP]")
    masked, pad = ("<mask>", "<pad>") if kind == "esm2" else ("[MASK]", "[PAD]")
    assert words == [[begin, "M", masked, end], [begin, "W", end, pad]]
    assert mask.tolist() == [[True] * 4, [True, True, True, False]]
