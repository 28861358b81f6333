"""SNID templates: the real files where they are there, and small ones written here."""

import os
import pickle
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from domains.astro.datasets.snid import SnidSupernovaSpectra, supernova
from domains.astro.evaluators import VARIABLE_STARS
from domains.astro.preprocess.spectrum import Spectrum
from shared.errors import ConfigError, DataError

DATA = Path(os.environ.get("ZOO_DATA", Path(__file__).parents[4] / "shared" / "data")) / "astronomy"
SNID = DATA / "snid_supernova_spectra"
needs_snid = pytest.mark.skipif(not SNID.is_dir(), reason=f"no data in {SNID}")

FULL = (
    "Ia-norm 233, Ia-91bg 37, Ia-91T 20, Ic-broad 17, Ib-norm 17, Ic-norm 13, IIb 10, Ia-99aa 6, "
    "Ia-02cx 6, Ia-pec 5, Ia-csm 3, IIP 2, Ibn 2, IIL 1, II-pec 1, IIn 1, Ic-pec 1, Ib-pec 1"
)


def counts(dataset: SnidSupernovaSpectra) -> dict[str, int]:
    return dict(zip(dataset.classes, np.bincount(dataset.labels).tolist(), strict=True))


@pytest.fixture(scope="module")
def real() -> SnidSupernovaSpectra:
    return SnidSupernovaSpectra(str(SNID))


@needs_snid
def test_counts_are_those_published_with_the_data() -> None:
    everything = SnidSupernovaSpectra(str(SNID), min_coverage=0)
    assert counts(everything) == {"Ia": 310, "Ib": 30, "Ic": 31, "II": 5}
    assert everything.dropped == {}
    full = SnidSupernovaSpectra(str(SNID), types="full", min_coverage=0)
    assert counts(full) == {kind: int(n) for kind, n in (t.split() for t in FULL.split(", "))}
    assert len(SnidSupernovaSpectra(str(SNID), epochs="all", min_coverage=0)) == 3362


@needs_snid
def test_real_spectra_can_be_prepared(real: SnidSupernovaSpectra) -> None:
    assert len(real) + real.dropped["coverage"] == 376
    prepare = Spectrum(real.schemas["spectra"])
    for index in range(len(real)):
        raw = real[index]["spectra"]
        assert raw[0, 1] != 0
        assert raw[-1, 1] != 0
        assert np.abs(prepare(raw)["values"]).max() < 50
    simple = VARIABLE_STARS.simple_features["spectra"](real.schemas["spectra"], raw)
    assert np.isfinite(simple).all()


@needs_snid
def test_no_supernova_is_in_two_splits(real: SnidSupernovaSpectra) -> None:
    splits: dict[str, set[str]] = {}
    for group, split in zip(real.groups, real.splits, strict=True):
        splits.setdefault(group, set()).add(split)
    assert max(map(len, splits.values())) == 1
    assert max(Counter(real.groups).values()) > 1


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("sn02er_bsnip", "sn2002er"),
        ("sn2002er", "sn2002er"),
        ("sn91T", "sn1991T"),
        ("sn03Y_bsnip", "sn2003Y"),
        ("iPTF13bvn", "iPTF13bvn"),
        ("snls03D3bb", "snls03D3bb"),
    ],
)
def test_supernova_of_a_file(stem: str, name: str) -> None:
    assert supernova(stem) == name


WAVELENGTH = np.geomspace(2500, 10000, 64)


def write_template(
    path: Path, kind: str, ages: list[float], ranges: list[tuple[float, float]]
) -> None:
    """A file in the layout of the real ones; epoch e is e + 1/10 wherever it is observed."""
    n, name = len(ages), path.stem
    lines = [
        f"{n:5d} {len(WAVELENGTH)}   2500.00  10000.00     11 {name:>12s} -9.99 {kind:>9s} 1 2"
    ]
    lines.append("      2" + "".join("  2   1.00000" for _ in ages))
    lines += ["      1" + "".join("  2.4871  -0.1542" for _ in ages)] * 2
    lines.append("       0" + "".join(f"{age:9.3f}" for age in ages))
    for w in WAVELENGTH:
        cells = [e + 0.1 if low <= w <= high else 0.0 for e, (low, high) in enumerate(ranges)]
        lines.append(f"{w:8.2f}" + "".join(f"{cell:9.3f}" for cell in cells))
    path.write_text("\n".join(lines) + "\n")


def write(root: Path, folder: str = "templates") -> Path:
    inside = root / folder
    inside.mkdir()
    wide, narrow = (3000.0, 9500.0), (3800.0, 4500.0)
    write_template(inside / "sn2001a.lnw", "Ia-norm", [-9.0, 1.5, -0.5], [wide, wide, narrow])
    write_template(inside / "sn01a_x.lnw", "IIb", [4.0], [wide])
    write_template(inside / "sn2002b.lnw", "IIn", [30.0], [wide])
    write_template(inside / "agn.lnw", "AGN", [0.0], [wide])
    write_template(inside / "sn2003c.lnw", "Ic-norm", [0.0, 1.0], [narrow, narrow])
    return inside


@pytest.mark.parametrize("layout", ["templates", "training_set", "archive"])
def test_layouts(tmp_path: Path, layout: str) -> None:
    inside = write(tmp_path, "templates" if layout == "archive" else layout)
    if layout == "archive":
        with zipfile.ZipFile(tmp_path / "templates.zip", "w") as archive:
            for path in inside.iterdir():
                archive.write(path, f"training_set/{path.name}")
                path.unlink()
        inside.rmdir()
    dataset = SnidSupernovaSpectra(str(tmp_path))
    assert dataset.ids.tolist() == ["sn01a_x", "sn2001a", "sn2002b"]
    assert dataset.groups.tolist() == ["sn2001a", "sn2001a", "sn2002b"]
    assert [dataset.classes[label] for label in dataset.labels] == ["Ib", "Ia", "II"]
    assert dataset.dropped == {"type AGN": 1, "coverage": 1}
    raw = pickle.loads(pickle.dumps(dataset))[1]["spectra"]
    inside_range = (WAVELENGTH >= 3000) & (WAVELENGTH <= 9500)
    np.testing.assert_allclose(raw[:, 0], WAVELENGTH[inside_range], atol=0.01)
    # the epoch of age -0.5 d is nearer to maximum, but covers too little
    np.testing.assert_allclose(raw[:, 1], 1.1)


def test_every_epoch_and_full_types(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = SnidSupernovaSpectra(str(tmp_path), "full", "all", min_coverage=0.1)
    assert dataset.ids.tolist() == [
        *("agn-0", "sn01a_x-0", "sn2001a-0", "sn2001a-1", "sn2001a-2"),
        *("sn2002b-0", "sn2003c-0", "sn2003c-1"),
    ]
    assert dataset.classes == ("AGN", "IIb", "IIn", "Ia-norm", "Ic-norm")
    assert dataset.dropped == {}
    np.testing.assert_allclose(dataset[4]["spectra"][:, 1], 2.1)
    fewer = SnidSupernovaSpectra(str(tmp_path), "full", "all")
    assert fewer.dropped == {"coverage": 3}
    assert fewer.fingerprint != dataset.fingerprint


@pytest.mark.parametrize("settings", [{"types": "Ia"}, {"epochs": "first"}])
def test_settings(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"types is coarse or full, epochs is nearest or all"):
        SnidSupernovaSpectra("somewhere", **settings)


def _edit(old: str, new: str) -> Callable[[str], str]:
    def damage(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return damage


def _swap(text: str) -> str:
    lines = text.splitlines()
    return "\n".join([*lines[:-2], lines[-1], lines[-2]])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: "", "not a SNID template"),
        (lambda text: text[:60], "line 1 is"),
        (lambda text: text[: len(text) // 2], r"truncated|columns in line"),
        (lambda text: "\n".join(text.splitlines()[:40]), "35 wavelength bins of 64"),
        (_edit(" -9.99", ""), "line 1 is"),
        (_edit("    3 64", "    2 64"), "3 ages in line 5 for 2 epochs"),
        (_edit("    3 64", "three 64"), "line 1 is"),
        (_edit("    3 64", "    3 -1"), "line 1 is"),
        (_edit("    1.500", "      nan"), "ages in line 5"),
        (_edit("    0.100    1.100", "    0.100-1001.100"), "3 columns in line"),
        (_edit("    0.100", "     flux"), "not a number"),
        (_edit("    0.100", "      inf"), "NaN or infinite"),
        (_swap, "wavelengths do not increase"),
    ],
)
def test_broken_templates(tmp_path: Path, damage: Callable[[str], str], says: str) -> None:
    path = write(tmp_path) / "sn2001a.lnw"
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=says) as caught:
        len(SnidSupernovaSpectra(str(tmp_path)))
    assert "sn2001a.lnw" in str(caught.value)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither templates.zip nor a folder templates"):
        SnidSupernovaSpectra(str(tmp_path))
    inside = write(tmp_path)
    for path in inside.glob("sn*"):
        path.unlink()
    with pytest.raises(DataError, match="no sample was found"):
        len(SnidSupernovaSpectra(str(tmp_path)))
    (inside / "agn.lnw").unlink()
    with pytest.raises(DataError, match=r"holds no file \*\.lnw"):
        SnidSupernovaSpectra(str(tmp_path))
