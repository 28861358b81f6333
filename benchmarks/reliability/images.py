"""A folder of many pictures, some broken in every way: left out and counted, or named and stopped.

    python benchmarks/reliability/images.py --files 10000

Pictures of synthetic noise (tests/corruption/many_images.py), whole and with one broken file in a
hundred, go through a tiny vision tower of random weights, under both policies of `data.on_error`:
seconds and peak memory, each in a process of its own.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "corruption"))

from many_images import SIDE, write_images


def embed_folder(root: Path, on_error: str) -> None:
    """Embed a folder; print seconds, memory and what was left out."""
    import zoo
    from shared.data.image_files import IMAGE
    from shared.data.skipping import describe_skipped, skipped_of
    from shared.model import Model
    from shared.model_config import ModelConfig
    from zoo.plugins import plugins

    encoder = {"name": "vit", "patch_size": 16, "dim": 32, "depth": 2, "num_heads": 2}
    parts = {"preprocess": {"name": "image", "image_size": SIDE}, "encoder": encoder}
    config = {"name": "tiny", "embed_dim": 16, "modalities": {"image": parts}}
    registries = plugins().registries
    model = Model.build(ModelConfig.from_dict(config), {"image": IMAGE}, registries, {})
    start = time.perf_counter()
    dataset = zoo.dataset("image_folder", root=str(root), on_error=on_error)
    assert dataset.fingerprint
    listed = time.perf_counter() - start
    stopped = ""
    try:
        zoo.embed(model, dataset, device="cpu", cache=False)
    except zoo.ZooError as error:
        stopped = str(error)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    left_out = skipped_of(dataset)
    cells = [len(dataset), on_error, f"{listed:.1f}", f"{seconds:.1f}", f"{memory:.0f}"]
    cells += [len(left_out), len(describe_skipped(left_out)), "yes" if stopped else "no"]
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    if stopped:
        print(stopped, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    heads = ["files", "on_error", "listed s", "in all s", "MiB", "left out", "lines said"]
    heads += ["stopped"]
    print(f"| {' | '.join(heads)} |\n| {'--- | ' * len(heads)}".rstrip(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number in (options.files // 10, options.files):
            for name, every, modes in (("whole", 0, ["skip"]), ("bad", 100, ["skip", "raise"])):
                root = Path(folder) / f"{name}{number}" / "root"
                bad = write_images(root, number, every)
                print(f"{root.parent.name}: {len(bad)} broken", file=sys.stderr)
                for mode in modes:
                    process = multiprocessing.get_context("spawn").Process(
                        target=embed_folder, args=(root, mode)
                    )
                    process.start()
                    process.join()


if __name__ == "__main__":
    main()
