"""Measures how fast Ray Data feeds a training, beside pairs that stay on the workers.

python jobs/records/feed.py --cohort cohorts/simulated --output runs/feed
"""

from homnet_platform.job import run_job
from homnet_platform.records.feed import FeedConfig, feed

if __name__ == "__main__":
    run_job(FeedConfig, feed, description=__doc__)
