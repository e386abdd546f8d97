"""Requests for money in the console: found and shown, never edited."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wallet import requests
from wallet.models import PaymentRequest

REQUESTS = "/admin/wallet/paymentrequest/"


def console(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def asked(asha, ravi):
    """Ravi asks asha for so much."""

    def ask(amount="75.00", **more):
        return requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=Decimal(amount), remarks="Tickets", **more)

    return ask


@pytest.fixture
def over(asked, at):
    """An expired request that is not closed yet."""
    with at(timezone.now() - timedelta(days=2)):
        return asked("7.00", expires_in=60)


def found(page):
    assert page.status_code == 200
    return [row.pk for row in page.context["cl"].result_list]


def text_of(page):
    assert page.status_code == 200
    return re.sub(r"\s+", " ", page.content.decode())


def test_the_list_shows_the_present_status_of_a_request(boss, asked, over):
    asked()
    text = text_of(console(boss).get(REQUESTS))
    for shown in ("75.00", "7.00", "PENDING", "EXPIRED", "user_9999999999", "user_9888888888"):
        assert shown in text


@pytest.mark.parametrize(
    ("filters", "which"),
    [
        ({"status": "PENDING"}, {"pending"}),
        ({"status": "EXPIRED"}, {"over"}),
        ({"status": "PAID"}, {"paid"}),
        ({"status": "DECLINED"}, set()),
        ({"amount_from": "7.01"}, {"pending", "paid"}),
        ({"q": "9999"}, {"pending", "paid", "over"}),
        ({"q": "user_9777777777"}, set()),
    ],
)
def test_requests_are_found(boss, asha, stranger, asked, over, filters, which):
    paid = asked("8.00")
    requests.pay(user_id=asha.pk, request_id=paid.pk)
    rows = {"pending": asked().pk, "paid": paid.pk, "over": over.pk}
    assert set(found(console(boss).get(REQUESTS, filters))) == {rows[name] for name in which}


def test_a_status_that_is_none_leads_back_to_the_list(boss, asked):
    asked()
    assert console(boss).get(REQUESTS, {"status": "OPEN"}).status_code == 302


def test_the_page_leads_to_both_people_and_to_what_paid_it(boss, asha, ravi, asked):
    pk = asked().pk
    paid = requests.pay(user_id=asha.pk, request_id=pk).transaction.pk
    text = text_of(console(boss).get(f"{REQUESTS}{pk}/change/"))
    for place in (
        f"users/userprofile/{asha.pk}",
        f"users/userprofile/{ravi.pk}",
        f"transactions/transaction/{paid}",
    ):
        assert f"/admin/{place}/change/" in text
    assert "Tickets" in text and "PAID" in text


def test_nobody_changes_one(boss, asked):
    pk = asked().pk
    client = console(boss)
    for page in (f"{REQUESTS}add/", f"{REQUESTS}{pk}/delete/"):
        assert client.get(page).status_code == client.post(page, {"post": "yes"}).status_code == 403
    assert client.post(f"{REQUESTS}{pk}/change/", {"status": "PAID"}).status_code == 403
    assert PaymentRequest.objects.get().status == "PENDING"


def test_the_page_of_a_wallet_shows_those_that_are_open_to_who_may_see_them(boss, staff, asha, ravi, asked, over):
    pk = asked().pk
    for user, sign in ((asha, "−"), (ravi, "+")):  # noqa: RUF001
        text = text_of(console(boss).get(f"/admin/wallet/wallet/{user.wallet.pk}/change/"))
        assert "Open requests for money" in text and f"{sign}₹ 75.00" in text and f"{REQUESTS}{pk}/change/" in text
        assert f"{REQUESTS}{over.pk}/change/" not in text
    staff.user_permissions.add(Permission.objects.get(codename="view_wallet"))
    assert "Open requests" not in text_of(console(staff).get(f"/admin/wallet/wallet/{asha.wallet.pk}/change/"))
    assert console(staff).get(REQUESTS).status_code == 403
    staff.user_permissions.add(Permission.objects.get(codename="view_paymentrequest"))
    assert console(staff).get(REQUESTS).status_code == 200


def test_a_list_takes_as_many_queries_for_many_as_for_one(boss, asked):
    client = console(boss)
    counts = []
    for _ in range(2):
        asked()
        with CaptureQueriesContext(connection) as captured:
            client.get(REQUESTS)
        counts.append(len(captured))
    assert counts[0] == counts[1]
