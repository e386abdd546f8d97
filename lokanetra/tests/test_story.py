"""The whole product in one story."""

import re
import subprocess
import sys

import pytest
from rest_framework.test import APIClient

from lokanetra.tests.docs import README, read
from lokanetra.tests.live import Live, development_server


@pytest.mark.django_db
def test_two_people_log_in_and_pay_each_other_while_an_admin_looks_on(boss, as_user):
    asha, ravi = log_in("9999999999"), log_in("9888888888")
    assert asha.get("/wallet/balance/").json() == {
        "user": "user_9999999999",
        "balance": "0.00",
        "currency": "INR",
        "status": "ACTIVE",
        "held": "0.00",
        "available": "0.00",
        "tier": None,
    }

    assert asha.post("/wallet/credit/", {"amount": "1000.00"}).json()["balance"] == "1000.00"
    assert asha.post("/wallet/debit/", {"amount": "200.00", "remarks": "Rent"}).json()["balance"] == "800.00"
    sent = asha.post("/wallet/transfer/", {"to_phone_number": "9888888888", "amount": "150.50", "remarks": "Lunch"})
    assert sent.status_code == 200
    assert sent.json() | {"transaction_id": 0, "timestamp": ""} == {
        "transaction_id": 0,
        "transaction_type": "TRANSFER",
        "amount": "150.50",
        "balance": "649.50",
        "sender": "user_9999999999",
        "receiver": "user_9888888888",
        "remarks": "Lunch",
        "timestamp": "",
        "hold": None,
        "reverses": None,
    }
    assert ravi.get("/wallet/balance/").json()["balance"] == "150.50"
    assert ravi.post("/wallet/debit/", {"amount": "150.51"}).json()["code"] == "insufficient_funds"

    assert [row["transaction_type"] for row in asha.get("/transactions/").json()["results"]] == [
        "TRANSFER",
        "DEBIT",
        "CREDIT",
    ]
    hold = asha.post("/wallet/holds/", {"to_phone_number": "9888888888", "amount": "100.00", "remarks": "Room"}).json()
    assert asha.get("/wallet/balance/").json()["available"] == "549.50"
    captured = ravi.post(f"/wallet/holds/{hold['id']}/capture/", {"amount": "60.00"})
    assert (captured.json()["hold"], captured.json()["balance"]) == (hold["id"], "210.50")
    refund = f"/transactions/{sent.json()['transaction_id']}/refund/"
    assert ravi.post(refund, {"amount": "10.50"}).json()["balance"] == "200.00"
    assert ravi.post(refund, {"amount": "150.50"}).json()["code"] == "refund_exceeds_remaining"
    assert asha.get("/wallet/balance/").json()["available"] == "600.00"

    assert ravi.get("/transactions/admin-list/").status_code == 403
    admin = as_user(boss)
    page = admin.get("/transactions/admin-list/", {"type": "transfer", "sender_phone": "+91 99999 99999"}).json()
    assert page["count"] == 2
    assert page["results"][1] | {"id": 0, "timestamp": ""} == {
        "id": 0,
        "sender": "user_9999999999",
        "receiver": "user_9888888888",
        "sender_phone_number": "9999999999",
        "receiver_phone_number": "9888888888",
        "amount": "150.50",
        "transaction_type": "TRANSFER",
        "timestamp": "",
        "remarks": "Lunch",
        "hold": None,
        "reverses": None,
    }
    made = admin.post("/auth/admin/users/", {"phone_number": "9777777777", "first_name": "Meena"})
    assert made.status_code == 201
    assert log_in("9777777777").get("/wallet/balance/").json()["balance"] == "0.00"
    assert {wallet["user"] for wallet in admin.get("/wallet/admin/wallets/").json()["results"]} == {
        "user_9999999999",
        "user_9888888888",
        "user_9777777777",
        "boss",
    }


def test_a_superuser_with_a_phone_logs_in_as_an_admin(live: Live):
    """`createsuperuser`, then `assign_phone.sh`, then a code, as on a production server."""
    create = ["createsuperuser", "--no-input", "--username", "admin", "--email", "admin@example.com"]
    live.run(sys.executable, "manage.py", *create)
    live.log_in("9888888888")

    def assign_phone(*arguments: str) -> tuple[int, str]:
        done = live.run("scripts/assign_phone.sh", *arguments, check=False)
        return done.returncode, done.stdout or done.stderr

    assert assign_phone("admin", "9000000001") == (0, "admin now logs in with 9000000001.\n")
    assert live.call("GET", "/transactions/admin-list/", token=live.log_in("9000000001")).status == 200
    refusals = {
        ("admin", "98888 88888"): "belongs to another account",
        ("nobody", "9000000002"): "no user 'nobody'",
        ("admin", "12345"): "'12345'",
        ("admin", "-1"): "'-1'",
    }
    for arguments, reason in refusals.items():
        status, said = assign_phone(*arguments)
        assert status == 1
        assert reason in said
    assert assign_phone("admin")[0] == 2
    assert assign_phone("--help")[0] == 0


def test_the_flow_in_the_readme_works_as_it_is_pasted(tmp_path):
    flow = re.search(r"```bash\n(api=.*?)```", read(README), re.DOTALL)[1]
    with development_server(tmp_path) as server:
        pasted = flow.replace("127.0.0.1:8000", server.address)
        done = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert '"balance":"600.00","currency":"INR"' in done.stdout
    assert '"balance":"200.00","currency":"INR"' in done.stdout


def log_in(phone: str) -> APIClient:
    client = APIClient()
    code = client.post("/auth/send-otp/", {"phone_number": phone}).json()["otp"]
    login = client.post("/auth/verify-otp/", {"phone_number": phone, "otp": code})
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {login.json()['access']}")
    return client
