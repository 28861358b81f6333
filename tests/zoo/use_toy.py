"""What a user does with the toy domain in Python; run by test_toy_domain where it is installed.

Usage: use_toy.py MODEL_FOLDER RUN_FOLDER SETTING…
"""

import sys
from collections.abc import Callable

import numpy as np

import zoo


def message(call: Callable[..., object], *arguments: object, **options: object) -> str:
    """What a call says when it refuses."""
    try:
        call(*arguments, **options)
    except zoo.ZooError as error:
        return str(error)
    raise AssertionError(f"{call} took {arguments} {options}")


def use_model(folder: str) -> None:
    model = zoo.load(folder)
    assert model.modalities == ("position", "bearing")
    places = model.embed(position=[np.array([1.0, 0.0]), np.array([-1.0, 0.0])])
    angles = model.embed(bearing=[np.array([1.0]), np.array([180.0])])
    assert places.shape == angles.shape == (2, 8)
    similar = places @ angles.T
    assert similar[0, 0] > similar[0, 1], similar
    assert similar[1, 1] > similar[1, 0], similar
    by_name = model.embed(position={"y": 0.0, "x": 1.0})
    assert np.allclose(by_name, places[:1], atol=1e-6)
    refused = message(model.embed, bearing=[np.array([400.0])])
    assert "angle [deg] is 400" in refused, refused
    tower = zoo.load(folder, encoders=["bearing"])
    assert tower.modalities == ("bearing",)
    assert np.allclose(tower.embed(bearing=[np.array([1.0])]), angles[:1], atol=1e-6)


def load_by_name(folder: str) -> None:
    refused = message(zoo.load, "toy-model")
    assert "zoo train domain=toy model=toy-model/small" in refused, refused
    assert "weights='random'" in refused, refused
    assert "Did you mean 'small'" in message(zoo.load, "toy-model:smal", weights="random")
    prints = [zoo.load("toy-model", weights="random", seed=s).fingerprint() for s in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]
    named, by_path = zoo.load("toy-model", weights=folder), zoo.load(folder)
    assert named.fingerprint() == by_path.fingerprint()


def train_with_own_objective(folder: str, settings: list[str]) -> None:
    run = zoo.train(*settings, "objective=[alignment_uniformity]", f"run_folder={folder}/own")
    assert not run.model.scalars
    for result in zoo.evaluate(run.model, run.dataset, cache=False, n_resamples=200).results:
        if result.metric in ("balanced_accuracy", "recall@5"):
            assert result.ci_low > result.chance, result
    both = zoo.train(
        *settings,
        "objective=[contrastive,alignment_uniformity]",
        "objective.alignment_uniformity.weight=0.5",
        "trainer.log_every_n_steps=1",
        f"run_folder={folder}/both",
    )
    assert set(both.model.scalars) == {"logit_scale"}


if __name__ == "__main__":
    use_model(sys.argv[1])
    load_by_name(sys.argv[1])
    train_with_own_objective(sys.argv[2], sys.argv[3:])
