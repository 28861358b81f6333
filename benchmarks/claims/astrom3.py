"""AstroM3's claim: contrastive pre-training helps a classifier most where labels are few.

    python benchmarks/claims/astrom3.py [--seeds 0 1 2 3 4] [--jobs 2] [--work FOLDER]
        [--data FOLDER] [--only NAME …]

After Rizhko & Bloom, arXiv:2411.08842: pre-train by contrast between the modalities, fine-tune a
classifier with 100, 50, 25 and 10 % of the labels (class-balanced caps), against the same
classifier from scratch; five seeds, each with its own data or split. Three experiments:

- `simulator`: pre-trained and fine-tuned on synthetic stars, judged on other synthetic stars;
- `rr_lyrae`: pre-trained on synthetic stars, fine-tuned on the light curves of SDSS Stripe 82;
- `supernova_spectra`: pre-trained on synthetic stars, fine-tuned on SNID's spectra.

The last two use channels that both sides have: light curves without catalogue columns, spectra
divided by their continuum and without inverse variance. Both arms share everything but the weights
they start from (with which come the means and deviations of the metadata, learned without labels
from the whole training split): seed, order of the batches, labels, steps, learning rate; the epoch
with the lowest validation loss is kept. Arms compare at one fraction only: smaller fractions are
better balanced, which balanced accuracy rewards. The interval is that of a paired t-test over
seeds. Every result is written as it comes, and a run that was stopped goes on. Writes
`astrom3.json` and `ASTROM3.md` beside this file.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

HERE = Path(__file__).parent
FRACTIONS = (1.0, 0.5, 0.25, 0.1)
N_STARS, N_TEST = 800, 800
TEST_SEED = 10_000
"""Of the synthetic stars that judge: no training set has it."""
PRETRAIN_EPOCHS, STEPS, RATE = 30, 100, 3e-3
SCRATCH, PRETRAINED = "scratch", "contrastive"
SIMULATOR = ("data=simulated_variable_stars", f"data.n_stars={N_STARS}")
MODEL = ("model=star-clip/small", "model.modalities.photometry.preprocess.max_length=64")
FLATTENED = ("data.adapters.spectra=divide_continuum",)


@dataclass(frozen=True)
class Experiment:
    """Where the weights come from and what is classified.

    Attributes:
        name: Of the experiment.
        pretrain: Overrides of the contrastive run.
        data: Overrides of the fine-tuning.
        inputs: Modalities of each classifier.
        batch_size: Of the fine-tuning.
        synthetic: Whether the judged stars are simulated.
    """

    name: str
    pretrain: tuple[str, ...]
    data: tuple[str, ...]
    inputs: tuple[tuple[str, ...], ...]
    batch_size: int
    synthetic: bool = False


@dataclass(frozen=True)
class Case:
    """One fine-tuning."""

    experiment: Experiment
    inputs: tuple[str, ...]
    fraction: float
    start: str
    seed: int

    @property
    def key(self) -> str:
        parts = (self.experiment.name, "+".join(self.inputs), self.fraction, self.start, self.seed)
        return "/".join(map(str, parts))


def experiments(data: Path | None) -> list[Experiment]:
    """Those whose data are there."""
    single = (("photometry",), ("spectra",), ("metadata",))
    everything = ("photometry", "spectra", "metadata")
    found = [Experiment("simulator", SIMULATOR, SIMULATOR, (*single, everything), 32, True)]
    transfer = (*SIMULATOR, *FLATTENED)
    for name, dataset, inputs in (
        ("rr_lyrae", "sdss_s82_rrlyrae", single[0]),
        ("supernova_spectra", "snid_supernova_spectra", single[1]),
    ):
        root = None if data is None else data / dataset
        if root is None or not root.is_dir():
            print(f"left out: {name}; {root} is not there (--data)", file=sys.stderr)
            continue
        own = (f"data={dataset}", f"data.root={root.absolute()}")
        found.append(Experiment(name, transfer, own, (inputs,), 32))
    return found


def pretrain(experiment: Experiment, seed: int, work: Path) -> Path:
    """The folder of the contrastive run of a seed, made once for all that share its data."""
    import zoo

    kind = "flattened" if FLATTENED[0] in experiment.pretrain else "full"
    folder = work / f"pretrain-{kind}-{seed}"
    if not (folder / "model" / "config.json").is_file():
        zoo.train(
            "domain=astro",
            *MODEL,
            *experiment.pretrain,
            f"data.seed={seed}",
            f"seed={seed}",
            f"trainer.max_epochs={PRETRAIN_EPOCHS}",
            "evaluator=null",
            f"run_folder={folder}",
        )
    return folder


def overrides(case: Case, folder: Path, start: Path | None) -> list[str]:
    """Settings of a fine-tuning; the number of steps does not depend on the number of labels."""
    experiment = case.experiment
    own_seed = "data.seed" if experiment.synthetic else "data.split_seed"
    # as published (section 5): pooled features of one modality, projected ones of several
    several = len(case.inputs) > 1
    classifier = "{features: projected, fusion: mean}" if several else "{features: pooled}"
    parts = [f"encoders.{m}" for m in case.inputs]
    parts += [f"heads.{m}" for m in case.inputs if several]
    return [
        "domain=astro",
        *MODEL,
        *experiment.data,
        f"{own_seed}={case.seed}",
        f"seed={case.seed}",
        f"modalities=[{','.join(case.inputs)}]",
        "objective=[classification]",
        f"model.classifier={classifier}",
        f"loader.batch_size={experiment.batch_size}",
        f"loader.label_fraction={case.fraction}",
        f"optimizer.lr={RATE}",
        "evaluator=null",
        "online_probe=false",
        f"run_folder={folder}",
        *([] if start is None else [f"init.weights={start}", f"init.parts=[{','.join(parts)}]"]),
    ]


def finetune(case: Case, work: Path) -> dict[str, Any]:
    """Fine-tune, and judge on stars that no training has seen."""
    import zoo

    start = pretrain(case.experiment, case.seed, work) if case.start == PRETRAINED else None
    folder = work / case.key.replace("/", "-")
    settings = overrides(case, folder, start)
    rows = labels_used(settings)
    epochs = max(1, round(STEPS / max(1, rows // case.experiment.batch_size)))
    began = time.perf_counter()
    trained = zoo.train(*settings, f"trainer.max_epochs={epochs}")
    judged = judge_set() if case.experiment.synthetic else trained.dataset
    split = "all" if case.experiment.synthetic else "test"
    predicted = zoo.predict(trained.model, judged, split=split, modalities=list(case.inputs))
    return {
        "key": case.key,
        "balanced_accuracy": balanced_accuracy(predicted),
        "n_labels": rows,
        "n_test": len(predicted.ids),
        "seconds": time.perf_counter() - began,
    }


@cache
def judge_set() -> Any:
    """Synthetic stars that only judge."""
    import zoo

    return zoo.dataset("simulated_variable_stars", n_stars=N_TEST, seed=TEST_SEED)


def labels_used(settings: Sequence[str]) -> int:
    """Labelled training samples of a fine-tuning."""
    import zoo
    from shared.data.subsample import subsample
    from zoo.api import train_config

    config = train_config(settings)
    dataset = zoo.dataset(**config.data)
    labels = dataset.labels[dataset.indices("train")]
    return len(subsample(labels, config.loader.label_fraction, config.seed))


def balanced_accuracy(predicted: Any) -> float:
    """Mean recall of the classes that are there."""
    from sklearn.metrics import balanced_accuracy_score

    score = balanced_accuracy_score(predicted.labels, predicted.predicted)
    return float(score)


def cases(chosen: Sequence[Experiment], seeds: Sequence[int]) -> Iterator[Case]:
    """All fine-tunings, seed by seed."""
    for seed in seeds:
        for experiment in chosen:
            for inputs in experiment.inputs:
                for fraction in FRACTIONS:
                    for start in (SCRATCH, PRETRAINED):
                        yield Case(experiment, inputs, fraction, start, seed)


def run_seed(chosen: Sequence[Experiment], seed: int, work: Path) -> None:
    """All fine-tunings of a seed that are not done yet."""
    import torch

    torch.set_num_threads(1)
    results = work / f"results-{seed}.jsonl"
    done = {row["key"] for row in read_rows(results)}
    for case in cases(chosen, [seed]):
        if case.key not in done:
            row = finetune(case, work)
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{case.key}: {row['balanced_accuracy']:.3f}", flush=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def compare(scratch: Sequence[float], pretrained: Sequence[float]) -> dict[str, float]:
    """Means, deviations over seeds, and the paired difference with its 95 % t-interval."""
    difference = np.array(pretrained) - np.array(scratch)
    n = len(difference)
    error = difference.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    half = stats.t.ppf(0.975, n - 1) * error if n > 1 else np.nan
    return {
        "scratch": float(np.mean(scratch)),
        "scratch_std": float(np.std(scratch)),
        "contrastive": float(np.mean(pretrained)),
        "contrastive_std": float(np.std(pretrained)),
        "difference": float(difference.mean()),
        "low": float(difference.mean() - half),
        "high": float(difference.mean() + half),
        "seeds": n,
    }


def verdict(row: Mapping[str, float]) -> str:
    """What the interval says."""
    if row["low"] > 0:
        return "helps"
    return "harms" if row["high"] < 0 else "undecided"


def summarise(
    chosen: Sequence[Experiment], seeds: Sequence[int], work: Path
) -> list[dict[str, Any]]:
    """One row an experiment, input and fraction, of the seeds that have both arms."""
    found = {r["key"]: r for seed in seeds for r in read_rows(work / f"results-{seed}.jsonl")}
    summary = []
    for experiment in chosen:
        for inputs in experiment.inputs:
            for fraction in FRACTIONS:
                pairs = [
                    [found.get(Case(experiment, inputs, fraction, arm, seed).key) for seed in seeds]
                    for arm in (SCRATCH, PRETRAINED)
                ]
                both = [(a, b) for a, b in zip(*pairs, strict=True) if a and b]
                if not both:
                    continue
                scores = [
                    [row["balanced_accuracy"] for row in arm] for arm in zip(*both, strict=True)
                ]
                summary.append(
                    {
                        "experiment": experiment.name,
                        "synthetic": experiment.synthetic,
                        "inputs": "+".join(inputs),
                        "fraction": fraction,
                        "n_labels": float(np.mean([a["n_labels"] for a, _ in both])),
                        "n_test": float(np.mean([a["n_test"] for a, _ in both])),
                        **compare(*scores),
                    }
                )
    return summary


def table(summary: Sequence[Mapping[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| experiment | input | labels | scratch | contrastive | difference [95 %] | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in summary:
        name = row["experiment"] + (" (synthetic)" if row["synthetic"] else "")
        lines.append(
            f"| {name} | {row['inputs']} | {row['fraction']:.0%} ({row['n_labels']:.0f}) "
            f"| {row['scratch']:.3f} ± {row['scratch_std']:.3f} "
            f"| {row['contrastive']:.3f} ± {row['contrastive_std']:.3f} "
            f"| {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}] | {verdict(row)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for, and write the table of everything that is done."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time, one thread each")
    parser.add_argument("--work", type=Path, default=Path("runs/claim-astrom3"))
    parser.add_argument("--data", type=Path, help="folder with the real sets, a folder each")
    parser.add_argument("--only", nargs="+", help="names of experiments")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    known = experiments(options.data)
    chosen = [e for e in known if options.only is None or e.name in options.only]
    os.environ["OMP_NUM_THREADS"] = "1"
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=spawn) as pool:
        jobs = [pool.submit(run_seed, chosen, seed, options.work) for seed in options.seeds]
        for job in jobs:
            job.result()
    summary = summarise(known, options.seeds, options.work)
    (HERE / "astrom3.json").write_text(json.dumps(summary, indent=2) + "\n")
    text = table(summary)
    (HERE / "ASTROM3.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
