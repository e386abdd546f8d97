"""The only writer of wallets and of the ledger.

Every operation is one durable database transaction of the same five steps:

1. lock the wallets that take part, in the order of their primary keys, with one query;
2. look the idempotency key up: a repeat gets its first receipt, whatever has become of the wallets since;
3. check every rule on the locked rows, and nowhere else;
4. write the balances;
5. add the ledger row, where the database can in the same statement.

Either all of it is committed or nothing is (`faults.py`). Amounts are in rupees. What the rules are called is in
`exceptions.py`.
"""

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from django.conf import settings
from django.db import connection
from django.db.models import Q, QuerySet
from django.http import Http404
from django.utils import timezone

from lokanetra.prepared import Prepared, Slot, rows_of
from transactions.models import CREDIT, DEBIT, TRANSFER, Transaction
from users import audit
from users.exceptions import TokenNotValid
from users.models import UserProfile
from wallet import exceptions
from wallet.faults import all_or_nothing
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


@all_or_nothing
def credit(*, user_id: int, amount: Decimal, remarks: str = "", **call: Any) -> Receipt:
    """Add ``amount`` (rupees) to the user's wallet, or for staff to the wallet ``wallet_id``.

    For `call` see `Request`. Raises SelfCreditDisabled, OwnWallet, WalletFrozen, LimitExceeded, KeyReused,
    TokenNotValid.
    """
    return _adjust(Request(user_id, CREDIT, amount, remarks, **call))


@all_or_nothing
def debit(*, user_id: int, amount: Decimal, remarks: str = "", **call: Any) -> Receipt:
    """Take ``amount`` (rupees) from the user's wallet, or for staff from the wallet ``wallet_id``.

    For `call` see `Request`. Raises InsufficientFunds, OwnWallet, WalletFrozen, LimitExceeded, KeyReused,
    TokenNotValid.
    """
    return _adjust(Request(user_id, DEBIT, amount, remarks, **call))


@all_or_nothing
def transfer(*, user_id: int, to: str, amount: Decimal, remarks: str = "", **call: Any) -> Receipt:
    """Move ``amount`` (rupees) from the user's wallet to that of the E.164 number ``to``, or change nothing.

    Both wallets are locked in the order of their keys, so opposite transfers queue and cannot deadlock. For `call` see
    `Request`.

    Raises InsufficientFunds, SelfTransfer, RecipientNotFound, RecipientUnavailable, WalletFrozen, LimitExceeded,
    KeyReused, TokenNotValid.
    """
    request = Request(user_id, TRANSFER, amount, remarks, to=to, **call)
    wallets = BOTH(user_id=user_id, to=to)
    payer = _callers(wallets, request)
    first = _first(request)
    if first:
        return _replay(first, request, payer.pk)
    receiver = next((wallet for wallet in wallets if wallet.user.phone_number == to), None)
    _check_owner(payer)
    if receiver is None:
        raise exceptions.RecipientNotFound
    if receiver.pk == payer.pk:
        raise exceptions.SelfTransfer
    _check_amount(amount)
    _check_funds(payer, amount)
    _check_recipient(receiver, amount)
    return _move(request, payer, receiver, of=payer)


@all_or_nothing
def reverse(*, user_id: int, transaction_id: int, remarks: str, key: str | None = None) -> Receipt:
    """Undo a transaction with a new one, its sides swapped; ``balance`` is that of the wallet that paid at first,
    or for a credit of the one that received. Once per transaction.

    Repeating ``key`` returns the first receipt and moves nothing.

    Raises Http404, OwnWallet, AlreadyReversed, NotReversible, InsufficientFunds, WalletFrozen, LimitExceeded,
    KeyReused.
    """
    original = Transaction.objects.filter(pk=transaction_id).first()
    if original is None:
        raise Http404
    request = Request(user_id, "REVERSAL", None, remarks, key, transaction_id=transaction_id)
    sides = Wallet.objects.filter(pk__in=[original.sender_id, original.receiver_id])
    wallets = {wallet.pk: wallet for wallet in _locking(sides)}
    payer, receiver = wallets.get(original.receiver_id or 0), wallets.get(original.sender_id or 0)
    of = receiver or payer
    assert of
    first = _first(request)
    if first:
        return _replay(first, request, of.pk)
    for wallet in wallets.values():
        _check_not_own(wallet, user_id)
    _check_reversible(original)
    for wallet in wallets.values():
        _check_not_frozen(wallet)
    if payer:
        _check_funds(payer, original.amount)
    if receiver:
        _check_room(receiver, original.amount)
    return _audited(_move(request, payer, receiver, of=of, reverses=original), request, on=original)


@all_or_nothing
def freeze(*, user_id: int, wallet_id: int, reason: str) -> Wallet:
    """Freeze a wallet, staff's own too: it neither pays nor receives. A payment that holds it now is done first.
    Raises Http404."""
    return _set_status(user_id, wallet_id, Wallet.Status.FROZEN, reason)


@all_or_nothing
def unfreeze(*, user_id: int, wallet_id: int, reason: str) -> Wallet:
    """Let a wallet pay and receive again. Raises Http404, OwnWallet."""
    return _set_status(user_id, wallet_id, Wallet.Status.ACTIVE, reason)


# --- The five steps ---------------------------------------------------------------------------------


def _adjust(request: Request) -> Receipt:
    """A credit or a debit: money comes from the world outside, or leaves for it."""
    mine = request.wallet_id is None
    wallet = _callers(OWN(user_id=request.user_id), request) if mine else _theirs(request.wallet_id)
    first = _first(request)
    if first:
        return _replay(first, request, wallet.pk)
    if mine:
        _check_own(wallet, request)
    else:
        _check_not_own(wallet, request.user_id)
    assert request.amount
    _check_not_frozen(wallet)
    _check_amount(request.amount)
    if request.operation == DEBIT:
        _check_funds(wallet, request.amount)
        receipt = _move(request, wallet, None, of=wallet)
    else:
        _check_room(wallet, request.amount)
        receipt = _move(request, None, wallet, of=wallet)
    return receipt if mine else _audited(receipt, request, on=wallet)


def _locking(wallets: QuerySet[Wallet]) -> QuerySet[Wallet]:
    """The wallets and their accounts, locked. In the order of their keys, or opposite transfers deadlock; the accounts
    too, or a deactivation that was committed while the lock was awaited is not seen; without the keys, or the ledger's
    foreign keys wait for the lock."""
    return wallets.select_related("user").select_for_update(no_key=True, of=("self", "user")).order_by("pk")


OWN = Prepared(lambda: _locking(Wallet.objects.filter(user=Slot("user_id"))))
PAYER_OR_RECEIVER = Q(pk=Slot("user_id")) | Q(phone_number=Slot("to"))
BOTH = Prepared(lambda: _locking(Wallet.objects.filter(user__in=UserProfile.objects.filter(PAYER_OR_RECEIVER))))
FIRST = Prepared(
    lambda: Transaction.objects.with_accounts().filter(initiated_by=Slot("user_id"), idempotency_key=Slot("key"))
)


def _callers(locked: list[Wallet], request: Request) -> Wallet:
    """The caller's own wallet. Of a caller who is out, nothing is done or told, not even a first receipt."""
    wallet = next((wallet for wallet in locked if wallet.user_id == request.user_id), None) or _nothing()
    _check_token(wallet, request)
    return wallet


def _theirs(wallet_id: int | None) -> Wallet:
    return _locking(Wallet.objects.filter(pk=wallet_id or 0)).first() or _nothing()


def _first(request: Request) -> Transaction | None:
    """The transaction that this user's key stands for already."""
    if request.key is None:
        return None
    return next(iter(FIRST(user_id=request.user_id, key=request.key)), None)


def _replay(first: Transaction, request: Request, wallet_id: int) -> Receipt:
    if first.request_hash != request.hash:
        raise exceptions.KeyReused
    paid = first.sender_id == wallet_id
    balance = first.sender_balance if paid else first.receiver_balance
    assert balance is not None
    return Receipt(first, balance, replayed=True)


def _move(
    request: Request,
    payer: Wallet | None,
    receiver: Wallet | None,
    *,
    of: Wallet,
    reverses: Transaction | None = None,
) -> Receipt:
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
    return Receipt(row, of.balance)


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
    one, other = wallets[0], wallets[-1]
    balances = [one.pk, in_paise(one.balance), in_paise(other.balance), one.pk, other.pk]
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in FIELDS]
    values[TIME_AT : TIME_AT + 1] = [one.pk, one.pk, other.pk, other.pk]
    if connection.vendor == "postgresql":
        ((row.pk, row.timestamp),) = rows_of(BALANCES_AND_ROW, balances + values)
    else:
        ops: Any = connection.ops
        values.insert(TIME_AT, ops.adapt_datetimefield_value(timezone.now()))
        rows_of(BALANCES, balances)
        ((row.pk, moment),) = rows_of(ROW_ON_SQLITE, values)
        row.timestamp = ops.convert_datetimefield_value(moment, None, connection)
    row._state.adding = False


def _audited(receipt: Receipt, request: Request, *, on: Wallet | Transaction) -> Receipt:
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


def _set_status(user_id: int, wallet_id: int, status: Wallet.Status, reason: str) -> Wallet:
    wallet = _theirs(wallet_id)
    if status == Wallet.Status.ACTIVE:
        _check_not_own(wallet, user_id)
    before, wallet.status = wallet.status, status
    wallet.save(update_fields=["status"])
    audit.record(user_id=user_id, on=wallet, what="status", before=before, after=status, reason=reason)
    return wallet


def _type_of(payer: Wallet | None, receiver: Wallet | None) -> str:
    if payer and receiver:
        return TRANSFER
    return DEBIT if payer else CREDIT


def _nothing() -> NoReturn:
    raise Http404


# --- The rules, on locked rows ----------------------------------------------------------------------


def _check_token(wallet: Wallet, request: Request) -> None:
    user = wallet.user
    if request.token_version is not None and not (user.is_active and user.token_version == request.token_version):
        raise TokenNotValid


def _check_owner(wallet: Wallet) -> None:
    if not wallet.user.is_active:
        raise TokenNotValid
    _check_not_frozen(wallet)


def _check_own(wallet: Wallet, request: Request) -> None:
    """A user who credits himself prints money."""
    if request.operation == CREDIT and not settings.WALLET_SELF_CREDIT:
        raise exceptions.SelfCreditDisabled
    _check_owner(wallet)


def _check_not_own(wallet: Wallet, user_id: int) -> None:
    """Staff's powers are for the wallets of others."""
    if wallet.user_id == user_id:
        raise exceptions.OwnWallet


def _check_not_frozen(wallet: Wallet) -> None:
    if wallet.is_frozen:
        raise exceptions.WalletFrozen


def _check_amount(amount: Decimal) -> None:
    if amount > settings.WALLET_MAX_AMOUNT:
        raise exceptions.LimitExceeded(f"At most {show(settings.WALLET_MAX_AMOUNT)} moves at once.")


def _check_funds(wallet: Wallet, amount: Decimal) -> None:
    if wallet.balance < amount:
        told = f"The wallet holds {show(wallet.balance)}, {show(amount)} was asked for."
        raise exceptions.InsufficientFunds(told)


def _check_room(wallet: Wallet, amount: Decimal) -> None:
    if wallet.balance + amount > settings.WALLET_MAX_BALANCE:
        raise exceptions.LimitExceeded(f"A wallet holds at most {show(settings.WALLET_MAX_BALANCE)}.")


def _check_recipient(wallet: Wallet, amount: Decimal) -> None:
    too_full = wallet.balance + amount > settings.WALLET_MAX_BALANCE
    if too_full or wallet.is_frozen or not wallet.user.is_active:
        raise exceptions.RecipientUnavailable


def _check_reversible(original: Transaction) -> None:
    if original.reverses_id:
        raise exceptions.NotReversible
    if Transaction.objects.filter(reverses=original).exists():
        raise exceptions.AlreadyReversed
