"""Sends events to webhooks, each at least once.

A delivery is claimed for a while, sent outside any transaction, and what became of it is written after. If its worker
dies meanwhile it is claimed again when that while is over. A webhook that hangs keeps no other waiting: each has a few
senders at a time, and one that fails has one.
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

# Seconds before each try, counted from the one before.
RETRY_DELAYS = (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
# A webhook that took nothing for so long is switched off.
GIVE_UP_AFTER = timedelta(days=5)
# How long one try may take, and after how long it is lost with whoever made it. Seconds.
DEADLINE, LEASE = 15.0, timedelta(seconds=45)
# How many are under way at a time: to one webhook, and to all.
MAX_PER_WEBHOOK, MAX_SENDERS = 10, 100
# Seconds between two looks when nothing is due, and at most while something is under way.
IDLE_SECONDS, POLL_SECONDS = 0.5, 0.1

JSON = {"Content-Type": "application/json"}
SERIALIZER = EventSerializer()


class Dispatcher:
    """Delivers, round after round, from the thread that calls it; only the sending is done by others.

    A round that raises, for the database is away, may be repeated: nothing that was sent is forgotten.
    """

    def __init__(self, send: Any = None) -> None:
        self.send = send or _send
        self.senders = ThreadPoolExecutor(MAX_SENDERS, "sender")
        self.under_way: dict[Future[Answer], Delivery] = {}

    def work(self, stop: threading.Event) -> str:
        """Deliver until nothing is due or under way, or `stop` is set. There is nothing to tell but what failed, and
        that is told by the deliveries themselves."""
        while not stop.is_set() and self.round():
            pass
        return ""

    def round(self) -> bool:
        """Number what happened, send what is due, write down what has come of it. False when there was nothing."""
        events.number()
        busy = Counter(delivery.webhook_id for delivery in self.under_way.values())
        claimed = claim(busy, MAX_SENDERS - len(self.under_way))
        for delivery, message in claimed:
            self.under_way[self.senders.submit(self.send, message)] = delivery
        if not self.under_way:
            return False
        wait(self.under_way, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        self._record_answer([one for one in self.under_way if one.done()])
        return True

    def finish(self) -> None:
        """Wait for what is under way, none of which takes longer than the deadline, and write it down."""
        wait(self.under_way, timeout=DEADLINE + 1)
        self._record_answer([one for one in self.under_way if one.done()])

    def _record_answer(self, done: list[Future[Answer]]) -> None:
        if done:
            record_answers([(self.under_way[one], _answer_of(one)) for one in done])
        for one in done:
            del self.under_way[one]


# --- Claim and send ----------------------------------------------------------------------------------


class Message(NamedTuple):
    """A delivery as it is sent: all that this takes without the database."""

    url: str
    body: bytes
    message_id: str
    secrets: list[str]


def claim(busy: Counter[int], room: int) -> list[tuple[Delivery, Message]]:
    """Deliveries that are due, now this worker's for a while: no more than there is room for, and of each webhook no
    more than it may have under way."""
    if room <= 0 or not (webhooks := list(_with_something_due())):
        return []
    found: list[Delivery] = []
    with atomic():
        for webhook in webhooks:
            places = _places(webhook, busy, room - len(found))
            found += _lock(webhook, places) if places > 0 else []
        Delivery.objects.filter(pk__in=[delivery.pk for delivery in found]).update(
            attempts=F("attempts") + 1, next_at=timezone.now() + LEASE
        )
    return [(delivery, _parcel(delivery, body)) for delivery, body in zip(found, _bodies(found), strict=True)]


def _places(webhook: Webhook, busy: Counter[int], room: int) -> int:
    """How many more may be under way to it. Half of the senders are for those that do not fail, however many do."""
    if webhook.failing_since:
        return min(1 - busy[webhook.pk], room - MAX_SENDERS // 2)
    return min(MAX_PER_WEBHOOK - busy[webhook.pk], room)


def _with_something_due() -> QuerySet[Webhook]:
    """Webhooks for which a delivery is due; those that are off have tests only."""
    due = Delivery.objects.due().filter(webhook=OuterRef("pk"))
    is_test = due.filter(event=None)
    return Webhook.objects.filter(Q(Exists(due), is_active=True) | Q(Exists(is_test), is_active=False)).order_by("?")


def _lock(webhook: Webhook, places: int) -> list[Delivery]:
    due = Delivery.objects.due().filter(webhook=webhook).order_by("next_at", "pk")
    if not webhook.is_active:
        due = due.filter(event=None)
    found = list(due.select_for_update(skip_locked=True)[:places])
    for delivery in found:
        delivery.webhook = webhook
        delivery.attempts += 1
    return found


def _parcel(delivery: Delivery, body: bytes) -> Message:
    webhook, now = delivery.webhook, timezone.now()
    old_counts = webhook.old_secret_until and webhook.old_secret_until > now
    signing = [webhook.secret, *([webhook.old_secret] if old_counts and webhook.old_secret else [])]
    return Message(webhook.url, body, delivery.message_id, signing)


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
    """One mistake of ours is one try that failed, and keeps no other delivery waiting."""
    if fault := sent.exception():
        logger.error("a delivery could not be sent", exc_info=fault)
        return Answer(None, "", "It could not be sent.", 0.0)
    return sent.result()


def is_accepted(answer: Answer) -> bool:
    return answer.status is not None and 200 <= answer.status < 300


# --- What became of it -------------------------------------------------------------------------------


@atomic
def record_answers(answers: Iterable[tuple[Delivery, Answer]]) -> None:
    """Write down what was answered, unless somebody else has taken the delivery up since."""
    now = timezone.now()
    well, failing = set(), set()
    for delivery, answer in answers:
        _record_answer(delivery, answer, now)
        if not is_accepted(answer):
            failing.add(delivery.webhook_id)
        elif delivery.webhook.failing_since:
            well.add(delivery.webhook_id)
    if well:
        Webhook.objects.filter(pk__in=well).update(failing_since=None)
    if failing - well:
        _failing(Webhook.objects.filter(pk__in=failing - well), now)


def _record_answer(delivery: Delivery, answer: Answer, now: datetime) -> None:
    again = RETRY_DELAYS[delivery.attempts] if delivery.attempts < len(RETRY_DELAYS) else None
    status, next_at = Delivery.Status.DELIVERED, None
    if not is_accepted(answer):
        status = Delivery.Status.FAILED if again is None else Delivery.Status.PENDING
        next_at = None if again is None else now + timedelta(seconds=again)
    mine = Delivery.objects.filter(pk=delivery.pk, status=Delivery.Status.PENDING, attempts=delivery.attempts)
    mine.update(
        status=status,
        next_at=next_at,
        sent_at=now - timedelta(seconds=answer.seconds),
        answer_status=answer.status,
        answer=answer.fault or answer.text,
        seconds=round(answer.seconds, 3),
    )


def _failing(webhooks: QuerySet[Webhook], now: datetime) -> None:
    webhooks.filter(failing_since=None).update(failing_since=now)
    given_up = webhooks.filter(is_active=True, failing_since__lte=now - GIVE_UP_AFTER)
    for url in given_up.values_list("url", flat=True):
        logger.error("webhook %s took nothing for %s days and is switched off", url, GIVE_UP_AFTER.days)
    given_up.update(is_active=False, switched_off_at=now)
