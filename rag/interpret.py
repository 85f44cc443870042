"""What a question says about when and by whom, and what that is worth in the ranking.

Nothing that is understood leaves an article out: `boost` raises what was published then and there,
and lowers nothing.
"""

from __future__ import annotations

from datetime import date

import numpy as np

from rag.dates import DAY_MICROSECONDS, parse_iso
from rag.naming import SourceNames, find_sources
from rag.periods import find_periods
from rag.types import AskedPeriod, Floats, Interpreted, Mask, Numbers

PERIOD_WEIGHT = 0.15
SOURCE_WEIGHT = 0.15

FULL_DAYS = 3
"""What happens is reported on its day or in the days after it."""

HALF_LIFE_DAYS = 14.0


def interpret(question: str, *, asked_at: str, sources: SourceNames) -> Interpreted:
    """The periods and sources that `question` names, each in the order of the text.

    Relative expressions count from the day of `asked_at`, an ISO date or date-time, as it is
    written there. Any question is safe. Raises ValueError if `asked_at` is not a date.
    """
    asked = parse_iso(asked_at).iso
    named = find_sources(question, sources)
    taken = [(each.start, each.end) for each in named]  # "USA Today" is no day
    periods = find_periods(question, date.fromisoformat(asked[:10]), taken)
    return Interpreted(asked, periods, named)


def boost(understood: Interpreted, first: Numbers, last: Numbers, of_source: Mask) -> Floats:
    """What to add to the score of each candidate; all zeros where nothing was understood.

    `first` and `last`: when its article was published, in microseconds since 1970 (see
    dates.Period), both the least number where that is unknown. `of_source`: whether it is of a
    source that was named.
    """
    gain = np.zeros(len(first), dtype=np.float32)
    if understood.periods:
        fits = [nearness(period, first, last) for period in understood.periods]
        gain += np.float32(PERIOD_WEIGHT) * np.max(fits, axis=0)
    if understood.sources:
        gain += np.float32(SOURCE_WEIGHT) * of_source
    return gain


def nearness(period: AskedPeriod, first: Numbers, last: Numbers) -> Floats:
    """1 for what was published within a period or the days after it, then falling by half every
    two weeks; 0 for what was published before, or at no known time."""
    until = parse_iso(period.published_to).last
    late_days = (first.astype(np.float64) - until) / DAY_MICROSECONDS - FULL_DAYS
    near = np.exp2(-np.maximum(late_days, 0.0) / HALF_LIFE_DAYS)
    near[first == np.iinfo(np.int64).min] = 0.0
    if period.published_from is not None:
        near[last < parse_iso(period.published_from).first] = 0.0
    return near.astype(np.float32)
