"""Synthetic scenes: repeatable, of any resolution, and described truly."""

import numpy as np
import pytest
from scipy import ndimage

from domains.remote_sensing.datasets.simulated import SimulatedScenes
from domains.remote_sensing.scene_captions import MOST, describe
from domains.remote_sensing.simulator import CLASSES, Scene, draw_scene
from shared.errors import ConfigError

SCENES = 60
NOUNS = {thing.noun for _, things in CLASSES.values() for thing in things}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(128, np.random.default_rng([5, number])) for number in range(SCENES)]


def red_patches(scene: Scene) -> int:
    """Connected patches of pixels of a red surface."""
    red, green, *_ = np.moveaxis(scene.reflectance, -1, 0)
    return int(ndimage.label((red > 0.15) & (red > 2.5 * green))[1])


def test_a_scene_is_a_function_of_seed_and_number() -> None:
    short, long = SimulatedScenes(3, seed=1), SimulatedScenes(9, seed=1)
    for index in range(3):
        one, two = short[index], long[index]
        assert np.array_equal(one["image"], two["image"])
        assert one["text"] == two["text"]
    assert short.fingerprint != long.fingerprint != SimulatedScenes(9, seed=2).fingerprint
    assert not np.array_equal(long[0]["image"], SimulatedScenes(9, seed=2)[0]["image"])


def test_it_shows_the_same_at_any_resolution() -> None:
    small, large = SimulatedScenes(6, size=32), SimulatedScenes(6, size=128)
    for index in range(6):
        one, two = small.scene(index), large.scene(index)
        assert (one.label, one.notes, one.season) == (two.label, two.notes, two.season)
        assert small[index]["text"] == large[index]["text"]
        coarse = two.reflectance.reshape(32, 4, 32, 4, 4).mean((1, 3))
        # what differs is noise, and edges within a pixel
        assert np.abs(one.reflectance - coarse).mean() < 0.02


def test_captions_tell_what_was_drawn(scenes: list[Scene]) -> None:
    for number, scene in enumerate(scenes):
        captions = describe(scene, MOST, np.random.default_rng(number))
        assert len(set(captions)) == MOST
        others = NOUNS - {note.noun for note in scene.notes}
        for kind, caption in enumerate(captions):
            said = caption.replace(name := list(CLASSES)[scene.label], "").split()
            named = {noun for noun in others if noun in said or f"{noun}s" in said}
            # a note's place may name what always is there; where nothing is, that is said
            told = " ".join(note.place for note in scene.notes) or "no buildings"
            assert all(noun in told for noun in named), caption
            assert name in caption or kind == 1


def test_red_things_are_there_where_they_are_noted_and_nowhere_else(scenes: list[Scene]) -> None:
    seen = 0
    for scene in scenes:
        red = [note for note in scene.notes if note.colour == "red"]
        if not scene.hazy:
            assert bool(red) == bool(red_patches(scene)), scene.notes
        if not scene.hazy and [note.noun for note in red] == ["boat"]:
            assert red_patches(scene) == red[0].number
            seen += 1
    assert seen >= 5


def test_classes_seasons_and_counts_vary(scenes: list[Scene]) -> None:
    assert {scene.label for scene in scenes} == set(range(len(CLASSES)))
    assert {scene.season for scene in scenes} == {"summer", "dry", "winter"}
    assert {scene.hazy for scene in scenes} == {True, False}
    captions = {describe(s, 1, np.random.default_rng(0))[0] for s in scenes}
    assert len(captions) > 0.7 * SCENES


def test_plants_are_bright_in_the_near_infrared_and_water_is_dark(scenes: list[Scene]) -> None:
    names = list(CLASSES)
    forest = next(s for s in scenes if names[s.label] == "forest" and s.season == "summer")
    red, *_, nir = np.moveaxis(forest.reflectance, -1, 0)
    assert np.median(nir) > 4 * np.median(red)
    lake = next(s for s in scenes if names[s.label] == "lake" and not s.hazy)
    assert lake.reflectance[64, 64, 3] < lake.reflectance[64, 64, 2]


def test_four_bands_are_reflectance() -> None:
    dataset = SimulatedScenes(2, bands="rgb_nir")
    image = dataset[0]["image"]
    assert (image.shape, image.dtype) == ((64, 64, 4), np.float32)
    assert dataset.schemas["image"].channels[3].name == "nir"
    assert dataset.schemas["image"].channels[3].unit == "reflectance"


def test_evaluation_has_a_row_a_caption() -> None:
    rows = SimulatedScenes(4, captions=3).evaluated()
    assert len(rows) == 12
    assert rows.ids[4] == "scene000001#1"
    assert len(set(rows.groups)) == 4


@pytest.mark.parametrize(
    "settings", [{"n_scenes": 0}, {"size": 8}, {"captions": 6}, {"seed": -1}, {"bands": "nir"}]
)
def test_settings_out_of_range(settings: dict) -> None:
    with pytest.raises(ConfigError, match="simulated_scenes"):
        SimulatedScenes(**settings)
