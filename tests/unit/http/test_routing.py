"""Routes of the front: those with a fixed path are found at once, and all others as by Starlette."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from satmeter.http.routing import FrontRouter


async def told(request: Request) -> Response:
    route: Route = request.scope["route"]
    return PlainTextResponse(f"{route.name} {request.path_params}")


def route(path: str, name: str, method: str = "GET") -> Route:
    return Route(path, told, methods=[method], name=name)


ROUTES = [
    route("/jobs/{jobId}", "job"),
    route("/jobs/all", "all"),
    route("/jobs", "list"),
    route("/jobs", "create", "POST"),
    route("/{path:path}", "rest", "DELETE"),
]


async def answer(method: str, path: str, **scope: Any) -> bytes:
    bodies: list[bytes] = []

    async def send(message: Any) -> None:
        bodies.append(message.get("body", b""))

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    given = {"type": "http", "method": method, "path": path, "headers": [], "app": None, **scope}
    await FrontRouter(ROUTES)(given, receive, send)
    return b"".join(bodies)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/jobs", b"list {}"),
        ("POST", "/jobs", b"create {}"),
        ("GET", "/jobs/7", b"job {'jobId': '7'}"),
        ("GET", "/jobs/all", b"job {'jobId': 'all'}"),
        ("DELETE", "/jobs", b"rest {'path': 'jobs'}"),
    ],
)
async def test_the_first_route_that_fits_answers(method: str, path: str, found: bytes) -> None:
    assert await answer(method, path) == found


async def test_a_path_below_a_root_is_found_too() -> None:
    assert await answer("GET", "/here/jobs", root_path="/here") == b"list {}"


async def test_another_method_is_refused() -> None:
    with pytest.raises(HTTPException) as refused:
        await answer("PUT", "/jobs")
    assert refused.value.status_code == 405
