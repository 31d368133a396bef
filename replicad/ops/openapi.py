"""The operator API described as OpenAPI 3.1, made of the same list that serves it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec

from replicad import __version__
from replicad.ops.requests import ROUTES, Route

_READ: dict[str, str] = {
    "/healthz": "The process works.",
    "/readyz": "200 when every folder is in state 4, else 503 and why not.",
    "/v1/status": "Members, folders, states, backlog.",
    "/v1/events": "Server-sent events; `after`: only those after this number; `follow=0`: only what is there now.",
    "/v1/openapi.json": "This description.",
}
_OPEN = ("/healthz", "/readyz")


@cache
def description() -> dict[str, Any]:
    components = msgspec.json.schema_components(
        [route.request for route in ROUTES], ref_template="#/components/schemas/{name}"
    )[1]
    paths: dict[str, dict[str, Any]] = {path: {"get": _read(path, summary)} for path, summary in _READ.items()}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "replicad", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


_ERROR = {
    "type": "object",
    "required": ["error", "exit_status"],
    "properties": {"error": {"type": "string"}, "exit_status": {"type": "integer"}},
}


def _read(path: str, summary: str) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary, "responses": _responses()}
    operation["security"] = [{}] if path in _OPEN else [{}, {"token": []}]
    return operation


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": re.sub(r"(?<!^)(?=[A-Z])", "-", route.request.__name__).lower(),
        "responses": _responses(),
        "security": [{"token": []}] if route.changes else [{}, {"token": []}],
    }
    fields = route.fields_in_path()
    parameters = [{"name": field, "in": "path", "required": True, "schema": {"type": "string"}} for field in fields]
    if route.method == "GET":
        asked = [field for field in route.request.__struct_fields__ if field not in fields]
        parameters += [{"name": field, "in": "query", "schema": {"type": "string"}} for field in asked]
    if parameters:
        operation["parameters"] = parameters
    if route.method == "POST":
        schema = {"$ref": f"#/components/schemas/{route.request.__name__}"}
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation


def _responses() -> dict[str, Any]:
    error = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    return {"200": {"description": "done"}, "default": {"description": "why not", **error}}
