"""One process that runs requests through the product without a server and meters one layer after the other.
`python -m scripts.bench.bill_worker clock|instructions TIMES` on a database with accounts; `bill.py` runs it."""

import gc
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from itertools import count
from types import SimpleNamespace
from typing import Any

from django.db import connection

from lokanetra import logs, rsgi  # isort: skip  (sets the product up)
from scripts.bench import PHONES
from scripts.bench.meters import LAYERS, Clock, Instructions, Meter

WARM_UP = 10

sequence = count()


def main() -> None:
    kind, times = sys.argv[1], int(sys.argv[2])
    logs.disable_unused_fields()
    requests = dict(_requests())
    for request in requests.values():
        for _ in range(WARM_UP):
            handle(request())
    gc.disable()  # a collection would count for whichever layer it happens in
    meter: Meter = Instructions() if kind == "instructions" else Clock()
    for name, request in requests.items():
        for layer in range(len(LAYERS)):
            _measure(f"{name} {layer}", LAYERS[layer][2], request, meter, times)
        gc.collect()
    print(json.dumps(getattr(meter, "found", {})))  # noqa: T201


def _measure(name: str, path: str, request: Callable[[], Any], meter: Meter, times: int) -> None:
    with _metered(path, meter):
        meter.begin()
        for _ in range(times):
            built = request()
            sys.modules[__name__].handle(built)
    meter.end(name)


@contextmanager
def _metered(path: str, meter: Meter) -> Iterator[None]:
    """Meter each outermost call of the function at this path."""
    module, _, names = path.partition(":")
    *outer, name = names.split(".")
    owner: Any = sys.modules[__name__] if module == "scripts.bench.bill_worker" else import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    original, inside = getattr(owner, name), False

    @wraps(original)
    def metered(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if inside:
            return original(*args, **kwargs)
        inside = True
        meter.enter()
        try:
            return original(*args, **kwargs)
        finally:
            meter.leave()
            inside = False

    setattr(owner, name, metered)
    try:
        yield
    finally:
        setattr(owner, name, original)


def handle(request: tuple[SimpleNamespace, bytes]) -> bytes:
    """Handle a request as a slot of the server does."""
    answer = rsgi.application._call(rsgi.environ_of(*request))
    connection.close_if_unusable_or_obsolete()
    if answer.status not in (200, 201):
        raise RuntimeError(answer.content)
    return answer.content


def _requests() -> Iterator[tuple[str, Callable[[], Any]]]:
    from users import tokens
    from users.models import UserProfile

    users = UserProfile.objects.filter(is_staff=False).order_by("pk")[:20]
    logins = [(user.phone_number, tokens.issue(user)["access"]) for user in users]

    def transfer() -> Any:
        payer, payee = (logins[1 + (next(sequence) + step) % 19] for step in (0, 3))
        return _scope("POST", "/wallet/transfer/", payer[1], to_phone_number=payee[0], amount="1.00", remarks="Lunch")

    yield "transfer", transfer
    yield "balance", lambda: _scope("GET", "/wallet/balance/", logins[1 + next(sequence) % 19][1])
    yield "history", lambda: _scope("GET", "/transactions/", logins[0][1])
    yield "send-otp", lambda: _scope("POST", "/auth/send-otp/", None, phone_number=_phone())
    yield "verify-otp", _verification


def _phone() -> str:
    """The number of one of many accounts, so that none reaches its limits."""
    return f"+91{PHONES + 100 + next(sequence) % 800}"


def _verification() -> Any:
    phone = _phone()
    code = json.loads(handle(_scope("POST", "/auth/send-otp/", None, phone_number=phone)))["otp"]
    return _scope("POST", "/auth/verify-otp/", None, phone_number=phone, otp=code)


def _scope(method: str, path: str, token: str | None, **fields: str) -> tuple[SimpleNamespace, bytes]:
    body = json.dumps(fields).encode() if fields else b""
    headers = {"host": "127.0.0.1:8000", "content-type": "application/json", "content-length": str(len(body))}
    headers |= {"authorization": f"Bearer {token}"} if token else {}
    scope = SimpleNamespace(method=method, path=path, query_string="", headers=headers, scheme="http")
    scope.server, scope.client, scope.http_version = "127.0.0.1:8000", "127.0.0.1:4242", "1.1"
    return scope, body


if __name__ == "__main__":
    main()
