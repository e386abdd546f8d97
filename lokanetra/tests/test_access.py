"""One table says who may call what, over every route and method of the API."""

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.urls import URLResolver, get_resolver, resolve
from rest_framework.test import APIClient

from transactions.models import Transaction
from users import otp, tokens

WHO = ("nobody", "user", "stranger", "staff", "superuser")

PUBLIC = (200, 200, 200, 200, 200)
OWN = (401, 200, 200, 200, 200)
STAFF = (401, 403, 403, 200, 200)
SUPERUSER = (401, 403, 403, 403, 200)

PAYMENT = {"amount": "1.00"}
ADJUSTMENT = {"amount": "1.00", "remarks": "counted by hand"}

# Method, path, body, and the status for each of WHO. `{...}` stands for something of the user's.
TABLE: list[tuple[str, str, dict[str, Any] | None, tuple[int, ...]]] = [
    ("POST", "/auth/send-otp/", {"phone_number": "{phone}"}, (201, 201, 201, 201, 201)),
    ("POST", "/auth/verify-otp/", {"phone_number": "{phone}", "otp": "{otp}"}, PUBLIC),
    ("POST", "/auth/token/refresh/", {"refresh": "{refresh}"}, PUBLIC),
    ("POST", "/auth/logout/", {"refresh": "{refresh}"}, (401, 204, 401, 401, 401)),
    ("POST", "/auth/logout-all/", None, (401, 204, 204, 204, 204)),
    ("GET", "/auth/me/", None, OWN),
    ("PATCH", "/auth/me/", {"first_name": "Asha"}, OWN),
    ("GET", "/auth/admin/users/", None, STAFF),
    ("POST", "/auth/admin/users/", {"phone_number": "9444444444"}, (401, 403, 403, 403, 201)),
    ("GET", "/auth/admin/users/{user}/", None, STAFF),
    ("PATCH", "/auth/admin/users/{user}/", {"first_name": "Asha"}, SUPERUSER),
    ("GET", "/wallet/balance/", None, OWN),
    ("POST", "/wallet/credit/", PAYMENT, OWN),
    ("POST", "/wallet/debit/", PAYMENT, (401, 200, 400, 400, 400)),
    ("POST", "/wallet/transfer/", PAYMENT | {"to_phone_number": "{payee}"}, (401, 200, 400, 400, 400)),
    ("GET", "/wallet/admin/wallets/", None, STAFF),
    ("POST", "/wallet/admin/wallets/{wallet}/credit/", ADJUSTMENT, SUPERUSER),
    ("POST", "/wallet/admin/wallets/{wallet}/debit/", ADJUSTMENT, SUPERUSER),
    ("POST", "/wallet/admin/wallets/{wallet}/freeze/", {"reason": "reported stolen"}, SUPERUSER),
    ("POST", "/wallet/admin/wallets/{wallet}/unfreeze/", {"reason": "found again"}, SUPERUSER),
    ("GET", "/transactions/", None, OWN),
    ("GET", "/transactions/{transaction}/", None, (401, 200, 404, 404, 404)),
    ("GET", "/transactions/export/", None, OWN),
    ("GET", "/transactions/admin-list/", None, STAFF),
    ("GET", "/transactions/admin-export/", None, SUPERUSER),
    ("POST", "/transactions/{transaction}/reverse/", {"remarks": "sent by mistake"}, SUPERUSER),
    ("GET", "/healthz", None, PUBLIC),
    ("GET", "/readyz", None, PUBLIC),
    ("GET", "/", None, (302, 302, 302, 302, 302)),
    ("GET", "/swagger/", None, PUBLIC),
    ("GET", "/redoc/", None, PUBLIC),
    ("GET", "/swagger.json", None, PUBLIC),
]
ALL_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}

IDS = [f"{method} {path}" for method, path, _, _ in TABLE]
STAFF_ROWS = [row for row in TABLE if row[3][:2] == (401, 403)]
USER_ROWS = [row for row in TABLE if row[3][0] == 401 and row not in STAFF_ROWS]


@pytest.fixture
def cast(asha, ravi, stranger, staff, boss):
    """Who calls, and what stands for the braces of the table."""
    people = {"nobody": None, "user": asha, "stranger": stranger, "staff": staff, "superuser": boss}
    things = {
        "phone": asha.phone,
        "payee": ravi.phone,
        "otp": otp.send(phone_number=asha.phone_number, address="192.0.2.1").code,
        "refresh": tokens.issue(asha)["refresh"],
        "user": asha.pk,
        "wallet": asha.wallet.pk,
        "transaction": Transaction.objects.get(receiver=asha.wallet).pk,
    }
    return SimpleNamespace(people=people, things=things)


def send(client, cast, method, path, body, **headers):
    """The row's request, its braces filled."""
    filled = body and {name: value.format(**cast.things) for name, value in body.items()}
    data = json.dumps(filled) if filled else ""
    return client.generic(method, path.format(**cast.things), data, content_type="application/json", **headers)


def routes() -> Iterator[tuple[str, str, Any]]:
    """Method, route and view class of every call of the URLconf outside the admin."""
    yield from _routes(get_resolver(), "")


def _routes(resolver: URLResolver, prefix: str) -> Iterator[tuple[str, str, Any]]:
    for found in resolver.url_patterns:
        route = prefix + str(found.pattern).replace("^", "")
        if isinstance(found, URLResolver):
            if found.app_name != "admin":
                yield from _routes(found, route)
            continue
        view = found.callback
        cls = getattr(view, "cls", None) or view.view_class
        for method, name in (getattr(view, "actions", None) or methods(cls, view)).items():
            if method not in ("head", "options"):
                yield method.upper(), route, getattr(cls, name)


def methods(cls: Any, view: Any) -> dict[str, str]:
    """Those of a view that is no viewset: `actions` of its own making."""
    names = view.view_initkwargs.get("http_method_names", cls.http_method_names)
    return {name: name for name in names if hasattr(cls, name)}


def route_of(path: str) -> str:
    return resolve(numbered(path)).route.replace("^", "")


def numbered(path: str) -> str:
    return re.sub(r"\{\w+\}", "1", path)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(("method", "path", "body", "statuses"), TABLE, ids=IDS)
def test_the_status_is_that_of_the_table(cast, as_user, method, path, body, statuses, who):
    response = send(as_user(cast.people[who]), cast, method, path, body)
    assert response.status_code == statuses[WHO.index(who)], response.content


def test_the_table_has_every_route_and_no_other():
    assert sorted((method, route_of(path)) for method, path, _, _ in TABLE) == sorted(
        (method, route) for method, route, _ in routes()
    )


@pytest.mark.parametrize("path", sorted({path for _, path, _, _ in TABLE}))
def test_every_other_method_is_405_and_names_those_of_the_table(nobody, path):
    here = {method for method, other, _, _ in TABLE if other == path}
    for method in sorted(ALL_METHODS - here):
        response = nobody.generic(method, numbered(path))
        assert response.status_code == 405, method
        assert response.json()["code"] == "method_not_allowed"
        assert set(response["Allow"].split(", ")) - {"HEAD"} == here, method


@pytest.mark.parametrize("path", [path for method, path, _, _ in TABLE if method == "GET"])
def test_head_is_for_those_who_may_get(cast, as_user, path):
    for person in cast.people.values():
        client = as_user(person)
        assert send(client, cast, "HEAD", path, None).status_code == send(client, cast, "GET", path, None).status_code


@pytest.mark.parametrize(("method", "path", "body", "statuses"), STAFF_ROWS)
def test_a_session_of_the_admin_opens_staff_routes_and_writes_need_its_csrf_token(cast, method, path, body, statuses):
    client = signed_in(cast.people["superuser"])
    without = send(client, cast, method, path, body)
    assert without.status_code == (statuses[-1] if method == "GET" else 403), without.content
    assert method == "GET" or without.json()["code"] == "permission_denied"
    token = client.cookies["csrftoken"].value
    assert send(client, cast, method, path, body, HTTP_X_CSRFTOKEN=token).status_code == statuses[-1]


@pytest.mark.parametrize(("method", "path", "body", "statuses"), STAFF_ROWS)
def test_a_session_gives_staff_no_more_than_a_token(cast, method, path, body, statuses):
    client = signed_in(cast.people["staff"])
    token = client.cookies["csrftoken"].value
    response = send(client, cast, method, path, body, HTTP_X_CSRFTOKEN=token)
    assert response.status_code == statuses[WHO.index("staff")]


@pytest.mark.parametrize(("method", "path", "body", "statuses"), USER_ROWS)
def test_a_session_opens_no_user_route(cast, method, path, body, statuses):
    client = signed_in(cast.people["superuser"])
    token = client.cookies["csrftoken"].value
    assert send(client, cast, method, path, body, HTTP_X_CSRFTOKEN=token).status_code == 401


def test_a_session_of_a_user_who_is_not_staff_opens_nothing(cast):
    client = APIClient()
    client.force_login(cast.people["user"])
    assert {send(client, cast, *row[:3]).status_code for row in STAFF_ROWS} == {403}


@pytest.mark.parametrize("person", ["staff", "superuser"])
def test_a_deactivated_member_of_staff_is_out(cast, as_user, person):
    user = cast.people[person]
    by_token, by_session = as_user(user), signed_in(user)
    user.is_active = False
    user.save(update_fields=["is_active"])
    for client in (by_token, by_session):
        assert {send(client, cast, *row[:3]).status_code for row in STAFF_ROWS} == {401}


def signed_in(user):
    """A browser in which the user has opened the admin."""
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(user)
    client.get("/admin/")
    return client
