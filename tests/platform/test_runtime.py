"""The Ray of a job: one that runs already is left alone, and what does not fit is refused."""

import pytest
import ray

from homnet.errors import ConfigError
from homnet_platform.runtime import local_or_cluster, require_workers

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_workers_that_no_node_can_hold_are_refused() -> None:
    """On two CPUs one worker of three never starts, nor does one that wants a GPU."""
    require_workers(4, "scoring", cpus=0.5)
    with pytest.raises(ConfigError, match="needs 1 workers of 3 CPUs, and 0 fit"):
        require_workers(1, "scoring", cpus=3)
    with pytest.raises(ConfigError, match="of 1 CPUs and 1 GPUs, and 0 fit"):
        require_workers(1, "scoring", gpus=1)


def test_a_ray_that_runs_is_joined_and_left_running() -> None:
    before = ray.get_runtime_context().get_node_id()
    with local_or_cluster(num_cpus=1):
        assert ray.get_runtime_context().get_node_id() == before
        assert ray.cluster_resources()["CPU"] == 2
    assert ray.is_initialized()
