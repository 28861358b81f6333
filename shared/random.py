"""Randomness by counters: every sample has a seed of its own, and what is drawn for it is a
function of that seed, whoever else is in the batch and on whichever process it is."""

import hashlib

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_TRIES = 16


def sample_seed(seed: int, epoch: int | None, name: str) -> int:
    """Seed of a sample in an epoch, 63 bits: the same on every machine.

    Args:
        seed: Of the run.
        epoch: None: what is drawn is the same at any time, as validation wants it.
        name: The sample's id.
    """
    digest = hashlib.blake2b(f"{seed}/{epoch}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def fold_in(seeds: Tensor, name: str) -> Tensor:
    """Seeds of an independent stream of draws for each of the seeds, (n,) int64."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return _mix(seeds + int.from_bytes(digest, "little", signed=True))


def uniform(seeds: Tensor, *size: int) -> Tensor:
    """Independent draws of each seed: SplitMix64, whose n-th number is a function of seed and n
    (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195, fig. 16), its highest 24 bits.

    The draws of a seed do not depend on `size`: a longer row starts like a shorter one. They are
    the same bits on every device.

    Args:
        seeds: (n,) int64.
        size: Of the draws of each seed.

    Returns:
        (n, *size) float32 in [0, 1).
    """
    count = torch.Size(size).numel()
    # int64 wraps around as uint64 would
    counters = torch.arange(1, count + 1, device=seeds.device) * _signed(_GAMMA)
    bits = _shift(_mix(seeds[:, None] + counters), 40)
    return (bits.float() * 2.0**-24).view(len(seeds), *size)


def dirichlet(seeds: Tensor, alpha: Tensor) -> Tensor:
    """One draw of a Dirichlet distribution for each seed.

    Gamma draws by rejection (Marsaglia & Tsang 2000, doi:10.1145/358407.358414), over their sum; in
    logarithms, in which those of a small concentration do not vanish. The number of tries is fixed:
    that none is taken has a probability below 1e-20.

    Args:
        seeds: (n,) int64.
        alpha: (n, k) concentrations, above 0.

    Returns:
        (n, k) float32, rows of which sum to 1.
    """
    k = alpha.shape[1]
    # in (0, 1], where logarithms are finite
    radius, angle, threshold = (1 - uniform(seeds, 3, _TRIES, k)).unbind(1)
    normal = (-2 * radius.log()).sqrt() * (2 * torch.pi * angle).cos()
    # a concentration below 1 is drawn as one above, times a power of a uniform draw (§6)
    small = alpha < 1
    d = (alpha + small - 1 / 3)[:, None]
    v = (1 + normal / (9 * d).sqrt()) ** 3
    log_v = v.clamp(min=torch.finfo(v.dtype).tiny).log()
    taken = (v > 0) & (threshold.log() < normal.square() / 2 + d * (1 - v + log_v))
    first = taken.int().argmax(dim=1, keepdim=True)
    log_gamma = (d.log() + log_v.gather(1, first))[:, 0]
    power = (1 - uniform(fold_in(seeds, "power"), k)).log() / alpha
    return (log_gamma + torch.where(small, power, 0.0)).softmax(dim=1)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Stafford's variant 13): int64 → int64, one to one."""
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, by: int) -> Tensor:
    """Logical shift to the right: torch's own copies the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _signed(number: int) -> int:
    """The int64 with the bits of a uint64."""
    return number - (1 << 64) if number >> 63 else number
