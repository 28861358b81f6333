"""Starting from the weights of another run, whole or in parts."""

from pathlib import Path

import pytest
import torch

from shared.errors import ConfigError, WeightsError


@pytest.fixture(scope="module")
def folder(make_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, runner, _ = make_run("seed=5")
    path: Path = tmp_path_factory.mktemp("other") / "model"
    runner.model.save(path, "# card\n")
    return path


def test_parts(make_run, folder: Path) -> None:
    _, other, _ = make_run("seed=5")
    _, fresh, _ = make_run()
    _, started, _ = make_run(f"init.weights={folder}", "init.parts=[encoders.spectra]")
    for name, value in started.model.state_dict().items():
        source = other if name.startswith("encoders.spectra.") else fresh
        assert torch.equal(value, source.model.state_dict()[name]), name


def test_all_that_both_have(make_run, folder: Path) -> None:
    _, other, _ = make_run("seed=5")
    # a run folder is as good as its model folder
    _, started, _ = make_run(f"init.weights={folder.parent}", "modalities=[spectra,metadata]")
    for name, value in started.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_mistakes(make_run, folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no 'encoders.spectrum'. Did you mean 'encoders.spectra'"
    ):
        make_run(f"init.weights={folder}", "init.parts=[encoders.spectrum]")
    with pytest.raises(ConfigError, match=r"init.weights is not"):
        make_run("init.parts=[encoders.spectra]")
    with pytest.raises(WeightsError, match="no weights file"):
        make_run("init.weights=/nowhere")
    with pytest.raises(WeightsError, match="does not fit the model"):
        make_run(
            f"init.weights={folder}",
            "init.parts=[encoders.metadata]",
            "model.modalities.metadata.encoder.hidden_dim=32",
        )


def test_two_objectives_cannot_start_one_scalar_differently(make_run) -> None:
    with pytest.raises(ConfigError, match=r"starts logit_scale at 10, .* starts at 14\.28"):
        make_run("objective=[contrastive,sigmoid]")
    _, runner, _ = make_run(
        "objective=[contrastive,sigmoid]", "objective.contrastive.initial_scale=10.0"
    )
    assert float(runner.model.scalars["logit_scale"].detach().exp()) == pytest.approx(10)


def test_what_no_objective_reads_is_not_trained(make_run) -> None:
    _, runner, batch = make_run("objective.contrastive.pairs={photometry-metadata: 1.0}")
    assert runner.untrained == ("encoders.spectra", "heads.spectra")
    runner(runner.make_views(batch)).loss.backward()
    for name, parameter in runner.named_parameters():
        assert parameter.requires_grad == ("spectra" not in name), name
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_an_encoder_of_one_modality_is_no_fusion(make_run) -> None:
    with pytest.raises(ConfigError, match=r"model\.fusion: vit encodes one modality"):
        make_run("model.fusion={name: vit}")


@pytest.mark.parametrize("objective", ["dinov2", "mae"])
def test_one_of_several_modalities_has_to_be_chosen(make_run, objective: str) -> None:
    with pytest.raises(ConfigError, match=rf"set objective\.{objective}\.modality"):
        make_run(f"objective=[{objective}]")
