"""Compares the answers that clients received with the ledger. Pure functions, tested without a drill."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scripts.drill.clients import Payment


@dataclass(frozen=True)
class Reconciliation:
    """Keys: `lost` were acknowledged and are not in the ledger as requested, `twice` are there several times,
    `unacknowledged` are there and were never acknowledged. `wrong` are wallets with another balance than expected.
    """

    lost: frozenset[str]
    twice: frozenset[str]
    unacknowledged: frozenset[str]
    wrong: frozenset[int]


def reconcile(
    acknowledged: Iterable[Payment],
    ledger: Iterable[Payment],
    before: Mapping[int, int],
    after: Mapping[int, int],
) -> Reconciliation:
    """`before` and `after` are the balances of the wallets, in paise."""
    paid, rows = list(acknowledged), Counter(ledger)
    keys: Counter[str] = Counter()
    for row, count in rows.items():
        keys[row.key] += count
    expected = Counter(before)
    for payment in paid:
        expected[payment.to] += payment.amount
        expected[payment.payer] -= 0 if payment.is_credit else payment.amount
    return Reconciliation(
        lost=frozenset(payment.key for payment in paid if payment not in rows),
        twice=frozenset(key for key, count in keys.items() if count > 1),
        unacknowledged=frozenset(keys) - {payment.key for payment in paid},
        wrong=frozenset(wallet for wallet in {*before, *after} if expected[wallet] != after.get(wallet)),
    )
