"""Sends events to webhooks, each at least once.

A delivery is leased, sent outside any transaction, and its result is written afterwards. If its worker dies, another
claims it when the lease ends. A webhook that hangs does not delay others: each has a limited number of senders, and one
that fails has only one.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.transaction import atomic
from django.utils import timezone

from lokanetra import outside
from lokanetra.outside import Answer
from transactions import events, signatures
from transactions.models import Delivery, Event, Webhook
from transactions.serializers import EventSerializer

logger = logging.getLogger(__name__)

# Seconds before each attempt, counted from the previous one.
RETRY_DELAYS = (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
# A webhook that accepted nothing for this long is switched off.
GIVE_UP_AFTER = timedelta(days=5)
# The longest time of one attempt, in seconds, and how long a delivery belongs to the worker that claimed it.
DEADLINE, LEASE = 15.0, timedelta(seconds=45)
# Deliveries in progress at a time: to one webhook, and to all.
MAX_PER_WEBHOOK, MAX_SENDERS = 10, 100
# Seconds between polls when nothing is due, and the longest wait for deliveries in progress.
IDLE_SECONDS, POLL_SECONDS = 0.5, 0.1

JSON = {"Content-Type": "application/json"}
SERIALIZER = EventSerializer()


class Dispatcher:
    """Claims and records deliveries in the calling thread; only the sending runs in other threads.

    A step that raises because the database is unavailable can be repeated: no result of a delivery is lost.
    """

    def __init__(self, send: Any = None) -> None:
        self.send = send or _send
        self.senders = ThreadPoolExecutor(MAX_SENDERS, "sender")
        self.in_progress: dict[Future[Answer], Delivery] = {}

    def work(self, stop: threading.Event) -> str:
        """Deliver until nothing is due or in progress, or `stop` is set. Returns an empty text: the deliveries record
        what failed."""
        while not stop.is_set() and self.step():
            pass
        return ""

    def step(self) -> bool:
        """Number new events, send what is due, record the results. False when there was nothing to do."""
        events.number()
        busy = Counter(delivery.webhook_id for delivery in self.in_progress.values())
        claimed = claim(busy, MAX_SENDERS - len(self.in_progress))
        for delivery, message in claimed:
            self.in_progress[self.senders.submit(self.send, message)] = delivery
        if not self.in_progress:
            return False
        wait(self.in_progress, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        self._record([sent for sent in self.in_progress if sent.done()])
        return True

    def finish(self) -> None:
        """Wait for the deliveries in progress, none of which takes longer than the deadline, and record them."""
        wait(self.in_progress, timeout=DEADLINE + 1)
        self._record([sent for sent in self.in_progress if sent.done()])

    def _record(self, done: list[Future[Answer]]) -> None:
        if done:
            record_answers([(self.in_progress[sent], _answer_of(sent)) for sent in done])
        for sent in done:
            del self.in_progress[sent]


# --- Claim and send ----------------------------------------------------------------------------------


class Message(NamedTuple):
    """All that sending a delivery needs, so that it needs no database."""

    url: str
    body: bytes
    message_id: str
    secrets: list[str]


def claim(busy: Counter[int], room: int) -> list[tuple[Delivery, Message]]:
    """Lease due deliveries to this worker: at most `room`, and for each webhook at most what it may have in progress.
    `busy` counts what each has in progress already."""
    if room <= 0 or not (webhooks := list(_with_something_due())):
        return []
    found: list[Delivery] = []
    with atomic():
        for webhook in webhooks:
            limit = _free_senders(webhook, busy, room - len(found))
            found += _lock(webhook, limit) if limit > 0 else []
        Delivery.objects.filter(pk__in=[delivery.pk for delivery in found]).update(
            attempts=F("attempts") + 1, next_at=timezone.now() + LEASE
        )
    return [(delivery, _message(delivery, body)) for delivery, body in zip(found, _bodies(found), strict=True)]


def _free_senders(webhook: Webhook, busy: Counter[int], room: int) -> int:
    """How many more deliveries to it may start. Half of the senders are kept for webhooks that do not fail."""
    if webhook.failing_since:
        return min(1 - busy[webhook.pk], room - MAX_SENDERS // 2)
    return min(MAX_PER_WEBHOOK - busy[webhook.pk], room)


def _with_something_due() -> QuerySet[Webhook]:
    """Webhooks with a due delivery; those that are switched off get tests only."""
    due = Delivery.objects.due().filter(webhook=OuterRef("pk"))
    is_test = due.filter(event=None)
    return Webhook.objects.filter(Q(Exists(due), is_active=True) | Q(Exists(is_test), is_active=False)).order_by("?")


def _lock(webhook: Webhook, limit: int) -> list[Delivery]:
    due = Delivery.objects.due().filter(webhook=webhook).order_by("next_at", "pk")
    if not webhook.is_active:
        due = due.filter(event=None)
    found = list(due.select_for_update(skip_locked=True)[:limit])
    for delivery in found:
        delivery.webhook = webhook
        delivery.attempts += 1
    return found


def _message(delivery: Delivery, body: bytes) -> Message:
    webhook, now = delivery.webhook, timezone.now()
    old_is_valid = webhook.old_secret_until and webhook.old_secret_until > now
    secrets = [webhook.secret, *([webhook.old_secret] if old_is_valid and webhook.old_secret else [])]
    return Message(webhook.url, body, delivery.message_id, secrets)


def _bodies(deliveries: list[Delivery]) -> list[bytes]:
    ids = {delivery.event_id for delivery in deliveries if delivery.event_id}
    found = Event.objects.with_transactions().in_bulk(ids)
    return [orjson.dumps(_payload(delivery, found)) for delivery in deliveries]


def _payload(delivery: Delivery, found: dict[Any, Event]) -> dict[str, Any]:
    if delivery.event_id:
        return SERIALIZER.to_representation(found[delivery.event_id])
    test = Event(type=Delivery.TEST, timestamp=delivery.created_at, data={"webhook": delivery.webhook_id})
    return SERIALIZER.to_representation(test)


def _send(message: Message) -> Answer:
    try:
        signed = signatures.headers(message.secrets, message.message_id, timezone.now(), message.body)
    except signatures.SecretUnreadable as fault:
        return Answer(None, "", str(fault), 0.0)
    return outside.post(message.url, message.body, JSON | signed, timeout=DEADLINE)


def _answer_of(sent: Future[Answer]) -> Answer:
    """An exception in our own code is one failed attempt, and does not stop other deliveries."""
    if fault := sent.exception():
        logger.error("a delivery could not be sent", exc_info=fault)
        return Answer(None, "", "It could not be sent.", 0.0)
    return sent.result()


def is_accepted(answer: Answer) -> bool:
    return answer.status is not None and 200 <= answer.status < 300


# --- Record the results ------------------------------------------------------------------------------


@atomic
def record_answers(answers: Iterable[tuple[Delivery, Answer]]) -> None:
    """Record the answers, except where another worker has claimed the delivery since."""
    now = timezone.now()
    working, failing = set(), set()
    for delivery, answer in answers:
        _record_answer(delivery, answer, now)
        if not is_accepted(answer):
            failing.add(delivery.webhook_id)
        elif delivery.webhook.failing_since:
            working.add(delivery.webhook_id)
    if working:
        Webhook.objects.filter(pk__in=working).update(failing_since=None)
    if failing - working:
        _record_failure(Webhook.objects.filter(pk__in=failing - working), now)


def _record_answer(delivery: Delivery, answer: Answer, now: datetime) -> None:
    delay = RETRY_DELAYS[delivery.attempts] if delivery.attempts < len(RETRY_DELAYS) else None
    status, next_at = Delivery.Status.DELIVERED, None
    if not is_accepted(answer):
        status = Delivery.Status.FAILED if delay is None else Delivery.Status.PENDING
        next_at = None if delay is None else now + timedelta(seconds=delay)
    claimed = Delivery.objects.filter(pk=delivery.pk, status=Delivery.Status.PENDING, attempts=delivery.attempts)
    claimed.update(
        status=status,
        next_at=next_at,
        sent_at=now - timedelta(seconds=answer.seconds),
        answer_status=answer.status,
        answer=answer.fault or answer.text,
        seconds=round(answer.seconds, 3),
    )


def _record_failure(webhooks: QuerySet[Webhook], now: datetime) -> None:
    webhooks.filter(failing_since=None).update(failing_since=now)
    given_up = webhooks.filter(is_active=True, failing_since__lte=now - GIVE_UP_AFTER)
    for url in given_up.values_list("url", flat=True):
        logger.error("webhook %s accepted nothing for %s days and is switched off", url, GIVE_UP_AFTER.days)
    given_up.update(is_active=False, switched_off_at=now)
