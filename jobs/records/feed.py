"""Measures how many bags one core draws, and reads and assembles, for a streamed training.

python jobs/records/feed.py --cohort cohorts/simulated --output runs/feed

With --gpu-bags-per-s it says how many cores feed a GPU.
"""

from homnet_platform.job import run_job
from homnet_platform.records.feed import FeedConfig, feed

if __name__ == "__main__":
    run_job(FeedConfig, feed, description=__doc__)
