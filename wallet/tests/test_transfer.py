"""Money goes from one wallet to another, or stays where it is."""

import pytest


def test_it_moves_money_to_the_phone_number(asha, ravi, as_user):
    receipt = as_user(asha).post("/wallet/transfer/", {"to_phone_number": "098888 88888", "amount": "250.50"})
    assert receipt.status_code == 200
    assert receipt.json()["balance"] == "749.50"
    assert as_user(ravi).get("/wallet/balance/").json()["balance"] == "250.50"


@pytest.mark.django_db(transaction=True)
def test_flush_works(asha):
    pass
