"""Broken plugins are listed with reason and remedy, and break nothing."""

import os
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
from forked import zoo_forked


def install(site: Path, name: str, code: str, entry: str = "DOMAIN") -> None:
    """What pip leaves of a distribution `plugin-<name>` with one module and one entry point."""
    (site / f"plugin_{name}.py").write_text(dedent(code))
    info = site / f"plugin_{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[zoo.domains]\n{name} = plugin_{name}:{entry}\n")


def zoo(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "400", "OMP_NUM_THREADS": "1"}
    return zoo_forked(arguments, site, environment)


def row(output: str, name: str) -> str:
    """The line of a table whose first or second cell is `name`."""
    return next(line for line in output.splitlines() if name in line.replace("│", " ").split()[:2])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One plugin for each way to be broken."""
    site = tmp_path_factory.mktemp("site")
    install(site, "raises", "raise RuntimeError('the licence server is down')")
    install(site, "lacks", "import a_package_nobody_has")
    install(site, "wrongtype", "DOMAIN = {'name': 'wrongtype'}")
    install(site, "nameless", "from zoo import Domain", entry="DOMIAN")
    install(
        site,
        "needy",
        """
        from pathlib import Path
        from zoo import Domain
        DOMAIN = Domain(
            name="needy",
            title="Needs things",
            requires=("numpy", "a_rare_reader.fits"),
            datasets={"needy_set": "plugin_needy:Nothing"},
            configs=Path(__file__).parent / "needy_configs",
        )
        """,
    )
    (site / "needy_configs" / "domain").mkdir(parents=True)
    (site / "needy_configs" / "domain" / "needy.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /data: simulated_variable_stars\n"
        "  - override /model: star-clip/small\ndomain: needy\n"
    )
    install(
        site,
        "homeless",
        """
        from pathlib import Path
        from zoo import Domain
        DOMAIN = Domain(name="homeless", title="No configs", configs=Path("no/such/folder"))
        """,
    )
    install(
        site,
        "hollow",
        """
        from zoo import Domain
        DOMAIN = Domain(name="hollow", title="Its targets are not there",
                        models={"ghost": "plugin_hollow:GHOST"})
        """,
    )
    for name, fields in (
        ("listed", "datasets=['a', 'b']"),
        ("badtarget", "encoders={'fine': 'a:b', 'crooked': 'a.b'}"),
        ("badkey", "encoders={3: 'a:b'}"),
        ("badneeds", "requires='numpy'"),
        ("badfolder", "configs='configs'"),
    ):
        code = f"from zoo import Domain; DOMAIN = Domain(name='{name}', title='', {fields})"
        install(site, name, code)
    return site


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("astro", ["ready"]),
        ("raises", ["RuntimeError: the licence server is down", "pip install", "plugin-raises"]),
        ("lacks", ["No module named 'a_package_nobody_has'", "pip install", "plugin-lacks"]),
        ("wrongtype", ["is a dict, not a zoo.Domain"]),
        ("nameless", ["has no attribute 'DOMIAN'"]),
        ("needy", ["needs a_rare_reader.fits: pip install plugin-needy"]),
        ("listed", ["its datasets are a list, not a mapping"]),
        ("badtarget", ["in its encoders, 'crooked' → 'a.b' is not name → 'module:name'"]),
        ("badkey", ["in its encoders, 3 → 'a:b'"]),
        ("badneeds", ["its requires is 'numpy', not a tuple"]),
        ("badfolder", ["its folder 'configs' is a str, not a pathlib.Path"]),
        ("homeless", ["no/such/folder is missing", "plugin-homeless"]),
    ],
)
def test_plugins_says_what_is_wrong(listed: str, name: str, parts: list[str]) -> None:
    line = row(listed, name)
    for part in parts:
        assert part in line


@pytest.fixture(scope="module")
def listed(site: Path) -> str:
    found = zoo(site, "plugins")
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_others_are_still_listed(site: Path) -> None:
    found = zoo(site, "list")
    assert found.returncode == 0, found.stderr
    assert "ready" in row(found.stdout, "star-clip:small")
    assert "pip install plugin-needy" in row(found.stdout, "needy_set")
    assert "the licence server is down" in row(found.stdout, "raises")


def test_the_others_still_train(site: Path) -> None:
    found = zoo(site, "train", "domain=astro", "--dry-run")
    assert found.returncode == 0, found.stderr
    assert "name: simulated_variable_stars" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "domain=needy"], "The domain needy cannot be used: needs a_rare_reader.fits"),
        (
            ["train", "domain=raises"],
            "The domain raises cannot be used: RuntimeError: the licence server is down",
        ),
        (["info", "ghost"], "model 'ghost' of domain hollow (plugin-hollow 1.0) cannot be loaded"),
    ],
)
def test_using_a_broken_one_is_one_message(site: Path, arguments: list[str], message: str) -> None:
    found = zoo(site, *arguments)
    assert found.returncode == 2
    assert message in found.stderr
    assert "Traceback" not in found.stderr


@pytest.fixture(scope="module")
def clashing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two plugins that share one name, and one that takes a built-in one."""
    site = tmp_path_factory.mktemp("clashing")
    for name, encoders in (
        ("one", {"mlp": "a:b"}),
        ("two", {"mlp": "a:b", "own": "a:b"}),
        ("aaa", {"galspecnet": "a:b"}),
    ):
        code = f"from zoo import Domain; DOMAIN = Domain('{name}', '', encoders={encoders})"
        install(site, name, code)
    install(site, "astro", "from zoo import Domain; DOMAIN = Domain('astro', '')")
    return site


BOTH = "encoder 'mlp': domain one (plugin-one 1.0) and domain two (plugin-two 1.0)"


def test_a_clash_is_listed_with_both_origins_and_breaks_no_listing(clashing: Path) -> None:
    for verb in ("plugins", "doctor", "list"):
        found = zoo(clashing, verb)
        assert found.returncode == 0, found.stderr
        assert BOTH in row(found.stdout, "two")
        assert "encoder 'galspecnet': domain astro (domain-zoo" in row(found.stdout, "aaa")
        assert "plugin-astro 1.0 bring a domain of this name" in found.stdout
    assert "own" not in [line.split()[1:2] for line in found.stdout.replace("│", " ").splitlines()]


MLP = "model.modalities.metadata.encoder={name: mlp}"


def test_a_name_that_two_plugins_register_is_an_error_when_used(tmp_path: Path) -> None:
    for name in ("one", "two"):
        code = f"from zoo import Domain; DOMAIN = Domain('{name}', '', encoders={{'mlp': 'a:b'}})"
        install(tmp_path, name, code)
    small = ["data.n_stars=40", "trainer.max_epochs=1"]
    found = zoo(tmp_path, "train", "domain=astro", MLP, *small)
    assert found.returncode == 2
    assert BOTH in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "runs").exists()
    found = zoo(tmp_path, "train", "domain=two")
    assert found.returncode == 2
    assert f"The domain two cannot be used: Two plugins register the {BOTH}" in found.stderr
    assert zoo(tmp_path, "train", "domain=astro", "--dry-run").returncode == 0


def test_a_config_file_that_hides_a_built_in_one(tmp_path: Path) -> None:
    code = """
        from pathlib import Path
        from zoo import Domain
        DOMAIN = Domain(name="hider", title="", configs=Path(__file__).parent / "configs")
        """
    install(tmp_path, "hider", code)
    (tmp_path / "configs" / "objective").mkdir(parents=True)
    (tmp_path / "configs" / "objective" / "contrastive.yaml").write_text("name: other\n")
    found = zoo(tmp_path, "train", "domain=astro", "--dry-run")
    assert found.returncode == 2
    assert "objective/contrastive.yaml" in found.stderr
    assert str(tmp_path / "configs") in found.stderr
