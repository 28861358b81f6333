"""Everything a training run can be told, typed: configs/train.yaml and the Python API agree on it.

Free nodes (`data`, `model`, `objective`, `passes`) hold a registered `name` and its settings, which
are checked against the signature of what the name stands for.
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
        label_fraction: Share of the labelled samples of the training and validation splits that is
            used; large classes lose first, see `shared/data/subsample.py`.
        first_samples: Of data that are streamed: samples of each split that are read before the
            training starts; preprocessing learns what it learns from those of the training split.
        cache_frozen: Compute the embeddings of frozen encoders once and read them instead of the
            inputs, where that changes nothing but time; see `shared/training/frozen.py`.
    """

    batch_size: int = 128
    num_workers: int = 0
    in_memory: bool = True
    label_fraction: float = 1.0
    first_samples: int = 1000
    cache_frozen: bool = False


@dataclass
class OptimizerConfig:
    """A torch optimiser.

    Attributes:
        name: `adamw`, `adam` or `sgd`.
        lr: Peak learning rate.
        weight_decay: Decoupled for adamw, L2 for the others.
        betas: Of adam and adamw.
        eps: Of adam and adamw: what is added to the root of the second moment.
        decay_all: Also decay biases, norms and scalars (as AstroM3's recipe does).
        layer_decay: Each layer's rate over that of the layer above, for encoders that number their
            layers (BEiT, arXiv:2106.08254); 1: the same rate everywhere.
        rules: Parameters with a rate or a decay of their own; see `ParameterRule`. Where several
            match, their scales multiply.
        frozen: Patterns of parameters that are not trained; a module frozen as a whole is in eval
            mode, without dropout.
    """

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    eps: float = 1e-8
    decay_all: bool = False
    layer_decay: float = 1.0
    rules: list[dict[str, Any]] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)


@dataclass
class ParameterRule:
    """What is different for some parameters.

    Attributes:
        match: Pattern of names such as `model.encoders.image.*` or `objectives.dinov2.*last_layer*`
            (`*` stands for any text).
        lr_scale: Over `optimizer.lr`.
        weight_decay_scale: Over `optimizer.weight_decay`.
        freeze_epochs: First epochs in which their rate is 0.
    """

    match: str
    lr_scale: float = 1.0
    weight_decay_scale: float = 1.0
    freeze_epochs: int = 0


@dataclass
class ScheduleConfig:
    """Learning rate and weight decay over a run.

    A plateau's warm-up rises by epoch, that of the others by step.

    Attributes:
        name: After the warm-up `cosine` (to `final_ratio` of the peak), `constant`, or `plateau`
            (times `factor` whenever the validation loss has not improved for more than `patience`
            epochs).
        warmup_fraction: Share of all steps with a linear rise to the peak.
        warmup_epochs: Length of the warm-up in epochs; null: by `warmup_fraction`.
        warmup_steps: Its length in steps instead.
        warmup_start: Where it starts, over the peak; null: at the first of even steps.
        warmup_ends_at_peak: Whether its last step has the peak already (as DINOv2's), instead of
            the step after it.
        final_ratio: Where the cosine ends.
        final_weight_decay: Weight decay at the end, reached by half a cosine; null: constant.
        factor: Of the plateau.
        patience: Of the plateau, in epochs.
    """

    name: str = "cosine"
    warmup_fraction: float = 0.05
    warmup_epochs: float | None = None
    warmup_steps: int | None = None
    warmup_start: float | None = None
    warmup_ends_at_peak: bool = False
    final_ratio: float = 0.0
    final_weight_decay: float | None = None
    factor: float = 0.1
    patience: int = 10


@dataclass
class TrainerConfig:
    """How long and on what.

    Attributes:
        max_epochs: Passes over the training split.
        device: `auto`, `cpu`, `cuda` or `mps`.
        devices: Processes a node, one device each.
        num_nodes: Machines.
        strategy: `ddp` for several processes, which `auto` chooses too where there are several;
            `fsdp` cuts weights, gradients and optimiser state up over them, and needs GPUs.
        timeout: Seconds after which a process that does not answer the others ends the run; it has
            to cover the time by which some of them read their data later than others.
        sync_batchnorm: Whether batch norms see the rows of all processes, as one process would;
            otherwise each sees its own, and the running statistics are those of the first.
        precision: `float32`, or `bfloat16` under autocast.
        gradient_clip_norm: Largest norm of the gradient; null: no bound.
        gradient_clip_per: Whether that bounds the whole `run`, or by itself each `part`: the model
            and every module of an objective.
        validation_mean: Whether `val/loss` weighs all `samples` or all `batches` the same.
        compile: torch.compile the encoders.
        channels_last: Hold weights of convolutions over images with the channels as the last axis
            in memory, and so what comes out of them. A matter of speed: the numbers are the same up
            to rounding.
        log_every_n_steps: Distance of training log lines.
        checkpoint_every_n_steps: Also write the resume checkpoint inside an epoch; 0: only at ends.
    """

    max_epochs: int = 20
    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    timeout: float = 1800.0
    sync_batchnorm: bool = True
    precision: str = "float32"
    gradient_clip_norm: float | None = 1.0
    gradient_clip_per: str = "run"
    validation_mean: str = "samples"
    compile: bool = False
    channels_last: bool = False
    log_every_n_steps: int = 10
    checkpoint_every_n_steps: int = 0


@dataclass
class SelectionConfig:
    """Which epoch's weights are kept, and when to stop early.

    Attributes:
        monitor: A validation value, such as `val/loss`.
        mode: `min` or `max`.
        patience: Epochs without improvement of `val/loss` before training stops; null: never.
        first_epoch_counts: Whether the first epoch is one without improvement of the loss, as in
            AstroM3's code.
    """

    monitor: str = "val/loss"
    mode: str = "min"
    patience: int | None = None
    first_epoch_counts: bool = False


@dataclass
class InitConfig:
    """Where a run's weights start.

    Attributes:
        weights: A run or model folder, or the name of a published model; null: at random.
        parts: Names such as `encoders.image` that are taken from it; null: all it shares with the
            model. With an encoder come the statistics of its preprocessing.
    """

    weights: str | None = None
    parts: list[str] | None = None


@dataclass
class LoraConfig:
    """Low-rank adaptation of encoders (arXiv:2106.09685); see `shared/training/lora.py`.

    Attributes:
        modalities: Whose encoders are adapted, all other weights of which stand still; null: all.
        rank: Of what is added to a linear map.
        alpha: What is added is scaled by alpha / rank (§4.1).
        dropout: Of what enters it, in training.
    """

    modalities: list[str] | None = None
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0


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
        passes: `name` of how a step's forwards and backwards are run, and its settings.
        lora: Adapts trained encoders instead of training all their weights; null: none.
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
    passes: dict[str, Any] = field(default_factory=lambda: {"name": "plain"})
    lora: LoraConfig | None = None
    online_probe: bool = True
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    init: InitConfig = field(default_factory=InitConfig)
