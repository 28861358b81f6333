"""Spectra of supernovae in the format of SNID's templates (Blondin & Tonry 2007, ApJ 666, 1024)."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from domains.astro.datasets.members import find_members, to_numbers
from shared.data.dataset import Dataset, Raw, SampleTable, hash_files
from shared.errors import ConfigError, DataError
from shared.schema import Array, Channel, Schema

SNID_SPECTRA = Schema(
    "spectra",
    ("wavelength", "channel"),
    (Channel("wavelength", "Angstrom", (1.0, None)), Channel("flattened_flux")),
)
"""A spectrum whose continuum is divided out, (n, 2)."""

_COARSE = {"IIb": "Ib", "Ia": "Ia", "Ib": "Ib", "Ic": "Ic", "II": "II"}  # the first that fits
_GRID = np.arange(3850.0, 9000.0, 2.0)  # Angstrom, where spectra are compared
# epochs, bins, two wavelengths, knots, name, decline rate, type, two numbers of the type; a long
# name stands against the decline rate
_HEADER = re.compile(r"\s*(\d+)\s+(\d+)(?:\s+\S+){3}\s.*\S\s*-?\d\.\d+\s+(\S+)\s+\d+\s+\d+\s*")


@dataclass(frozen=True)
class Template:
    """One file.

    Attributes:
        kind: Sub-type, such as `Ia-norm`.
        ages: (epochs,) days from maximum.
        wavelength: (bins,) Angstrom, rest frame.
        flux: (bins, epochs) flux / continuum - 1, 0 where nothing was observed.
    """

    kind: str
    ages: Array
    wavelength: Array
    flux: Array

    def spectrum(self, epoch: int) -> Array:
        """(n, 2) wavelength and flattened flux, without the zeros at both ends."""
        observed = np.flatnonzero(self.flux[:, epoch])
        inside = slice(observed[0], observed[-1] + 1) if len(observed) else slice(0)
        return np.stack([self.wavelength[inside], self.flux[inside, epoch]], axis=1)

    def coverage(self, epoch: int) -> float:
        """Share of 3850 to 9000 Angstrom between the first and last observed bin."""
        wavelength = self.spectrum(epoch)[:, 0]
        if len(wavelength) == 0:
            return 0.0
        return float(np.mean((wavelength[0] <= _GRID) & (wavelength[-1] >= _GRID)))


class SnidSupernovaSpectra(Dataset):
    """Optical spectra of supernovae in the rest frame, continuum divided out, labelled by type.

    - `spectra` (n, 2): wavelength [Angstrom], flattened flux: flux / continuum - 1. A model that
      was trained on fluxes sees the like through the adapter `divide_continuum`.

    There is no metadata. A file states the ages of its epochs and the decline rate, and both come
    from the light curve: the decline rate is known for type Ia only, so it tells the type.

    Several files can be of one supernova, observed by different programmes (`sn2002er.lnw`,
    `sn02er_bsnip.lnw`): they form one group, which no split divides.

    Args:
        root: Folder with `templates.zip`, or its extracted folder `templates` or `training_set`.
        types: `coarse`: Ia, Ib (with Ibn and IIb), Ic, II; files of other types are left out.
            `full`: the sub-types as published.
        epochs: `nearest`: of each file the spectrum nearest maximum light among those that cover
            enough; `all`: each spectrum is a sample, named `<file>-<number>`.
        min_coverage: Smallest share of 3850 to 9000 Angstrom a spectrum has to cover.

    Raises:
        ConfigError: `types` or `epochs` is none of these.
        DataError: A file is missing, damaged or not in this format.
    """

    name = "snid_supernova_spectra"
    schemas = {"spectra": SNID_SPECTRA}  # noqa: RUF012

    def __init__(
        self,
        root: str,
        types: Literal["coarse", "full"] = "coarse",
        epochs: Literal["nearest", "all"] = "nearest",
        min_coverage: float = 0.5,
    ) -> None:
        if types not in ("coarse", "full") or epochs not in ("nearest", "all"):
            raise ConfigError(
                f"{self.name}: types={types!r}, epochs={epochs!r}; types is coarse or full, epochs "
                "is nearest or all."
            )
        self.types, self.epochs, self.min_coverage = types, epochs, min_coverage
        folder = "training_set" if (Path(root) / "training_set").is_dir() else "templates"
        self._members = find_members(Path(root), folder, ".lnw")
        self.source = str(self._members.source)
        self._last: tuple[str, Template] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_last": None}

    def make_table(self) -> SampleTable:
        kinds = [kind for _, _, kind in self._kept]
        classes = tuple(sorted(set(kinds)))
        stems = [Path(name).stem for name, _, _ in self._kept]
        numbered = [f"{s}-{e}" for s, (_, e, _) in zip(stems, self._kept, strict=True)]
        return SampleTable(
            ids=numbered if self.epochs == "all" else stems,
            labels=[classes.index(kind) for kind in kinds],
            classes=classes,
            groups=[supernova(stem) for stem in stems],
        )

    def read(self, index: int) -> Raw:
        name, epoch, _ = self._kept[index]
        return {"spectra": self._template(name).spectrum(epoch)}

    def file(self, index: int, modality: str) -> str:
        return self._members.where(self._kept[index][0])

    def content_fingerprint(self) -> str:
        settings = (self.types, self.epochs, self.min_coverage)
        return f"{hash_files(self._members.paths())}, {settings}"

    @property
    def dropped(self) -> dict[str, int]:
        """Why → number of samples left out: `type <sub-type>` or `coverage`."""
        return dict(self._chosen[1])

    @property
    def _kept(self) -> list[tuple[str, int, str]]:
        """File, epoch and class of every sample."""
        return self._chosen[0]

    @cached_property
    def _chosen(self) -> tuple[list[tuple[str, int, str]], Counter[str]]:
        kept: list[tuple[str, int, str]] = []
        dropped: Counter[str] = Counter()
        for name in self._members.names:
            template = self._template(name)
            kind = _coarse(template.kind) if self.types == "coarse" else template.kind
            wide = [
                epoch
                for epoch in range(len(template.ages))
                if template.coverage(epoch) >= self.min_coverage
            ]
            wanted = len(template.ages)
            if self.epochs == "nearest":
                wanted, wide = 1, sorted(wide, key=lambda epoch: abs(template.ages[epoch]))[:1]
            if kind is None:
                dropped[f"type {template.kind}"] += wanted
                continue
            kept += [(name, epoch, kind) for epoch in wide]
            dropped["coverage"] += wanted - len(wide)
        return kept, +dropped

    def _template(self, name: str) -> Template:
        if self._last is None or self._last[0] != name:
            text = self._members.read(name).decode("ascii", errors="replace")
            self._last = name, parse_template(text, self._members.where(name))
        return self._last[1]


def supernova(stem: str) -> str:
    """Name of the supernova a file is of: `sn02er_bsnip` and `sn2002er` are SN 2002er."""
    name = stem.split("_")[0]
    if found := re.fullmatch(r"sn(\d\d)([A-Za-z]+)", name):
        century = "19" if int(found[1]) > 50 else "20"
        return f"sn{century}{found[1]}{found[2]}"
    return name


def _coarse(kind: str) -> str | None:
    return next((coarse for start, coarse in _COARSE.items() if kind.startswith(start)), None)


def parse_template(text: str, where: str) -> Template:
    """A `.lnw` file: a header; the knots of the continuum; the ages; one line a wavelength bin.

    Raises:
        DataError: It is cut short or not in this format.
    """
    rows = text.splitlines()
    lines = [line.split() for line in rows]
    try:
        header = _HEADER.fullmatch(rows[0])
        if header is None:
            raise ValueError(f"line 1 is {rows[0].strip()[:80]!r}")
        epochs, bins, kind = int(header[1]), int(header[2]), header[3]
        ages_at = 2 + int(lines[1][0])
        ages = np.array(lines[ages_at][1:], dtype=np.float64)
        body = lines[ages_at + 1 : ages_at + 1 + bins]
        if epochs < 1 or bins < 1 or len(ages) != epochs or not np.isfinite(ages).all():
            raise ValueError(f"{len(ages)} ages in line {ages_at + 1} for {epochs} epochs")
        if len(body) != bins:
            raise ValueError(f"{len(body)} wavelength bins of {bins}; it may be truncated")
        if any(lines[ages_at + 1 + bins :]):
            raise ValueError(f"more lines than {bins} wavelength bins")
        for number, row in enumerate(body, start=ages_at + 2):
            if len(row) != epochs + 1:
                raise ValueError(f"{len(row)} columns in line {number}, not {epochs + 1}")
    except (ValueError, IndexError) as error:
        raise DataError(f"{where}: not a SNID template ({error}). Get it anew.") from error
    values = to_numbers(body, where)
    if (np.diff(values[:, 0]) <= 0).any():
        raise DataError(f"{where}: the wavelengths do not increase. Get it anew.")
    return Template(kind, ages, values[:, 0], values[:, 1:])
