"""What is sent to a webhook, and what happens when it fails."""

import threading
import time
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from lokanetra.outside import Answer
from lokanetra.tests.live import at_once
from transactions import deliveries, events, webhooks
from transactions.deliveries import RETRY_DELAYS, Dispatcher
from transactions.models import Delivery, Event, Outbox, Webhook
from transactions.serializers import EventSerializer
from transactions.tests.receivers import receiver
from wallet import payments

PAYMENT = ["transaction.created"]


@pytest.fixture(autouse=True)
def on_this_machine(settings):
    """Receivers in these tests use http."""
    settings.DEBUG = True


@pytest.fixture
def shop():
    with receiver() as found:
        yield found


@pytest.fixture
def webhook(shop, asha, boss):
    """A webhook for payments; earlier changes are numbered already."""
    events.number()
    return webhooks.create(by=boss.pk, url=shop.url, types=PAYMENT)


def pay(user, amount="1.00"):
    return payments.debit(user_id=user.pk, amount=Decimal(amount)).transaction


def deliver(dispatcher: Dispatcher | None = None) -> None:
    """Send everything that is due."""
    (dispatcher or Dispatcher()).work(threading.Event())


def answering(status: int, text: str = ""):
    return lambda: (status, text)


def due_now() -> None:
    Delivery.objects.filter(status="PENDING").update(next_at=timezone.now())


# --- What is sent ------------------------------------------------------------------------------------


def test_a_payment_arrives_signed_and_as_the_feed_shows_it(webhook, shop, asha):
    row = pay(asha, "12.50")
    deliver()
    (received,) = shop.events(webhook.secret)
    (event,) = Event.objects.with_transactions().filter(transaction=row)
    assert received == EventSerializer(event).data
    assert (received["type"], received["data"]["id"], received["data"]["amount"]) == (
        "transaction.created",
        row.pk,
        "12.50",
    )
    ((headers, _),) = shop.requests
    assert headers["webhook-id"] == f"evt_{event.pk}"
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.attempts, delivery.answer_status) == ("DELIVERED", 1, 200)
    assert (delivery.answer, delivery.next_at) == ("thanks", None)


def test_each_receives_only_its_types_and_nothing_from_before(webhook, shop, asha, boss):
    with receiver() as other:
        second = webhooks.create(by=boss.pk, url=other.url, types=["hold.opened", "wallet.frozen"])
        pay(asha)
        deliver()
        assert len(shop.events(webhook.secret)) == 1
        assert other.events(second.secret) == []


def test_changes_not_numbered_yet_are_sent_to_the_webhooks_of_their_time(webhook, shop, asha, boss):
    pay(asha, "1.00")
    webhooks.change(by=boss.pk, webhook_id=webhook.pk, is_active=False)
    pay(asha, "2.00")
    webhooks.change(by=boss.pk, webhook_id=webhook.pk, is_active=True)
    with receiver() as other:
        webhooks.create(by=boss.pk, url=other.url, types=PAYMENT)
        deliver()
        assert other.requests == []
    assert [event["data"]["amount"] for event in shop.events(webhook.secret)] == ["1.00"]


def test_events_while_it_was_off_are_not_sent_but_pending_ones_are(webhook, shop, asha, boss):
    pay(asha, "1.00")
    events.number()
    webhooks.change(by=boss.pk, webhook_id=webhook.pk, is_active=False)
    pay(asha, "2.00")
    deliver()
    assert shop.requests == []
    webhooks.change(by=boss.pk, webhook_id=webhook.pk, is_active=True)
    deliver()
    assert [event["data"]["amount"] for event in shop.events(webhook.secret)] == ["1.00"]


def test_for_a_day_the_old_secret_still_signs(webhook, shop, asha, boss, clock_at):
    old = webhook.secret
    new = webhooks.rotate(by=boss.pk, webhook_id=webhook.pk).secret
    pay(asha)
    deliver()
    assert old != new
    assert shop.events(old) == shop.events(new) != []
    shop.requests.clear()
    Webhook.objects.update(old_secret_until=timezone.now() - timedelta(seconds=1))
    pay(asha)
    deliver()
    assert shop.events(new)
    with pytest.raises(Exception, match="No matching signature"):
        shop.events(old)


def test_a_test_is_sent_even_to_a_webhook_that_is_off(webhook, shop, boss):
    webhooks.change(by=boss.pk, webhook_id=webhook.pk, is_active=False)
    delivery = webhooks.test(by=boss.pk, webhook_id=webhook.pk)
    deliver()
    (event,) = shop.events(webhook.secret)
    assert (event["id"], event["type"], event["data"]) == (None, "webhook.test", {"webhook": webhook.pk})
    assert shop.requests[0][0]["webhook-id"] == f"test_{delivery.pk}"


def test_with_an_unreadable_secret_nothing_is_sent_and_the_answer_says_why(webhook, shop, asha, settings):
    settings.SECRET_KEY = "another" * 10
    pay(asha)
    deliver()
    assert shop.requests == []
    assert "rotate it" in Delivery.objects.get().answer


def test_secrets_are_encrypted_in_the_database(webhook):
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM transactions_webhook")
        ((kept,),) = cursor.fetchall()
    assert webhook.secret.removeprefix("whsec_") not in kept


# --- Failures ----------------------------------------------------------------------------------------


def test_it_is_attempted_ten_times_with_growing_delays_and_then_fails(webhook, shop, asha):
    shop.answer = answering(500, "no\0t now" + "!" * 2000)
    pay(asha)
    for attempt, pause in enumerate(RETRY_DELAYS[1:], 1):
        deliver()
        delivery = Delivery.objects.get()
        assert (delivery.status, delivery.attempts, delivery.answer_status) == ("PENDING", attempt, 500)
        assert abs((delivery.next_at - timezone.now()).total_seconds() - pause) < 3
        due_now()
    deliver()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts, delivery.next_at) == ("FAILED", 10, None)
    assert delivery.answer == "not now" + "!" * 1016  # a KiB without the NUL, which PostgreSQL does not store
    assert len({headers["webhook-id"] for headers, _ in shop.requests}) == 1
    assert len(shop.events(webhook.secret)) == 10


@pytest.mark.parametrize("status", [302, 404, 410, 503])
def test_only_2xx_counts_as_accepted(webhook, shop, asha, status):
    shop.answer = answering(status)
    pay(asha)
    deliver()
    assert Delivery.objects.get().status == "PENDING"
    assert Webhook.objects.get().failing_since


def test_one_accepted_delivery_ends_the_failure(webhook, shop, asha):
    shop.answer = answering(500)
    pay(asha)
    deliver()
    shop.answer = answering(204)
    due_now()
    deliver()
    assert Webhook.objects.get().failing_since is None
    assert Delivery.objects.get().status == "DELIVERED"


def test_after_five_days_it_is_switched_off_and_says_so(webhook, shop, asha, boss, caplog):
    shop.answer = answering(500)
    pay(asha)
    deliver()
    Webhook.objects.update(failing_since=timezone.now() - timedelta(days=5))
    due_now()
    deliver()
    webhook.refresh_from_db()
    assert not webhook.is_active
    assert webhook.switched_off_at
    assert "switched off" in caplog.text
    due_now()
    deliver()
    assert len(shop.requests) == 2
    webhook = webhooks.change(by=boss.pk, webhook_id=webhook.pk, is_active=True)
    assert (webhook.failing_since, webhook.switched_off_at) == (None, None)
    deliver()
    assert len(shop.requests) == 3
    assert Webhook.objects.get().is_active


def test_failed_deliveries_are_retried_one_by_one_or_all(webhook, shop, asha, boss):
    for _ in range(3):
        pay(asha)
    events.number()
    Delivery.objects.update(status="FAILED", next_at=None, attempts=10)
    webhooks.retry(by=boss.pk, delivery_id=Delivery.objects.earliest("pk").pk)
    deliver()
    assert len(shop.requests) == 1
    assert webhooks.retry_failed(by=boss.pk, webhook_id=webhook.pk) == 2
    deliver()
    assert len(shop.events(webhook.secret)) == 3


# --- Workers -----------------------------------------------------------------------------------------


def test_deliveries_of_a_dead_worker_are_sent_when_their_lease_ends(webhook, shop, asha):
    pay(asha)
    events.number()
    ((lost, _),) = deliveries.claim(Counter(), 10)
    assert deliveries.claim(Counter(), 10) == []
    due_now()
    deliver()
    assert len(shop.requests) == 1
    deliveries.record_answers([(lost, Answer(None, "", "Too late.", 0.0))])
    assert Delivery.objects.get().status == "DELIVERED"


def test_a_webhook_has_few_senders_and_a_failing_one_has_one(webhook, asha):
    for _ in range(2 * deliveries.MAX_PER_WEBHOOK):
        pay(asha)
    events.number()
    assert len(deliveries.claim(Counter({webhook.pk: 1}), 100)) == deliveries.MAX_PER_WEBHOOK - 1
    assert len(deliveries.claim(Counter(), 2)) == 2
    Webhook.objects.update(failing_since=timezone.now())
    assert len(deliveries.claim(Counter(), deliveries.MAX_SENDERS // 2)) == 0
    assert len(deliveries.claim(Counter(), 100)) == 1
    assert deliveries.claim(Counter({webhook.pk: 1}), 100) == []


def test_a_step_without_a_database_loses_no_result(webhook, shop, asha, monkeypatch):
    pay(asha)
    dispatcher = Dispatcher()
    with monkeypatch.context() as away:
        away.setattr(deliveries, "record_answers", lambda done: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            while dispatcher.step():
                pass
    assert Delivery.objects.get().status == "PENDING"
    dispatcher.finish()
    assert Delivery.objects.get().status == "DELIVERED"
    assert len(shop.requests) == 1


def test_an_exception_of_ours_is_one_failed_attempt(webhook, asha, caplog):
    pay(asha)
    deliver(Dispatcher(send=lambda message: 1 / 0))
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.answer) == ("PENDING", "It could not be sent.")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_several_workers_send_each_once(webhook, shop, asha):
    for _ in range(40):
        pay(asha)

    def work() -> None:
        try:
            deliver()
        finally:
            connection.close()

    at_once(work, work, work)
    numbers = [event["id"] for event in shop.events(webhook.secret)]
    assert len(numbers) == len(set(numbers)) == 40


@pytest.mark.django_db(transaction=True)
def test_a_webhook_that_hangs_does_not_delay_others(webhook, shop, asha, boss):
    over = threading.Event()
    with receiver() as hanging:
        hanging.answer = lambda: (over.wait(20) and 200, "")
        webhooks.create(by=boss.pk, url=hanging.url, types=PAYMENT)
        for _ in range(20):
            pay(asha)
        dispatcher = Dispatcher()
        began = time.monotonic()
        while len(shop.requests) < 20:
            dispatcher.step()
            assert time.monotonic() - began < 5
        over.set()
        dispatcher.finish()
    assert len(hanging.requests) == deliveries.MAX_PER_WEBHOOK


# --- Old events --------------------------------------------------------------------------------------


def test_old_events_are_removed_after_delivery_except_the_last(webhook, shop, asha, settings):
    for _ in range(3):
        pay(asha)
    deliver()
    pay(asha)
    events.number()
    old = timezone.now() - timedelta(days=settings.EVENTS_KEPT_DAYS, seconds=1)
    Event.objects.update(timestamp=old)
    waiting = Delivery.objects.get(status="PENDING").event_id
    newest = Event.objects.latest("pk").pk
    assert newest == waiting
    call_command("prune")
    assert list(Event.objects.values_list("pk", flat=True)) == [newest]
    assert Delivery.objects.count() == 1
    deliver()
    pay(asha)
    events.number()
    assert Event.objects.latest("pk").pk == newest + 1
    call_command("prune")
    assert Event.objects.get().pk == newest + 1


def test_a_webhook_that_is_off_keeps_no_event(webhook, asha, boss, settings):
    pay(asha)
    pay(asha)
    events.number()
    webhooks.change(by=boss.pk, webhook_id=webhook.pk, is_active=False)
    Event.objects.update(timestamp=timezone.now() - timedelta(days=91))
    call_command("prune")
    assert Event.objects.count() == Delivery.objects.count() == 1
    assert not Outbox.objects.exists()
