"""The first passes of a replica, before it is ready, so that no request waits for them.

A device does much only once: it loads kernels, chooses among them, and reserves memory.
"""

import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

import pyarrow as pa

from homnet.bags.assessment import assess
from homnet_serve.batching import ReadWork, ScoreWork, read, score
from homnet_serve.store import Served

W = TypeVar("W")


def warm_up(
    served: Sequence[Served], reference: pa.Table, *, num_bags: int, num_types: int
) -> None:
    """Scores and reads reference bags: first those of one patient, then a full pass.

    Call it in the thread of the passes: on a GPU some of this is done once for each thread.

    Args:
        served: the loaded models; each takes part.
        reference: reference bags of any of them.
        num_bags: number of bags in a full pass of the models.
        num_types: number of types in a full pass of a reader.
    """
    assessment = assess(reference)
    bags, num_read = assessment.bags, len(assessment.types)
    predictors = dict.fromkeys(one.predictor for one in served)
    scores = [ScoreWork(bags, [one] * len(bags)) for one in predictors]
    readers = dict.fromkeys(one.reader for one in served if one.reader is not None)
    reads = [ReadWork(assessment, [one] * num_read) for one in readers]
    score(scores[:1])
    score(_repeated(scores, math.ceil(num_bags / len(bags))))
    if reads:
        read(reads[:1])
        read(_repeated(reads, math.ceil(num_types / num_read)))


def _repeated(works: Sequence[W], number: int) -> list[W]:
    """Works in turn, each at least once."""
    return list(itertools.islice(itertools.cycle(works), max(number, len(works))))
