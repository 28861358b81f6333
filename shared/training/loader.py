"""Batches whose order is a function of (seed, epoch), so that a resumed run needs no luck."""

import atexit
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from shared.data.batch import Batch, PreparedSample
from shared.data.prepared import PreparedDataset
from shared.errors import ZooError
from shared.training.preemption import outlive

Position = Callable[[], tuple[int, int]]
"""Where training stands: (epoch, batches of it already done), asked when an iteration starts."""


class CountedLoader:
    """Batches of one split.

    Not a torch DataLoader, so that Lightning leaves it alone; its iterator is a generator, so that
    the position is read when the first batch is asked for, which is after a resumed trainer has
    its counters back.

    Attributes:
        wait_seconds: Time the consumer has spent waiting for batches.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        rows: NDArray[np.int64],
        batch_size: int,
        *,
        position: Position | None = None,
        seed: int = 0,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """`batch_size` counts the samples of all ranks. With a `position` the batches are those of
        training: in the dataset's order of an epoch, randomly cropped, without the last partial one
        (unless it is the only one), since contrast in a smaller batch is another task. Without,
        those of validation."""
        self._dataset, self._rows, self._batch_size = dataset, rows, batch_size
        self._position, self._seed, self._num_workers = position, seed, num_workers
        self._rank, self._world_size = rank, world_size
        self.wait_seconds = 0.0

    def __len__(self) -> int:
        if self._position:
            return max(1, len(self._rows) // self._batch_size)
        return -(-len(self._rows) // self._batch_size)

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """Rows of every batch of an epoch, this rank's share."""
        rows = self._rows
        if self._position:
            rng = np.random.default_rng([self._seed, epoch])
            rows = self._dataset.dataset.order(rows, rng, self._batch_size)
        batches = [
            rows[start : start + self._batch_size]
            for start in range(0, len(self) * self._batch_size, self._batch_size)
        ]
        return [np.array_split(batch, self._world_size)[self._rank] for batch in batches]

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self._position() if self._position else (None, 0)
        batches = self.plan(epoch or 0)[start:]
        readable = _Readable(self._dataset)
        source = iter(
            DataLoader(
                readable,  # type: ignore[arg-type]
                batch_sampler=_Keys(epoch, batches),  # type: ignore[arg-type]
                collate_fn=readable.collate,
                num_workers=self._num_workers,
                worker_init_fn=outlive,
            )
        )
        for _ in batches:
            began = time.perf_counter()
            batch = next(source)
            self.wait_seconds += time.perf_counter() - began
            if isinstance(batch, ZooError):
                # ends the workers: a traceback would keep them, and they the end of this process
                del source
                raise batch
            yield batch

    # Lightning asks loaders for their state; there is none to keep
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class _Keys:
    """(epoch, row) of the samples of each batch, made when the batch is asked for: an epoch may
    have millions."""

    def __init__(self, epoch: int | None, batches: Sequence[NDArray[np.int64]]) -> None:
        self._epoch, self._batches = epoch, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[tuple[int | None, int]]]:
        for batch in self._batches:
            yield [(self._epoch, int(row)) for row in batch]


class _Readable:
    """A dataset whose errors come as values: torch would put a worker's traceback into their
    message."""

    def __init__(self, dataset: PreparedDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, key: tuple[int | None, int]) -> PreparedSample | ZooError:
        try:
            return self._dataset[key]
        except ZooError as error:
            return error

    def collate(self, samples: Sequence[PreparedSample | ZooError]) -> Batch | ZooError:
        good = [sample for sample in samples if not isinstance(sample, ZooError)]
        errors = [sample for sample in samples if isinstance(sample, ZooError)]
        return errors[0] if errors else self._dataset.collate(good)


# after `multiprocessing` has registered its function, which torch imports: runs before that
@atexit.register
def end_workers() -> None:
    """At the end of the process: `multiprocessing` sends its daemons the signal that they outlive
    and waits for them, for ever where a traceback keeps their loader."""
    if hasattr(signal, "SIGCHLD"):
        # torch's handler would complain of every worker that ends this way
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        if worker.daemon:
            worker.kill()
