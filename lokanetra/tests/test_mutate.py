"""The search for changes that no test notices makes those that it says, and leaves the tree alone."""

import ast

import pytest

from lokanetra.env import BASE_DIR
from scripts import mutate

SOURCE = '''"""Texts stay."""

@locked
def pay(wallet: Wallet | None, amount: int = 1, *, quiet: bool = False) -> Wallet | None:
    assert wallet
    if wallet.is_frozen or not amount > 0:
        raise Frozen(f"{amount + 1}")
    wallet.balance -= amount
    wallet.due = None
    wallet.save(update_fields=["balance"])
    return find(wallet).order_by("pk")
'''


def test_it_makes_each_small_change_once():
    changes = [(one.line, one.becomes) for one in mutate.mutants("wallet/made_up.py", SOURCE)]
    assert changes == [
        (3, ""),
        (4, "def pay(wallet: Wallet | None, amount: int = 2, *, quiet: bool = False) -> Wallet | None:"),
        (4, "def pay(wallet: Wallet | None, amount: int = 1, *, quiet: bool = True) -> Wallet | None:"),
        (6, "if (not amount > 0):"),
        (6, "if (wallet.is_frozen):"),
        (6, "if wallet.is_frozen or (amount > 0):"),
        (6, "if wallet.is_frozen or not amount >= 0:"),
        (6, "if wallet.is_frozen or not amount > 1:"),
        (7, "pass"),
        (8, "pass"),
        (8, "wallet.balance += amount"),
        (9, "pass"),
        (10, "pass"),
        (10, "wallet.save()"),
        (11, "return find(wallet)"),
    ]


@pytest.mark.parametrize("module", mutate.TESTS)
def test_every_change_can_be_read_and_what_tries_it_is_there(module):
    found = mutate.mutants(module, (BASE_DIR / module).read_text())
    assert found
    for one in found:
        ast.parse(one.text)
    assert [test for test in mutate.TESTS[module] if not (BASE_DIR / test).is_file()] == []


def test_what_cannot_matter_is_still_a_change_that_would_be_made():
    made = {one[:4] for module in mutate.TESTS for one in mutate.mutants(module, (BASE_DIR / module).read_text())}
    assert [one for one in mutate.equivalent() if one not in made] == []


def test_the_same_seed_draws_the_same_changes():
    options = mutate.arguments().parse_args(["--most", "5"])
    drawn = mutate.chosen("wallet/rules.py", options)
    assert len(drawn) == 5
    assert drawn == mutate.chosen("wallet/rules.py", options)
