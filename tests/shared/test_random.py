"""Draws by counters: the published sequence, independence, and what they do not depend on."""

import numpy as np
import pytest
import torch
from scipy import stats

from shared.random import dirichlet, fold_in, sample_seed, uniform

WORD = (1 << 64) - 1


def splitmix64(seed: int, number: int) -> list[int]:
    """The algorithm as published, on unbounded integers."""
    found = []
    for n in range(1, number + 1):
        z = (seed + n * 0x9E3779B97F4A7C15) & WORD
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        found.append(z ^ (z >> 31))
    return found


def seeds(number: int, epoch: int = 0) -> torch.Tensor:
    return torch.tensor([sample_seed(0, epoch, f"star{i}") for i in range(number)])


def test_the_published_sequence() -> None:
    # https://prng.di.unimi.it/splitmix64.c, seed 1234567
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(1234567, 4) == known
    starts = [1234567, 0, 1, -1, 2**63 - 1, -(2**63), sample_seed(3, 4, "five")]
    drawn = uniform(torch.tensor(starts), 7)
    for start, row in zip(starts, drawn, strict=True):
        assert row.tolist() == [(z >> 40) / 2**24 for z in splitmix64(start, 7)]


def test_draws_depend_on_the_seed_and_the_place_alone() -> None:
    rows = seeds(50)
    drawn = uniform(rows, 6, 5)
    assert drawn.dtype == torch.float32
    assert torch.equal(uniform(rows, 30), drawn.flatten(1))
    assert torch.equal(uniform(rows, 4, 5), drawn[:, :4])
    order = torch.randperm(50)[:20]
    assert torch.equal(uniform(rows[order], 6, 5), drawn[order])
    assert torch.equal(uniform(rows), drawn[:, 0, 0])
    assert uniform(rows[:0], 3).shape == (0, 3)
    state = torch.get_rng_state()
    uniform(rows, 2)
    dirichlet(rows, torch.ones(50, 2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["hashed", "counted"])
def test_draws_are_uniform_and_independent(kind: str) -> None:
    """Of seeds as they are made, and of neighbouring integers."""
    n, m = 2000, 200
    rows = seeds(n) if kind == "hashed" else torch.arange(n)
    other = seeds(n, epoch=1) if kind == "hashed" else rows + 1
    drawn = uniform(rows, m).double()
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) < 1
    # five standard errors, of n · m draws
    assert float(drawn.mean()) == pytest.approx(1 / 2, abs=5 * (12 * n * m) ** -0.5)
    assert float(drawn.var()) == pytest.approx(1 / 12, abs=5 * (180 * n * m) ** -0.5)
    counts = torch.histc(drawn, 256, 0, 1).numpy()
    assert stats.chisquare(counts).pvalue > 1e-6
    pairs = {
        "next draw": (drawn[:, 1:], drawn[:, :-1]),
        "next seed": (drawn[1:], drawn[:-1]),
        "next epoch": (drawn, uniform(other, m).double()),
        "another stream": (drawn, uniform(fold_in(rows, "mask"), m).double()),
        "two streams": tuple(uniform(fold_in(rows, name), m).double() for name in ("a", "b")),
    }
    for name, (a, b) in pairs.items():
        both = np.corrcoef(a.flatten(), b.flatten())[0, 1]
        assert abs(both) < 5 * a.numel() ** -0.5, name
    # of each place by itself over the seeds, and of each seed over its places
    for dim, number in ((0, n), (1, m)):
        spread = (drawn.mean(dim) - 1 / 2) * (12 * number) ** 0.5
        assert stats.kstest(spread.numpy(), "norm").pvalue > 1e-6


def test_every_bit_is_even() -> None:
    bits = (uniform(seeds(4000), 50) * 2**24).long()
    share = torch.stack([(bits >> i & 1).double().mean() for i in range(24)])
    assert float((share - 0.5).abs().max()) < 5 * 0.5 * bits.numel() ** -0.5


def test_streams_differ() -> None:
    rows = torch.cat([seeds(1000), seeds(1000, epoch=1), torch.arange(1000)])
    folded = [fold_in(rows, name) for name in ("image", "depth", "")]
    folded += [fold_in(folded[0], "depth"), fold_in(folded[1], "image")]
    everything = torch.cat([rows, *folded])
    assert len(everything.unique()) == len(everything)


def test_a_sample_has_a_seed_an_epoch() -> None:
    keys = [(0, 0, "a"), (0, 1, "a"), (1, 0, "a"), (0, None, "a"), (0, 0, "b"), (0, 0, "0/a")]
    found = {sample_seed(*key) for key in keys}
    assert len(found) == len(keys)
    assert all(0 <= seed < 2**63 for seed in found)
    # by another process or version a run is resumed with the seeds it began with
    assert sample_seed(0, 3, "star") == 2891638951040396653
    assert fold_in(torch.tensor([5]), "image").tolist() == [9051280901864247099]


@pytest.mark.parametrize("alpha", [(1.0, 1.0, 1.0), (0.2, 0.2, 0.2), (3.0, 0.5, 1.7)])
def test_shares_follow_the_dirichlet_distribution(alpha: tuple[float, ...]) -> None:
    n = 20000
    concentration = torch.tensor(alpha)
    drawn = dirichlet(seeds(n), concentration.expand(n, -1)).double().numpy()
    np.testing.assert_allclose(drawn.sum(1), 1, atol=1e-6)
    for i, own in enumerate(alpha):
        # its margins
        beta = stats.beta(own, sum(alpha) - own)
        assert stats.kstest(drawn[:, i], beta.cdf).pvalue > 1e-6
    expected = stats.dirichlet(alpha).cov()
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.004)


def test_small_concentrations_and_rows_by_themselves() -> None:
    rows, alpha = seeds(3000), torch.tensor([1e-5, 1 + 1e-5, 1e-5]).expand(3000, -1)
    drawn = dirichlet(rows, alpha)
    assert drawn.isfinite().all()
    torch.testing.assert_close(drawn.sum(1), torch.ones(3000))
    assert float((drawn[:, 1] > 0.999).float().mean()) > 0.999
    tiny = dirichlet(rows, torch.full((3000, 3), 1e-5))
    assert float((tiny.max(1).values > 0.999).float().mean()) > 0.99
    torch.testing.assert_close(tiny.mean(0), torch.full((3,), 1 / 3), atol=0.05, rtol=0)
    assert torch.equal(dirichlet(rows[7:9], alpha[7:9]), drawn[7:9])
