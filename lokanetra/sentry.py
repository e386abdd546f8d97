"""Errors go to Sentry where `SENTRY_DSN` is set: what failed and where, and no personal data."""

from typing import Any

from lokanetra.logs import mask

# Nothing of a request that the log does not have: no URL with its parameters, no headers, cookies or body.
REQUEST_FIELDS = ("method",)


def start(dsn: str) -> None:
    """Start reporting. Nobody waits for it: a thread sends, and what it cannot send is dropped."""
    import sentry_sdk

    sentry_sdk.init(
        dsn,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        shutdown_timeout=1,
        before_send=without_people,
    )


def without_people(event: Any, hint: Any) -> Any:
    """The event with phones, tokens and codes masked as in the log."""
    request = event.get("request", {})
    event["request"] = {name: request[name] for name in REQUEST_FIELDS if name in request}
    for name in ("user", "breadcrumbs", "extra"):
        event.pop(name, None)
    return _masked(event)


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {name: _masked(each) for name, each in value.items()}
    return [_masked(each) for each in value] if isinstance(value, (list, tuple)) else value
