"""Blocks of work that write files: Ray Data runs them, the driver collects a text from each.

Workers write files straight to storage; only numbers and texts pass through the driver.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from homnet_platform.data import in_blocks
from homnet_platform.progress import driver_bar


def process_blocks(
    num_blocks: int, work: Callable[[int], tuple[int, str]], *, title: str, total: int, unit: str
) -> list[str]:
    """Processes every block, one CPU each, with a progress bar.

    Args:
        num_blocks: blocks ``0..num_blocks - 1``.
        work: processes the block of this number in any process of the cluster; returns the number
            of units done and a text. Ray repeats it if its worker dies, so it must tolerate files
            of an earlier attempt.
        title: of the bar.
        total: approximate number of units in all blocks.
        unit: what the bar counts.

    Returns:
        The texts, in the order of the blocks.
    """
    data = in_blocks([{"number": number} for number in range(num_blocks)]).map_batches(
        partial(_process, work=work), batch_size=1, batch_format="numpy"
    )
    texts: dict[int, str] = {}
    with driver_bar(total, title, unit, unit_scale=True) as bar:
        for row in data.iter_rows():
            texts[int(row["number"])] = str(row["text"])
            bar.update(int(row["done"]))
        bar.total = bar.n
        bar.refresh()
    return [texts[number] for number in range(num_blocks)]


def _process(batch: Any, *, work: Callable[[int], tuple[int, str]]) -> dict[str, list[Any]]:
    number = int(batch["number"][0])
    done, text = work(number)
    return {"number": [number], "done": [done], "text": [text]}
