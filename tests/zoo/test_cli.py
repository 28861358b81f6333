"""The command line: help, start-up, dry runs, sweeps, and the message for each mistake."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.evaluation.results.result import load_results
from zoo.cli.main import VERBS, main
from zoo.config import compose_config, sweep_jobs, typed


def error(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The message of a mistake: exit code 2, on stderr, one paragraph, no traceback."""
    assert main(list(argv)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("zoo: ")
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], ["no verb 'trian'", "Did you mean 'train'"]),
        (["train"], ["Choose a domain", "astro"]),
        (["train", "domain=astra"], ["no domain=astra", "Did you mean 'astro'"]),
        (["train", "domain=astro", "data=stars"], ["no data=stars", "star_folder"]),
        (["train", "domain=astro", "optimizer.lrr=1"], ["'optimizer.lrr'", "optimizer.lr"]),
        (["train", "domain=astro", "+optimizer.lrr=1"], ["lrr", "optimizer.lr"]),
        (["train", "domain=astro", "trainer.max_epochs=ten"], ["trainer.max_epochs", "'ten'"]),
        (["train", "domain=astro", "optimizer.lr"], ["optimizer.lr", "KEY=VALUE"]),
        (["train", "domain=astro", "optimizer.name=adamx"], ["optimizer.name='adamx'", "'adam'"]),
        (["train", "domain=astro", "schedule.name=cos"], ["schedule.name='cos'", "'cosine'"]),
        (["train", "domain=astro", "passes=plane"], ["passes=plane", "'plain'"]),
        (["train", "domain=astro", "run_folder=${oc.env:HOME}"], ["interpolations"]),
        (["train", "domain=astro", "modalities=[image]"], ["'image'", "photometry"]),
        (["train", "domain=astro", "evaluator=stars"], ["no evaluator 'stars'"]),
        (["train", "domain=astro", "trainer.device=cuda:77"], ["device=cuda:77", "zoo doctor"]),
        (["train", "domain=astro", "trainer.precision=half"], ["'half'", "bfloat16"]),
        (["train", "domain=astro", "data=star_folder"], ["data.root=VALUE"]),
        (
            ["train", "domain=astro", "data=star_folder", "data.root=./no"],
            ["no such folder", "root="],
        ),
        (["train", "domain=astro", "+data.sise=3"], ["data", "'sise'", "n_stars"]),
        (["train", "domain=astro", "data.adapters.photometry=ab"], ["no adapter 'ab'"]),
        (
            ["train", "domain=astro", "data.adapters.photometry=ab_magnitude_to_flux"],
            ["photometry", "magnitude"],
        ),
        (["train", "domain=astro", "+objective.contrastive.sale=pair"], ["'sale'", "'scale'"]),
        (["train", "domain=astro", "+model.modalities.spectra.encoder.kernel=5"], ["'kernel'"]),
        (["train", "domain=astro", "model=star-clip/large"], ["no model=star-clip/large"]),
        (["train", "domain=astro", "data.n_stars=2"], ["no sample in the val split"]),
        (["train", "resume=nowhere"], ["nowhere", "is no run folder"]),
        (["eval", "model=x", "nokey=1"], ["no key 'nokey'"]),
        (["train", "domain=astro", "seed=0,1"], ["several values need", "-m"]),
        (["train", "domain=astro", "~seed"], ["cannot be removed"]),
        (["train", "domain=astro", "model=star-clip/smal"], ["Did you mean 'star-clip/small'"]),
        (["train", "domain=astro", "loader.batch_size=0"], ["at least 1"]),
        (
            ["train", "domain=astro", "objective.contrastive.weight=a"],
            ["contrastive.weight", "'a'"],
        ),
        (["train", "domain=astro", "model.modalities=3"], ["modalities"]),
        (["train", "domain=astro", "optimizer.lr=-1"], ["optimizer.lr=-1.0 has to be"]),
        (
            ["train", "domain=astro", "optimizer.betas=[0.9]"],
            ["optimizer.betas=[0.9] has to be"],
        ),
        (["train", "domain=astro", "seed=-1"], ["seed=-1 has to be"]),
        (["embed", "model=star-clip", "weights=random", "output=poled"], ["'poled'", "'pooled'"]),
        (["embed", "model=star-clip", "weights=random", "out=/proc/x/y.npz"], ["/proc/x"]),
        (["eval"], ["model=NAME or embeddings=FILE"]),
        (["eval", "model=star-clip"], ["No weights are published", "zoo train domain=astro"]),
        (["eval", "model=star-clop"], ["no model 'star-clop'", "'star-clip'"]),
        (["eval", "model=./nowhere"], ["no model folder nowhere"]),
        (["eval", "model=./nowhere", "map=pca"], ["no map 'pca'", "tsne"]),
        (["eval", "embeddings=nowhere.npz"], ["nowhere.npz"]),
        (["eval", "embeddings=x.npz", "data=simulated_variable_stars"], ["drop data"]),
        (["eval", "model=timm:resnet1888", "data=image_folder", "data.root=."], ["resnet1888"]),
        (["embed", "model=star-clip", "out=x.csv"], [".parquet or .npz"]),
        (["embed"], ["model"]),
        (["list", "modles"], ["'modles'", "'models'"]),
        (["list", "models", "--domain", "astra"], ["'astra'", "'astro'"]),
        (["info", "star-clop"], ["'star-clop'", "'star-clip'"]),
        (["info", "./nowhere"], ["nowhere"]),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_mistakes(
    argv: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    message = error(capsys, *argv)
    for word in words:
        assert word in message, message
    assert not list(tmp_path.rglob("*.json")), "something was written"


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([verb, "--help"])
    assert done.value.code == 0
    assert f"zoo {verb}" in capsys.readouterr().out.split("examples:")[1]


def test_start_up_imports_nothing_heavy() -> None:
    code = (
        "import sys; from zoo.cli.main import main; main(['--help']); main(['list']);"
        "heavy = {'torch', 'lightning', 'sklearn', 'astropy', 'pandas'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_loading_and_embedding_never_wait_for_lightning() -> None:
    code = (
        "import sys, zoo; m = zoo.load('star-clip', weights='random');"
        "s = zoo.dataset('simulated_variable_stars', n_stars=2)[0];"
        "m.embed(photometry=s['photometry']); import zoo.api, shared.evaluation.run;"
        "sys.exit('lightning' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_dry_run_prints_a_config_that_can_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    from omegaconf import OmegaConf

    from shared.training.config import TrainConfig

    assert main(["train", "domain=astro", "seed=7", "--dry-run"]) == 0
    printed = OmegaConf.to_container(OmegaConf.create(capsys.readouterr().out))
    config = typed(TrainConfig, printed)  # type: ignore[arg-type]
    assert config.seed == 7
    assert typed(TrainConfig, compose_config("train", ["domain=astro", "seed=7"])) == config
    assert main(["eval", "model=runs/x", "--dry-run"]) == 0
    assert "model: runs/x" in capsys.readouterr().out


def test_every_config_file_composes() -> None:
    from zoo.config import group_options

    for group in ("data", "model", "trainer"):
        for name in group_options(group):
            compose_config("train", ["domain=astro", f"{group}={name}"])
    for name in group_options("objective"):
        compose_config("train", ["domain=astro", f"objective=[{name}]"])


def test_sweeps_are_every_combination() -> None:
    jobs = sweep_jobs(["domain=astro", "seed=0,1", "optimizer.lr=1e-3,1e-4"])
    assert len(jobs) == 4
    assert ["domain=astro", "seed=1", "optimizer.lr=0.0001"] in [
        [o.replace("1e-4", "0.0001") for o in job] for job in jobs
    ]


def test_a_dry_sweep_only_prints(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", "domain=astro", "seed=0,1", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "zoo train domain=astro seed=0",
        "zoo train domain=astro seed=1",
    ]
    assert not list(tmp_path.iterdir())
    assert "folder of its own" in error(capsys, "train", "-m", "domain=astro", "run_folder=x")


def test_a_wrong_job_stops_a_sweep_before_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    message = error(capsys, "train", "-m", "domain=astro", "seed=0,x")
    assert "seed" in message


def test_plugins_doctor_info(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    assert main(["plugins"]) == 0
    assert "astro" in capsys.readouterr().out
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("torch", "astro", "threads", "ZOO_HOME"):
        assert word in out
    assert not (tmp_path / "home").exists()
    assert main(["info", "star-clip:base"]) == 0
    out = capsys.readouterr().out
    assert "flux_error [mJy]" in out
    assert '"embed_dim": 512' in out


def test_results_schema_is_documented_by_its_own_file(tmp_path: Path) -> None:
    """An embeddings file of one's own → results with interval, chance and baselines."""
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    vectors = rng.normal(size=(90, 4)) + 3 * np.eye(4)[labels]
    np.savez(tmp_path / "mine.npz", embeddings=vectors, labels=labels)
    folder = tmp_path / "out"
    assert main(["eval", f"embeddings={tmp_path / 'mine.npz'}", f"run_folder={folder}"]) == 0
    results = load_results(folder)
    probe = next(r for r in results if r.metric == "accuracy")
    assert probe.ci_low <= probe.value <= probe.ci_high
    assert probe.value > 0.8 > probe.chance
    assert (folder / "pictures" / "confusion_linear_probe.png").is_file()
    assert {path.name for path in folder.iterdir()} >= {
        "config.yaml", "environment.json", "results.parquet", "predictions", "report.html",
    }  # fmt: skip


def test_a_card_is_wrapped_and_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "rs-clip"]) == 0
    told = capsys.readouterr().out
    assert "RS5M_ViT-B-32_RET-2.pt" in told
    assert "for you to judge." in told
