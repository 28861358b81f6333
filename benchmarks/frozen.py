"""Training with a locked tower: with its inputs read and encoded in every step, and with its
embeddings read instead (`loader.cache_frozen`), on synthetic scenes.

    python benchmarks/frozen.py --scenes 400 --epochs 3 --json frozen.json

Each run is a `zoo train` of its own; the time of an epoch is the smallest that a run prints in its
metrics, validation included. Losses of both runs are compared line by line.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EPOCH = re.compile(r"epoch +\d+/\d+ .*?([\d.]+) s \(data")
SIZE = re.compile(r"read instead of its inputs: ([\d.,]+) MB")


def train(home: Path, folder: Path, *settings: str) -> dict[str, Any]:
    """Epochs [s], the whole run [s], size of what is stored [MB] and the metrics of one run."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "zoo.cli.main", "train", *settings, f"run_folder={folder}"],
        env={**os.environ, "ZOO_HOME": str(home), "COLUMNS": "500"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        command = f"zoo train {' '.join(settings)}"
        raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr}")
    seconds = time.perf_counter() - began
    with (folder / "metrics.csv").open() as file:
        metrics = {(r["step"], r["metric"]): float(r["value"]) for r in csv.DictReader(file)}
    size = SIZE.search(done.stdout)
    return {
        "epoch_s": min(map(float, EPOCH.findall(done.stdout))),
        "run_s": round(seconds, 1),
        "stored_mb": float(size[1].replace(",", "")) if size else 0.0,
        "metrics": metrics,
    }


def compare(options: argparse.Namespace, tower: str, work: Path) -> dict[str, Any]:
    """The runs with a locked tower: as ever, and with its embeddings, computed and found again."""
    settings = [
        "domain=remote_sensing",
        f"model={options.model}",
        f"data.n_scenes={options.scenes}",
        f"data.size={options.size}",
        f"loader.batch_size={options.batch}",
        f"trainer.max_epochs={options.epochs}",
        f"trainer.device={options.device}",
        f"trainer.precision={options.precision}",
        f"optimizer.frozen=[model.encoders.{tower}.*]",
        # an augmentation is a view of its own in every epoch
        "model.modalities.image.preprocess.augment=null",
        "evaluator=null",
        "online_probe=false",
        "trainer.log_every_n_steps=1",
    ]
    runs = {
        name: train(work / "home", work / f"{tower}-{name}", *settings, f"loader.cache_frozen={on}")
        for name, on in (("read", "false"), ("stored", "true"), ("stored again", "true"))
    }
    metrics = [run.pop("metrics") for run in runs.values()]
    difference = max(abs(m[key] - value) for m in metrics[1:] for key, value in metrics[0].items())
    return {"tower": tower, "model": options.model, "largest_difference": difference, "runs": runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="rs-clip/small")
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--size", type=int, default=64, help="side of a scene in pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--towers", nargs="+", default=["text", "image"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as work:
        for tower in options.towers:
            found.append(compare(options, tower, Path(work)))
            print(f"locked {tower}: largest difference {found[-1]['largest_difference']:.1e}")
            for name, run in found[-1]["runs"].items():
                print(
                    f"  {name:<13} epoch {run['epoch_s']:6.1f} s   run {run['run_s']:6.1f} s   "
                    f"stored {run['stored_mb']:.3g} MB"
                )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
