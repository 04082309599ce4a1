"""The endpoint in Ray Serve. ``serve/config.yaml`` names :func:`app`.

HTTP, queue and models are one deployment, as each further one adds milliseconds to a request.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast, get_args

import yaml
from fastapi import FastAPI
from pydantic import BaseModel, ValidationError
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.schema import ServeDeploySchema

from homnet.errors import ConfigError, first_line
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
                "model_not_loaded, reference_bags_missing)"
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
    _check(settings)
    made = serve.deployment(serve.ingress()(Replica), name=NAME, **options)
    return cast(Deployment, made).bind(settings)


def _check(settings: Mapping[str, Any]) -> None:
    """Refuses wrong settings.

    Raises:
        ConfigError: as :func:`app`.
    """
    find_read_form(config_from(ServiceConfig, settings).forms)


def check_config(file: Path) -> None:
    """Checks a file for ``serve run`` and ``serve deploy``.

    Raises:
        ConfigError: it cannot be read, gives a name twice or one that Serve does not know, has a
            value that Serve or the endpoint refuses, or starts no endpoint.
    """
    try:
        text = file.read_text("utf-8")
        content, twice = yaml.safe_load(text), _given_twice(yaml.compose(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{file}: cannot be read ({first_line(error)}); give a Serve config in YAML"
        ) from None
    if twice:
        raise ConfigError(f"{file}: {', '.join(twice)} given twice, and the last would count")
    if unknown := unknown_names(content):
        raise ConfigError(
            f"{file}: Serve does not know {', '.join(unknown)} and would use a default without a "
            "word; correct or remove it"
        )
    try:
        schema = ServeDeploySchema.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise ConfigError(f"{file}: {where}: {fault['msg']}; correct it") from None
    own = f"{__name__}.{app.__name__}"
    endpoints = [one for one in schema.applications if one.import_path.replace(":", ".") == own]
    if not endpoints:
        raise ConfigError(f"{file}: no application has the import_path {__name__}:{app.__name__}")
    for one in endpoints:
        _check(one.args)


def unknown_names(content: object, kind: Any = ServeDeploySchema, where: str = "") -> list[str]:
    """Dotted names in a Serve config that Serve does not know; its own schema ignores them.

    Args:
        content: the config, or a part of it.
        kind: Serve's type of it.
        where: its dotted name.
    """
    if isinstance(content, list):
        parts = [(one, kind, f"{where}.{number}") for number, one in enumerate(content)]
        return [name for part in parts for name in unknown_names(*part)]
    fields = {
        name: field.annotation
        for model in _models(kind)
        for name, field in model.model_fields.items()
    }
    if not fields or not isinstance(content, Mapping):  # of any names, such as args
        return []
    found = []
    for name, value in content.items():
        path = f"{where}.{name}" if where else str(name)
        found += unknown_names(value, fields[name], path) if name in fields else [path]
    return found


def _given_twice(node: Any) -> list[str]:
    """Names that stand twice in one mapping of a YAML document, or in one of its parts."""
    if isinstance(node, yaml.SequenceNode):
        return [name for part in node.value for name in _given_twice(part)]
    if not isinstance(node, yaml.MappingNode):
        return []
    number = Counter(str(name.value) for name, _ in node.value)
    within = [name for _, part in node.value for name in _given_twice(part)]
    return [name for name, count in number.items() if count > 1] + within


def _models(kind: Any) -> list[type[BaseModel]]:
    """The models in a type, for example in a union with a dict."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for part in get_args(kind) for model in _models(part)]
