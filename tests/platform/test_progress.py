"""A bar that the driver draws of what workers say."""

import time

import pytest
import ray

from homnet_platform.progress import Progress, progress_bar

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_what_a_worker_did_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    # Inside the test, so that a worker gets it by value: it cannot import this file.
    @ray.remote
    def work(progress: Progress) -> None:
        progress.advance(2, loss=0.25, best=7)
        progress.advance(1)

    with progress_bar("training", 5, " bags") as progress:
        ray.get(work.remote(progress))
    assert "training:  60%" in (drawn := capsys.readouterr().err)
    assert "3/5" in drawn
    assert "loss 0.250, best 7" in drawn


def test_a_run_that_goes_on_says_from_where_and_what_is_repeated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bar("training", 9, " bags") as progress:
        for tell, total in (
            (progress.begin, 4),
            (progress.reach, 7),
            (progress.begin, 5),
            (progress.reach, 5),
            (progress.begin, 5),
        ):
            tell(total)
            # Messages that are sent at once may overtake each other; a run sends one per epoch.
            time.sleep(0.25)
    told = "".join(capsys.readouterr())
    assert "training: goes on from 4\n" in told
    assert "training: goes on from 5; 2 are repeated" in told
    assert "training: goes on from 5; 0 are repeated" in told
    assert "5/9" in told
