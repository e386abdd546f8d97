"""Superusers create, change, test and rotate webhooks in the console, and retry deliveries. Others see none."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from transactions import webhooks
from transactions.models import Delivery, Webhook

LIST, ADD, DELIVERIES = (
    "/admin/transactions/webhook/",
    "/admin/transactions/webhook/add/",
    "/admin/transactions/delivery/",
)
FORM = {"url": "https://example.com/events", "types": ["hold.opened", "hold.expired"]}


@pytest.fixture
def console(boss):
    client = Client()
    client.force_login(boss)
    return client


@pytest.fixture
def webhook(boss):
    return webhooks.create(by=boss.pk, **FORM)


def page_of(webhook):
    return f"{LIST}{webhook.pk}/change/"


def secret_in(answer):
    found = re.search(r"whsec_[A-Za-z0-9+/]{43}=", answer.content.decode())
    return found and found[0]


def do(console, webhook, action):
    """Fill in and confirm the form, and return the response."""
    path = f"{LIST}{webhook.pk}/{action}/"
    filled = {"reason": "asked", "key": console.get(path).context["form"].initial["key"]}
    asked = console.post(path, filled)
    assert b"Yes, do it" in asked.content
    return console.post(path, {**filled, "confirmed": ""})


def rows(webhook, status, count=1, **more):
    now = timezone.now()
    more |= {"webhook": webhook, "status": status, "created_at": now, "next_at": now if status == "PENDING" else None}
    return [Delivery.objects.create(**more) for _ in range(count)]


def test_a_webhook_is_created_and_its_secret_shown_once(console, boss):
    answer = console.post(ADD, FORM)
    webhook = Webhook.objects.get()
    assert secret_in(answer) == webhook.secret
    assert (webhook.url, webhook.types, webhook.is_active) == (FORM["url"], FORM["types"], True)
    for path in (LIST, page_of(webhook), DELIVERIES, "/admin/", "/admin/admin/logentry/"):
        assert not secret_in(console.get(path))
    assert LogEntry.objects.filter(user=boss).count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": ""}, {"url": "http://example.com/"}, {"url": "https://10.0.0.7/"}, {"url": "nonsense"},
        {"url": "https://example.com/" + "x" * 2000}, {"types": []}, {"types": ["hold.melted"]},
    ],
)  # fmt: skip
def test_errors_are_shown_and_nothing_is_created_or_changed(console, webhook, wrong):
    for path in (ADD, page_of(webhook)):
        answer = console.post(path, FORM | {"is_active": "on"} | wrong)
        assert answer.status_code == 200
        assert set(answer.context["adminform"].form.errors) == set(wrong)
    (found,) = Webhook.objects.all()
    assert (found.url, found.types, found.secret) == (webhook.url, webhook.types, webhook.secret)
    assert LogEntry.objects.count() == 1


def test_url_types_and_state_are_changed_and_logged_once(console, webhook):
    form = {"url": "https://example.com/new", "types": ["wallet.frozen"]}
    assert console.post(page_of(webhook), form).status_code == 302
    found = Webhook.objects.get()
    assert (found.url, found.types, found.is_active) == ("https://example.com/new", ["wallet.frozen"], False)
    assert found.secret == webhook.secret
    assert LogEntry.objects.count() == 2
    console.post(page_of(webhook), form)
    assert LogEntry.objects.count() == 2  # nothing was changed


def test_a_webhook_that_was_switched_off_is_switched_on_again(console, webhook):
    now = timezone.now()
    Webhook.objects.update(is_active=False, failing_since=now, switched_off_at=now)
    assert b"given up" in console.get(LIST).content
    console.post(page_of(webhook), FORM | {"is_active": "on"})
    found = Webhook.objects.get()
    assert (found.is_active, found.failing_since, found.switched_off_at) == (True, None, None)


def test_rotating_shows_the_new_secret_once_after_a_question(console, webhook):
    answer = do(console, webhook, "rotate")
    found = Webhook.objects.get()
    assert secret_in(answer) == found.secret != webhook.secret
    assert found.old_secret == webhook.secret
    assert not secret_in(console.get(page_of(webhook)))
    assert "asked" in LogEntry.objects.latest("pk").change_message


def test_a_test_is_sent_and_all_that_failed_are_retried(console, webhook):
    do(console, webhook, "send_test")
    test = Delivery.objects.get()
    assert (test.event, test.status) == (None, "PENDING")
    rows(webhook, "FAILED", 2)
    do(console, webhook, "retry_failed")
    assert Delivery.objects.filter(status="PENDING").count() == 3


def test_the_list_shows_the_state_of_each_and_capped_counts(console, webhook, monkeypatch):
    monkeypatch.setattr("transactions.admin.webhooks.MAX_COUNT", 2)
    rows(webhook, "FAILED", 3), rows(webhook, "PENDING", 2)
    Webhook.objects.update(failing_since=timezone.now())
    page = console.get(LIST).content.decode()
    assert "failing" in page
    assert re.search(r"status__exact=FAILED\"[^>]*>more than 2<", page)
    assert re.search(r"status__exact=PENDING\"[^>]*>2<", page)


def test_deliveries_are_shown_and_found_by_webhook_and_status(console, boss, webhook):
    other = webhooks.create(by=boss.pk, **FORM)
    (failed,) = rows(webhook, "FAILED", answer_status=500, answer="<b>broken</b>", seconds=0.25, attempts=10)
    (waiting,) = rows(other, "PENDING")

    def found(query):
        return [row.pk for row in console.get(f"{DELIVERIES}?{query}").context["cl"].result_list]

    assert found("") == [waiting.pk, failed.pk]
    assert found(f"webhook__id__exact={webhook.pk}") == [failed.pk]
    assert found("status__exact=PENDING") == [waiting.pk]
    page = console.get(f"{DELIVERIES}{failed.pk}/change/").content.decode()
    assert "&lt;b&gt;broken" in page
    assert "<b>broken" not in page
    assert "webhook.test" in page


def test_selected_deliveries_are_retried_up_to_one_page(console, webhook, monkeypatch):
    first, second, third = rows(webhook, "FAILED", 3)
    chosen = {"action": "retry", "_selected_action": [first.pk, second.pk]}
    console.post(DELIVERIES, chosen)
    assert list(Delivery.objects.filter(status="FAILED")) == [third]
    assert LogEntry.objects.filter(change_message__contains="retry").count() == 2
    monkeypatch.setattr("transactions.admin.webhooks.DeliveryAdmin.list_per_page", 2)
    Delivery.objects.update(status="FAILED", next_at=None)
    console.post(DELIVERIES, chosen | {"select_across": "1"})
    assert Delivery.objects.filter(status="FAILED").count() == 3


def test_others_see_and_do_nothing_whatever_rights_they_have(console, staff, webhook):
    (row,) = rows(webhook, "FAILED")
    staff.user_permissions.set(Permission.objects.all())
    client = Client()
    client.force_login(staff)
    actions = [f"{LIST}{webhook.pk}/{action}/" for action in ("rotate", "send_test", "retry_failed")]
    paths = [LIST, ADD, page_of(webhook), *actions, DELIVERIES, f"{DELIVERIES}{row.pk}/change/"]
    assert {client.get(path).status_code for path in paths} <= {403, 404}
    posts = [(ADD, FORM), (page_of(webhook), FORM), (DELIVERIES, {"action": "retry", "_selected_action": [row.pk]})]
    posts += [(path, {"reason": "x", "key": "0" * 32, "confirmed": ""}) for path in actions]
    assert {client.post(*post).status_code for post in posts} <= {403, 404}
    titles = [item["title"] for group in client.get("/admin/").context["sidebar_navigation"] for item in group["items"]]
    assert not {"Webhooks", "Deliveries"} & set(titles)
    found = Webhook.objects.get()
    assert (found.secret, found.is_active) == (webhook.secret, True)
    assert Delivery.objects.get().status == "FAILED"


def test_webhooks_cannot_be_deleted(console, webhook):
    assert console.get(f"{LIST}{webhook.pk}/delete/").status_code == 403
    console.post(LIST, {"action": "delete_selected", "_selected_action": [webhook.pk], "post": "yes"})
    assert Webhook.objects.exists()
