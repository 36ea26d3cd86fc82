"""Router of the front: finds a path without parameters by its name, and any other by Starlette's search."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from starlette.routing import Route, Router
from starlette.types import Lifespan, Receive, Scope, Send


class FrontRouter(Router):
    """Starlette's router, which would try the patterns of all routes before the one that is asked for."""

    def __init__(self, routes: Sequence[Route], lifespan: Lifespan[Any] | None = None) -> None:
        super().__init__(routes, redirect_slashes=False, lifespan=lifespan)
        self._fixed: dict[tuple[str, str], Route] = {}
        for place, route in enumerate(routes):
            # The first route that fits is the one that counts.
            if not route.param_convertors and not any(_fits(before, route.path) for before in routes[:place]):
                self._fixed |= {(method, route.path): route for method in route.methods or ()}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]
        """Have a request answered by its route, once it is awaited. Raises as Starlette's.

        Starlette's two coroutines would take memory for as long as the answer takes.
        """
        route = None
        if scope["type"] == "http" and not scope.get("root_path"):
            route = self._fixed.get((scope["method"], scope["path"]))
        if route is None:
            return super().__call__(scope, receive, send)
        # What Starlette notes beside it is not asked for, and a scope of more than 21 entries takes twice the memory.
        scope["route"] = route
        return route.app(scope, receive, send)


def _fits(route: Route, path: str) -> bool:
    return bool(route.path_regex.match(path)) and route.path != path
