"""Judging: `zoo.evaluate` and what `zoo eval` runs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from shared.data.dataset import Dataset
from shared.errors import ConfigError, EvaluationError
from zoo.config import typed
from zoo.options import EvalConfig, check_evaluation
from zoo.plugins import plugins
from zoo.progress import console, rows_progress
from zoo.sources import Source, extract_from, open_source, resolve_data

if TYPE_CHECKING:
    from shared.evaluation.embeddings.embedding_set import EmbeddingSet
    from shared.evaluation.evaluator import Evaluator
    from shared.evaluation.protocol import Protocol
    from shared.evaluation.results.store import EvaluationStore
    from shared.evaluation.run import Evaluation
    from shared.model import Model

_OF_EMBEDDING = ("weights", "output", "device", "precision")


def evaluate(
    model: "str | Model | Callable[[list[Any]], Any] | EmbeddingSet",
    data: str | Mapping[str, Any] | Dataset | None = None,
    *,
    store: "EvaluationStore | None" = None,
    brief: bool = False,
    **options: Any,
) -> "Evaluation":
    """Judge a model on labelled data with intervals and baselines.

    Args:
        model: As in `zoo.embed`, or an `EmbeddingSet`.
        data: As in `zoo.embed`.
        store: Where finished tasks are kept and read from; None: nowhere.
        brief: Only those of the evaluator's protocols that a training ends with.
        **options: See `zoo.options.EvalConfig`.

    Returns:
        An object with `results` (see docs/results.md) and `runs`, with the predictions behind
        them.

    Raises:
        ZooError: In anything the arguments name.
    """
    from rich.text import Text

    from shared.evaluation.cross_validation import cross_validated
    from shared.evaluation.embeddings.embedding_set import EmbeddingSet
    from shared.evaluation.evaluator import Drawing
    from shared.evaluation.pictures import check_projection
    from shared.evaluation.run import evaluate_arrays

    for option in ("model", "data", "embeddings"):
        if option in options:
            raise ConfigError(f"{option} is the first or second argument of zoo.evaluate.")
    config = typed(EvalConfig, options)
    check_projection(config.map)
    check_evaluation(config)
    samples = None
    if isinstance(model, EmbeddingSet):
        for option in _OF_EMBEDDING:
            if option in options:
                raise ConfigError(f"{option} says how to embed; these are embeddings already.")
        evaluator = evaluator_of(config.evaluator or "", None)
        names = _names(evaluator, config, brief)
        embeddings, simple = model.select(config.modalities), None
    else:
        source = open_source(model, config)
        samples = resolve_data(data, source.data, source.embedder.name).evaluated()
        evaluator = evaluator_of(config.evaluator or samples.evaluator, source.domain)
        names = _names(evaluator, config, brief)
        embeddings = _embed(source, samples, evaluator, names, config)
        simple = _simple_features(evaluator, samples, embeddings)
    if config.simple_features is not None:
        simple = EmbeddingSet.load(config.simple_features)
    embeddings = _narrowed(embeddings, config)
    protocols: list[Protocol] = [plugins().registries.protocols.get(name) for name in names]
    if config.protocols is None:
        protocols = [protocol for protocol in protocols if protocol.applies(embeddings)]
    if config.folds is not None:
        protocols = [cross_validated(protocol, config.folds) for protocol in protocols]
    with console().status("judging") as status:
        evaluation = evaluate_arrays(
            embeddings,
            protocols,
            settings=_settings(evaluator, config),
            simple_features=simple,
            seed=config.seed,
            n_resamples=config.n_resamples,
            store=store,
            progress=lambda what, done, total: status.update(Text(f"{what} ({done} of {total})")),
        )
    return replace(evaluation, drawing=Drawing(config.map, samples, evaluator.thumbnails))


def evaluate_config(config: EvalConfig, store: "EvaluationStore | None" = None) -> "Evaluation":
    """`evaluate` with the typed config of `zoo eval`."""
    from shared.evaluation.embeddings.embedding_set import EmbeddingSet

    given = EvalConfig()
    options = {k: v for k, v in asdict(config).items() if v != getattr(given, k)}
    model, data, file = (options.pop(key, None) for key in ("model", "data", "embeddings"))
    if (model is None) == (file is None):
        raise ConfigError("zoo eval takes model=NAME or embeddings=FILE, one of the two.")
    if file is not None:
        if data:
            raise ConfigError("embeddings=FILE brings its own labels: drop data=…")
        return evaluate(EmbeddingSet.load(file), store=store, **options)
    return evaluate(model, data or None, store=store, **options)


def evaluator_of(name: str, domain: str | None) -> "Evaluator":
    """The evaluator asked for by the user or named by the data; of an empty name the first one of
    the model's domain, else the default."""
    if not name:
        own = [p.domain.evaluators for p in plugins().found if p.domain and p.name == domain]
        name = next((name for table in own for name in table), "default")
    evaluator: Evaluator = plugins().registries.evaluators.get(name)
    return evaluator


def _settings(evaluator: "Evaluator", config: EvalConfig) -> dict[str, dict[str, Any]]:
    """By protocol, the settings of the evaluator and over them those of the user."""
    both = (evaluator.settings, config.settings)
    names = dict.fromkeys((*both[0], *both[1]))
    return {name: {**both[0].get(name, {}), **both[1].get(name, {})} for name in names}


def _names(evaluator: "Evaluator", config: EvalConfig, brief: bool) -> list[str]:
    """Of the protocols asked for, else of the evaluator's, or of those a training ends with."""
    from shared.evaluation.evaluator import BRIEF

    if config.protocols is not None:
        return config.protocols
    return [name for name in evaluator.protocols if not brief or name in BRIEF]


def _embed(
    source: Source,
    samples: Dataset,
    evaluator: "Evaluator",
    names: Sequence[str],
    config: EvalConfig,
) -> "EmbeddingSet":
    """Embeddings, with what only the model can add: its classifier's word and prompts."""
    from shared.evaluation.embeddings.extract import ZooEmbedder
    from shared.evaluation.embeddings.prompts import OF_PROMPTS, with_prompts
    from shared.evaluation.protocols import classifier

    embeddings = extract_from(source, samples, config)
    if (
        source.model is not None
        and source.model.classifier is not None
        and (classifier.PROTOCOL.name in names)
    ):
        classified = classifier.classify_subsets(
            source.model,
            samples,
            embeddings.modalities,
            batch_size=config.batch_size,
            device=config.device,
            precision=config.precision,  # type: ignore[arg-type]
            progress=rows_progress,
        )
        embeddings = replace(embeddings, classified=classified)
    known = {c: name for c, name in evaluator.class_names.items() if c in embeddings.classes}
    class_names = {**known, **config.class_names}
    embedder = source.embedder
    prompter = embedder.of_prompts() if isinstance(embedder, ZooEmbedder) else embedder
    if config.templates:
        return with_prompts(embeddings, prompter, config.templates, class_names)
    if evaluator.templates and embeddings.classes and not OF_PROMPTS.isdisjoint(names):
        with suppress(EvaluationError):  # nobody has asked for them: not every model reads texts
            return with_prompts(embeddings, prompter, evaluator.templates, class_names)
    return embeddings


def _simple_features(
    evaluator: "Evaluator", samples: Dataset, embeddings: "EmbeddingSet"
) -> "EmbeddingSet | None":
    from shared.evaluation.embeddings.extract import simple_features

    return simple_features(evaluator, samples, embeddings.modalities, rows_progress)


def _narrowed(embeddings: "EmbeddingSet", config: EvalConfig) -> "EmbeddingSet":
    """With the subgroups and targets that the user chose; None: all there are."""
    chosen: dict[str, Any] = {}
    for key in ("subgroups", "targets"):
        names, there = getattr(config, key), getattr(embeddings, key)
        if names is not None:
            for name in names:
                if name not in there:
                    raise ConfigError(
                        f"{key}=[{name}]: {embeddings.dataset} has no such column. It has "
                        f"{', '.join(there) or 'none'}."
                    )
            chosen[key] = {name: there[name] for name in names}
    return replace(embeddings, **chosen) if chosen else embeddings
