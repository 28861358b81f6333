"""Supernovae of the Open Supernova Catalog (Guillochon et al. 2017, ApJ 835, 64)."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from domains.astro.datasets.members import find_members
from shared.data.dataset import Dataset, Raw, SampleTable, hash_files
from shared.errors import DataError, suggest
from shared.schema import Array, Channel, Schema

Event = Mapping[str, Any]

_FEWEST_ROWS = 5
_RANGE = (3850.0, 9000.0)  # Angstrom, where spectra are compared


class OscSupernovae(Dataset):
    """Supernovae with a light curve in their most-observed band, a spectrum and catalogue values.

    The label is the first claimed type; events of other types are left out (`dropped` counts them).

    - `photometry` (n, 3): MJD [d], magnitude [mag], its error [mag]; absent with less than 5 rows
      or without spread. Vega magnitudes for the historical events, AB for those of SDSS-II. The
      catalogue flags every SDSS-II row as an upper limit, even clear detections: a flagged row
      counts when its flux density exceeds `min_signal_to_noise` times its error, and only then.
    - `spectra` (n, 2): wavelength [Angstrom], flux (relative; the sources mix units). The one that
      covers most of 3850 to 9000 Angstrom.
    - `metadata` (5,): redshift, right ascension and declination [deg], galactic E(B-V) [mag],
      offset from the host [arcsec]; NaN where unknown.

    Of the 308 events of types Ia and II in the subsample discovered before 1990, 192 have
    photometry with the defaults and 254 with `assumed_error` set. 12 have a spectrum; only one of
    these has photometry with the defaults, all 12 with `assumed_error` set.

    Args:
        root: Folder with `events.zip` or its extracted folder `events`.
        types: Claimed types to keep, which are the classes.
        assumed_error: Error [mag] given to magnitudes published without one; None leaves those
            rows out. Photographic magnitudes are good to 0.1 or 0.2 mag.
        min_signal_to_noise: For rows flagged as upper limits.
        min_coverage: Smallest share of 3850 to 9000 Angstrom a spectrum has to cover.

    Raises:
        DataError: A file is missing, damaged or not a catalogue entry, or no event is of one of
            the types.
    """

    name = "osc_supernovae"
    schemas = {  # noqa: RUF012
        "photometry": Schema(
            "photometry",
            ("time", "channel"),
            (
                Channel("time", "d"),
                Channel("magnitude", "mag", (-10.0, 40.0)),
                Channel("magnitude_error", "mag", (1e-6, None)),
            ),
        ),
        "spectra": Schema(
            "spectra",
            ("wavelength", "channel"),
            (Channel("wavelength", "Angstrom", (1.0, None)), Channel("flux")),
        ),
        "metadata": Schema(
            "metadata",
            ("channel",),
            (
                Channel("redshift", "", (-0.1, None), allow_missing=True),
                Channel("ra", "deg", (0.0, 360.0), allow_missing=True),
                Channel("dec", "deg", (-90.0, 90.0), allow_missing=True),
                Channel("galactic_reddening", "mag", (0.0, None), allow_missing=True),
                Channel("host_offset", "arcsec", (0.0, None), allow_missing=True),
            ),
        ),
    }

    def __init__(
        self,
        root: str,
        types: Sequence[str] = ("Ia", "II"),
        assumed_error: float | None = None,
        min_signal_to_noise: float = 3.0,
        min_coverage: float = 0.5,
    ) -> None:
        self.types = tuple(types)
        self.assumed_error = assumed_error
        self.min_signal_to_noise = min_signal_to_noise
        self.min_coverage = min_coverage
        self._members = find_members(Path(root), "events", ".json")

    @cached_property
    def _claimed(self) -> list[str]:
        """First claimed type of every file."""
        return [self._type(name) for name in self._members.names]

    @property
    def dropped(self) -> dict[str, int]:
        """Claimed type → number of events left out."""
        return dict(Counter(kind for kind in self._claimed if kind not in self.types))

    def make_table(self) -> SampleTable:
        for kind in self.types:
            if kind not in self._claimed:
                raise DataError(
                    f"{self._members.source}: types names {kind!r}, but no event is of that type. "
                    f"{suggest(kind, set(self._claimed))}"
                )
        kept = self._kept
        labels = [self.types.index(kind) for kind in self._claimed if kind in self.types]
        return SampleTable([Path(name).stem for name in kept], labels, self.types)

    @cached_property
    def _kept(self) -> list[str]:
        pairs = zip(self._members.names, self._claimed, strict=True)
        return [name for name, kind in pairs if kind in self.types]

    def read(self, index: int) -> Raw:
        name = self._kept[index]
        event = self._event(name)
        try:
            modalities = {
                "photometry": self._photometry(event),
                "spectra": self._spectrum(event),
                "metadata": _metadata(event),
            }
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(
                f"{self._members.source}, {name}: not an entry of the Open Supernova Catalog "
                f"({type(error).__name__}: {error})."
            ) from error
        return {modality: value for modality, value in modalities.items() if value is not None}

    def content_fingerprint(self) -> str:
        settings = (self.types, self.assumed_error, self.min_signal_to_noise, self.min_coverage)
        return f"{hash_files(self._members.paths())}, {settings}"

    def _event(self, name: str) -> Event:
        where = f"{self._members.source}, {name}"
        try:
            content = json.loads(self._members.read(name))
            (event,) = content.values()
        except (ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"{where}: not a JSON file with one event ({error}).") from error
        if not isinstance(event, dict):
            raise DataError(f"{where}: the event is a {type(event).__name__}, not an object.")
        return event

    def _type(self, name: str) -> str:
        try:
            return str(self._event(name)["claimedtype"][0]["value"])
        except (KeyError, IndexError, TypeError) as error:
            raise DataError(
                f"{self._members.source}, {name}: has no claimedtype. Remove this event."
            ) from error

    def _photometry(self, event: Event) -> Array | None:
        by_band: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        for row in event.get("photometry", []):
            error = row.get("e_magnitude", self.assumed_error)
            if "magnitude" not in row or "band" not in row or error is None or float(error) <= 0:
                continue
            if row.get("upperlimit") and not self._detected(row):
                continue
            by_band[row["band"]].append((_time(row["time"]), float(row["magnitude"]), float(error)))
        if not by_band:
            return None
        best = max(sorted(by_band), key=lambda band: len(by_band[band]))
        curve = np.unique(np.array(by_band[best], dtype=np.float64), axis=0)
        flat = np.median(np.abs(curve[:, 1] - np.median(curve[:, 1]))) == 0
        return None if len(curve) < _FEWEST_ROWS or flat or np.ptp(curve[:, 0]) == 0 else curve

    def _detected(self, row: Event) -> bool:
        if "fluxdensity" not in row or "e_fluxdensity" not in row:
            return False
        return float(row["fluxdensity"]) > self.min_signal_to_noise * float(row["e_fluxdensity"])

    def _spectrum(self, event: Event) -> Array | None:
        best, most = None, 0.0
        for spectrum in event.get("spectra", []):
            if spectrum.get("u_wavelengths") != "Angstrom":
                continue
            points = np.array([[float(cell) for cell in row[:2]] for row in spectrum["data"]])
            points = points[np.isfinite(points).all(axis=1)]
            if len(points) == 0 or np.ptp(points[:, 1]) == 0:
                continue
            low, high = points[:, 0].min(), points[:, 0].max()
            covered = (min(high, _RANGE[1]) - max(low, _RANGE[0])) / (_RANGE[1] - _RANGE[0])
            if covered >= self.min_coverage and covered > most:
                best, most = points[np.argsort(points[:, 0], kind="stable")], covered
        return best


def _time(value: str | list[str]) -> float:
    """MJD [d]; the middle where the catalogue gives a list (start and end of an exposure)."""
    return float(np.mean([float(v) for v in value])) if isinstance(value, list) else float(value)


def _metadata(event: Event) -> Array:
    from astropy.coordinates import Angle

    def first(key: str) -> str | None:
        return str(event[key][0]["value"]) if event.get(key) else None

    def number(key: str) -> float:
        value = first(key)
        return np.nan if value is None else float(value)

    def degrees(key: str, unit: str) -> float:
        value = first(key)
        return np.nan if value is None else float(Angle(value, unit=unit).degree)

    return np.array(
        [
            number("redshift"),
            degrees("ra", "hourangle"),
            degrees("dec", "deg"),
            number("ebv"),
            number("hostoffsetang"),
        ]
    )
