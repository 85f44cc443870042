"""What a question says about when and by whom, and what that is worth in the ranking.

Nothing that is understood leaves an article out: `boost` raises what was published then and there,
and lowers nothing.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import numpy.typing as npt

from rag.dates import DAY_MICROSECONDS, UNDATED, parse_iso
from rag.naming import SourceNames, find_sources
from rag.periods import find_periods
from rag.types import AskedPeriod, Floats, Interpreted, Mask, Numbers

PERIOD_WEIGHT = 0.2
"""Added for what was published in a period that is named; the fused score is from 0 to 1. Chosen on
every second question with a date of RealTimeQA (46) and of eval/cues.jsonl (19): from 0.15 to 0.3
all is near the best. On the other 46 it gains .098 nDCG@10 [.047, .158]."""

FULL_DAYS = 3
"""What happens is reported on its day or in the days after it."""

HALF_LIFE_DAYS = 14.0
"""After that the gain falls by half in so many days; 7 or 30 make no difference that shows."""

SOURCE_WEIGHT = 0.2
"""Added for what was published by a source that is named. Any weight from 0.1 on puts the right
article first on the six questions of eval/cues.jsonl that it was chosen on."""

RECENT_WEIGHT = 0.1
RECENT_HALF_LIFE_DAYS = 60.0
"""Added for what is new on the day of asking, where the caller gives it and the question names no
date. Chosen on half of such questions of RealTimeQA; on the other 91 it gains .107 nDCG@10
[.075, .143]. Asked 120 days later than they were, they neither gain nor lose (.012 [-.001, .026],
112 questions); of 113 questions on seeds/ one is answered second instead of first. A weight of 0.2
gains more on the news of the week and loses more on what is older."""


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
    dates.Period), both UNDATED where that is unknown. `of_source`: whether it is of a
    source that was named.
    """
    gain = np.zeros(len(first), dtype=np.float32)
    if understood.periods:
        fits = [nearness(period, first, last) for period in understood.periods]
        gain += np.float32(PERIOD_WEIGHT) * np.max(fits, axis=0)
    if understood.recent:
        gain += np.float32(RECENT_WEIGHT) * newness(understood.asked_at, first)
    if understood.sources:
        gain += np.float32(SOURCE_WEIGHT) * of_source
    return gain


def nearness(period: AskedPeriod, first: Numbers, last: Numbers) -> Floats:
    """1 for what was published within a period or the days after it, then falling by half every
    two weeks; 0 for what was published before, or at no known time."""
    until = parse_iso(period.published_to).last
    near = _falling(_days(first, until) - FULL_DAYS, HALF_LIFE_DAYS)
    near[first == UNDATED] = 0.0
    if period.published_from is not None:
        near[last < parse_iso(period.published_from).first] = 0.0
    return near


def newness(asked_at: str, first: Numbers) -> Floats:
    """1 for what was published on the day of asking, half of it for what is two months older; 0
    for what was published later, or at no known time."""
    asked = parse_iso(asked_at).last
    new = _falling(-_days(first, asked), RECENT_HALF_LIFE_DAYS)
    new[(first == UNDATED) | (first > asked)] = 0.0
    return new


def _days(first: Numbers, until: int) -> npt.NDArray[np.float64]:
    return (first.astype(np.float64) - until) / DAY_MICROSECONDS


def _falling(days: npt.NDArray[np.float64], half_life: float) -> Floats:
    return np.exp2(-np.maximum(days, 0.0) / half_life).astype(np.float32)
