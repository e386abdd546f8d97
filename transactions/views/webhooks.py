"""`/transactions/webhooks/`: webhooks and their deliveries. For superusers only."""

from typing import Any

from django.db.models import QuerySet
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404

from lokanetra.endpoints import Endpoints, endpoint
from lokanetra.outside import UrlNotAllowed
from lokanetra.pagination import NumberedPages
from transactions import serializers, webhooks
from transactions.filters import DeliveryFilter
from transactions.models import Delivery, DeliveryQuerySet, Webhook
from users.permissions import Authenticated, IsSuperuser


class WebhookViewSet(Endpoints):
    lookup_value_regex = "[0-9]{1,18}"

    @endpoint(gives=serializers.WebhookSerializer, pages=NumberedPages, allow=IsSuperuser)
    def list(self, request: Authenticated) -> QuerySet[Webhook]:
        """List the webhooks, newest first.

        `failing_since` is since when one accepted nothing, `switched_off_at` when it was switched off for that.
        """
        return Webhook.objects.order_by("-id")

    @endpoint(
        takes=serializers.WebhookRequestSerializer,
        gives=serializers.WebhookSecretSerializer,
        status=201,
        allow=IsSuperuser,
        errors=[UrlNotAllowed],
    )
    def create(self, request: Authenticated, **webhook: Any) -> Webhook:
        """Send events of some types to a server, from now on.

        The secret, by which the receiver verifies them, is shown this once.
        """
        return webhooks.create(by=request.user.pk, **webhook)

    @endpoint(gives=serializers.WebhookSerializer, allow=IsSuperuser)
    def retrieve(self, request: Authenticated, pk: str) -> Webhook:
        """Show one webhook."""
        return get_object_or_404(Webhook, pk=int(pk))

    @endpoint(
        takes=serializers.WebhookChangeSerializer,
        gives=serializers.WebhookSerializer,
        allow=IsSuperuser,
        errors=[UrlNotAllowed],
    )
    def partial_update(self, request: Authenticated, pk: str, **changes: Any) -> Webhook:
        """Change the address or the types of a webhook, or switch it off or on.

        What happens while it is off is not sent. What it had not accepted by then waits until it is on again.
        """
        return webhooks.change(by=request.user.pk, webhook_id=int(pk), **changes)

    @action(detail=True, methods=["post"])
    @endpoint(gives=serializers.WebhookSecretSerializer, allow=IsSuperuser)
    def rotate(self, request: Authenticated, pk: str) -> Webhook:
        """Give a webhook a new secret, which is shown this once.

        For 24 hours the old one still signs too.
        """
        return webhooks.rotate(by=request.user.pk, webhook_id=int(pk))

    @action(detail=True, methods=["post"])
    @endpoint(gives=serializers.DeliverySerializer, status=201, allow=IsSuperuser)
    def test(self, request: Authenticated, pk: str) -> Delivery:
        """Send an event of the type `webhook.test`, even if the webhook is off."""
        return webhooks.test(by=request.user.pk, webhook_id=int(pk))

    @action(detail=True, methods=["post"])
    @endpoint(gives=serializers.RetriedSerializer, allow=IsSuperuser)
    def retry(self, request: Authenticated, pk: str) -> dict[str, int]:
        """Send all failed deliveries of a webhook again."""
        return {"retried": webhooks.retry_failed(by=request.user.pk, webhook_id=int(pk))}


class DeliveryViewSet(Endpoints):
    lookup_value_regex = "[0-9]{1,18}"

    @endpoint(
        gives=serializers.DeliverySerializer,
        filters=DeliveryFilter,
        pages=NumberedPages,
        load_related=DeliveryQuerySet.with_events,
        allow=IsSuperuser,
    )
    def list(self, request: Authenticated) -> DeliveryQuerySet:
        """List the deliveries, newest first."""
        return Delivery.objects.order_by("-id")

    @endpoint(gives=serializers.DeliverySerializer, allow=IsSuperuser)
    def retrieve(self, request: Authenticated, pk: str) -> Delivery:
        """Show one delivery: when it was sent, what was answered, when it is tried again."""
        return get_object_or_404(Delivery.objects.with_events(), pk=int(pk))

    @action(detail=True, methods=["post"])
    @endpoint(gives=serializers.DeliverySerializer, allow=IsSuperuser)
    def retry(self, request: Authenticated, pk: str) -> Delivery:
        """Send a delivery again now, whatever its status, with all attempts of a new one."""
        return webhooks.retry(by=request.user.pk, delivery_id=int(pk))
