"""Superusers create, change and test webhooks by the API, and retry deliveries. A secret is shown only once."""

import logging
from io import StringIO

import pytest
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection

from lokanetra.logs import mask
from lokanetra.outside import Answer
from lokanetra.tests.test_errors import problem
from transactions import deliveries, events, webhooks
from transactions.models import Delivery, Event, Webhook
from users import keys
from wallet import status

HOOKS, DELIVERIES = "/transactions/webhooks/", "/transactions/webhooks/deliveries/"
URL = "https://example.com/events?shop=7"
BODY = {"url": URL, "types": ["wallet.frozen", "transaction.created"]}
FIELDS = {"id", "url", "types", "is_active", "created_at", "failing_since", "switched_off_at"}
DELIVERY = {
    "id", "webhook", "event", "type", "status", "attempts", "answer_status", "answer", "seconds", "created_at",
    "sent_at", "next_at",
}  # fmt: skip


@pytest.fixture
def client(boss, as_user):
    return as_user(boss)


@pytest.fixture
def made(client):
    """A webhook as the call that created it shows it."""
    return client.post(HOOKS, BODY, format="json").json()


def post(client, path, body=None):
    return client.post(path, body or {}, format="json")


def failed(webhook_id, count=1):
    """Failed deliveries of tests."""
    rows = [
        Delivery(webhook_id=webhook_id, status="FAILED", attempts=10, answer_status=500, answer="no", created_at=at)
        for at in [Webhook.objects.get(pk=webhook_id).created_at] * count
    ]
    return Delivery.objects.bulk_create(rows)


# --- Create, show, change ----------------------------------------------------------------------------


def test_the_secret_is_shown_only_when_it_is_created_or_rotated(client, made):
    assert set(made) == FIELDS | {"secret"}
    assert made["secret"].startswith("whsec_")
    assert (made["url"], made["types"]) == (URL, ["transaction.created", "wallet.frozen"])
    page = f"{HOOKS}{made['id']}/"
    rotated = post(client, f"{page}rotate/")
    assert (rotated.status_code, set(rotated.json())) == (200, FIELDS | {"secret"})
    assert rotated.json()["secret"] != made["secret"]
    client.patch(page, {"is_active": False}, format="json")
    shown = [client.get(page).json(), *client.get(HOOKS).json()["results"]]
    shown.append(client.patch(page, {"is_active": True}, format="json").json())
    assert [set(webhook) for webhook in shown] == [FIELDS] * 3


def test_a_secret_is_in_no_table_no_log_no_dump_and_no_other_answer(client, caplog):
    caplog.set_level(logging.DEBUG)
    made = post(client, HOOKS, BODY).json()
    page = f"{HOOKS}{made['id']}/"
    secrets = [made["secret"], post(client, f"{page}rotate/").json()["secret"]]
    answers = [post(client, f"{page}test/"), post(client, f"{page}retry/"), client.get(page), client.get(HOOKS)]
    answers += [client.get(DELIVERIES), client.patch(page, {"types": ["hold.opened"]}, format="json")]
    dump = StringIO()
    call_command("dumpdata", stdout=dump)
    for secret in (part for whole in secrets for part in (whole, whole.removeprefix("whsec_"))):
        assert secret not in caplog.text
        assert secret not in dump.getvalue()
        assert not any(secret in answer.content.decode() for answer in answers)
        with connection.cursor() as cursor:
            for table in connection.introspection.table_names():
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
                assert secret not in repr(cursor.fetchall()), table
    assert mask(f"it was {secrets[0]}, they say") == "it was [token], they say"


def test_a_dump_that_is_loaded_again_has_the_secret(made, tmp_path):
    file = tmp_path / "dump.json"
    call_command("dumpdata", "transactions.webhook", output=str(file))
    Webhook.objects.all().delete()
    call_command("loaddata", str(file), verbosity=0)
    assert Webhook.objects.get().secret == made["secret"]


def test_each_action_is_logged_with_its_user(boss, client, made):
    page = f"{HOOKS}{made['id']}/"
    client.patch(page, {"is_active": False}, format="json")
    delivery = post(client, f"{page}test/").json()["id"]
    for path in (f"{page}rotate/", f"{page}retry/", f"{DELIVERIES}{delivery}/retry/"):
        post(client, path)
    entries = LogEntry.objects.filter(user=boss, object_id=made["id"]).order_by("pk")
    assert [entry.action_flag for entry in entries] == [ADDITION, 2, 2, 2, 2, 2]


def test_the_list_is_newest_first(client, made):
    second = post(client, HOOKS, BODY).json()["id"]
    page = client.get(HOOKS).json()
    assert (page["count"], [row["id"] for row in page["results"]]) == (2, [second, made["id"]])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("types", []), ("types", "hold.opened"), ("types", {"hold.opened": True}), ("types", None), ("types", 1),
        ("types", ["hold.melted"]), ("types", ["hold.opened", "hold.opened"]), ("types", [["hold.opened"]]),
        ("types", [None]), ("types", ["webhook.test"]), ("types", ["HOLD.OPENED"]), ("types", ["hold.opened"] * 4_000),
        ("url", ""), ("url", None), ("url", 7), ("url", [URL]), ("url", f"https://example.com/{'x' * 2000}"),
        ("url", "https://example.com/\u202e"), ("url", "https://example.com/\0"), ("secret", "whsec_mine"),
        ("is_activ", True),
    ],
)  # fmt: skip
def test_invalid_input_is_refused_by_name_and_changes_nothing(client, made, field, value):
    for answer in (
        post(client, HOOKS, BODY | {field: value}),
        client.patch(f"{HOOKS}{made['id']}/", {field: value}, format="json"),
    ):
        assert list(problem(answer, 400, "validation_error")["errors"]) == [field]
    assert client.get(HOOKS).json()["results"] == [{name: made[name] for name in FIELDS}]


def test_url_and_types_are_required_to_create_but_not_to_change(client, made):
    assert set(problem(post(client, HOOKS, {"is_active": True}), 400, "validation_error")["errors"]) == {"is_active"}
    assert set(problem(post(client, HOOKS), 400, "validation_error")["errors"]) == {"url", "types"}
    assert client.patch(f"{HOOKS}{made['id']}/", {}, format="json").status_code == 200
    for wrong in ("yes", 1, None):
        answer = client.patch(f"{HOOKS}{made['id']}/", {"is_active": wrong}, format="json")
        assert list(problem(answer, 400, "validation_error")["errors"]) == ["is_active"]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.7/", "https://2130706433/",
        "https://user:pass@example.com/", "ftp://example.com/", "example.com", " https://a.b/",
        "https://169.254.169.254/latest/", "https://localhost/",
    ],
)  # fmt: skip
def test_an_address_that_is_not_allowed_is_refused_and_nothing_changed(client, made, url):
    problem(post(client, HOOKS, BODY | {"url": url}), 400, "url_not_allowed")
    change = {"url": url, "types": ["hold.opened"], "is_active": False}
    problem(client.patch(f"{HOOKS}{made['id']}/", change, format="json"), 400, "url_not_allowed")
    assert client.get(HOOKS).json()["results"] == [{name: made[name] for name in FIELDS}]


# --- Deliveries --------------------------------------------------------------------------------------


def test_a_delivery_shows_what_was_sent_and_what_was_answered(asha, boss, client, made):
    status.freeze(user_id=boss.pk, wallet_id=asha.wallet.pk, reason="stolen")
    events.number()
    event = Event.objects.latest("pk")
    row = event.deliveries.get()
    deliveries.claim(deliveries.Counter(), 10)
    row.refresh_from_db()
    deliveries.record_answers([(row, Answer(503, "later", "", 0.25))])
    shown = client.get(f"{DELIVERIES}{row.pk}/").json()
    assert set(shown) == DELIVERY
    assert (shown["webhook"], shown["event"], shown["type"]) == (made["id"], event.pk, "wallet.frozen")
    assert (shown["status"], shown["attempts"], shown["answer_status"]) == ("PENDING", 1, 503)
    assert (shown["answer"], shown["seconds"]) == ("later", 0.25)
    assert shown in client.get(DELIVERIES).json()["results"]


def test_a_test_is_shown_with_the_type_that_is_sent(client, made):
    answer = post(client, f"{HOOKS}{made['id']}/test/")
    assert (answer.status_code, set(answer.json())) == (201, DELIVERY)
    assert (answer.json()["event"], answer.json()["type"]) == (None, "webhook.test")
    ((_, message),) = deliveries.claim(deliveries.Counter(), 10)
    assert b'"type":"webhook.test"' in message.body


def test_a_failed_delivery_is_sent_again(client, made):
    (row,) = failed(made["id"])
    answer = post(client, f"{DELIVERIES}{row.pk}/retry/")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["attempts"]) == ("PENDING", 0)
    assert answer.json()["next_at"]


def test_all_that_failed_are_sent_again_and_no_others(boss, client, made):
    other = webhooks.create(by=boss.pk, **BODY)
    failed(made["id"], 3), failed(other.pk)
    assert post(client, f"{HOOKS}{made['id']}/retry/").json() == {"retried": 3}
    assert post(client, f"{HOOKS}{made['id']}/retry/").json() == {"retried": 0}
    assert Delivery.objects.filter(status="FAILED").get().webhook == other


def test_the_list_of_deliveries_is_found_by_webhook_and_status(boss, client, made):
    other = webhooks.create(by=boss.pk, **BODY)
    own, others = failed(made["id"], 2), failed(other.pk)
    pending = webhooks.test(by=boss.pk, webhook_id=other.pk)

    def found(**query):
        return [row["id"] for row in client.get(DELIVERIES, query).json()["results"]]

    assert found() == [pending.pk, others[0].pk, own[1].pk, own[0].pk]
    assert found(webhook=made["id"]) == [own[1].pk, own[0].pk]
    assert found(webhook=other.pk, status="failed") == [others[0].pk]
    assert found(webhook=10**17) == []


def test_the_list_of_deliveries_takes_as_many_queries_for_many(client, made, django_assert_max_num_queries):
    failed(made["id"], 30)
    with django_assert_max_num_queries(6):
        client.get(DELIVERIES, {"page_size": 100})


# --- Access ------------------------------------------------------------------------------------------


def test_only_superusers_in_person_have_access(asha, staff, as_user, nobody, made):
    staff.user_permissions.set(Permission.objects.all())
    robot = keys.service_account("books")
    robot.user_permissions.set(Permission.objects.all())
    nobody.credentials(HTTP_AUTHORIZATION=f"Bearer {keys.create(robot, name='nightly')[1]}")
    page, (row,) = f"{HOOKS}{made['id']}/", failed(made["id"])
    for client in (as_user(asha), as_user(staff), nobody):
        answers = [client.get(path) for path in (HOOKS, page, DELIVERIES, f"{DELIVERIES}{row.pk}/")]
        posts = (f"{page}rotate/", f"{page}test/", f"{page}retry/", f"{DELIVERIES}{row.pk}/retry/")
        answers += [post(client, path) for path in posts]
        answers += [post(client, HOOKS, BODY), client.patch(page, {"is_active": False}, format="json")]
        assert [answer.status_code for answer in answers] == [403] * len(answers)
    assert list(Webhook.objects.values_list("is_active", flat=True)) == [True]
    assert Webhook.objects.get().secret == made["secret"]
    assert list(Delivery.objects.values_list("status", flat=True)) == ["FAILED"]
