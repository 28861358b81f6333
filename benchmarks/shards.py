"""Shards: samples read a second, beside webdataset and loose files; the index of a large set.

Everything is synthetic: JPEG of noise and short texts. `python benchmarks/shards.py --json FILE`.
"""

import argparse
import io
import json
import os
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from shared.data.image_files import read_image
from shared.data.shards import WebDataset

PIXELS = 64


def noise(seed: int) -> bytes:
    """A JPEG of noise."""
    file = io.BytesIO()
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (PIXELS, PIXELS, 3), np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def write_shard(path: Path, keys: range, image: Callable[[int], bytes]) -> None:
    """A shard of images with texts; times are whole seconds, so that headers are plain."""
    with tarfile.open(path, "w") as tar:
        for key in keys:
            for ending, content in (("jpg", image(key)), ("txt", b"noise %d" % key)):
                about = tarfile.TarInfo(f"{key:09d}.{ending}")
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))


def readers(folder: Path, samples: int, shards: int) -> dict[str, float]:
    """Samples decoded a second by one process, files in the system's cache."""
    content = [noise(seed) for seed in range(samples)]
    for seed, image in enumerate(content):
        (folder / f"{seed:09d}.jpg").write_bytes(image)
    share = samples // shards
    for number in range(shards):
        keys = range(number * share, (number + 1) * share)
        write_shard(folder / f"train-{number:04d}.tar", keys, content.__getitem__)
    dataset = WebDataset(str(folder), {"image": "jpg", "text": "txt"})
    rows = np.arange(share * shards)
    order = dataset.order(rows, np.random.default_rng(0), 256)

    def ours() -> None:
        for row in order:
            dataset[int(row)]

    def loose() -> None:
        for row in order:
            read_image(folder / f"{row:09d}.jpg")

    def theirs() -> None:
        import webdataset

        paths = [str(path) for path in dataset.index.paths]
        source = webdataset.WebDataset(paths, shardshuffle=len(paths)).shuffle(1000)
        for _ in source.decode("rgb8").to_tuple("jpg", "txt"):
            pass

    found = {}
    for name, read in (("ours", ours), ("webdataset", theirs), ("loose files", loose)):
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            read()
            seconds.append(time.perf_counter() - began)
        found[name] = len(order) / min(seconds)
    return found


def large(folder: Path, samples: int, shards: int) -> dict[str, float]:
    """Time and memory of the index of a set of empty images, without and with the kept one."""
    share = samples // shards
    for number in range(shards):
        keys = range(number * share, (number + 1) * share)
        write_shard(folder / f"train-{number:04d}.tar", keys, lambda key: b"")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {}
    for name in ("index", "kept index"):
        began = time.perf_counter()
        dataset = WebDataset(str(folder), {"image": "jpg", "text": "txt"})
        rows = dataset.indices("train")
        found[f"{name} [s]"] = time.perf_counter() - began
    began = time.perf_counter()
    dataset.order(rows, np.random.default_rng(0), 4096)
    found["order of an epoch [s]"] = time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    found["peak memory [MB]"] = grown * 1024 / 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["ZOO_HOME"] = str(folder / "home")
        for part in ("many", "large"):
            (folder / part).mkdir()
        result: dict[str, dict[str, float]] = {}
        result["large"] = large(folder / "large", given.large, 100)
        result["samples/s"] = readers(folder / "many", given.samples, given.shards)
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
