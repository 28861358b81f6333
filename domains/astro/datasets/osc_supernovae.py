"""Supernovae of the Open Supernova Catalog (Guillochon et al. 2017, ApJ 835, 64)."""

import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from domains.astro.datasets.members import find_members
from domains.astro.preprocess.scaling import median_absolute_deviation
from shared.data.dataset import Dataset, Raw, SampleTable, hash_files
from shared.errors import DataError, suggest
from shared.schema import Array, Channel, Schema

Event = Mapping[str, Any]

_FEWEST_ROWS = 5
_RANGE = (3850.0, 9000.0)  # Angstrom, where spectra are compared
_MAGNITUDES = (-10.0, 40.0)
_ERROR = 1e-6  # mag, smallest that counts as one
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, OverflowError)


class OscSupernovae(Dataset):
    """Supernovae with a light curve in their most-observed band, a spectrum and catalogue values.

    The label is the first claimed type; events of other types, or of none, are left out (`dropped`
    counts them).

    - `photometry` (n, 3): MJD [d], magnitude [mag], its error [mag]; absent with less than 5 rows
      or without spread. Vega magnitudes for the historical events, AB for those of SDSS-II. The
      catalogue flags every SDSS-II row as an upper limit, even clear detections: a flagged row
      counts when its flux density exceeds `min_signal_to_noise` times its error, and only then.
      Rows without band, or whose time, magnitude or error is not a number in range, do not count.
    - `spectra` (n, 2): wavelength [Angstrom], flux (relative; the sources mix units). The one that
      covers most of 3850 to 9000 Angstrom, of those that can be scaled there; points without a
      number do not count.
    - `metadata` (5,): redshift, right ascension and declination [deg], galactic E(B-V) [mag],
      offset from the host [arcsec]; of the values the catalogue gives, the first that can be read;
      NaN where it gives none.

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
                Channel("magnitude", "mag", _MAGNITUDES),
                Channel("magnitude_error", "mag", (_ERROR, None)),
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
        self.source = str(self._members.source)

    @cached_property
    def _claimed(self) -> list[str]:
        """First claimed type of every file, "" where there is none."""
        return [self._type(name) for name in self._members.names]

    @property
    def dropped(self) -> dict[str, int]:
        """Claimed type → number of events left out."""
        kinds = (kind or "no claimed type" for kind in self._claimed if kind not in self.types)
        return dict(Counter(kinds))

    def make_table(self) -> SampleTable:
        known = {kind for kind in self._claimed if kind}
        for kind in self.types:
            if kind not in known:
                raise DataError(
                    f"{self._members.source}: types names {kind!r}, but no event is of that type. "
                    f"{suggest(kind, known) if known else 'None has a claimedtype.'}"
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

        def part(read: Callable[[Event], Array | None]) -> Array | DataError | None:
            try:
                return read(event)
            except _MALFORMED as error:
                return DataError(
                    f"{self._members.where(name)}: not an entry of the Open Supernova Catalog "
                    f"({type(error).__name__}: {error})."
                )

        parts = {
            "photometry": part(self._photometry),
            "spectra": part(self._spectrum),
            "metadata": part(_metadata),
        }
        return {modality: value for modality, value in parts.items() if value is not None}

    def file(self, index: int, modality: str) -> str:
        return self._members.where(self._kept[index])

    def content_fingerprint(self) -> str:
        settings = (self.types, self.assumed_error, self.min_signal_to_noise, self.min_coverage)
        return f"{hash_files(self._members.paths())}, {settings}"

    def _event(self, name: str) -> Event:
        where = self._members.where(name)
        try:
            content = json.loads(self._members.read(name))
            (event,) = content.values()
        except (ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"{where}: not a JSON file with one event ({error}).") from error
        if not isinstance(event, dict):
            raise DataError(f"{where}: the event is a {type(event).__name__}, not an object.")
        return event

    def _type(self, name: str) -> str:
        event = self._event(name)
        try:
            return str(event["claimedtype"][0]["value"]) if event.get("claimedtype") else ""
        except _MALFORMED as error:
            raise DataError(
                f"{self._members.where(name)}: its claimedtype is not a list of values "
                f"({type(error).__name__}: {error}). Remove this event."
            ) from error

    def _photometry(self, event: Event) -> Array | None:
        by_band: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        unusable: list[Event] = []
        for row in event.get("photometry", []):
            error = row.get("e_magnitude", self.assumed_error)
            if "magnitude" not in row or not row.get("band") or error is None:
                continue
            if row.get("upperlimit") and not self._detected(row):
                continue
            point = (_time(row), _number(row["magnitude"]), _number(error))
            if not isinstance(row["band"], str) or np.isnan(point).any():
                unusable.append(row)
            elif _is_observation(*point):
                by_band[row["band"]].append(point)
        if not by_band:
            if unusable:
                raise ValueError(f"no row of photometry holds numbers: {unusable[0]}")
            return None
        best = max(sorted(by_band), key=lambda band: len(by_band[band]))
        curve = np.unique(np.array(by_band[best], dtype=np.float64), axis=0)
        flat = median_absolute_deviation(curve[:, 1]) == 0
        return None if len(curve) < _FEWEST_ROWS or flat or np.ptp(curve[:, 0]) == 0 else curve

    def _detected(self, row: Event) -> bool:
        flux, error = (_number(row.get(key)) for key in ("fluxdensity", "e_fluxdensity"))
        return flux > self.min_signal_to_noise * error  # False where one is NaN

    def _spectrum(self, event: Event) -> Array | None:
        best, most = None, 0.0
        for spectrum in event.get("spectra", []):
            to_angstrom = _to_angstrom(spectrum.get("u_wavelengths"))
            rows = spectrum.get("data")
            if to_angstrom is None or not rows:
                continue
            if any(isinstance(cell, list | dict) for row in rows for cell in row):
                raise ValueError("a point of a spectrum holds a list: a bracket is lost")
            points = np.array([[_number(cell) for cell in row[:2]] for row in rows if len(row) > 1])
            points = points.reshape(-1, 2) * [to_angstrom, 1.0]
            points = points[np.isfinite(points).all(axis=1) & (points[:, 0] >= 1.0)]
            if len(points) == 0:
                raise ValueError(f"a spectrum of {len(rows)} rows without numbers")
            points = points[np.argsort(points[:, 0], kind="stable")]
            low, high = points[0, 0], points[-1, 0]
            covered = (min(high, _RANGE[1]) - max(low, _RANGE[0])) / (_RANGE[1] - _RANGE[0])
            if covered >= self.min_coverage and covered > most and _has_spread(points):
                best, most = points, covered
        return best


def _number(value: object) -> float:
    """NaN where it is none."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _time(row: Event) -> float:
    """MJD [d]; the middle where the catalogue gives a list (start and end of an exposure)."""
    value = row.get("time")
    moments = value if isinstance(value, list) and value else [value]
    return float(np.mean([_number(moment) for moment in moments]))


def _is_observation(time: float, magnitude: float, error: float) -> bool:
    low, high = _MAGNITUDES
    return bool(np.isfinite([time, error]).all()) and low <= magnitude <= high and error >= _ERROR


def _to_angstrom(unit: object) -> float | None:
    """None where it is no unit of length."""
    from astropy import units

    try:
        return float(units.Unit(unit).to(units.Angstrom))
    except (TypeError, ValueError):
        return None


def _has_spread(points: Array) -> bool:
    """Whether the fluxes of a spectrum can be scaled where spectra are compared."""
    flux = np.interp(np.arange(*_RANGE, 2.0), points[:, 0], points[:, 1])
    measured = flux[flux != 0]
    return len(measured) > 0 and median_absolute_deviation(measured) > 0


def _metadata(event: Event) -> Array:
    from astropy.coordinates import Angle
    from astropy.utils.exceptions import AstropyWarning

    def degrees(unit: str) -> Callable[[object], float]:
        def read(value: object) -> float:
            try:
                with warnings.catch_warnings():  # 60 seconds count as the next minute
                    warnings.simplefilter("ignore", AstropyWarning)
                    return float(Angle(str(value), unit=unit).degree)
            except ValueError:  # astropy's errors of units and angles are of this kind
                return np.nan

        return read

    def first(key: str, read: Callable[[object], float] = _number) -> float:
        given = [entry["value"] for entry in event.get(key) or []]
        values = [value for value in map(read, given) if np.isfinite(value)]
        if given and not values:
            raise ValueError(f"{key} is {given[0]!r}")
        return values[0] if values else np.nan

    return np.array(
        [
            first("redshift"),
            first("ra", degrees("hourangle")),
            first("dec", degrees("deg")),
            first("ebv"),
            first("hostoffsetang"),
        ]
    )
