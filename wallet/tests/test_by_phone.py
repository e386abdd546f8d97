"""Staff credit and debit a wallet by the phone number of its owner."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission

from users import accounts

CREDIT, DEBIT = "/wallet/admin/credit/", "/wallet/admin/debit/"


@pytest.fixture
def clerk(staff):
    staff.user_permissions.add(Permission.objects.get(codename="adjust_wallet"))
    return staff


@pytest.fixture
def pay(clerk, as_user):
    client = as_user(clerk)

    def send(url, phone, key=None, **fields):
        headers = {"HTTP_IDEMPOTENCY_KEY": key} if key else {}
        body = {"phone_number": phone, "amount": "5.00", "remarks": "by hand", **fields}
        return client.post(url, body, format="json", **headers)

    return send


@pytest.mark.parametrize(("url", "balance"), [(CREDIT, "1005.00"), (DEBIT, "995.00")])
def test_money_moves_by_phone_in_any_spelling_and_is_audited(pay, clerk, asha, url, balance):
    answer = pay(url, "099999 99999")
    assert (answer.status_code, answer.json()["balance"]) == (200, balance)
    assert LogEntry.objects.filter(user=clerk, object_id=str(asha.wallet.pk)).count() == 1


@pytest.mark.parametrize("url", [CREDIT, DEBIT])
def test_an_unknown_phone_is_an_error(pay, asha, url):
    answer = pay(url, "9111111111")
    assert (answer.status_code, answer.json()["code"]) == (404, "recipient_not_found")


@pytest.mark.parametrize("url", [CREDIT, DEBIT])
def test_ones_own_wallet_is_refused(pay, clerk, url):
    answer = pay(url, clerk.phone)
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


@pytest.mark.parametrize("url", [CREDIT, DEBIT])
@pytest.mark.parametrize("taken_by_another", [True, False])
def test_a_repeat_is_answered_even_if_another_has_the_number_now(pay, asha, ravi, url, taken_by_another):
    first = pay(url, asha.phone, key="k1")
    phone = asha.phone
    accounts.assign_phone(asha, "+919444444444")
    if taken_by_another:
        accounts.assign_phone(ravi, "+919999999999")
    again = pay(url, phone, key="k1")
    assert (again.status_code, again.json()) == (200, first.json())
    assert again["Idempotent-Replayed"] == "true"


def test_a_key_stands_for_one_phone(pay, asha, ravi):
    assert pay(CREDIT, asha.phone, key="k1").status_code == 200
    assert pay(CREDIT, "+91 99999 99999", key="k1")["Idempotent-Replayed"] == "true"
    for url, phone in ((CREDIT, ravi.phone), (DEBIT, asha.phone)):
        assert pay(url, phone, key="k1").json()["code"] == "idempotency_key_reused"
