"""The endpoint in Ray Serve. ``serve/config.yaml`` names :func:`app`.

HTTP, queue and models are one deployment, as each further one adds milliseconds to a request.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

from fastapi import FastAPI
from ray import serve
from ray.serve import Application, Deployment

from homnet_serve.app import create_app
from homnet_serve.config import ServiceConfig, config_from, find_read_form
from homnet_serve.logs import log_to_stderr
from homnet_serve.service import Service

NAME: Final = "Endpoint"


class Replica:
    """A replica."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        log_to_stderr()
        self._service = Service(config_from(ServiceConfig, settings))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Returns the application; Ray Serve calls this in the replica and runs its lifespan."""
        return create_app(self._service)

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces the replica after three failures.

        A replica that fails it at its start counts as not started.

        Raises:
            RuntimeError: a permanent task has ended, passes fail one after the other, there is no
                registry, or there are promoted models and none could be loaded.
        """
        if not self._service.alive:
            raise RuntimeError(
                "the queue or the watcher of the registry has stopped, or one pass after the other "
                "fails; the log says why (pass_failed)"
            )
        if not self._service.ready:
            raise RuntimeError(
                "the registry is missing or cannot be read, or none of its promoted models can be "
                "loaded; the log says why (registry_missing, registry_unreadable, model_rejected, "
                "model_not_loaded)"
            )


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

    Args:
        settings: as in :func:`app`.
        options: options of the deployment.

    Raises:
        ConfigError: as :func:`app`.
    """
    find_read_form(config_from(ServiceConfig, settings).forms)
    made = serve.deployment(serve.ingress()(Replica), name=NAME, **options)
    return cast(Deployment, made).bind(settings)
