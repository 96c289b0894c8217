"""Mean and spread of scores."""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple


class Summary(NamedTuple):
    """Mean over clips and half the width of its 95 % interval.

    Clips are what is drawn; Student's t for their number.
    """

    mean: float
    half: float


Cells = dict[tuple[str, str], Summary]
"""By case and name of the arm."""

STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 24: 2.069}
"""The 97.5 % quantile by number of values."""


def summary(of_clips: list[list[float]]) -> Summary:
    """Of the scores of each clip."""
    means = [statistics.fmean(scores) for scores in of_clips]
    error = statistics.stdev(means) / math.sqrt(len(means))
    return Summary(statistics.fmean(means), STUDENT_T[len(means)] * error)


def ratio(one: Summary, other: Summary, floor: Summary) -> float:
    """How far one is above the floor, as a part of how far the other is."""
    return (one.mean - floor.mean) / (other.mean - floor.mean)
