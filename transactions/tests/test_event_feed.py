"""Every change leaves an event in its commit, and a reader that continues after the last one misses none."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.utils import timezone

from lokanetra.tests.live import at_once
from lokanetra.tests.test_errors import problem
from transactions import events
from transactions.models import Event, Outbox
from users import accounts, keys
from wallet import holds, payments, refunds, requests, status
from wallet.models import Hold
from wallet.tests.test_races import in_thread

FEED = "/transactions/events/"
ONE = Decimal("1.00")
# Where staff see each kind of thing.
SHOWN = {
    "transaction": "/transactions/admin-list/",
    "hold": "/wallet/admin/holds/",
    "request": "/wallet/admin/requests/",
    "wallet": "/wallet/admin/wallets/",
    "user": "/auth/admin/users/",
}


@pytest.fixture
def cast(asha, ravi, boss):
    """Asha has paid ravi, and a hold and a request are open; all of that is numbered already."""
    paid = payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(20)).transaction
    hold = holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(10), expires_in=60)
    asked = requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=Decimal(10), expires_in=60)
    events.number()
    return SimpleNamespace(asha=asha, ravi=ravi, boss=boss, paid=paid, hold=hold, asked=asked)


@pytest.fixture
def reader(staff, as_user):
    """Staff with the right to view events and no other."""
    staff.user_permissions.add(Permission.objects.get(codename="view_event"))
    return as_user(staff)


def news(after):
    """The types of events after this id, oldest first, and the rows."""
    events.number()
    rows = list(Event.objects.filter(pk__gt=after).order_by("pk"))
    return [row.type for row in rows], rows


def last_id():
    return Event.objects.latest("pk").pk


def after_the_event(do):
    """Call something after an event was written, in the same transaction."""

    def execute(run, sql, *args):
        result = run(sql, *args)
        if "INSERT INTO transactions_outbox" in sql.replace('"', ""):
            do()
        return result

    return connection.execute_wrapper(execute)


def by_staff(action):
    return lambda cast: action(user_id=cast.boss.pk, wallet_id=cast.ravi.wallet.pk, reason="asked")


def expire(close):
    with pytest.MonkeyPatch.context() as patch:
        later = timezone.now() + timedelta(minutes=2)
        patch.setattr("wallet.clock.clock.sql", f"TIMESTAMPTZ '{later.isoformat()}'")
        patch.setattr(timezone, "now", lambda: later)
        close()


ACTIONS = {
    "credit": (lambda cast: payments.credit(user_id=cast.asha.pk, amount=ONE), ["transaction.created"]),
    "debit": (lambda cast: payments.debit(user_id=cast.asha.pk, amount=ONE), ["transaction.created"]),
    "transfer": (
        lambda cast: payments.transfer(user_id=cast.asha.pk, to=cast.ravi.phone_number, amount=ONE),
        ["transaction.created"],
    ),
    "refund": (
        lambda cast: refunds.refund(user=cast.ravi, transaction_id=cast.paid.pk, amount=ONE),
        ["transaction.created"],
    ),
    "reversal": (
        lambda cast: refunds.reverse(user_id=cast.boss.pk, transaction_id=cast.paid.pk, remarks="wrong"),
        ["transaction.created"],
    ),
    "hold": (
        lambda cast: holds.open_(user_id=cast.asha.pk, to=cast.ravi.phone_number, amount=ONE),
        ["hold.opened"],
    ),
    "capture": (
        lambda cast: holds.capture(user_id=cast.ravi.pk, hold_id=cast.hold.pk),
        ["transaction.created", "hold.captured"],
    ),
    "capture of a part": (
        lambda cast: holds.capture(user_id=cast.ravi.pk, hold_id=cast.hold.pk, amount=ONE, final=False),
        ["transaction.created", "hold.captured"],
    ),
    "void": (lambda cast: holds.void(user_id=cast.ravi.pk, hold_id=cast.hold.pk), ["hold.voided"]),
    "expiry": (lambda cast: expire(lambda: holds.expire(wallet_id=cast.asha.wallet.pk)), ["hold.expired"]),
    "request": (
        lambda cast: requests.ask(user_id=cast.asha.pk, to=cast.ravi.phone_number, amount=ONE),
        ["request.created"],
    ),
    "payment of a request": (
        lambda cast: requests.pay(user_id=cast.asha.pk, request_id=cast.asked.pk),
        ["transaction.created", "request.paid"],
    ),
    "refusal of a request": (
        lambda cast: requests.decline(user_id=cast.asha.pk, request_id=cast.asked.pk),
        ["request.declined"],
    ),
    "end of a request": (
        lambda cast: requests.cancel(user_id=cast.ravi.pk, request_id=cast.asked.pk),
        ["request.cancelled"],
    ),
    "expiry of a request": (lambda cast: expire(requests.expire), ["request.expired"]),
    "new account": (lambda cast: accounts.create(phone_number="+919444444444"), ["wallet.created"]),
    "freeze": (by_staff(status.freeze), ["wallet.frozen"]),
    "deactivation": (lambda cast: accounts.set_active(cast.ravi, False), ["user.deactivated"]),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_a_change_leaves_its_events_as_staff_see_the_thing(cast, boss, as_user, name):
    action, types = ACTIONS[name]
    before = last_id()
    action(cast)
    found = as_user(boss).get(FEED, {"after": before}).json()["results"]
    assert [event["type"] for event in found] == types
    for event in found:
        shown = as_user(boss).get(SHOWN[event["type"].split(".")[0]]).json()["results"]
        assert event["data"] in shown


@pytest.mark.parametrize("name", [name for name in ACTIONS if name not in ("new account", "freeze", "deactivation")])
def test_an_event_has_the_time_of_its_change(cast, boss, as_user, name):
    before = last_id()
    ACTIONS[name][0](cast)
    *_, event = as_user(boss).get(FEED, {"after": before}).json()["results"]
    thing = event["data"]
    moment = thing.get("closed_at") or thing.get("timestamp") or thing["created_at"]
    if name == "capture of a part":  # which leaves the hold open
        moment = as_user(boss).get(SHOWN["transaction"]).json()["results"][0]["timestamp"]
    assert event["timestamp"] == moment


@pytest.mark.parametrize("name", ACTIONS)
def test_a_change_that_is_rolled_back_leaves_none(cast, name):
    action, _ = ACTIONS[name]
    assert not Outbox.objects.exists()
    with pytest.raises(ZeroDivisionError), after_the_event(lambda: 1 / 0):
        action(cast)
    assert not Outbox.objects.exists()


def test_unfreezing_leaves_an_event_and_a_repetition_does_not(cast):
    before = last_id()
    for action in (status.unfreeze, status.freeze, status.freeze, status.unfreeze, status.unfreeze):
        by_staff(action)(cast)
    for active in (True, False, False, True):
        accounts.set_active(cast.ravi, active)
    assert news(before)[0] == ["wallet.frozen", "wallet.unfrozen", "user.deactivated"]


def test_a_refused_payment_leaves_no_event(cast):
    before = last_id()
    with pytest.raises(Exception, match="was asked for"):
        payments.debit(user_id=cast.asha.pk, amount=Decimal(100_000))
    assert news(before)[0] == []


def test_the_data_of_an_event_never_changes(cast, reader):
    before = last_id()
    opened = holds.open_(user_id=cast.asha.pk, to=cast.ravi.phone_number, amount=ONE)
    holds.void(user_id=cast.ravi.pk, hold_id=opened.pk)
    found = reader.get(FEED, {"after": before, "type": "HOLD.opened"}).json()["results"]
    assert [(event["data"]["id"], event["data"]["status"]) for event in found] == [(opened.pk, "OPEN")]
    assert Hold.objects.get(pk=opened.pk).status == "VOIDED"


# --- Pages -------------------------------------------------------------------------------------------


def test_pages_follow_each_other_without_gaps_and_the_last_has_no_next(cast, reader):
    for _ in range(5):
        payments.debit(user_id=cast.asha.pk, amount=ONE)
    url, seen, pages = f"{FEED}?page_size=3", [], 0
    while url:
        page = reader.get(url).json()
        assert set(page) == {"next", "results"}
        seen += [event["id"] for event in page["results"]]
        url, pages = page["next"], pages + 1
    assert seen == list(range(1, Event.objects.count() + 1))
    assert pages == -(-len(seen) // 3)
    assert reader.get(FEED, {"after": seen[-1]}).json() == {"next": None, "results": []}
    assert reader.get(FEED, {"after": 10**18 - 1}).json()["results"] == []


def test_a_page_has_a_hundred_unless_it_is_asked_for_up_to_a_thousand(reader):
    at = timezone.now()
    Event.objects.bulk_create(
        Event(id=n, type=Event.Type.USER_DEACTIVATED, timestamp=at, data={"id": n}) for n in range(1, 1002)
    )
    sizes = [len(reader.get(FEED, query).json()["results"]) for query in ({}, {"page_size": 1000})]
    assert sizes == [100, 1000]
    assert reader.get(FEED, {"page_size": 1000}).json()["next"].endswith("after=1000&page_size=1000")


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "after=1.0", "after=%D9%A3", f"after={10**18}", "after=1&after=2", "after=1%0A"]
)
def test_an_invalid_after_is_refused_by_name(reader, query):
    assert list(problem(reader.get(FEED, QUERY_STRING=query), 400, "validation_error")["errors"]) == ["after"]


def test_the_number_of_queries_does_not_grow_with_the_page(cast, reader, django_assert_max_num_queries):
    for _ in range(10):
        payments.debit(user_id=cast.asha.pk, amount=ONE)
    events.number()
    with django_assert_max_num_queries(7):
        assert len(reader.get(FEED).json()["results"]) > 10


def test_it_takes_the_right_to_view_events(staff, asha, as_user):
    for user in (staff, asha):
        problem(as_user(user).get(FEED), 403, "permission_denied")


def test_a_machine_with_the_right_reads_it(cast, nobody):
    account = keys.service_account("books")
    keys.grant(account, "transactions.view_event")
    nobody.credentials(HTTP_AUTHORIZATION=f"Bearer {keys.create(account, name='nightly')[1]}")
    assert nobody.get(FEED).json()["results"]


# --- Concurrency -------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_what_is_committed_late_is_not_missed(asha, ravi, boss, reader):
    """The late one has the earlier id in the outbox. On SQLite nobody else can write meanwhile."""
    written, commit = threading.Event(), threading.Event()

    def freeze_late():
        with after_the_event(lambda: written.set() or commit.wait(10)):
            return status.freeze(user_id=boss.pk, wallet_id=ravi.wallet.pk, reason="stolen")

    def pay():
        payments.debit(user_id=asha.pk, amount=ONE)

    def read(after):
        return [(event["id"], event["type"]) for event in reader.get(FEED, {"after": after}).json()["results"]]

    start = read(0)[-1][0]
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(in_thread(freeze_late))
        assert written.wait(10)
        if connection.vendor == "postgresql":
            pay()
        meanwhile = read(start)
        commit.set()
        assert late.result(timeout=10).status == "FROZEN"
    last = meanwhile[-1][0] if meanwhile else start
    after = read(last)
    assert [kind for _, kind in meanwhile] == (["transaction.created"] if connection.vendor == "postgresql" else [])
    assert after == [(last + 1, "wallet.frozen")]


@pytest.mark.django_db(transaction=True)
def test_a_reader_with_many_concurrent_writers_sees_each_once_and_in_order(asha, ravi, stranger, reader):
    payers, count = [asha, ravi, stranger], 10
    for payer in payers:
        payments.credit(user_id=payer.pk, amount=Decimal(100))
    start, done, seen = reader.get(FEED).json()["results"][-1]["id"], threading.Event(), []

    def pay(user):
        for _ in range(count):
            payments.debit(user_id=user.pk, amount=ONE)

    def read():
        is_last = False
        while not is_last:
            is_last = done.is_set()
            after = seen[-1]["id"] if seen else start
            seen.extend(reader.get(FEED, {"after": after, "page_size": 7}).json()["results"])
            is_last = is_last and len(seen) >= len(payers) * count

    def pay_all():
        try:
            return at_once(*[in_thread(lambda payer=payer: pay(payer)) for payer in payers])
        finally:
            done.set()

    paid, was_read = at_once(in_thread(pay_all), in_thread(read))
    assert (paid, was_read) == ([None] * 3, None)
    assert [event["id"] for event in seen] == list(range(start + 1, start + 1 + len(payers) * count))
    assert len({event["data"]["id"] for event in seen}) == len(payers) * count
