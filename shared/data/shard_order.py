"""The order in which an epoch reads shards: shuffled, and near to the order of the files."""

import numpy as np
from numpy.typing import NDArray


def shuffle_in_lanes(
    rows: NDArray[np.int64],
    shard_of_row: NDArray[np.integer],
    rng: np.random.Generator,
    *,
    batch_size: int,
    lanes: int,
    window: int,
) -> NDArray[np.int64]:
    """Rows of an epoch's batches, one batch behind the other.

    The shards are shuffled and laid end to end; what is too much for whole batches goes from the
    end. The rest is cut into `lanes` pieces, of which each batch takes an equal share, lane by
    lane: where ranks take equal parts of each batch and `lanes` is a multiple of their number, each
    rank reads its own lanes only, and two of them share a shard at most where one lane ends and
    the next begins. In a lane a row moves by less than `window` places: it is sorted by its place
    plus a uniform draw times the window.

    Args:
        rows: (n,) rows of a split, ascending.
        shard_of_row: (n,) number of the shard of each.
        rng: A function of seed and epoch.
        batch_size: Rows of all ranks together.
        lanes: Shards that are read side by side, at least 1.
        window: Samples among which a lane is shuffled; 1: the order in the shards.

    Returns:
        (steps · batch_size,) rows; all of them where there are fewer than a batch.
    """
    starts = np.flatnonzero(np.diff(shard_of_row, prepend=-1))
    shards = np.split(rows, starts[1:])
    laid = np.concatenate([shards[i] for i in rng.permutation(len(shards))])
    steps, batch_size = max(1, len(rows) // batch_size), min(batch_size, len(rows))
    # shares of a batch differ by one where the lanes do not divide it
    shares = [len(part) for part in np.array_split(np.arange(batch_size), lanes)]
    ends = np.cumsum(shares) * steps
    columns = []
    for lane, share in zip(np.split(laid[: ends[-1]], ends[:-1]), shares, strict=True):
        place = np.arange(len(lane)) + window * rng.random(len(lane))
        columns.append(lane[np.argsort(place)].reshape(steps, share))
    return np.concatenate(columns, axis=1).reshape(-1)
