"""A small Ray cluster on this machine whose nodes can be killed."""

import os
import time
from typing import Any, Self

from ray.cluster_utils import Cluster

from homnet.processes import command_of, descendants, free_port


class Nodes:
    """A head for the controller and nodes with one CPU each; a context manager that stops all."""

    def __init__(self, num_workers: int, back_s: float) -> None:
        """Starts the head and the nodes.

        Args:
            num_workers: number of nodes beside the head.
            back_s: seconds to wait for the processes of a killed node to end.
        """
        self._back_s = back_s
        os.environ["RAY_AUTH_MODE"] = "disabled"
        head = {
            "num_cpus": 0,
            "include_dashboard": False,
            # The dashboard is not started, but its port is taken.
            "dashboard_port": free_port(),
            "object_store_memory": 200_000_000,
        }
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._workers = [self._add() for _ in range(num_workers)]

    @property
    def address(self) -> str:
        """Address of the head, for RAY_ADDRESS."""
        address: str = self._cluster.address
        return address

    def _add(self) -> Any:
        return self._cluster.add_node(num_cpus=1, object_store_memory=200_000_000)

    def kill_one(self) -> None:
        """Sends SIGKILL to all processes of a node; a new node replaces it, as in Kubernetes."""
        node = self._workers.pop()
        pids = [pid for _, one in node.live_processes() for pid in descendants(one.pid)]
        self._cluster.remove_node(node, allow_graceful=False)
        # Workers exit once they notice that their node is gone.
        deadline = time.monotonic() + self._back_s
        while any(command_of(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._workers.append(self._add())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()
