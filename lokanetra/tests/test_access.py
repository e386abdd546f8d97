"""One table says who may call what, over every route and method of the API."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.urls import URLResolver, get_resolver, resolve
from rest_framework.test import APIClient

from transactions import webhooks
from transactions.models import Transaction
from users import keys, otp, tokens
from users.permissions import IsStaff, IsSuperuser
from wallet import holds, payments, requests
from wallet.models import Hold, Tier

pytestmark = pytest.mark.once

WHO = ("nobody", "user", "stranger", "staff", "superuser")

PUBLIC = (200, 200, 200, 200, 200)
OWN = (401, 200, 200, 200, 200)
STAFF = (401, 403, 403, 200, 200)
SUPERUSER = (401, 403, 403, 403, 200)
# The user is the payer of the hold, who may not close it; for the others it does not exist.
PAYEE_OR_STAFF = (401, 403, 404, 404, 200)

PAYMENT = {"amount": "1.00"}
ADJUSTMENT = {"amount": "1.00", "remarks": "counted by hand"}
WEBHOOK = {"url": "https://example.com/events", "types": ["hold.expired"]}

# Method, path, body, and the status for each of WHO. `{...}` is replaced by something of the user's.
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
    ("GET", "/wallet/limits/", None, OWN),
    ("GET", "/wallet/holds/", None, OWN),
    ("POST", "/wallet/holds/", PAYMENT | {"to_phone_number": "{payee}"}, (401, 201, 400, 400, 400)),
    ("GET", "/wallet/holds/{hold}/", None, (401, 200, 404, 404, 404)),
    ("POST", "/wallet/holds/{hold}/capture/", PAYMENT, PAYEE_OR_STAFF),
    ("POST", "/wallet/holds/{hold}/void/", None, PAYEE_OR_STAFF),
    ("GET", "/wallet/requests/", None, OWN),
    ("POST", "/wallet/requests/", PAYMENT | {"from_phone_number": "{payee}"}, (401, 201, 201, 201, 201)),
    ("GET", "/wallet/requests/{request}/", None, (401, 200, 404, 404, 404)),
    ("POST", "/wallet/requests/{request}/pay/", None, (401, 200, 404, 404, 404)),
    ("POST", "/wallet/requests/{request}/decline/", None, (401, 200, 404, 404, 404)),
    ("POST", "/wallet/requests/{own_request}/cancel/", None, (401, 200, 404, 404, 404)),
    ("GET", "/wallet/admin/holds/", None, STAFF),
    ("GET", "/wallet/admin/requests/", None, STAFF),
    ("GET", "/wallet/admin/tiers/", None, STAFF),
    ("GET", "/wallet/admin/wallets/", None, STAFF),
    ("PATCH", "/wallet/admin/wallets/{wallet}/", {"tier": "{tier}", "reason": "identified"}, SUPERUSER),
    ("GET", "/wallet/admin/wallets/{wallet}/balance/", None, STAFF),
    ("GET", "/wallet/admin/wallets/{wallet}/statement/", None, STAFF),
    ("POST", "/wallet/admin/wallets/{wallet}/credit/", ADJUSTMENT, SUPERUSER),
    ("POST", "/wallet/admin/wallets/{wallet}/debit/", ADJUSTMENT, SUPERUSER),
    ("POST", "/wallet/admin/wallets/{wallet}/freeze/", {"reason": "reported stolen"}, SUPERUSER),
    ("POST", "/wallet/admin/wallets/{wallet}/unfreeze/", {"reason": "found again"}, SUPERUSER),
    ("POST", "/wallet/admin/credit/", ADJUSTMENT | {"phone_number": "{phone}"}, SUPERUSER),
    ("POST", "/wallet/admin/debit/", ADJUSTMENT | {"phone_number": "{phone}"}, SUPERUSER),
    ("GET", "/transactions/", None, OWN),
    ("GET", "/transactions/{transaction}/", None, (401, 200, 404, 404, 404)),
    ("GET", "/transactions/export/", None, OWN),
    ("GET", "/transactions/statement/", None, OWN),
    ("GET", "/transactions/admin-list/", None, STAFF),
    ("GET", "/transactions/admin-export/", None, SUPERUSER),
    ("POST", "/transactions/{transaction}/reverse/", {"remarks": "sent by mistake"}, SUPERUSER),
    ("POST", "/transactions/{received}/refund/", PAYMENT, (401, 200, 404, 404, 404)),
    ("GET", "/transactions/events/", None, SUPERUSER),
    ("GET", "/transactions/webhooks/", None, SUPERUSER),
    ("POST", "/transactions/webhooks/", WEBHOOK, (401, 403, 403, 403, 201)),
    ("GET", "/transactions/webhooks/{webhook}/", None, SUPERUSER),
    ("PATCH", "/transactions/webhooks/{webhook}/", {"is_active": False}, SUPERUSER),
    ("POST", "/transactions/webhooks/{webhook}/rotate/", None, SUPERUSER),
    ("POST", "/transactions/webhooks/{webhook}/test/", None, (401, 403, 403, 403, 201)),
    ("POST", "/transactions/webhooks/{webhook}/retry/", None, SUPERUSER),
    ("GET", "/transactions/webhooks/deliveries/", None, SUPERUSER),
    ("GET", "/transactions/webhooks/deliveries/{delivery}/", None, SUPERUSER),
    ("POST", "/transactions/webhooks/deliveries/{delivery}/retry/", None, SUPERUSER),
    ("GET", "/healthz", None, PUBLIC),
    ("GET", "/readyz", None, PUBLIC),
    ("GET", "/metrics", None, (404, 404, 404, 404, 404)),
    ("GET", "/", None, (302, 302, 302, 302, 302)),
    ("GET", "/swagger/", None, PUBLIC),
    ("GET", "/redoc/", None, PUBLIC),
    ("GET", "/swagger.json", None, PUBLIC),
]
# Only for superusers, whatever rights a key has.
KEY_ROWS = {("POST", "/auth/admin/users/"): 403} | {
    (method, path): 403 for method, path, _, _ in TABLE if path.startswith("/transactions/webhooks/")
}
ALL_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}

IDS = [f"{method} {path}" for method, path, _, _ in TABLE]
STAFF_ROWS = [row for row in TABLE if row[3][:3] == (401, 403, 403)]
HOLD_ROWS = [row for row in TABLE if row[3] == PAYEE_OR_STAFF]
USER_ROWS = [row for row in TABLE if row[3][0] == 401 and row not in STAFF_ROWS + HOLD_ROWS]


@pytest.fixture
def cast(asha, ravi, stranger, staff, boss):
    """The callers, and the values for the braces in the table."""
    people = {"nobody": None, "user": asha, "stranger": stranger, "staff": staff, "superuser": boss}
    things = {
        "phone": asha.phone,
        "payee": ravi.phone,
        "otp": otp.send(phone_number=asha.phone_number, address="192.0.2.1").code,
        "refresh": tokens.issue(asha)["refresh"],
        "user": asha.pk,
        "wallet": asha.wallet.pk,
        "transaction": Transaction.objects.get(receiver=asha.wallet).pk,
        "hold": holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(10)).pk,
        "request": requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=Decimal(10)).pk,
        "own_request": requests.ask(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(10)).pk,
        "received": received(asha, ravi),
        "webhook": (webhook := webhooks.create(by=boss.pk, **WEBHOOK)).pk,
        "delivery": webhooks.test(by=boss.pk, webhook_id=webhook.pk).pk,
        "tier": Tier.objects.create(name="Small").name,
    }
    return SimpleNamespace(people=people, things=things)


def received(user, payer):
    """The id of a transfer to the user, of the amount that is held."""
    payments.credit(user_id=payer.pk, amount=Decimal(10))
    return payments.transfer(user_id=payer.pk, to=user.phone_number, amount=Decimal(10)).transaction.pk


def send(client, cast, method, path, body, **headers):
    """The row's request, its braces filled."""
    filled = body and {name: fill(value, cast.things) for name, value in body.items()}
    data = json.dumps(filled) if filled else ""
    return client.generic(method, path.format(**cast.things), data, content_type="application/json", **headers)


def fill(value, things):
    return value.format(**things) if isinstance(value, str) else value


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
def test_each_caller_gets_the_status_in_the_table(cast, as_user, method, path, body, statuses, who):
    response = send(as_user(cast.people[who]), cast, method, path, body)
    assert response.status_code == statuses[WHO.index(who)], response.content


def test_the_table_has_every_route_and_no_other():
    assert sorted((method, route_of(path)) for method, path, _, _ in TABLE) == sorted(
        (method, route) for method, route, _ in routes()
    )


@pytest.mark.parametrize("path", sorted({path for _, path, _, _ in TABLE}))
def test_every_other_method_is_405_and_lists_the_allowed_ones(nobody, path):
    here = {method for method, other, _, _ in TABLE if other == path}
    for method in sorted(ALL_METHODS - here):
        response = nobody.generic(method, numbered(path))
        assert response.status_code == 405, method
        assert response.json()["code"] == "method_not_allowed"
        assert set(response["Allow"].split(", ")) - {"HEAD"} == here, method


@pytest.mark.parametrize("path", [path for method, path, _, _ in TABLE if method == "GET"])
def test_head_has_the_status_of_get(cast, as_user, path):
    for person in cast.people.values():
        client = as_user(person)
        assert send(client, cast, "HEAD", path, None).status_code == send(client, cast, "GET", path, None).status_code


@pytest.mark.parametrize(("method", "path", "body", "statuses"), STAFF_ROWS + HOLD_ROWS)
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
    assert {send(client, cast, *row[:3]).status_code for row in STAFF_ROWS + HOLD_ROWS} == {403}


@pytest.mark.parametrize(("method", "path", "body", "statuses"), HOLD_ROWS)
def test_a_payee_closes_a_hold_by_token_and_not_by_a_session(ravi, cast, as_user, method, path, body, statuses):
    session = signed_in(ravi)
    assert send(session, cast, method, path, body, HTTP_X_CSRFTOKEN="x").status_code == 403
    assert Hold.objects.get().captured == 0
    assert send(as_user(ravi), cast, method, path, body).status_code == 200


@pytest.mark.parametrize(("method", "path", "body", "statuses"), HOLD_ROWS)
def test_staff_need_the_right_to_close_a_hold_of_others(staff, cast, as_user, method, path, body, statuses):
    session = signed_in(staff)
    token = session.cookies["csrftoken"].value
    assert send(session, cast, method, path, body, HTTP_X_CSRFTOKEN=token).status_code == 403
    staff.user_permissions.add(Permission.objects.get(codename="adjust_wallet"))
    assert send(as_user(staff), cast, method, path, body).status_code == 200


@pytest.mark.parametrize(("method", "path", "body", "statuses"), STAFF_ROWS + HOLD_ROWS + USER_ROWS)
def test_a_key_opens_only_staff_routes_within_its_rights(cast, method, path, body, statuses):
    """Even with every right, it is neither a superuser nor a user."""
    account = keys.service_account("settlement")
    account.user_permissions.set(Permission.objects.all())
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {keys.create(account, name='nightly')[1]}")
    response = send(client, cast, method, path, body)
    expected = KEY_ROWS.get((method, path), 401 if (method, path, body, statuses) in USER_ROWS else statuses[-1])
    assert response.status_code == expected, response.content
    if expected == 401:
        assert response.json()["code"] == "token_not_valid"


@pytest.mark.parametrize(("method", "path", "body", "statuses"), STAFF_ROWS + HOLD_ROWS)
def test_a_key_without_rights_opens_no_more_than_staff_may(cast, method, path, body, statuses):
    client = APIClient()
    text = keys.create(keys.service_account("settlement"), name="nightly")[1]
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    expected = 403 if (method, path, body, statuses) in HOLD_ROWS else statuses[WHO.index("staff")]
    assert send(client, cast, method, path, body).status_code == expected


@pytest.mark.parametrize("person", ["staff", "superuser"])
def test_a_deactivated_member_of_staff_is_refused(cast, as_user, person):
    user = cast.people[person]
    by_token, by_session = as_user(user), signed_in(user)
    user.is_active = False
    user.save(update_fields=["is_active"])
    for client in (by_token, by_session):
        assert {send(client, cast, *row[:3]).status_code for row in STAFF_ROWS + HOLD_ROWS} == {401}


def test_an_inactive_user_has_no_staff_rights(staff, boss):
    for user, permission in ((staff, IsStaff()), (boss, IsSuperuser())):
        request = SimpleNamespace(user=user)
        assert permission.has_permission(request, None)
        user.is_active = False
        assert not permission.has_permission(request, None)


def signed_in(user):
    """A browser in which the user has opened the admin."""
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(user)
    client.get("/admin/")
    return client
