"""Everything a training run can be told, typed: configs/train.yaml and the Python API agree on it.

Free nodes (`data`, `model`, `objective`) hold a registered `name` and its settings, which are
checked against the signature of what the name stands for.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class LoaderConfig:
    """How batches come.

    Attributes:
        batch_size: Samples a step over all ranks together.
        num_workers: Processes that prepare samples; the numbers do not depend on it.
        in_memory: Prepare every sample once and keep it; false for data larger than memory.
    """

    batch_size: int = 128
    num_workers: int = 0
    in_memory: bool = True


@dataclass
class OptimizerConfig:
    """A torch optimiser.

    Attributes:
        name: `adamw`, `adam` or `sgd`.
        lr: Peak learning rate.
        weight_decay: Decoupled for adamw, L2 for the others.
        betas: Of adam and adamw.
        decay_all: Also decay biases, norms and scalars (as AstroM3's recipe does).
    """

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    decay_all: bool = False


@dataclass
class ScheduleConfig:
    """Learning rate over the steps of a run.

    Attributes:
        name: `cosine` (to `final_ratio` of the peak) or `constant`; both after the warm-up.
        warmup_fraction: Share of all steps with a linear rise from 0.
        final_ratio: Where the cosine ends.
    """

    name: str = "cosine"
    warmup_fraction: float = 0.05
    final_ratio: float = 0.0


@dataclass
class TrainerConfig:
    """How long and on what.

    Attributes:
        max_epochs: Passes over the training split.
        device: `auto`, `cpu`, `cuda` or `mps`.
        devices: Processes a node, one device each.
        num_nodes: Machines.
        strategy: `auto`, or `ddp` for several processes.
        precision: `float32`, or `bfloat16` under autocast.
        gradient_clip_norm: Largest norm of the whole gradient; null: no bound.
        compile: torch.compile the encoders.
        log_every_n_steps: Distance of training log lines.
        checkpoint_every_n_steps: Also write the resume checkpoint inside an epoch; 0: only at ends.
    """

    max_epochs: int = 20
    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "float32"
    gradient_clip_norm: float | None = 1.0
    compile: bool = False
    log_every_n_steps: int = 10
    checkpoint_every_n_steps: int = 0


@dataclass
class SelectionConfig:
    """Which epoch's weights are kept, and when to stop early.

    Attributes:
        monitor: A validation value, such as `val/loss`.
        mode: `min` or `max`.
        patience: Epochs without improvement before training stops; null: never.
    """

    monitor: str = "val/loss"
    mode: str = "min"
    patience: int | None = None


@dataclass
class TrainConfig:
    """One training run.

    Attributes:
        domain: The domain whose parts are used.
        seed: All randomness of the run is a function of it.
        run_folder: Where everything is written; null: `runs/<domain>-<data>-<time>`.
        modalities: Modalities to train; null: those that model and data both have.
        data: `name` of the dataset, its settings, `adapters` by modality.
        model: `name`, `embed_dim` and parts by modality.
        objective: By name of the term: `name` of the method, `weight`, its settings.
        passes: How a step's forwards and backwards are run.
        online_probe: Watch a linear probe on the labels while training.
        evaluator: Run on the held-out split at the end; null: none.
    """

    domain: str
    data: dict[str, Any]
    model: dict[str, Any]
    objective: dict[str, Any]
    evaluator: str | None = None
    seed: int = 0
    run_folder: str | None = None
    modalities: list[str] | None = None
    passes: str = "plain"
    online_probe: bool = True
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
