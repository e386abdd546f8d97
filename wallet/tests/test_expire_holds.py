"""The command closes the expired holds, and no others."""

from datetime import timedelta
from decimal import Decimal
from io import StringIO

from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from transactions.models import Outbox
from wallet import holds
from wallet.models import Hold, Wallet


def command():
    out = StringIO()
    call_command("expire_holds", stdout=out)
    return out.getvalue().strip()


def test_it_closes_what_expired_and_leaves_what_is_open(asha, ravi, clock_at):
    for seconds in (60, 90, 3600):
        holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("10.00"), expires_in=seconds)
    clock_at(timezone.now() + timedelta(seconds=120))
    assert command() == "2 holds closed."
    assert list(Hold.objects.order_by("pk").values_list("status", flat=True)) == ["EXPIRED", "EXPIRED", "OPEN"]
    assert Wallet.objects.get(user=asha).held == 10
    assert command() == "0 holds closed."


def test_each_hold_that_expires_leaves_one_event_and_those_that_are_open_none(asha, ravi, clock_at):
    _, last, first = [
        holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("10.00"), expires_in=seconds)
        for seconds in (3600, 90, 60)
    ]
    Outbox.objects.all().delete()
    clock_at(timezone.now() + timedelta(seconds=120))
    with CaptureQueriesContext(connection) as captured:
        command()
    updates = [query["sql"] for query in captured if query["sql"].startswith('UPDATE "wallet_wallet"')]
    assert len(updates) == 1
    assert '"user_id" =' not in updates[0]  # only what changes is written
    assert [(row.type, row.data["id"]) for row in Outbox.objects.order_by("pk")] == [
        ("hold.expired", first.pk),
        ("hold.expired", last.pk),
    ]
