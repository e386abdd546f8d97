"""The engine, and the only writer of wallets and of the ledger.

An operation is one durable transaction (`faults.py`) of the same steps. Each has its function here, or its rules in
`rules.py`:

1. lock the wallets that take part, in the order of their primary keys, with one query: `lock_own`, `lock_pair`, ...;
2. look the idempotency key up: `replay` gives the first receipt, whatever has become of the wallets since;
3. check the rules on the locked rows, and nowhere else;
4. `post`: write the balances and the ledger row, where the database can in one statement.

Amounts are in rupees.
"""

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from django.db import connection
from django.db.models import Q, QuerySet
from django.http import Http404
from django.utils import timezone

from lokanetra.prepared import Prepared, Slot, rows_of
from transactions.models import CREDIT, DEBIT, TRANSFER, Transaction
from users import audit
from users.models import UserProfile
from wallet import rules
from wallet.exceptions import KeyReused
from wallet.models import Wallet
from wallet.money import in_paise, show


@dataclass(frozen=True)
class Receipt:
    """What an operation did. `balance` is that of the wallet it was made for, after it."""

    transaction: Transaction
    balance: Decimal
    replayed: bool = False


@dataclass(frozen=True)
class Request:
    """Who asks for what: all that the idempotency key stands for.

    Repeating `key` returns the first receipt and moves nothing. `token_version` is that of the caller's token, where
    nobody has looked up yet whether it still counts.
    """

    user_id: int
    operation: str
    amount: Decimal | None
    remarks: str
    key: str | None = None
    wallet_id: int | None = None
    to: str | None = None
    transaction_id: int | None = None
    token_version: int | None = None

    @property
    def hash(self) -> str | None:
        if self.key is None:
            return None
        amount = None if self.amount is None else show(self.amount)
        told = [self.operation, self.wallet_id, amount, self.to, self.transaction_id, self.remarks]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


# --- 1: the locks -----------------------------------------------------------------------------------


def _locking(wallets: QuerySet[Wallet]) -> QuerySet[Wallet]:
    """The wallets and their accounts, locked. In the order of their keys, or opposite transfers deadlock; the accounts
    too, or a deactivation that was committed while the lock was awaited is not seen; without the keys, or the ledger's
    foreign keys wait for the lock."""
    return wallets.select_related("user").select_for_update(no_key=True, of=("self", "user")).order_by("pk")


OWN = Prepared(lambda: _locking(Wallet.objects.filter(user=Slot("user_id"))))
PAYER_OR_RECEIVER = Q(pk=Slot("user_id")) | Q(phone_number=Slot("to"))
PAIR = Prepared(lambda: _locking(Wallet.objects.filter(user__in=UserProfile.objects.filter(PAYER_OR_RECEIVER))))


def lock_own(request: Request) -> Wallet:
    """The caller's own wallet. Raises TokenNotValid when the caller is out."""
    return _callers(OWN(user_id=request.user_id), request)


def lock_pair(request: Request) -> tuple[Wallet, Wallet | None]:
    """The caller's own wallet and that of the number `to`: None where nobody has it. They may be one.

    Raises TokenNotValid when the caller is out.
    """
    wallets = PAIR(user_id=request.user_id, to=request.to)
    payer = _callers(wallets, request)
    return payer, next((wallet for wallet in wallets if wallet.user.phone_number == request.to), None)


def lock_wallet(wallet_id: int | None) -> Wallet:
    """Anybody's wallet, for staff. Raises Http404."""
    return _locking(Wallet.objects.filter(pk=wallet_id or 0)).first() or _nothing()


def lock_sides(original: Transaction) -> tuple[Wallet | None, Wallet | None]:
    """The wallets of a transaction's sender and receiver; None for the world outside."""
    sides = Wallet.objects.filter(pk__in=[original.sender_id, original.receiver_id])
    wallets = {wallet.pk: wallet for wallet in _locking(sides)}
    return wallets.get(original.sender_id or 0), wallets.get(original.receiver_id or 0)


def _callers(locked: list[Wallet], request: Request) -> Wallet:
    """Of a caller who is out nothing is done or told, not even a first receipt."""
    wallet = next((wallet for wallet in locked if wallet.user_id == request.user_id), None) or _nothing()
    rules.check_token(wallet, request.token_version)
    return wallet


def _nothing() -> NoReturn:
    raise Http404


# --- 2: the key -------------------------------------------------------------------------------------

FIND_BY_KEY = Prepared(
    lambda: Transaction.objects.with_accounts().filter(initiated_by=Slot("user_id"), idempotency_key=Slot("key"))
)


def replay(request: Request, wallet: Wallet) -> Receipt | None:
    """The receipt of the first request with this key, for this wallet; None where there was none.

    Raises KeyReused when the key stands for another request of the user.
    """
    found = FIND_BY_KEY(user_id=request.user_id, key=request.key) if request.key is not None else []
    if not found:
        return None
    (first,) = found
    if first.request_hash != request.hash:
        raise KeyReused
    balance = first.sender_balance if first.sender_id == wallet.pk else first.receiver_balance
    assert balance is not None
    return Receipt(first, balance, replayed=True)


# --- 4: the books -----------------------------------------------------------------------------------


def post(
    request: Request,
    payer: Wallet | None,
    receiver: Wallet | None,
    *,
    receipt_for: Wallet,
    reverses: Transaction | None = None,
) -> Receipt:
    """Move the amount from the payer to the receiver (None: the world outside), both locked, and write it down."""
    amount = reverses.amount if reverses else request.amount
    assert amount
    if payer:
        payer.balance -= amount
    if receiver:
        receiver.balance += amount
    row = Transaction(
        transaction_type=_type_of(payer, receiver),
        sender=payer,
        receiver=receiver,
        amount=amount,
        sender_balance=payer.balance if payer else None,
        receiver_balance=receiver.balance if receiver else None,
        remarks=request.remarks,
        initiated_by_id=request.user_id,
        idempotency_key=request.key,
        request_hash=request.hash,
        reverses=reverses,
    )
    _write(row, [wallet for wallet in (payer, receiver) if wallet])
    return Receipt(row, receipt_for.balance)


def set_status(wallet: Wallet, status: Wallet.Status) -> None:
    """Freeze or unfreeze a locked wallet."""
    wallet.status = status
    wallet.save(update_fields=["status"])


def _type_of(payer: Wallet | None, receiver: Wallet | None) -> str:
    if payer and receiver:
        return TRANSFER
    return DEBIT if payer else CREDIT


# In so many words, for Django takes longer to build them than the database to do them. A single wallet is both the one
# and the other.
BALANCES = """
    UPDATE wallet_wallet SET balance = CASE id WHEN %s THEN CAST(%s AS bigint) ELSE CAST(%s AS bigint) END
    WHERE id IN (%s, %s)
"""
FIELDS = [field for field in Transaction._meta.concrete_fields if not field.primary_key]
COLUMNS = [str(field.column) for field in FIELDS]
TIME_AT = COLUMNS.index("timestamp")
# A row's time: by the clock of the database where there is one, for servers' clocks differ, and never before the last
# row of either wallet, for clocks are set back. Only where one was is it worth looking for those rows.
NEWEST = "(SELECT timestamp FROM transactions_transaction ORDER BY timestamp DESC, id DESC LIMIT 1)"
LAST = 2 * [
    f"(SELECT timestamp FROM transactions_transaction WHERE {side} = %s ORDER BY id DESC LIMIT 1)"  # noqa: S608
    for side in ("sender_id", "receiver_id")
]
TIME = f"""
    CASE WHEN clock_timestamp() >= {NEWEST} THEN clock_timestamp()
         ELSE GREATEST(clock_timestamp(), {", ".join(LAST)}) END
"""
TIME_ON_SQLITE = "MAX(%s, " + ", ".join(f"COALESCE({last}, '')" for last in LAST) + ")"
ROW, ROW_ON_SQLITE = [
    f"INSERT INTO transactions_transaction ({', '.join(COLUMNS)}) "  # noqa: S608
    f"VALUES ({', '.join(time if column == 'timestamp' else '%s' for column in COLUMNS)}) RETURNING id, timestamp"
    for time in (TIME, TIME_ON_SQLITE)
]
BALANCES_AND_ROW = f"WITH balances AS ({BALANCES}) {ROW}"  # every round trip is made while others wait for the locks


def _write(row: Transaction, wallets: list[Wallet]) -> None:
    """Their balances, and the row, which gets its id and its time."""
    first, last = wallets[0], wallets[-1]
    balances = [first.pk, in_paise(first.balance), in_paise(last.balance), first.pk, last.pk]
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in FIELDS]
    values[TIME_AT : TIME_AT + 1] = [first.pk, first.pk, last.pk, last.pk]
    if connection.vendor == "postgresql":
        ((row.pk, row.timestamp),) = rows_of(BALANCES_AND_ROW, balances + values)
    else:
        ops: Any = connection.ops
        values.insert(TIME_AT, ops.adapt_datetimefield_value(timezone.now()))
        rows_of(BALANCES, balances)
        ((row.pk, moment),) = rows_of(ROW_ON_SQLITE, values)
        row.timestamp = ops.convert_datetimefield_value(moment, None, connection)
    row._state.adding = False


def audited(receipt: Receipt, request: Request, *, on: Wallet | Transaction) -> Receipt:
    """Staff moved money that is not theirs: who, what, why, and the balances before and after."""
    row = receipt.transaction
    before, after = {}, {}
    if row.sender_balance is not None:
        before["sender"], after["sender"] = show(row.sender_balance + row.amount), show(row.sender_balance)
    if row.receiver_balance is not None:
        before["receiver"], after["receiver"] = show(row.receiver_balance - row.amount), show(row.receiver_balance)
    audit.record(
        user_id=request.user_id,
        on=on,
        what=request.operation.lower(),
        before=before,
        after=after,
        amount=show(row.amount),
        transaction=row.pk,
        reason=request.remarks,
    )
    return receipt
