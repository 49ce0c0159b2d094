"""Waves: what repeats along a feature many times, such as days and weeks in a column of time.

A small network has no units for a wave of many periods, and pieces of a feature are too few (:mod:`skgn.finer`). But
the residuals of left-out samples have a spectrum along each feature, and the wave is its peak. Further networks then
read the sine and the cosine of each such wave beside the columns that there are. What repeats in another shape than
that of a sine is a sum of several waves.

The power at a frequency is tested as a part of the linear model of a constant, a sine and a cosine. For labels it is a
score test, as in :mod:`skgn.finer`.

References
----------
J. D. Scargle, Studies in astronomical time series analysis II, Astrophysical Journal 263 (1982), for the spectrum of
unevenly spaced samples. W. H. Press and G. B. Rybicki, Astrophysical Journal 338 (1989), for its FFT.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.fft import next_fast_len, rfft
from scipy.optimize import minimize_scalar

from .left_over import LEAST_FREEDOM, SIGNIFICANT, LeftOver
from .preprocessing import TwoPathScaler
from .scaler import Scaler, Widened

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WAVES", "WaveScaler", "sines", "wave_scaler"]

#: Name of the scaling of :class:`WaveScaler`.
WAVES = "waves"

#: Fewer values are a feature of pieces, one from each to the next. A wave has at least so many periods in the range of
#: the feature, of which others find it, and at most so many.
_FEWEST_VALUES, _FEWEST_PERIODS, _MOST_PERIODS = 25, 4, 2500

#: The spectrum of samples that are put into so many cells for each period, at so many places for each frequency.
_CELLS, _PLACES = 4, 2

#: A wave explains at least this part of what is lacking, and all together that part (docs/decisions.md).
_LEAST, _LEAST_IN_ALL = 0.005, 0.03

#: Values are on a grid that are so near to it, in steps.
_ON_GRID = 1e-3

#: The part of a Gram matrix that counts as 0.
_SINGULAR = 1e-9

#: At most so many waves are read, so many peaks looked at, and so many rows.
_MOST_WAVES, _MOST_PEAKS, _MOST_ROWS = 12, 24, 20_000


def sines(z: Any, columns: Any, frequency: Any, phase: Any, xp: Any = np) -> Any:
    """Apply the formula of :class:`WaveScaler`; ``xp`` is the namespace of arrays or of tensors."""
    return xp.sin(z[:, columns] * frequency + phase)


@dataclass
class WaveScaler(Widened):
    """Columns of a scaling for both paths, and beside them waves along some of its straight columns z.

    Each wave has two columns ``sin(frequency * z + phase)``, of which the phases differ by a quarter of the period.
    """

    base: TwoPathScaler
    frequency: np.ndarray
    phase: np.ndarray

    def of(self, source: Scaler) -> Self:
        """Return the same waves along columns of another source, which may be in other units."""
        assert isinstance(source, TwoPathScaler)
        old, new, j = self.base.straight, source.straight, self.columns - self.base.n_squashed
        # z is a z' + b. A column that is constant in the new source is 0 there.
        a = np.divide(new.unit, new.inverse_scale, out=np.zeros(len(new.unit)), where=new.inverse_scale > 0) / old.unit
        b = (new.mean * new.unit / old.unit - old.mean) * old.inverse_scale
        phase = self.phase + self.frequency * b[j]
        return replace(self, base=source, frequency=self.frequency * (a * old.inverse_scale)[j], phase=phase)

    @property
    def periods(self) -> list[tuple[int, float]]:
        """The columns that have been scaled, and the periods in their units, of the waves."""
        scaler, j = self.base.straight, self.columns[::2] - self.base.n_squashed
        periods = 2 * np.pi / self.frequency[::2] / scaler.inverse_scale[j] * scaler.unit[j]
        return list(zip(scaler.features[j].tolist(), periods.tolist(), strict=True))

    def more(self, z: np.ndarray) -> np.ndarray:
        """Return the waves along given columns."""
        return np.asarray(sines(z, self.columns, self.frequency, self.phase))


def wave_scaler(base: Scaler, columns: np.ndarray, lacking: LeftOver) -> WaveScaler | None:
    """Find waves that a fit lacks along columns (n, d) of the scaling ``base``, of the rows of the fit.

    None if there are none, or if no network reads straight columns.
    """
    if not isinstance(base, TwoPathScaler):
        return None
    # The rows of a fit are in an order of chance.
    lacking = lacking.first(_MOST_ROWS)
    waves = waves_of(columns[lacking.rows, base.n_squashed :], lacking)
    if not waves:
        return None
    index, frequency = (np.repeat(part, 2) for part in zip(*waves, strict=True))
    phase = np.tile([0.0, np.pi / 2], len(waves))
    return WaveScaler(base, base.n_squashed + index, frequency, phase)


def waves_of(columns: np.ndarray, lacking: LeftOver) -> list[tuple[int, float]]:
    """Return waves along columns (n, d), the one that tells the most first: a column, and the angle for its unit.

    Each is the largest peak of what the ones before have left. Peaks of few periods are trends. They are taken off, and
    are no waves.
    """
    rows, total = float(np.minimum(lacking.weight, 1.0).sum()), lacking.spread
    made = (_Spectrum.of(j, column, rows) for j, column in enumerate(columns.T))
    spectra = [spectrum for spectrum in made if spectrum is not None]
    if not spectra or not total.any():
        return []
    tests = _PLACES * sum(spectrum.most for spectrum in spectra) * len(total)
    found: list[tuple[int, float]] = []
    shares: list[float] = []
    for taken in range(_MOST_PEAKS):
        freedom = rows - 3 - 2 * taken
        score, spread = (lacking.weight[:, None] * lacking.values).T, lacking.spread
        unit = (lacking.weight[:, None] * lacking.information).sum(axis=0) * spread
        power, output, periods, spectrum = max((each.peak(score, unit) for each in spectra), key=itemgetter(0))
        if freedom < LEAST_FREEDOM or power == 0 or len(found) == _MOST_WAVES:
            break
        periods = spectrum.nearest_peak(periods, lacking, output)
        explained, fitted = spectrum.wave(periods, lacking)
        left = max(spread[output] - explained[output], np.finfo(float).eps * spread[output])
        if tests * lacking.p_value(explained[output], left, 2, freedom) >= SIGNIFICANT:
            break
        lacking = lacking._replace(values=lacking.values - fitted)
        share = explained[output] / total[output]
        if periods >= _FEWEST_PERIODS and share >= _LEAST:
            found.append((spectrum.number, 2 * np.pi * periods / spectrum.range))
            shares.append(share)
    return found if sum(shares) >= _LEAST_IN_ALL else []


class _Spectrum(NamedTuple):
    """The spectrum along a column: a ``place`` (n,) from 0 to 1 in its ``range``, and the ``cell`` of this place.

    There are up to ``most`` periods, and ``n_cells`` cells.
    """

    number: int
    place: np.ndarray
    range: float
    most: int
    cell: np.ndarray
    n_cells: int

    @classmethod
    def of(cls, number: int, column: np.ndarray, rows: float) -> _Spectrum | None:
        """Make it of a column (n,); None if the column has few values."""
        values = np.unique(column)
        if len(values) <= _FEWEST_VALUES:
            return None
        # On a grid, as of days, faster waves are the same as slower ones.
        grid = (values - values[0]) / np.diff(values).min()
        n_periods = grid[-1] / 2 if np.abs(grid - np.rint(grid)).max() < _ON_GRID else len(values)
        most = min(int(n_periods), int(rows), _MOST_PERIODS)
        if most < _FEWEST_PERIODS:
            return None
        extent, n_cells = values[-1] - values[0], _CELLS * most
        place = (column - values[0]) / extent
        return cls(number, place, float(extent), most, np.minimum((place * n_cells).astype(int), n_cells - 1), n_cells)

    def peak(self, score: np.ndarray, unit: np.ndarray) -> tuple[float, int, float, _Spectrum]:
        """Return the power of the highest peak, its output, its number of periods, and this spectrum.

        The power of the scores (k, n), in their units (k,), is about the part that the peak explains.
        """
        sums = np.stack([np.bincount(self.cell, weights=values, minlength=self.n_cells) for values in score])
        length = next_fast_len(_PLACES * self.n_cells, real=True)
        last = self.most * length // self.n_cells
        power = np.square(np.abs(rfft(sums, length)[:, 1 : last + 1]))
        power = np.divide(power, unit[:, None], out=np.zeros_like(power), where=unit[:, None] > 0)
        output, place = np.unravel_index(power.argmax(), power.shape)
        return float(power[output, place]), int(output), float((place + 1) * self.n_cells / length), self

    def nearest_peak(self, periods: float, lacking: LeftOver, output: int) -> float:
        """Return the number of periods, near to this one, that explains the most of an output."""
        reach = 1 / _PLACES

        def lost(periods: float) -> float:
            return -_linear_model(self._basis(periods), lacking, output)[0]

        bounds = max(periods - reach, reach), min(periods + reach, self.most)
        return float(minimize_scalar(lost, bounds=bounds, method="bounded").x)

    def wave(self, periods: float, lacking: LeftOver) -> tuple[np.ndarray, np.ndarray]:
        """Return what a wave of so many periods explains of each output, (k,), and its values (n, k)."""
        basis = self._basis(periods)
        models = [_linear_model(basis, lacking, output) for output in range(lacking.values.shape[1])]
        explained, coefficients = zip(*models, strict=True)
        return np.array(explained), lacking.information * (basis @ np.stack(coefficients, axis=1))

    def _basis(self, periods: float) -> np.ndarray:
        angle = 2 * np.pi * periods * self.place
        return np.column_stack([np.ones(len(angle)), np.sin(angle), np.cos(angle)])


def _linear_model(basis: np.ndarray, lacking: LeftOver, output: int) -> tuple[float, np.ndarray]:
    """Return what a constant, a sine and a cosine (n, 3) explain of an output, but for its mean, and coefficients."""
    weight, values, information = lacking.weight, lacking.values[:, output], lacking.information[:, output]
    score, gram = basis.T @ (weight * values), basis.T @ ((weight * information)[:, None] * basis)
    # At half as many periods as there are values the sine may be 0.
    coefficients = np.linalg.lstsq(gram, score, rcond=_SINGULAR)[0]
    return float(score @ coefficients - score[0] ** 2 / gram[0, 0]), coefficients
