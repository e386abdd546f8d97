"""Webhooks in the console: superusers create, change, test and rotate them, and see their deliveries."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms import ModelForm, MultipleChoiceField
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from lokanetra import outside
from lokanetra.actions import ActionForm, ShownOnce, action_page, current_account, show_secret, visible_or_404
from lokanetra.admin import ConsoleAdmin, ReadOnlyAdmin, link, link_to, short_time
from lokanetra.pagination import capped_count
from lokanetra.plurals import verb
from transactions import webhooks
from transactions.models import Delivery, DeliveryQuerySet, Event, Webhook

# Deliveries are counted up to this number.
MAX_COUNT = 1_000


class ForSuperusers:
    """These models have no permissions that could be given to others."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser

    def has_manage_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.is_superuser


class WebhookForm(ModelForm):
    types = MultipleChoiceField(
        choices=[(kind, kind) for kind in Event.Type.values], widget=UnfoldAdminCheckboxSelectMultipleWidget
    )

    class Meta:
        model = Webhook
        fields = ("url", "types", "is_active")

    def clean_url(self) -> str:
        try:
            outside.check_url(self.cleaned_data["url"])
        except outside.UrlNotAllowed as reason:
            raise ValidationError(str(reason.detail)) from None
        return self.cleaned_data["url"]


def _count_of(status: Delivery.Status, description: str) -> Any:
    @display(description=description)
    def linked_count(self: Any, webhook: Webhook) -> str:
        found = capped_count(webhook.deliveries.filter(status=status), MAX_COUNT + 1)
        page = reverse("admin:transactions_delivery_changelist")
        count = f"{found:,}" if found <= MAX_COUNT else f"more than {MAX_COUNT:,}"
        return link_to(f"{page}?webhook__id__exact={webhook.pk}&status__exact={status}", count)

    return linked_count


@admin.register(Webhook)
class WebhookAdmin(ForSuperusers, ShownOnce, ConsoleAdmin):
    form = WebhookForm
    list_display = ("url", "state", "failing", "waiting", "failed", "created")
    list_per_page = 20  # each row needs two counts
    fields = ("url", "types", "is_active")
    readonly_fields = ("state", "failing", "given_up", "waiting", "failed", "created")
    sortable_by = ()
    ordering = ("-id",)
    actions_detail = ("send_test", "rotate", "retry_failed")

    waiting = _count_of(Delivery.Status.PENDING, "waiting")
    failed = _count_of(Delivery.Status.FAILED, "failed")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (*self.fields, *self.readonly_fields) if obj else ("url", "types")

    @display(description="state", label={"on": "success", "failing": "warning", "off": "info", "given up": "danger"})
    def state(self, webhook: Webhook) -> str:
        if webhook.is_active:
            return "failing" if webhook.failing_since else "on"
        return "given up" if webhook.switched_off_at else "off"

    @display(description="failing since")
    def failing(self, webhook: Webhook) -> str | None:
        return short_time(webhook.failing_since) if webhook.failing_since else None

    @display(description="given up")
    def given_up(self, webhook: Webhook) -> str | None:
        return short_time(webhook.switched_off_at) if webhook.switched_off_at else None

    @display(description="created")
    def created(self, webhook: Webhook) -> str:
        return short_time(webhook.created_at)

    def save_model(self, request: HttpRequest, obj: Webhook, form: Any, change: bool) -> None:
        by, data = current_account(request).pk, form.cleaned_data
        if change:
            webhooks.change(by=by, webhook_id=obj.pk, **{name: data[name] for name in form.changed_data})
        else:
            created = webhooks.create(by=by, url=data["url"], types=data["types"])
            obj.pk, obj.secret = created.pk, created.secret

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """`webhooks` has logged it already."""

    log_change = log_addition

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self._secret(request, "New webhook", obj)

    @action(description="Send a test", icon="send", permissions=["manage"])
    def send_test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def do(reason: str, **_: Any) -> str:
            delivery = webhooks.test(by=current_account(request).pk, webhook_id=int(object_id), reason=reason)
            return f"Delivery {delivery.pk} is queued."

        return self._answer(request, object_id, "Send a test", do)

    @action(description="Rotate the secret", icon="autorenew", permissions=["manage"])
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def do(reason: str, **_: Any) -> HttpResponse:
            webhook = webhooks.rotate(by=current_account(request).pk, webhook_id=int(object_id), reason=reason)
            return self._secret(request, "New secret", webhook)

        return self._answer(request, object_id, "Rotate the secret", do)

    @action(description="Retry all failed", icon="replay", permissions=["manage"])
    def retry_failed(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def do(reason: str, **_: Any) -> str:
            count = webhooks.retry_failed(by=current_account(request).pk, webhook_id=int(object_id), reason=reason)
            return _retried(count)

        return self._answer(request, object_id, "Retry all failed", do)

    def _secret(self, request: HttpRequest, title: str, webhook: Webhook) -> HttpResponse:
        about = f"The secret that signs requests to {webhook.url}."
        return show_secret(request, self, title=title, about=about, secret=webhook.secret or "")

    def _answer(self, request: HttpRequest, object_id: str, title: str, do: Any) -> HttpResponse:
        webhook = visible_or_404(self, request, object_id)
        facts = {"Webhook": webhook.url, "State": self.state(webhook), "Failed": self.failed(webhook)}
        back = reverse("admin:transactions_webhook_change", args=[webhook.pk])
        return action_page(request, self, webhook, title=title, facts=facts, form_class=ActionForm, do=do, back=back)


@admin.register(Delivery)
class DeliveryAdmin(ForSuperusers, ReadOnlyAdmin):
    list_display = ("id", "to", "type", "shown_status", "attempts", "answer_status", "sent", "again")
    fields = (
        "to", "shown_event", "type", "shown_status", "attempts", "answer_status", "answer", "seconds", "created",
        "sent", "again",
    )  # fmt: skip
    list_filter = ("status", "webhook")
    sortable_by = ("id",)  # the only column with an index
    ordering = ("-id",)
    actions = ("retry",)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Related rows are prefetched for one page only: a join keeps the database from using its indexes."""
        return super().get_queryset(request).prefetch_related("webhook", "event")

    @display(description="webhook")
    def to(self, delivery: Delivery) -> str:
        return link(delivery.webhook, delivery.webhook)

    @display(description="event")
    def shown_event(self, delivery: Delivery) -> int | None:
        return delivery.event_id

    @display(description="status", label={"PENDING": "info", "DELIVERED": "success", "FAILED": "danger"})
    def shown_status(self, delivery: Delivery) -> str:
        return delivery.status

    @display(description="created")
    def created(self, delivery: Delivery) -> str:
        return short_time(delivery.created_at)

    @display(description="sent")
    def sent(self, delivery: Delivery) -> str | None:
        return short_time(delivery.sent_at) if delivery.sent_at else None

    @display(description="next try")
    def again(self, delivery: Delivery) -> str | None:
        return short_time(delivery.next_at) if delivery.next_at else None

    @admin.action(description="Retry", permissions=["manage"])
    def retry(self, request: HttpRequest, deliveries: DeliveryQuerySet) -> None:
        """At most one page; the page of a webhook retries all that failed."""
        ids = list(deliveries.values_list("pk", flat=True)[: self.list_per_page + 1])
        if len(ids) > self.list_per_page:
            message = f"Choose at most {self.list_per_page}; the page of a webhook retries all that failed."
            self.message_user(request, message, messages.ERROR)
            return
        for pk in ids:
            webhooks.retry(by=current_account(request).pk, delivery_id=pk)
        self.message_user(request, _retried(len(ids)))


def _retried(count: int) -> str:
    return f"{count:,} {verb(count, 'delivery is', 'deliveries are')} sent again."
