import os
import signal

import pytest

from homnet.errors import DataError
from homnet_platform.blocks import process_blocks

BAR = {"title": "test", "total": 6, "unit": "thing"}


@pytest.mark.ray
def test_texts_come_in_the_order_of_the_blocks(ray_cluster):
    assert process_blocks(4, lambda number: (1, f"block {number}"), **BAR) == [
        f"block {number}" for number in range(4)
    ]


@pytest.mark.ray
def test_a_block_whose_worker_was_killed_is_done_again(ray_cluster, tmp_path):
    def work(number: int) -> tuple[int, str]:
        killed = tmp_path / "killed"
        if number == 2 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 1, str(number)

    assert process_blocks(3, work, **BAR) == ["0", "1", "2"]
    assert (tmp_path / "killed").exists()


@pytest.mark.ray
def test_an_error_of_a_block_reaches_the_driver(ray_cluster):
    def work(number: int) -> tuple[int, str]:
        raise DataError(f"block {number} cannot be done")

    with pytest.raises(DataError, match="block 0 cannot be done"):
        process_blocks(1, work, **BAR)
