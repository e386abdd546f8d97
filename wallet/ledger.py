"""The engine, and the only writer of wallets and of the ledger.

An operation is one durable transaction (`faults.py`) of the same steps, with functions here or in `rules.py`:

1. lock the wallets that take part, in the order of their primary keys, with one query: `lock_own`, `lock_pair`, ...;
   this closes expired holds of these wallets, and starts the counts of today;
2. look the idempotency key up: `replay` returns the first receipt, whatever has happened to the wallets since;
3. check the rules on the locked rows, and nowhere else;
4. `post`: write the wallets, the ledger row and the key, if the database can in one statement. For holds, which move
   nothing yet, `open_hold`, `capture` and `void`. For requests for money, whose row is locked after the wallets
   (`lock_request`), `ask`, `pay` and `close`.

Amounts are in rupees.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn

from django.db.models import Q, QuerySet
from django.http import Http404

from lokanetra.prepared import Placeholder, Prepared, rows_of, send_waiting
from transactions import events
from transactions.models import CREDIT, DEBIT, TRANSFER, Event, Transaction
from users import audit
from users.models import UserProfile
from wallet import books, limits, rules
from wallet.clock import clock
from wallet.exceptions import KeyReused, RecipientNotFound
from wallet.models import Hold, Key, PaymentRequest, Tier, Wallet
from wallet.money import show


@dataclass(frozen=True)
class Receipt:
    """What an operation did. `balance` is that of the wallet it is for, after the operation."""

    transaction: Transaction
    balance: Decimal
    replayed: bool = False

    @property
    def sender(self) -> str | None:
        """Who paid, by username; None for the world outside."""
        sender = self.transaction.sender
        return sender.user.username if sender else None

    @property
    def receiver(self) -> str | None:
        """The same of who received."""
        receiver = self.transaction.receiver
        return receiver.user.username if receiver else None


@dataclass(frozen=True)
class Request:
    """Who asks for what: all that the idempotency key stands for.

    Repeating `key` returns the first receipt and moves nothing. `token_version` is that of the caller's token, if
    nothing has checked yet that it is valid.
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
    hold_id: int | None = None
    expires_in: int | None = None
    final: bool | None = None
    request_id: int | None = None

    @property
    def hash(self) -> str:
        """Of all that distinguishes requests. Hashes are stored, and keys are valid for ever, so the hash of a request
        must never change: fields that were added later are included only where they are set."""
        amount = None if self.amount is None else show(self.amount)
        parts: list[Any] = [self.operation, self.wallet_id, amount, self.to, self.transaction_id, self.remarks]
        later = [self.hold_id, self.expires_in, self.final]
        parts += later if any(later) else []
        parts += [{"request": self.request_id}] if self.request_id else []
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# --- 1: the locks -----------------------------------------------------------------------------------


def _locking(wallets: QuerySet[Wallet]) -> QuerySet[Wallet]:
    """The wallets and their accounts, locked. In the order of their ids, or opposite transfers deadlock; the accounts
    too, or a deactivation that was committed during the wait for the lock is not seen; with `no_key`, or the foreign
    keys of the ledger wait for the lock."""
    return wallets.select_related("user").select_for_update(no_key=True, of=("self", "user")).order_by("pk")


# The columns that a payment uses; others are read when they are used.
FIELDS = [field.name for field in Wallet._meta.concrete_fields if field.name != "created_at"]
FIELDS += [f"user__{name}" for name in ("username", "phone_number", "is_active", "token_version")]
OWN = Prepared(lambda: _locking(Wallet.objects.filter(user=Placeholder("user_id"))).only(*FIELDS))
PAYER_OR_RECEIVER = Q(pk=Placeholder("user_id")) | Q(phone_number=Placeholder("to"))
PAIR = Prepared(
    lambda: _locking(Wallet.objects.filter(user__in=UserProfile.objects.filter(PAYER_OR_RECEIVER))).only(*FIELDS)
)


def lock_own(request: Request) -> Wallet:
    """The caller's own wallet. Raises TokenNotValid when the caller's token or account is no longer valid."""
    return _wallet_of_caller(_prepare(OWN(user_id=request.user_id)), request)


def lock_pair(request: Request) -> tuple[Wallet, Wallet | None]:
    """The caller's own wallet and that of the number `to`: None if nobody has it. They may be the same.

    Raises TokenNotValid when the caller's token or account is no longer valid.
    """
    wallets = _prepare(PAIR(user_id=request.user_id, to=request.to))
    payer = _wallet_of_caller(wallets, request)
    return payer, next((wallet for wallet in wallets if wallet.user.phone_number == request.to), None)


def lock_wallet(wallet_id: int | None) -> Wallet:
    """Anybody's wallet, for staff. Raises Http404."""
    return lock_wallets(wallet_id)[0] or not_found()


def lock_phone(request: Request) -> Wallet:
    """The wallet of the number `to`, for staff; if nobody has the number now, that of the key's first request.

    Raises RecipientNotFound.
    """
    wallets = _prepare(list(_locking(Wallet.objects.filter(user__phone_number=request.to))))
    if wallets:
        return wallets[0]
    found = find(request)
    if found is None:
        raise RecipientNotFound
    first = Transaction.objects.get(pk=found.transaction)
    return lock_wallet(first.receiver_id or first.sender_id)


def lock_wallets(*ids: int | None) -> list[Wallet | None]:
    """These wallets, in this order; None for the world outside."""
    found = _prepare(list(_locking(Wallet.objects.filter(pk__in=[pk or 0 for pk in ids]))))
    by_id = {wallet.pk: wallet for wallet in found}
    return [by_id.get(pk or 0) for pk in ids]


def lock_both(first_id: int | None, second_id: int | None) -> tuple[Wallet, Wallet]:
    """These two wallets, in this order. Raises Http404."""
    first, second = lock_wallets(first_id, second_id)
    return first or not_found(), second or not_found()


def lock_request(request_id: int) -> PaymentRequest:
    """A request for money, as it is now. Lock the wallets first, if they are needed too."""
    rows = PaymentRequest.objects.with_accounts().select_for_update(no_key=True, of=("self",))
    return rows.get(pk=request_id)


def _wallet_of_caller(locked: list[Wallet], request: Request) -> Wallet:
    """Raises TokenNotValid before the key is looked up: without a valid token no first receipt is returned either."""
    wallet = next((wallet for wallet in locked if wallet.user_id == request.user_id), None) or not_found()
    rules.check_token(wallet, request.token_version)
    return wallet


def not_found() -> NoReturn:
    """Raises Http404: for `found or not_found()`."""
    raise Http404


def _prepare(locked: list[Wallet]) -> list[Wallet]:
    """Start the counts of today, and release expired holds."""
    if clock.wrong.get() and locked:
        clock.correct(books.next_time(locked))
    today = clock.today()
    for wallet in locked:
        limits.roll(wallet, today)
        if wallet.held:
            _release_expired_holds(wallet)
    return locked


def _release_expired_holds(wallet: Wallet) -> None:
    released = books.release_expired_holds(wallet)
    wallet.due = Decimal(0)
    if released:
        wallet.held -= sum(released.values())
        wallet.save(update_fields=["held"])
        for hold in Hold.objects.with_accounts().filter(pk__in=released).order_by("expires_at", "pk"):
            events.record(Event.Type.HOLD_EXPIRED, hold, at=hold.expires_at)


# --- 2: the key -------------------------------------------------------------------------------------

FIND_KEY = "SELECT request_hash, transaction_id, hold_id, request_id FROM wallet_key WHERE user_id = %s AND key = %s"


class Outcome(NamedTuple):
    """The id of what a key's first request created or changed: one of these, the others are 0."""

    transaction: int
    hold: int
    request: int


def find(request: Request) -> Outcome | None:
    """The outcome of the first request with this key; None if there was none.

    Raises KeyReused when the key stands for another request of the user.
    """
    found = rows_of(FIND_KEY, [request.user_id, request.key]) if request.key is not None else []
    if not found:
        return None
    ((request_hash, *ids),) = found
    if request_hash != request.hash:
        raise KeyReused
    return Outcome(*(pk or 0 for pk in ids))


def replay(request: Request, wallet: Wallet) -> Receipt | None:
    """The receipt of the first request with this key, for this wallet; None if there was none. Raises KeyReused."""
    found = find(request)
    if found is None:
        return None
    first = Transaction.objects.with_accounts().get(pk=found.transaction)
    is_payers = first.sender_id == wallet.pk or first.receiver_id is None  # the number may be another's by now
    return Receipt(first, first.balance_after("sender" if is_payers else "receiver"), replayed=True)


def replay_hold(request: Request) -> Hold | None:
    """The hold of the first request with this key, as it is now; None if there was none. Raises KeyReused."""
    found = find(request)
    if found is None:
        return None
    hold = Hold.objects.with_accounts().get(pk=found.hold)
    hold.replayed = True
    return hold


def replay_request(request: Request) -> PaymentRequest | None:
    """The same for a request for money."""
    found = find(request)
    if found is None:
        return None
    payment_request = PaymentRequest.objects.with_accounts().get(pk=found.request)
    payment_request.replayed = True
    return payment_request


# --- 4: the books -----------------------------------------------------------------------------------


def post(
    request: Request,
    payer: Wallet | None,
    receiver: Wallet | None,
    amount: Decimal,
    *,
    receipt_for: Wallet,
    reverses: Transaction | None = None,
    hold: Hold | None = None,
    is_last: bool = False,
) -> Receipt:
    """Move the amount from the payer to the receiver (None: the world outside), both locked, and write its row.

    If this `is_last` in its operation, it may be sent with COMMIT: the row has its id and its time only then.
    """
    if payer:
        payer.balance -= amount
    if receiver:
        receiver.balance += amount
    if reverses is None:
        limits.count(payer, receiver, amount)
    row = Transaction.build(
        id=None,
        timestamp=None,
        transaction_type=_type_of(payer, receiver),
        sender=payer,
        receiver=receiver,
        amount=amount,
        sender_balance=payer.balance if payer else None,
        receiver_balance=receiver.balance if receiver else None,
        remarks=request.remarks,
        initiated_by_id=request.user_id,
        reverses=reverses,
        hold=hold,
    )
    wallets = [wallet for wallet in (payer, receiver) if wallet]
    books.write(row, wallets, (request.key, request.hash) if request.key is not None else None)
    if not is_last:
        send_waiting()
    return Receipt(row, receipt_for.balance)


def open_hold(
    request: Request, payer: Wallet, payee: Wallet, amount: Decimal, *, at: datetime, expires_in: int
) -> Hold:
    """Open a hold of so much on the payer's locked wallet, for so many seconds."""
    hold = Hold(
        payer=payer,
        payee=payee,
        amount=amount,
        remarks=request.remarks,
        created_at=at,
        expires_at=at + timedelta(seconds=expires_in),
    )
    payer.held += amount
    payer.save(update_fields=["held"])
    hold.save()
    events.record(Event.Type.HOLD_OPENED, hold, at=at)
    _save_key(request, hold=hold)
    return hold


def capture(request: Request, hold: Hold, payer: Wallet, payee: Wallet, amount: Decimal) -> Receipt:
    """Move so much of a hold to its payee, both wallets locked. The last capture releases what remains."""
    remaining = hold.amount - hold.captured
    is_last = bool(request.final) or amount == remaining
    payer.held -= remaining if is_last else amount
    receipt = post(request, payer, payee, amount, receipt_for=payee, hold=hold)
    hold.captured += amount
    if is_last:
        hold.status, hold.closed_at = Hold.Status.CAPTURED, receipt.transaction.timestamp
    hold.save(update_fields=["captured", "status", "closed_at"])
    events.record(Event.Type.HOLD_CAPTURED, hold, at=receipt.transaction.timestamp)
    return receipt


def void(request: Request, hold: Hold, payer: Wallet, at: datetime) -> Hold:
    """Void a hold: its payer, whose wallet is locked, can spend what remains of it again."""
    payer.held -= hold.amount - hold.captured
    payer.save(update_fields=["held"])
    hold.status, hold.closed_at = Hold.Status.VOIDED, at
    hold.save(update_fields=["status", "closed_at"])
    events.record(Event.Type.HOLD_VOIDED, hold, at=at)
    _save_key(request, hold=hold)
    return hold


def ask(
    request: Request, requester: Wallet, payer: Wallet, amount: Decimal, *, at: datetime, expires_in: int
) -> PaymentRequest:
    """Ask the payer for so much, within so many seconds. Both wallets are locked, so that their open requests can be
    counted."""
    payment_request = PaymentRequest(
        requester=requester,
        payer=payer,
        amount=amount,
        remarks=request.remarks,
        created_at=at,
        expires_at=at + timedelta(seconds=expires_in),
    )
    payment_request.save()
    events.record(Event.Type.REQUEST_CREATED, payment_request, at=at)
    _save_key(request, request=payment_request)
    return payment_request


def pay(request: Request, payment_request: PaymentRequest, payer: Wallet, requester: Wallet) -> Receipt:
    """Move the amount of a request for money. Both wallets and then the row are locked."""
    receipt = post(request, payer, requester, payment_request.amount, receipt_for=payer)
    _finish(payment_request, PaymentRequest.Status.PAID, receipt.transaction.timestamp, receipt.transaction)
    return receipt


def close(
    request: Request, payment_request: PaymentRequest, status: PaymentRequest.Status, at: datetime
) -> PaymentRequest:
    """Decline or cancel a request for money, whose row is locked."""
    _finish(payment_request, status, at)
    _save_key(request, request=payment_request)
    return payment_request


def expire_requests(limit: int) -> int:
    """Close up to so many expired requests for money, the oldest first, and skip locked ones. Returns how many."""
    due = PaymentRequest.objects.due(clock.now()).with_accounts().order_by("expires_at", "pk")
    found = due.select_for_update(no_key=True, of=("self",), skip_locked=True)[:limit]
    for payment_request in found:
        _finish(payment_request, PaymentRequest.Status.EXPIRED, payment_request.expires_at)
    return len(found)


def set_status(wallet: Wallet, status: Wallet.Status) -> None:
    """Freeze or unfreeze a locked wallet."""
    if wallet.status == status:
        return
    wallet.status = status
    wallet.save(update_fields=["status"])
    is_frozen = status == Wallet.Status.FROZEN
    events.record(Event.Type.WALLET_FROZEN if is_frozen else Event.Type.WALLET_UNFROZEN, wallet, at=clock.now())


def set_tier(wallet: Wallet, tier: Tier | None) -> None:
    """Give a locked wallet another tier, or none."""
    wallet.tier = tier
    wallet.save(update_fields=["tier"])


def _finish(
    payment_request: PaymentRequest, status: PaymentRequest.Status, at: datetime, transaction: Transaction | None = None
) -> None:
    payment_request.status, payment_request.closed_at, payment_request.transaction = status, at, transaction
    payment_request.save(update_fields=["status", "closed_at", "transaction"])
    events.record(Event.Type(f"request.{status.lower()}"), payment_request, at=at)


def _save_key(request: Request, /, **outcome: Hold | PaymentRequest) -> None:
    if request.key is not None:
        Key.objects.create(user_id=request.user_id, key=request.key, request_hash=request.hash, **outcome)


def _type_of(payer: Wallet | None, receiver: Wallet | None) -> str:
    if payer and receiver:
        return TRANSFER
    return DEBIT if payer else CREDIT


def audited(
    receipt: Receipt, request: Request, *, on: Wallet | Transaction | Hold, reason: str | None = None
) -> Receipt:
    """Log that staff moved money of others: who, what, why (by default the remarks), and the balances before and
    after. Returns the receipt."""
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
        reason=request.remarks if reason is None else reason,
    )
    return receipt
