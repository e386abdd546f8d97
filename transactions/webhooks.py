"""Operations on webhooks and their deliveries. Callers must make sure that the user is a superuser.

A webhook receives what happens while it is on. Deliveries that are pending when it is switched off wait until it is on
again.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE
from django.db.transaction import atomic
from django.shortcuts import get_object_or_404
from django.utils import timezone

from lokanetra import outside
from transactions import events, signatures
from transactions.models import Delivery, Event, Outbox, Webhook
from users import audit

# How long a replaced secret still signs.
OVERLAP = timedelta(hours=24)


@atomic
def create(*, by: int, url: str, types: Sequence[str]) -> Webhook:
    """Send events of these types to a server from now on. The caller shows its `secret` this once.

    Raises UrlNotAllowed.
    """
    outside.check_url(url)
    _number_outbox()
    webhook = Webhook.objects.create(url=url, types=_in_order(types), secret=signatures.new_secret())
    _audit(by, webhook, None, {"url": url, "types": webhook.types}, flag=ADDITION)
    return webhook


@atomic
def change(*, by: int, webhook_id: int, **changes: Any) -> Webhook:
    """Set `url`, `types` or `is_active`. Switching it on forgets its failures. Raises Http404, UrlNotAllowed."""
    _number_outbox()
    webhook = _locked(webhook_id)
    if "url" in changes:
        outside.check_url(changes["url"])
    if "types" in changes:
        changes["types"] = _in_order(changes["types"])
    before = {name: getattr(webhook, name) for name in changes}
    if changes.get("is_active"):
        webhook.failing_since = webhook.switched_off_at = None
    for name, value in changes.items():
        setattr(webhook, name, value)
    webhook.save()
    if changes:
        _audit(by, webhook, before, changes)
    return webhook


@atomic
def rotate(*, by: int, webhook_id: int, reason: str = "") -> Webhook:
    """Give it a new secret, which the caller shows this once. The old one still signs for a day. Raises Http404."""
    webhook = _locked(webhook_id)
    webhook.old_secret, webhook.old_secret_until = webhook.secret, timezone.now() + OVERLAP
    webhook.secret = signatures.new_secret()
    webhook.save()
    _audit(by, webhook, None, None, what="secret", reason=reason)
    return webhook


@atomic
def test(*, by: int, webhook_id: int, reason: str = "") -> Delivery:
    """Send an event of the type `webhook.test`, even if the webhook is switched off. Raises Http404."""
    webhook, now = _locked(webhook_id), timezone.now()
    _audit(by, webhook, None, None, what="test", reason=reason)
    return Delivery.objects.create(webhook=webhook, created_at=now, next_at=now)


@atomic
def retry(*, by: int, delivery_id: int) -> Delivery:
    """Send it again now, whatever its status, with all attempts of a new one. Raises Http404."""
    delivery = get_object_or_404(Delivery.objects.select_related("webhook"), pk=delivery_id)
    _retry(Delivery.objects.filter(pk=delivery.pk))
    _audit(by, delivery.webhook, None, None, what="retry", delivery=delivery.pk)
    delivery.refresh_from_db(from_queryset=Delivery.objects.with_events())
    return delivery


@atomic
def retry_failed(*, by: int, webhook_id: int, reason: str = "") -> int:
    """Send all failed deliveries again and return how many. Raises Http404."""
    webhook = _locked(webhook_id)
    count = _retry(webhook.deliveries.filter(status=Delivery.Status.FAILED))
    _audit(by, webhook, None, None, what="retry", deliveries=count, reason=reason)
    return count


def _number_outbox() -> None:
    """Number what happened until now, so that it is sent to the webhooks as they are now."""
    while Outbox.objects.exists():
        events.number()


def _retry(deliveries: Any) -> int:
    return deliveries.update(status=Delivery.Status.PENDING, attempts=0, next_at=timezone.now())


def _locked(webhook_id: int) -> Webhook:
    return get_object_or_404(Webhook.objects.select_for_update(), pk=webhook_id)


def _in_order(types: Sequence[str]) -> list[str]:
    """The types without repetitions, in the order of the documentation."""
    return [kind for kind in Event.Type.values if kind in types]


def _audit(
    by: int, webhook: Webhook, before: Any, after: Any, *, what: str = "webhook", flag: int = CHANGE, **details: Any
) -> None:
    audit.record(user_id=by, on=webhook, what=what, flag=flag, before=before, after=after, **details)
