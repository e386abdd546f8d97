"""The product does not rely on assertions: under `python -O`, which leaves them out, the server answers the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lokanetra.tests.live import Answer, Live, live_server

pytestmark = pytest.mark.once

ASHA, RAVI = "9877777771", "9877777772"


@pytest.fixture(scope="module")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    path: Path = tmp_path_factory.mktemp("optimized") / "db.sqlite3"
    with live_server(f"sqlite:///{path}", workers=1, PYTHONOPTIMIZE="1") as live:
        assert live.shell("print(__debug__)").strip() == "False"
        yield live


def code_of(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["code"]


def test_money_moves_and_comes_back_and_the_books_agree(optimized: Live):
    asha, ravi = optimized.new_account(ASHA), optimized.new_account(RAVI)
    lunch = {"to_phone_number": RAVI, "amount": "150.50"}
    first, again = (optimized.post("/wallet/transfer/", lunch, asha, key="lunch") for _ in range(2))
    assert again.headers["idempotent-replayed"] == "true"
    assert again.body == first.body
    refund = optimized.post(f"/transactions/{first.body['transaction_id']}/refund/", {"amount": "50.50"}, ravi)
    hold = optimized.post("/wallet/holds/", lunch | {"amount": "100.00"}, asha)
    capture = optimized.post(f"/wallet/holds/{hold.body['id']}/capture/", {"amount": "60.00"}, ravi)
    asked = optimized.post("/wallet/requests/", {"from_phone_number": RAVI, "amount": "40.00"}, asha)
    paid = optimized.post(f"/wallet/requests/{asked.body['id']}/pay/", {}, ravi)
    assert {answer.status for answer in (first, again, refund, hold, capture, asked, paid)} <= {200, 201}
    assert (optimized.balance(asha), optimized.balance(ravi)) == ("880.00", "1120.00")
    assert optimized.call("GET", "/transactions/", token=asha).body["results"][0]["amount"] == "40.00"
    assert optimized.check_ledger()["ok"]


def test_it_refuses_what_it_refuses_else(optimized: Live):
    asha = optimized.log_in("9877777773")
    to_ravi = {"to_phone_number": "9877777774", "amount": "1.00"}
    assert code_of(optimized.post("/wallet/debit/", {"amount": "1.00"}, asha)) == (400, "insufficient_funds")
    assert code_of(optimized.post("/wallet/transfer/", to_ravi, asha)) == (404, "recipient_not_found")
    assert code_of(optimized.post("/wallet/debit/", {"amount": "0.00"}, asha)) == (400, "validation_error")
    assert code_of(optimized.call("GET", "/wallet/balance/", token="no")) == (401, "token_not_valid")
