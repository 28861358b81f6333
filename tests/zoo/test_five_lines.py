"""What a user does first with a model of images and texts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.special import softmax

import zoo
from shared.errors import ConfigError, DataError, UnknownNameError
from shared.model import Model

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (20 + n, 30, 3), dtype=np.uint8) for n in range(6)]
CLASSES = ["forest", "river", "parking lot"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, picture in enumerate(PICTURES):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


def test_five_lines(tiny_clip: Model, photos: Path, tmp_path: Path) -> None:
    tiny_clip.save(tmp_path / "model", "# card\n")
    model = zoo.load(tmp_path / "model")
    vectors = model.embed(image=photos)
    assert vectors.shape == (6, 8)
    texts = model.embed(text=["a river", "a field"])
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-6)
    probabilities = model.zero_shot(photos, CLASSES, ["a photo of a {}.", "{} from above"])
    assert probabilities.shape == (6, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    found = model.retrieve(text="a river", among={"image": photos}, k=2)
    cosines = vectors @ texts[0]
    assert found.indices.tolist() == [np.argsort(-cosines)[:2].tolist()]
    np.testing.assert_allclose(found.scores[0], np.sort(cosines)[::-1][:2], atol=1e-6)


def test_path_picture_and_array_are_the_same(tiny_clip: Model, photos: Path) -> None:
    expected = tiny_clip.embed(image=PICTURES)
    paths = sorted(photos.iterdir())
    for images in (photos, paths, [*map(str, paths)], [Image.fromarray(p) for p in PICTURES]):
        np.testing.assert_array_equal(tiny_clip.embed(image=images), expected)
    mixed = [paths[0], PICTURES[1], Image.fromarray(PICTURES[2])]
    np.testing.assert_allclose(tiny_clip.embed(image=mixed), expected[:3], atol=1e-6)
    np.testing.assert_allclose(tiny_clip.embed(image=str(paths[4])), expected[4:5], atol=1e-6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=5)
@given(st.permutations(range(6)), st.integers(1, 6))
def test_a_row_does_not_know_its_batch(tiny_clip: Model, order: list[int], size: int) -> None:
    texts = [f"{'a very ' * n} green field" for n in range(6)]
    for modality, raws in (("image", PICTURES), ("text", texts)):
        alone: Any = np.concatenate([tiny_clip.embed(**{modality: raw}) for raw in raws])
        shuffled: Any = {modality: [raws[n] for n in order], "batch_size": size}
        np.testing.assert_allclose(tiny_clip.embed(**shuffled), alone[order], atol=2e-6)


def test_unnormalized_is_what_the_head_gives(tiny_clip: Model) -> None:
    raw = tiny_clip.embed(image=PICTURES, output="unnormalized")
    pooled = tiny_clip.embed(image=PICTURES, output="pooled")
    weight = tiny_clip.heads["image"].weight.detach().numpy()
    np.testing.assert_allclose(raw, pooled @ weight.T, atol=1e-5)
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.ptp(norms) > 1e-3
    np.testing.assert_allclose(raw / norms, tiny_clip.embed(image=PICTURES), atol=1e-6)


def test_zero_shot_by_hand(tiny_clip: Model) -> None:
    templates = ["a photo of a {}.", "a dark and very blurry aerial image of the {}."]
    images = tiny_clip.embed(image=PICTURES)
    said = [t.replace("{}", c) for c in CLASSES for t in templates]
    for order, output in (("normalise_first", "projected"), ("average_first", "unnormalized")):
        means = tiny_clip.embed(text=said, output=output).reshape(3, 2, 8).mean(axis=1)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        learned = tiny_clip.zero_shot(PICTURES, CLASSES, templates, order=order)
        np.testing.assert_allclose(
            learned, softmax(np.exp(2.0) * images @ means.T, axis=1), atol=1e-5
        )
        sharp = tiny_clip.zero_shot(PICTURES, CLASSES, templates, order=order, logit_scale=50)
        np.testing.assert_allclose(sharp, softmax(50 * images @ means.T, axis=1), atol=1e-5)
    del tiny_clip.scalars["logit_scale"]
    published = tiny_clip.zero_shot(PICTURES, CLASSES)
    np.testing.assert_array_equal(
        published, tiny_clip.zero_shot(PICTURES, CLASSES, "a photo of a {}.", logit_scale=100)
    )


def test_retrieval(tiny_clip: Model) -> None:
    vectors = tiny_clip.embed(image=PICTURES)
    found = tiny_clip.retrieve(image=PICTURES, among=vectors, k=99)
    assert found.indices.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert found.indices.shape == found.scores.shape == (6, 6)
    assert found.indices[:, 0].tolist() == [*range(6)]
    np.testing.assert_allclose(found.scores[:, 0], 1, atol=1e-6)
    assert (np.diff(found.scores) <= 0).all()
    back = tiny_clip.retrieve(image=PICTURES[3], among={"text": CLASSES}, k=1)
    assert back.indices[0, 0] == tiny_clip.zero_shot(PICTURES[3], CLASSES, "{}").argmax()


def test_mistakes_are_told(tiny_clip: Model, photos: Path, monkeypatch: Any) -> None:
    (photos / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"input 3: .*3\.png: is not a whole PNG"):
        tiny_clip.embed(image=photos, batch_size=2)
    with pytest.raises(DataError, match="input 1: text is not a non-empty text"):
        tiny_clip.embed(text=["a field", " "])
    with pytest.raises(UnknownNameError, match="no modality 'images'"):
        tiny_clip.embed(images=photos)
    with pytest.raises(ConfigError, match=r"output='unnormalised'. Did you mean 'unnormalized'"):
        tiny_clip.embed(image=PICTURES, output="unnormalised")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"order='mean'\. Known: average_first"):
        tiny_clip.zero_shot(PICTURES, CLASSES, order="mean")
    with pytest.raises(ConfigError, match=r"has no \{\}"):
        tiny_clip.zero_shot(PICTURES, CLASSES, "a photo")
    with pytest.raises(ConfigError, match="stands twice"):
        tiny_clip.zero_shot(PICTURES, ["river", "river"])
    with pytest.raises(UnknownNameError, match="no modality 'imag'"):
        tiny_clip.zero_shot(PICTURES, CLASSES, modality="imag")
    with pytest.raises(ConfigError, match="queries of one modality"):
        tiny_clip.retrieve(text="a river", image=PICTURES, among={"image": PICTURES})
    with pytest.raises(ConfigError, match="k=0"):
        tiny_clip.retrieve(text="a river", among={"image": PICTURES}, k=0)
    with pytest.raises(DataError, match=r"shape \(6, 16\).* \(n, 8\)"):
        tiny_clip.retrieve(text="a river", among=tiny_clip.embed(image=PICTURES, output="pooled"))
    stars = zoo.load("star-clip", weights="random")
    with pytest.raises(ConfigError, match="no modality 'text' for the prompts"):
        stars.zero_shot([], CLASSES)
    # as where the package is not installed
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    with pytest.raises(zoo.ZooError, match=r"pip install 'domain-zoo\[vision\]'"):
        type(tiny_clip.preprocessors["image"])(tiny_clip.schemas["image"])


def test_the_parts_load_nothing_before_they_are_used() -> None:
    code = "import sys, json, zoo; zoo.list_models(); print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"torch", "torchvision", "open_clip", "PIL"}
