"""AIR-SLT's layout, the protocol on it, and its pictures; the scenes are synthetic."""

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from domains.remote_sensing.datasets.air_slt import AirSlt
from domains.remote_sensing.selo.pictures import KIND, draw, mosaic
from domains.remote_sensing.selo.protocol import METRICS, PROTOCOL
from domains.remote_sensing.selo.scenes import scenes
from shared.data.image_files import read_image
from shared.errors import DataError, EvaluationError
from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.embeddings.extract import extract
from shared.evaluation.run import evaluate_arrays
from zoo.cli.main import main
from zoo.plugins import plugins

DATA = Path(os.environ.get("ZOO_DATA", Path(__file__).parents[3] / "../shared/data"))
NEON = DATA / "remote_sensing/neon_aerial/2019_BLAN_3_751000_4330000_image_crop.jpg"
COLOURS = {"a red square": (200, 30, 30), "a blue square\n": (30, 30, 200)}
PLACES = {"a red square": (40, 40), "a blue square\n": (560, 480)}
SIDE = 240


def outline(x, y):
    return [[x, y], [x + SIDE, y], [x + SIDE + 0.7, y + SIDE], [x, y + SIDE]]


def entries():
    return [
        {"jpg_name": "scene.png", "caption": caption, "points": [outline(*PLACES[caption])]}
        for caption in COLOURS
    ]


@pytest.fixture(name="root")
def root_fixture(tmp_path):
    """A grey scene with two squares, in AIR-SLT's layout."""
    scene = np.full((800, 900, 3), 110, np.uint8)
    for caption, (x, y) in PLACES.items():
        scene[y : y + SIDE, x : x + SIDE] = COLOURS[caption]
    (tmp_path / "imgs").mkdir()
    cv2.imwrite(str(tmp_path / "imgs/scene.png"), scene[..., ::-1])
    write(tmp_path, entries())
    return tmp_path


def write(root, content):
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations/anno.json").write_text(json.dumps(content))


class Colours:
    """Redness and blueness of an image, and of a text that names a colour."""

    name, revision = "colours", ""

    def modalities(self, schemas):
        return tuple(schemas)

    def embed(self, modality, raws, schema):
        if modality == "text":
            return np.array(
                [(1.0, -1.0, 0.0) if "red" in raw else (-1.0, 1.0, 0.0) for raw in raws]
            )
        means = np.stack([raw.reshape(-1, 3).mean(axis=0) for raw in raws])
        return np.stack([means[:, 0] - 110, means[:, 2] - 110, np.full(len(raws), 20.0)], axis=1)


def judged(embeddings, **settings):
    given = {PROTOCOL.name: settings}
    (run,) = evaluate_arrays(embeddings, [PROTOCOL], settings=given, n_resamples=0).runs
    return run


def test_rows_are_windows_then_queries(root):
    data = AirSlt(str(root))
    n = len(data) - 2
    assert data.ids[0] == "scene.png@0-256-0-256"
    assert data.ids[n:].tolist() == ["query-0", "query-1"]
    assert set(data.splits) == {"test"}
    assert set(data.groups) == {"scene.png"}
    assert data[n + 1] == {"text": "a blue square"}
    image = data[0]["image"]
    assert (image.shape, image.dtype) == ((256, 256, 3), np.uint8)
    assert np.abs(image[150, 150].astype(int) - COLOURS["a red square"]).max() <= 4
    assert json.loads(data.annotations["regions"][n]) == [outline(40, 40)]
    # another outline is other data
    before = data.fingerprint
    write(root, [entries()[0]])
    assert AirSlt(str(root)).fingerprint != before


def test_a_model_that_knows_colours_finds_them(root):
    run = judged(extract(Colours(), AirSlt(str(root))))
    found, guessed = run.output.outcome, run.output.trivial
    assert run.task.modalities == ("text", "image")
    assert found.metrics == METRICS
    assert (found.numbers["rmi"] > 0.6).all()
    assert (found.numbers["rda"] == 1).all()
    assert found.values()[0] > guessed.values()[0] + 0.1
    assert run.output.trivial_name == "random scores of the windows"


def test_neither_order_of_rows_nor_files_change_a_number(root, tmp_path):
    embeddings = extract(Colours(), AirSlt(str(root)))
    reference = judged(embeddings)
    order = np.random.default_rng(0).permutation(len(embeddings))
    columns = ("ids", "labels", "splits", "groups")
    mixed = replace(
        embeddings,
        **{name: getattr(embeddings, name)[order] for name in columns},
        vectors={m: v[order] for m, v in embeddings.vectors.items()},
        present={m: v[order] for m, v in embeddings.present.items()},
        annotations={m: v[order] for m, v in embeddings.annotations.items()},
        content=None,
    )
    embeddings.save(tmp_path / "e.npz")
    embeddings.save(tmp_path / "e.parquet")
    kept = [EmbeddingSet.load(tmp_path / f"e.{suffix}") for suffix in ("npz", "parquet")]
    for other in map(judged, (mixed, *kept)):
        by_id = dict(zip(other.output.rows, other.output.outcome.numbers["rmi"], strict=True))
        assert sorted(by_id.values()) == sorted(reference.output.outcome.numbers["rmi"])
        assert other.output.trivial.values() == pytest.approx(reference.output.trivial.values())


def test_the_map_without_jpeg_gives_nearly_the_same(root):
    embeddings = extract(Colours(), AirSlt(str(root)))
    ours, plain = (judged(embeddings, jpeg=jpeg).output.outcome.values() for jpeg in (True, False))
    assert (ours != plain).any()
    np.testing.assert_allclose(ours, plain, atol=1e-3)


def test_what_lacks_is_missing_with_a_reason(root):
    embeddings = extract(Colours(), AirSlt(str(root)))
    at_the_top = np.char.startswith(embeddings.annotations["window"], "[0,")
    incomplete = replace(embeddings, splits=np.where(at_the_top, "train", "test"))
    assert "do not cover a scene" in judged(incomplete).output.missing
    without = replace(embeddings, annotations={})
    assert "no queries" in judged(without).output.missing
    assert not PROTOCOL.applies(without)
    assert PROTOCOL.applies(embeddings)
    wider = {**embeddings.vectors, "text": np.pad(embeddings.vectors["text"], ((0, 0), (0, 1)))}
    assert "differ in width" in judged(replace(embeddings, vectors=wider)).output.missing


def with_annotation(root, name, text):
    embeddings = extract(Colours(), AirSlt(str(root)))
    column = np.where(embeddings.annotations[name] == "", "", text)
    return replace(embeddings, annotations={**embeddings.annotations, name: column})


@pytest.mark.parametrize("text", ["[0,256", "[0,256,0]", "[-9,256,0,256]", "[0,256,0,true]"])
def test_windows_of_a_file_are_checked(root, text):
    with pytest.raises(EvaluationError, match=r"annotation 'window' of .* is no (window|JSON)"):
        judged(with_annotation(root, "window", text))


@pytest.mark.parametrize("text", ["[]", "7", "[[[1,2],[3]]]", '[[[1,2],[3,"x"],[5,6]]]'])
def test_regions_of_a_file_are_checked(root, text):
    assert "annotation 'regions'" in judged(with_annotation(root, "regions", text)).output.missing


def test_pictures_show_scene_map_outlines_and_numbers(root):
    data = AirSlt(str(root))
    embeddings = extract(Colours(), data)
    run = judged(embeddings)
    figures = dict(draw(run, embeddings, data))
    assert list(figures) == ["localisation_1", "localisation_2"]
    figure = figures["localisation_1"]
    assert "a red square" in figure.get_suptitle()
    assert f"Rmi {run.output.outcome.numbers['rmi'][0]:.3f}" in figure.get_supxlabel()
    left, right, _ = figure.axes
    for panel in (left, right):
        assert panel.lines[0].get_xydata().tolist() == [*outline(40, 40), [40, 40]]
    assert right.lines[-1].get_marker() == "x"


def test_a_scene_is_put_together_from_its_windows(root):
    data = AirSlt(str(root))
    cut = scenes(extract(Colours(), data), "image")["scene.png"]
    whole = mosaic(cut, data, "image").astype(int)
    original = read_image(root / "imgs/scene.png")
    assert whole.shape == original.shape
    assert np.abs(whole - original).mean() < 1


@pytest.mark.skipif(not NEON.is_file(), reason=f"no {NEON.name} under ZOO_DATA")
def test_a_real_scene(root):
    (root / "imgs/neon.jpg").write_bytes(NEON.read_bytes())
    polygon = [[350, 350], [650, 350], [650, 720]]
    write(root, [{"jpg_name": "neon.jpg", "caption": "made up: trees", "points": [polygon]}])
    data = AirSlt(str(root))
    embeddings = extract(Colours(), data)
    whole = mosaic(scenes(embeddings, "image")["neon.jpg"], data, "image").astype(int)
    assert whole.shape == (1024, 1024, 3)
    assert np.abs(whole - read_image(NEON)).mean() < 4  # one more JPEG
    assert judged(embeddings).output.missing is None


def test_a_run_of_the_command_ends_with_maps(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    chosen = ["model=rs-clip:small", "weights=random", "data=air_slt", f"data.root={root}"]
    assert main(["eval", *chosen, f"run_folder={tmp_path / 'run'}", "n_resamples=10"]) == 0
    assert "semantic_localisation" in capsys.readouterr().out
    assert (tmp_path / "run/pictures/localisation_2.png").is_file()
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert KIND.reading in page
    assert "Rsu, salient area" in page
    assert plugins().registries.evaluators.get(AirSlt.evaluator).protocols == (PROTOCOL.name,)


BROKEN = {
    "no list": ({}, "holds no list"),
    "empty": ([], "holds no list"),
    "no mapping": ([1], "entry 0"),
    "lacks": ([{"jpg_name": "scene.png", "caption": "x"}], "points"),
    "caption": ({"caption": " "}, "caption is empty"),
    "caption kind": ({"caption": 3}, "caption"),
    "no polygon": ({"points": []}, "no polygon"),
    "two vertices": ({"points": [[[1, 2], [3, 4]]]}, "three or more vertices"),
    "three numbers": ({"points": [[[1, 2, 3], [3, 4, 5], [5, 6, 7]]]}, "three or more vertices"),
    "not a number": ({"points": [[[1, float("nan")], [3, 4], [5, 6]]]}, "three or more vertices"),
    "far": ({"points": [[[1, 2**31], [3, 4], [5, 6]]]}, "three or more vertices"),
    "truth": ({"points": [[[True, 2], [3, 4], [5, 6]]]}, "three or more vertices"),
    "a point": ({"points": [[[9, 9], [9, 9], [9, 9]]]}, "no extent"),
    "outside": ({"points": [[[-90, 0], [-20, 0], [-20, 50]]]}, "do not lie in the scene"),
    "leads out": ({"jpg_name": "../../etc/scene.png"}, "leads out of"),
    "no scene": ({"jpg_name": "other.jpg"}, "no such file"),
    "small": ({"jpg_name": "small.png"}, "smaller than the largest window"),
    "no image": ({"jpg_name": "text.jpg"}, "not a whole image"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_say_what_and_where(root, change, message):
    cv2.imwrite(str(root / "imgs/small.png"), np.zeros((500, 900, 3), np.uint8))
    (root / "imgs/text.jpg").write_text("no image")
    whole = isinstance(change, list) or not change
    write(root, change if whole else [{**entries()[0], **change}])
    with pytest.raises(DataError, match=message):
        len(AirSlt(str(root)))


def test_a_list_that_is_no_json(root):
    (root / "annotations/anno.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="no JSON"):
        len(AirSlt(str(root)))
    (root / "annotations/anno.json").unlink()
    with pytest.raises(DataError, match="no such file"):
        len(AirSlt(str(root)))
