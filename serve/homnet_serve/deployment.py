"""The endpoint in Ray Serve. ``serve/config.yaml`` names :func:`app`.

HTTP, queue and models are one deployment, as each further one adds milliseconds to a request.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from fastapi import FastAPI
from ray import serve
from ray.serve import Application, Deployment

from homnet_serve.app import create_app
from homnet_serve.config import ServiceConfig, config_from, find_read_form
from homnet_serve.logs import fault_of, log_to_stderr
from homnet_serve.service import Service

NAME: Final = "Endpoint"
_METRICS_S: Final = 3.0
"""Timeout in seconds for the metrics of the other replicas."""
_LOG: Final = logging.getLogger(__name__)


class _Endpoint:
    """A replica."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        log_to_stderr()
        self._service = Service(config_from(ServiceConfig, settings))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Returns the application; Ray Serve calls this in the replica and runs its lifespan."""
        return create_app(self._service, self._expositions)

    async def exposition(self) -> tuple[str, str]:
        """Returns the name and metrics of this replica; called by the other replicas."""
        context = serve.get_replica_context()
        return context.replica_id.unique_id, self._service.metrics.exposition()

    async def _expositions(self) -> Sequence[tuple[str, str]]:
        """Names and metrics of all replicas that respond; always includes this one."""
        own = await self.exposition()
        # Skip the check: it would wait for the controller and so delay all requests.
        handle = serve.get_deployment_handle(
            NAME, serve.get_replica_context().app_name, _check_exists=False
        )
        try:
            found = await handle.broadcast("exposition").results_async(
                timeout_s=_METRICS_S, return_exceptions=True
            )
        except Exception as error:  # operators need metrics even while Ray fails
            _LOG.error("replicas_unreachable", extra=fault_of(error))
            found = []
        return sorted(dict([own, *(one for one in found if isinstance(one, tuple))]).items())

    async def check_health(self) -> None:
        """Called by Ray Serve; after three failures the replica is replaced.

        Raises:
            RuntimeError: a permanent task has ended.
        """
        if not self._service.alive:
            raise RuntimeError("the queue or the watcher of the registry has stopped")


def app(settings: dict[str, Any]) -> Application:
    """Builds the application for ``serve run`` and ``serve deploy``.

    Args:
        settings: fields of :class:`homnet_serve.config.ServiceConfig`; the ``args`` in YAML.

    Raises:
        ConfigError: a setting is unknown or wrong; raised before any replica starts.
    """
    return endpoint(settings)


def endpoint(settings: dict[str, Any], **options: Any) -> Application:
    """Like :func:`app`, with the options listed under ``deployments`` in YAML.

    Raises:
        ConfigError: as :func:`app`.
    """
    find_read_form(config_from(ServiceConfig, settings).forms)
    made = serve.deployment(serve.ingress()(_Endpoint), name=NAME, **options)
    return cast(Deployment, made).bind(settings)
