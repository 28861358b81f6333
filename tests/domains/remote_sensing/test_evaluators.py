"""What the evaluators of the domain do with a model: prompts, settings, rows, simple features."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from domains.remote_sensing.evaluators import READABLE, REMOTE_SENSING, class_names
from shared.data.dataset import SAMPLE
from shared.errors import EvaluationError
from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.embeddings.extract import ZooEmbedder
from shared.evaluation.run import Evaluation
from zoo.evaluation import evaluator_of
from zoo.plugins import plugins

N, CAPTIONS = 24, 2
FAST = {"n_resamples": 0, "cache": False}


@pytest.fixture(scope="module")
def model() -> zoo.Model:
    return zoo.load("rs-clip:small", weights="random")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in the layout of RSSCN7, nine images of each of two classes."""
    root = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for folder in ("aGrass", "cIndustry"):
        (root / folder).mkdir()
        for i in range(9):
            noise = rng.integers(256, size=(16, 16, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / folder / f"{folder[0]}{40 * i + 1:03}.jpg")
    return root


def captioned() -> EmbeddingSet:
    """Test images in two rows each, one a caption."""
    rng = np.random.default_rng(0)
    names = np.repeat([f"image{i}" for i in range(N)], CAPTIONS)
    rows = np.repeat(rng.normal(size=(N, 6)), CAPTIONS, axis=0).astype(np.float32)
    return EmbeddingSet(
        ids=np.array([f"{name}#{i % CAPTIONS}" for i, name in enumerate(names)]),
        vectors={"image": rows, "text": (rows + rng.normal(size=rows.shape)).astype(np.float32)},
        present={m: np.ones(len(rows), np.bool_) for m in ("image", "text")},
        labels=np.full(len(rows), -1),
        classes=(),
        splits=np.full(len(rows), "test"),
        # two images a tile
        groups=np.repeat([f"tile{i // 2}" for i in range(N)], CAPTIONS),
        annotations={SAMPLE: names},
        dataset="captions",
        model="nobody",
        synthetic=True,
        fingerprint="",
    )


def n_of(evaluation: Evaluation) -> dict[tuple[str, str], int]:
    return {(r.protocol, r.inputs): r.n for r in evaluation.results}


def test_the_domain_s_own_is_its_first() -> None:
    assert evaluator_of("", "remote_sensing") is REMOTE_SENSING
    names = {entry.name for entry in plugins().registries.evaluators}
    assert {"eurosat", "eurosat_readable", "resisc45", "aid", "aid_readable", "rsscn7"} <= names


def test_its_protocols_and_their_settings_are_there() -> None:
    registry = plugins().registries.protocols
    for name in REMOTE_SENSING.protocols:
        assert name in registry
    for name, settings in REMOTE_SENSING.settings.items():
        assert name in REMOTE_SENSING.protocols
        assert set(settings) <= set(registry.get(name).settings)


@pytest.mark.parametrize("evaluator", ["remote_sensing", "default"])
def test_an_image_and_its_captions_are_one_sample(evaluator: str, tmp_path: Path) -> None:
    """Also of embeddings that were saved, and the unit of resampling stays the tile."""
    chosen = {"evaluator": evaluator, "protocols": ["retrieval", "mean_recall"]}
    captioned().save(tmp_path / "embeddings.parquet")
    saved = EmbeddingSet.load(tmp_path / "embeddings.parquet")
    for embeddings in (captioned(), saved):
        evaluation = zoo.evaluate(embeddings, **chosen, n_resamples=100)
        assert n_of(evaluation) == {
            ("retrieval", "image->text"): N,
            ("retrieval", "text->image"): N * CAPTIONS,
            ("mean_recall", "image+text"): N,
        }
        assert {result.n_groups for result in evaluation.results} == {N // 2}


def test_prompts_come_before_the_unit_norm(model: zoo.Model, scenes: Path) -> None:
    """Else both orders of averaging would be one."""
    evaluation = zoo.evaluate(
        model, {"name": "rsscn7", "root": str(scenes)}, protocols=["zero_shot"], **FAST
    )
    prompts = evaluation.embeddings.prompts
    assert prompts is not None
    assert prompts.shape == (2, 105, model.config.embed_dim)
    lengths = np.linalg.norm(prompts, axis=2)
    assert lengths.std() > 1e-3
    text = REMOTE_SENSING.templates[0].replace("{}", class_names("rsscn7", READABLE)["Grass"])
    np.testing.assert_allclose(
        prompts[0, 0] / lengths[0, 0], model.embed(text=[text])[0], atol=1e-5
    )
    assert evaluation.results[0].settings["order"] == "average_first"
    pooled = ZooEmbedder(model, "", "pooled", "cpu", "float32")
    assert pooled.of_prompts().embed.__func__ is ZooEmbedder.embed  # as it is: nothing to undo


def test_prompts_are_made_only_where_they_are_read(model: zoo.Model, scenes: Path) -> None:
    data = {"name": "rsscn7", "root": str(scenes)}
    evaluation = zoo.evaluate(model, data, protocols=["knn"], **FAST)
    assert evaluation.embeddings.prompts is None


def test_a_function_of_images_is_given_no_prompts(scenes: Path) -> None:
    histograms = "python:domains.remote_sensing.evaluators:colour_histograms"
    data = {"name": "rsscn7", "root": str(scenes)}
    evaluation = zoo.evaluate(histograms, data, protocols=["zero_shot", "knn"], **FAST)
    assert evaluation.embeddings.prompts is None
    both = {"name": "simulated_scenes", "n_scenes": 40, "size": 16}
    zoo.evaluate(histograms, both, modalities=["image"], protocols=["zero_shot", "knn"], **FAST)
    with pytest.raises(EvaluationError, match="embeds no texts"):
        zoo.evaluate(histograms, data, templates=["a {}"], **FAST)


def test_captions_are_rows_in_evaluation_and_in_embeddings(model: zoo.Model) -> None:
    data = {"name": "simulated_scenes", "n_scenes": 60, "size": 16, "captions": 2}
    evaluation = zoo.evaluate(model, data, protocols=["retrieval", "nearest_centroid"], **FAST)
    n, n_images = n_of(evaluation), len(zoo.dataset(**data).indices("test"))
    assert n["retrieval", "image->text"] == n["nearest_centroid", "image"] == n_images
    assert n["retrieval", "text->image"] == n["nearest_centroid", "text"] == 2 * n_images
    embeddings = zoo.embed(model, data, cache=False)
    assert len(embeddings) == 120
    assert (embeddings.vectors["image"][::2] == embeddings.vectors["image"][1::2]).all()


RSSCN7 = Path(__file__).parents[3] / "../shared/data/remote_sensing/rsscn7"


@pytest.mark.skipif(not RSSCN7.is_dir(), reason=f"no {RSSCN7}: 154 scenes of RSSCN7 are needed")
def test_colour_histograms_reach_what_is_said_of_them() -> None:
    """0.546 ± 0.08 over folds by a logistic regression, says the README of the data."""
    histograms = "python:domains.remote_sensing.evaluators:colour_histograms"
    evaluation = zoo.evaluate(
        zoo.embed(histograms, {"name": "rsscn7", "root": str(RSSCN7)}),
        protocols=["linear_probe"],
        settings={"linear_probe": {"l2_grid": [0.1]}},
        folds=5,
        n_resamples=0,
    )
    accuracy = next(r.value for r in evaluation.results if r.metric == "accuracy")
    assert accuracy == pytest.approx(0.546, abs=0.08)
