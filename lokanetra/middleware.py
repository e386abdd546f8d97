"""What applies to every request: its path prefix, id and headers, the form of its errors, the trailing slash."""

import logging
import re
import time
from collections.abc import Callable
from typing import Any

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.security import SecurityMiddleware
from django.urls import get_script_prefix, set_script_prefix
from django.utils.functional import SimpleLazyObject
from rest_framework.settings import api_settings

from lokanetra import database, errors, logs, metrics
from lokanetra.addresses import address_of
from lokanetra.env import PATH_PREFIX
from lokanetra.parsers import ProblemRenderer

logger = logging.getLogger("lokanetra.requests")

Handler = Callable[[HttpRequest], HttpResponse]

PAGES = ("/admin/", "/swagger/", "/redoc/", "/static/")
HEALTH = ("/healthz", "/readyz", "/metrics")
PRIVATE = ("/auth/", "/wallet/", "/transactions/")
NO_FRAMES = "frame-ancestors 'none'"
# The pages of the documentation need only what we serve; ReDoc would fetch a picture from its vendor.
DOCUMENTATION = ("/swagger/", "/redoc/")
SELF_ONLY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src blob:"


def url_prefix(get_response: Handler) -> Handler:
    """Serves the product below a path prefix of a proxy: links, redirects and cookies have that prefix."""

    def middleware(request: HttpRequest) -> HttpResponse:
        prefix = settings.FORCE_SCRIPT_NAME or _forwarded_prefix(request)
        if not prefix:
            return get_response(request)
        outer = get_script_prefix()
        _mount(request, prefix)
        try:
            response = get_response(request)
        finally:
            set_script_prefix(outer)
        for cookie in response.cookies.values():
            cookie["path"] = f"{prefix}/"  # other services on this host must not get our sessions
        return response

    return middleware


def _forwarded_prefix(request: HttpRequest) -> str:
    """The prefix that the proxy sends, if there is a proxy and the prefix is valid."""
    prefix = request.META.get("HTTP_X_FORWARDED_PREFIX", "").removesuffix("/")
    return prefix if prefix and api_settings.NUM_PROXIES and re.fullmatch(PATH_PREFIX, prefix, re.ASCII) else ""


def _mount(request: HttpRequest, prefix: str) -> None:
    """The proxy may strip the prefix or keep it, except a prefix that equals one of our paths: it must strip that."""
    path = request.path_info
    if f"{path}/".startswith(f"{prefix}/") and f"{prefix}/" not in (*PAGES, *PRIVATE):
        path = path.removeprefix(prefix) or "/"
    request.path_info, request.path = path, f"{prefix}{path}"
    request.META |= {"PATH_INFO": path, "SCRIPT_NAME": prefix}
    set_script_prefix(prefix)


def request_id(get_response: Handler) -> Handler:
    """The client's own id if it sent a valid one, else a new one: in the answer and in every log line."""

    def middleware(request: HttpRequest) -> HttpResponse:
        current = logs.choose_request_id(request.META.get("HTTP_X_REQUEST_ID"))
        logs.request_id.set(current)  # not reset: Django logs a 4xx only after the last middleware
        start = time.perf_counter()
        response = get_response(request)
        response["X-Request-Id"] = current
        logger.info("%s %s", request.method, response.status_code, extra={"fields": _fields(request, response, start)})
        if metrics.enabled():
            metrics.count_request(request, response, time.perf_counter() - start)
        return response

    return middleware


def _fields(request: HttpRequest, response: HttpResponse, start: float) -> dict[str, Any]:
    """The route and not the path, which may contain personal data. The client's address, to trace an attacker, and the
    transaction of the answer: a payment has no other log line."""
    answer, address = getattr(response, "data", None), address_of(request)
    return {
        "method": request.method,
        "route": getattr(request.resolver_match, "route", None),
        "status": response.status_code,
        "milliseconds": round((time.perf_counter() - start) * 1000, 1),
        "user": _user_id(request),
        "address": str(address) if address else None,
        "transaction": answer.get("transaction_id") if isinstance(answer, dict) else None,
    }


def _user_id(request: HttpRequest) -> int | None:
    """The user, if the request has already loaded it: loading it now would cost a query."""
    user = request.__dict__.get("user")
    known = request.__dict__.get("_cached_user") if isinstance(user, SimpleLazyObject) else user
    return getattr(known, "pk", None)


def headers(get_response: Handler) -> Handler:
    """No page can be framed, and no cache keeps an answer about money. The documentation loads nothing from elsewhere.

    These and Django's own security headers are the same for all answers, so they are made once and added together.
    """
    made: dict[tuple[bool, str], dict[str, tuple[str, str]]] = {}

    def middleware(request: HttpRequest) -> HttpResponse:
        response, path = get_response(request), request.path_info
        kind = request.is_secure(), f"{SELF_ONLY}; {NO_FRAMES}" if path.startswith(DOCUMENTATION) else NO_FRAMES
        if kind not in made:
            made[kind] = _security_headers(request, kind[1])
        response.headers._store = {**made[kind], **response.headers._store}
        if path.startswith(PRIVATE):
            response["Cache-Control"] = "no-store"
        return response

    return middleware


def _security_headers(request: HttpRequest, policy: str) -> dict[str, tuple[str, str]]:
    """As Django stores them: each header and its value, by its name in small letters."""
    response = HttpResponse(headers={"Content-Security-Policy": policy})
    del response["Content-Type"]
    for middleware in (SecurityMiddleware, XFrameOptionsMiddleware):
        middleware(lambda _: HttpResponse()).process_response(request, response)
    return response.headers._store


def problems(get_response: Handler) -> Handler:
    """Turns Django's error pages into problems, also with DEBUG. The console and the documentation keep theirs."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.status_code < 400 or request.path_info.startswith(PAGES):
            return response
        if response.get("Content-Type") == ProblemRenderer.media_type:
            return response
        return errors.from_status(request, response)

    middleware.process_exception = database_away  # type: ignore[attr-defined]
    return middleware


def database_away(request: HttpRequest, fault: Exception) -> HttpResponse | None:
    """A page whose database is unavailable answers 503 with Retry-After."""
    if not database.is_away(fault):
        return None
    logger.error("server_busy: %s", fault)
    return HttpResponse(
        "The database does not answer. Try again in a moment.", status=503, headers={"Retry-After": "1"}
    )


class SlashMiddleware(CommonMiddleware):
    """Redirects a read to the path with its slash. A write would lose its body in a redirect, so it gets a 404.

    Health checks are answered for any Host: a load balancer sends the address of a machine.
    """

    def process_request(self, request: HttpRequest) -> Any:
        if request.path_info in HEALTH or (request.path_info.endswith("/") and _has_allowed_host(request)):
            return None
        return super().process_request(request)

    def should_redirect_with_slash(self, request: HttpRequest) -> bool:
        return request.method in ("GET", "HEAD") and super().should_redirect_with_slash(request)


def _has_allowed_host(request: HttpRequest) -> bool:
    """Whether the Host is literally in `ALLOWED_HOSTS`: a fast check that spares Django's full one."""
    host, _, port = request.META.get("HTTP_HOST", "").partition(":")
    return host in settings.ALLOWED_HOSTS and (not port or port.isdecimal()) and not settings.USE_X_FORWARDED_HOST


class Origins(CorsMiddleware):
    """CORS headers, only where other origins are allowed at all."""

    def __call__(self, request: HttpRequest) -> Any:
        return super().__call__(request) if settings.CORS_ALLOWED_ORIGINS else self.get_response(request)


def pages_only(get_response: Handler) -> Handler:
    """Skips the middleware that follows, unless the request is for a page, has a cookie, or is redirected to HTTPS.

    All that follows is for browsers: a client of the API has no session, so nobody can act in its name.
    """
    redirects, view = settings.SECURE_SSL_REDIRECT, get_response
    while hasattr(view, "get_response"):
        view = view.get_response

    def middleware(request: HttpRequest) -> HttpResponse:
        is_for_browser = request.META.get("HTTP_COOKIE") or request.path_info.startswith(PAGES)
        if is_for_browser or (redirects and not request.is_secure()):
            return get_response(request)
        return view(request)

    return middleware
