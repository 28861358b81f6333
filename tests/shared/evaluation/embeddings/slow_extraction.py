"""An extraction that writes down what it embeds; run as a program, one that a test kills.

Arguments: cache folder, file of the calls, samples to embed before it hangs."""

import sys
import time
from pathlib import Path

import numpy as np

from shared.data.dataset import Dataset, SampleTable
from shared.data.skipping import SkippingDataset
from shared.errors import DataError
from shared.evaluation.embeddings import extract as extraction
from shared.schema import Channel, Schema

N, BATCH = 103, 10
UNREADABLE, NOT_EMBEDDABLE = (3, 57, 90), (12, 88)


class Waves(Dataset):
    """Two modalities, the second for every other sample; some samples are broken."""

    name = "waves"
    schemas = {  # noqa: RUF012
        m: Schema(m, ("time", "channel"), (Channel("value"),)) for m in ("long", "short")
    }

    def make_table(self):
        return SampleTable([f"w{i}" for i in range(N)], [i % 2 for i in range(N)], ("a", "b"))

    def read(self, index):
        if index in UNREADABLE:
            raise DataError(f"wave {index} is unreadable.")
        values = np.random.default_rng(index).standard_normal((8, 1))
        short = {"short": values[:3]} if index % 2 else {}
        return {"long": values, **short}

    def content_fingerprint(self):
        return "1"


class Recorder:
    """Embeds a wave by sums; the rows embedded are those whose sums `calls` lists."""

    name, revision = "recorder", "1"

    def __init__(self, calls: Path, hang_after: int = 10**9) -> None:
        self.calls, self.hang_after, self.done = calls, hang_after, 0

    def modalities(self, schemas):
        return tuple(schemas)

    def embed(self, modality, raws, schema):
        bad = {float(Waves().read(row)["long"].sum()) for row in NOT_EMBEDDABLE}
        if modality == "long" and any(float(raw.sum()) in bad for raw in raws):
            raise DataError("cannot be embedded.")
        with self.calls.open("a") as file:
            file.writelines(f"{modality} {raw.sum()}\n" for raw in raws)
        self.done += len(raws)
        if self.done >= self.hang_after:
            time.sleep(600)
        return np.stack([np.array([raw.sum(), (raw**2).sum(), raw[0, 0]]) for raw in raws])


def run(cache, calls, hang_after=10**9, batch_size=BATCH, **options):
    """Every batch is a chunk."""
    extraction.CHUNK_SECONDS = 0.0
    data, embedder = SkippingDataset(Waves()), Recorder(Path(calls), hang_after)
    return extraction.extract(embedder, data, batch_size=batch_size, cache=cache, **options)


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
