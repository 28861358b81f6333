"""`shared` and `domains` are common names: a shadowing folder is told by its path."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def import_zoo(folder: Path) -> str:
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); sys.path.append({str(ROOT)!r})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import zoo; print(zoo.Domain.__module__)"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["shared", "domains"])
def test_a_shadowing_package_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    told = import_zoo(tmp_path)
    assert f"zoo needs its package '{name}'" in told
    assert str(tmp_path / name / "__init__.py") in told
    assert "Rename that folder" in told


def test_a_folder_without_init_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    assert import_zoo(tmp_path).strip() == "shared.domain"
