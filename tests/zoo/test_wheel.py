"""What a wheel holds is what git holds: hatchling obeys .gitignore without a word."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_wheel_holds_every_file(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "zoo", "shared", "domains", "configs", "model_cards"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        f"zoo/_data/{name}" if name.startswith(("configs/", "model_cards/")) else name
        for name in listed.stdout.split()
        if (ROOT / name).exists()
    }
    assert inside == expected
