"""Any sequence of operations leaves what a model in memory predicts, and books that agree."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from django.db import connection
from django.db.models import ProtectedError
from django.db.transaction import atomic, set_rollback
from django.http import Http404
from django.utils import timezone
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from conftest import set_clocks
from transactions.models import Transaction
from users import accounts, otp
from users.exceptions import TokenNotValid
from users.models import UserProfile
from wallet import exceptions, holds, ledger, limits, payments, refunds, requests, status
from wallet.management.commands import check_ledger
from wallet.models import Hold, Key, PaymentRequest, Tier, Wallet

PEOPLE = ["+919999999999", "+919888888888", "+919777777777", "+919666666666"]
BOSS = "boss"
AMOUNTS = [
    Decimal("10.00"),
    Decimal("0.01"),
    Decimal("99.99"),
    Decimal("900.00"),
    Decimal("1000000.00"),
    Decimal("1000000.01"),
]
PARTS = [Decimal("4.00"), Decimal("0.01"), None, Decimal("99.99")]
MOST = [Decimal("10.00"), Decimal("150.00"), Decimal("1100.00"), Decimal(0)]
# Of the settings, for wallets without a tier.
USUAL = {"max_amount": Decimal(1_000_000), "max_balance": Decimal(100_000_000)}
# A month's last day but one; in India it is 11 in the morning.
BEGINNING = datetime(2026, 1, 30, 5, 30, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

Refusal = type[Exception]


@dataclass
class Person:
    balance: Decimal = Decimal(0)
    frozen: bool = False
    inactive: bool = False
    tier: str | None = None


@dataclass
class Row:
    """A movement of money; None is the world outside."""

    pk: int
    payer: str | None
    receiver: str | None
    amount: Decimal
    at: datetime
    reverses: "Row | None" = None
    given_back: Decimal = Decimal(0)

    @property
    def left(self) -> Decimal:
        return self.amount - self.given_back


@dataclass
class ModelHold:
    """A hold."""

    pk: int
    payer: str
    payee: str
    amount: Decimal
    expires_at: datetime
    captured: Decimal = Decimal(0)
    closed: str = ""

    @property
    def left(self) -> Decimal:
        return self.amount - self.captured


@dataclass
class ModelRequest:
    """A request for money."""

    pk: int
    payer: str
    requester: str
    amount: Decimal
    expires_at: datetime
    closed: str = ""


@dataclass
class Call:
    """What was done with a key, by whom, and its outcome: a row, a hold or a request for money."""

    service: Any
    arguments: dict[str, Any]
    by: str
    result: Any


@dataclass
class Model:
    now: datetime = BEGINNING
    people: dict[str, Person] = field(default_factory=dict)
    tiers: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    promises: list[ModelHold] = field(default_factory=list)
    asked: list[ModelRequest] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    # --- State ---

    def status(self, promise: ModelHold) -> str:
        return promise.closed or ("EXPIRED" if promise.expires_at <= self.now else "OPEN")

    def request_status(self, asked: ModelRequest) -> str:
        return asked.closed or ("EXPIRED" if asked.expires_at <= self.now else "PENDING")

    def open_of(self, who: str) -> list[ModelHold]:
        return [it for it in self.promises if it.payer == who and self.status(it) == "OPEN"]

    def held(self, who: str) -> Decimal:
        return sum((it.left for it in self.open_of(who)), Decimal(0))

    def available(self, who: str) -> Decimal:
        return self.people[who].balance - self.held(who)

    def limits(self, who: str) -> dict[str, Any]:
        """The limits that the person has."""
        tier = self.people[who].tier
        return {name: most for name, most in (self.tiers[tier] if tier else USUAL).items() if most is not None}

    def used(self, who: str) -> dict[str, Any]:
        """From rows other than refunds and reversals, by the local calendar."""
        counted = [row for row in self.rows if not row.reverses]
        month = [row for row in counted if local(row.at, "%Y-%m") == local(self.now, "%Y-%m")]
        day = [row for row in month if local(row.at, "%d") == local(self.now, "%d") and row.payer == who]
        return {
            "max_amount": Decimal(0),
            "max_balance": self.people[who].balance,
            "daily_out": sum(row.amount for row in day) + self.held(who),
            "monthly_out": sum(row.amount for row in month if row.payer == who) + self.held(who),
            "monthly_in": sum((row.amount for row in month if row.receiver == who), Decimal(0)),
            "daily_count": len(day) + len(self.open_of(who)),
        }

    def breaks(self, who: str, amount: Decimal, *names: str) -> bool:
        most, used = self.limits(who), self.used(who)
        return any(used[name] + (1 if name == "daily_count" else amount) > most[name] for name in names if name in most)

    # --- Refusals: the first one counts ---

    def of_owner(self, who: str) -> Iterator[Refusal]:
        if self.people[who].inactive:
            yield TokenNotValid
        if self.people[who].frozen:
            yield exceptions.WalletFrozen

    def of_credit(self, who: str, amount: Decimal) -> Iterator[Refusal]:
        yield from self.of_owner(who)
        if self.breaks(who, amount, "max_amount", "max_balance", "monthly_in"):
            yield exceptions.LimitExceeded

    def of_debit(self, who: str, amount: Decimal) -> Iterator[Refusal]:
        yield from self.of_owner(who)
        if self.breaks(who, amount, "max_amount", "daily_out", "monthly_out", "daily_count"):
            yield exceptions.LimitExceeded
        if amount > self.available(who):
            yield exceptions.InsufficientFunds

    def of_transfer(self, who: str, to: str, amount: Decimal) -> Iterator[Refusal]:
        yield from self.of_owner(who)
        if who == to:
            yield exceptions.SelfTransfer
        yield from self.of_debit(who, amount)
        if any(self.of_owner(to)) or self.breaks(to, amount, "max_balance", "monthly_in"):
            yield exceptions.RecipientUnavailable

    def of_closing(self, promise: ModelHold, by: str) -> Iterator[Refusal]:
        if by not in (BOSS, promise.payer, promise.payee):
            yield Http404
        if by == promise.payer:
            yield exceptions.NotThePayee
        if self.status(promise) != "OPEN":
            yield exceptions.HoldClosed

    def of_capture(self, promise: ModelHold, by: str, amount: Decimal) -> Iterator[Refusal]:
        yield from self.of_closing(promise, by)
        if self.people[promise.payee].inactive and by != BOSS:
            yield TokenNotValid
        if self.people[promise.payee].frozen:
            yield exceptions.WalletFrozen
        if any(self.of_owner(promise.payer)):
            yield exceptions.PayerUnavailable
        if amount > promise.left:
            yield exceptions.CaptureExceedsHold
        if self.breaks(promise.payee, amount, "max_balance", "monthly_in"):
            yield exceptions.LimitExceeded

    def of_ask(self, who: str, to: str, amount: Decimal) -> Iterator[Refusal]:
        yield from self.of_owner(who)
        if who == to:
            yield exceptions.SelfTransfer
        if self.breaks(who, amount, "max_amount"):
            yield exceptions.LimitExceeded
        if any(self.of_owner(to)):
            yield exceptions.PayerUnavailable

    def of_answer(self, asked: ModelRequest, by: str, side: str, refusal: Refusal) -> Iterator[Refusal]:
        if by not in (asked.payer, asked.requester):
            yield Http404
        if by != side:
            yield refusal
        if self.request_status(asked) != "PENDING":
            yield exceptions.RequestClosed

    def of_pay(self, asked: ModelRequest, by: str) -> Iterator[Refusal]:
        yield from self.of_answer(asked, by, asked.payer, exceptions.NotThePayer)
        yield from self.of_transfer(by, asked.requester, asked.amount)

    def of_remaining(self, row: Row, amount: Decimal) -> Iterator[Refusal]:
        if not row.left:
            yield exceptions.AlreadyReversed
        if amount > row.left:
            yield exceptions.RefundExceedsRemaining

    def of_refund(self, row: Row, by: str, amount: Decimal) -> Iterator[Refusal]:
        if by not in (row.payer, row.receiver):
            yield Http404
        if row.reverses or not (row.payer and row.receiver):
            yield exceptions.NotReversible
        if by != row.receiver:
            yield exceptions.NotThePayee
        yield from self.of_owner(by)
        yield from self.of_remaining(row, amount)
        if amount > self.available(by):
            yield exceptions.InsufficientFunds
        assert row.payer
        if any(self.of_owner(row.payer)):
            yield exceptions.RecipientUnavailable

    def of_reversal(self, row: Row, amount: Decimal) -> Iterator[Refusal]:
        if row.reverses:
            yield exceptions.NotReversible
        yield from self.of_remaining(row, amount)
        if any(self.people[who].frozen for who in (row.payer, row.receiver) if who):
            yield exceptions.WalletFrozen
        if row.receiver and amount > self.available(row.receiver):
            yield exceptions.InsufficientFunds

    # --- Changes ---

    def moved(self, pk: int, payer: str | None, receiver: str | None, amount: Decimal, reverses: Any = None) -> Row:
        if payer:
            self.people[payer].balance -= amount
        if receiver:
            self.people[receiver].balance += amount
        if reverses:
            reverses.given_back += amount
        self.rows.append(Row(pk, payer, receiver, amount, self.now, reverses))
        return self.rows[-1]


def some_limits(choice: Random) -> dict[str, Any]:
    """One or two limits at once: with more, little would be allowed."""
    most = {
        name: choice.choice([1, 3, 10, 0]) if name == "daily_count" else choice.choice(MOST) for name in limits.NAMES
    }
    kept = choice.sample(limits.NAMES, choice.randint(1, 2))
    return {name: most[name] if name in kept else None for name in limits.NAMES}


def local(moment: datetime, form: str) -> str:
    return moment.astimezone(timezone.get_default_timezone()).strftime(form)


class Operations(RuleBasedStateMachine):
    """Calls every operation, and compares its outcome with the model."""

    clocks: pytest.MonkeyPatch

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        set_clocks(self.clocks, self.model.now)
        self.boss = UserProfile.objects.create_superuser(BOSS)
        for phone in PEOPLE[:3]:
            self.model.people[phone] = Person()
            user = accounts.create(phone_number=phone)
            self.expect(iter(()), payments.credit, phone, None, phone, user_id=user.pk, amount=Decimal("1000.00"))

    def log_in(self, choice: Random) -> None:
        phone = choice.choice(PEOPLE)
        sent = otp.send(phone_number=phone, address="127.0.0.1")
        if phone in self.model.people and self.model.people[phone].inactive:
            return
        user, _ = otp.verify(phone_number=phone, code=sent.code or "", address="127.0.0.1")
        assert user.phone_number == phone
        self.model.people.setdefault(phone, Person())

    @rule(seed=st.integers(0, 2**32 - 1))
    def operate(self, seed: int) -> None:
        """Each as often as the others, except those that rarely apply."""
        choice = Random(seed)
        operation = choice.choice(
            [
                self.log_in,
                self.credit,
                self.debit,
                self.transfer,
                self.hold,
                self.capture,
                self.void,
                self.ask,
                self.pay,
                self.pay,
                self.decline_or_cancel,
                self.time_passes,
                self.refund,
                self.reverse,
                self.repeat,
                self.reuse_a_key,
                self.freeze_or_unfreeze,
                self.activate_or_deactivate,
                self.set_a_tier,
                self.change_or_remove_a_tier,
                self.hold,
                self.capture,
                self.capture,
                self.transfer,
                self.refund,
            ]
        )
        operation(choice)

    # --- Payments ---

    def credit(self, choice: Random) -> None:
        amount = choice.choice(AMOUNTS)
        me = self.random_person(choice)
        self.expect(self.model.of_credit(me, amount), payments.credit, me, None, me, amount=amount)

    def debit(self, choice: Random) -> None:
        amount = choice.choice(AMOUNTS)
        me = self.random_person(choice)
        self.expect(self.model.of_debit(me, amount), payments.debit, me, me, None, amount=amount)

    def transfer(self, choice: Random) -> None:
        amount = choice.choice(AMOUNTS)
        me, other = self.pair(choice)
        refused = self.model.of_transfer(me, other, amount)
        self.expect(refused, payments.transfer, me, me, other, to=other, amount=amount)

    # --- Holds ---

    def hold(self, choice: Random) -> None:
        amount = choice.choice(AMOUNTS)
        seconds = choice.choice([60, 3600, 3 * 24 * 3600])
        me, other = self.pair(choice)
        arguments = {"to": other, "amount": amount, "expires_in": seconds}
        hold = self.answer(self.model.of_transfer(me, other, amount), holds.open_, me, **arguments)
        if hold:
            end = self.model.now + timedelta(seconds=seconds)
            self.model.promises.append(ModelHold(hold.pk, me, other, amount, end))

    def capture(self, choice: Random) -> None:
        if not self.model.promises:
            return
        amount = choice.choice(PARTS)
        final = choice.random() < 0.2
        promise, by = self.promise(choice)
        taken, arguments = amount or promise.left, {"hold_id": promise.pk, "amount": amount, "final": final}
        refused = self.model.of_capture(promise, by, taken)
        row = self.expect(
            refused, holds.capture, by, promise.payer, promise.payee, taken, as_staff=by == BOSS, **arguments
        )
        if row:
            promise.captured += taken
            promise.closed = "CAPTURED" if final or not promise.left else ""

    def void(self, choice: Random) -> None:
        if not self.model.promises:
            return
        promise, by = self.promise(choice)
        refused = self.model.of_closing(promise, by)
        if self.answer(refused, holds.void, by, hold_id=promise.pk, as_staff=by == BOSS):
            promise.closed = "VOIDED"

    # --- Requests for money ---

    def ask(self, choice: Random) -> None:
        amount, seconds = choice.choice(AMOUNTS), choice.choice([60, 3600, 3 * 24 * 3600])
        me, other = self.pair(choice)
        arguments = {"to": other, "amount": amount, "expires_in": seconds}
        made = self.answer(self.model.of_ask(me, other, amount), requests.ask, me, **arguments)
        if made:
            end = self.model.now + timedelta(seconds=seconds)
            self.model.asked.append(ModelRequest(made.pk, other, me, amount, end))

    def pay(self, choice: Random) -> None:
        if not self.model.asked:
            return
        asked = self.request(choice)
        by = choice.choice([asked.payer] * 5 + [self.random_person(choice)])
        sides = by, asked.payer, asked.requester, asked.amount
        if self.expect(self.model.of_pay(asked, by), requests.pay, *sides, request_id=asked.pk):
            asked.closed = "PAID"

    def decline_or_cancel(self, choice: Random) -> None:
        if not self.model.asked:
            return
        asked, service = self.request(choice), choice.choice([requests.decline, requests.cancel])
        is_decline = service is requests.decline
        side = asked.payer if is_decline else asked.requester
        refusal = exceptions.NotThePayer if is_decline else exceptions.NotTheRequester
        by = choice.choice([side, side, self.random_person(choice)])
        if self.answer(self.model.of_answer(asked, by, side, refusal), service, by, request_id=asked.pk):
            asked.closed = "DECLINED" if is_decline else "CANCELLED"

    def time_passes(self, choice: Random) -> None:
        step = choice.choice([SECOND, MINUTE - SECOND, MINUTE, HOUR, DAY, "a day's end", "a month's end"])
        self.model.now = self.model.now + step if isinstance(step, timedelta) else self.end_of(step)
        set_clocks(self.clocks, self.model.now)

    # --- Giving back ---

    def refund(self, choice: Random) -> None:
        if not self.model.rows:
            return
        amount = choice.choice(PARTS)
        row = self.row(choice)
        by = choice.choice([row.receiver or row.payer] * 3 + [self.random_person(choice)])
        back = amount or row.left
        refused = self.model.of_refund(row, by, back)
        arguments = {"user": UserProfile.objects.get(phone_number=by), "transaction_id": row.pk, "amount": amount}
        self.expect(refused, refunds.refund, by, row.receiver, row.payer, back, row, **arguments)

    def reverse(self, choice: Random) -> None:
        if not self.model.rows:
            return
        amount = choice.choice(PARTS)
        row = self.row(choice)
        back = amount or row.left
        refused = self.model.of_reversal(row, back)
        arguments = {"transaction_id": row.pk, "amount": amount, "remarks": "wrong"}
        self.expect(refused, refunds.reverse, BOSS, row.receiver, row.payer, back, row, **arguments)

    # --- Keys ---

    def repeat(self, choice: Random) -> None:
        if not self.model.calls:
            return
        call = choice.choice(self.model.calls)
        again = call.service(**call.arguments)
        assert again.replayed
        if isinstance(again, Hold):
            promise = next(it for it in self.model.promises if it.pk == call.result.pk)
            assert (again.pk, again.state) == (promise.pk, self.model.status(promise))
        elif isinstance(again, PaymentRequest):
            asked = next(it for it in self.model.asked if it.pk == call.result.pk)
            assert (again.pk, again.state) == (asked.pk, self.model.request_status(asked))
        else:
            first = call.result
            assert (again.transaction.pk, again.balance) == (first.transaction.pk, first.balance)

    def reuse_a_key(self, choice: Random) -> None:
        """For another request, of the same kind or not."""
        if not self.model.calls:
            return
        kind = choice.choice(["credit", "debit", "transfer", "hold", "capture", "void", "ask"])
        call = choice.choice(self.model.calls)
        theirs = [it for it in self.model.promises if call.by in (BOSS, it.payee)]
        own = {"user_id": self.user_id_of(call.by), "key": call.arguments["key"]}
        payment = {"amount": Decimal("0.02"), "remarks": "something else"}
        with pytest.raises(exceptions.KeyReused):
            if kind in ("capture", "void") and theirs:
                hold = {"hold_id": choice.choice(theirs).pk, "as_staff": call.by == BOSS}
                holds.void(**own, **hold, reason="x") if kind == "void" else holds.capture(
                    **own, **hold, amount=Decimal("0.02")
                )
            elif kind in ("transfer", "hold", "ask"):
                service = {"transfer": payments.transfer, "hold": holds.open_, "ask": requests.ask}[kind]
                service(**own, **payment, to=self.random_person(choice))
            else:
                (payments.credit if kind == "credit" else payments.debit)(**own, **payment)

    # --- Changes by staff ---

    def freeze_or_unfreeze(self, choice: Random) -> None:
        freeze = choice.random() < 0.2
        phone = self.random_person(choice)
        service = status.freeze if freeze else status.unfreeze
        service(user_id=self.boss.pk, wallet_id=self.wallet_of(phone).pk, reason="to see")
        self.model.people[phone].frozen = freeze

    def activate_or_deactivate(self, choice: Random) -> None:
        deactivate = choice.random() < 0.2
        phone = self.random_person(choice)
        accounts.set_active(UserProfile.objects.get(phone_number=phone), not deactivate)
        self.model.people[phone].inactive = deactivate

    def set_a_tier(self, choice: Random) -> None:
        """An existing one, a new one, or none."""
        name = choice.choice(["small", "large", None])
        most = some_limits(choice)
        phone, tier = self.random_person(choice), None
        if name:
            tier, _ = Tier.objects.get_or_create(name=name, defaults=most)
            self.model.tiers.setdefault(name, most)
        status.set_tier(user_id=self.boss.pk, wallet_id=self.wallet_of(phone).pk, tier=tier, reason="to see")
        self.model.people[phone].tier = name

    def change_or_remove_a_tier(self, choice: Random) -> None:
        """A tier of a wallet cannot be removed."""
        if not self.model.tiers:
            return
        most = choice.choice([None, some_limits(choice)])
        name = choice.choice(sorted(self.model.tiers))
        tier = Tier.objects.get(name=name)
        if most:
            Tier.objects.filter(pk=tier.pk).update(**most)
            self.model.tiers[name] = most
        elif any(person.tier == name for person in self.model.people.values()):
            with pytest.raises(ProtectedError):
                tier.delete()
        else:
            tier.delete()
            del self.model.tiers[name]

    # --- Invariants ---

    @invariant()
    def the_database_is_what_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        wallets = {
            wallet.user.phone_number: wallet for wallet in Wallet.objects.exclude(user=self.boss).select_related("user")
        }
        assert set(wallets) == set(self.model.people)
        for phone, wallet in wallets.items():
            assert (wallet.balance, wallet.available) == (self.model.people[phone].balance, self.model.available(phone))
            used, shown = self.model.used(phone), limits.overview(wallet)["limits"]
            assert {limit.name: limit.limit for limit in shown} == self.model.limits(phone)
            assert {limit.name: limit.used for limit in shown} == {limit.name: used[limit.name] for limit in shown}
        found = {hold.pk: (hold.state, hold.captured) for hold in Hold.objects.all()}
        assert found == {it.pk: (self.model.status(it), it.captured) for it in self.model.promises}
        requested = {row.pk: row.state for row in PaymentRequest.objects.all()}
        assert requested == {it.pk: self.model.request_status(it) for it in self.model.asked}
        assert Transaction.objects.count() == len(self.model.rows)
        assert Key.objects.count() == len(self.model.calls)

    # --- Helpers ---

    def expect(
        self, refused: Iterator[Refusal], service: Any, by: str, payer: str | None, receiver: str | None,
        moves: Decimal | None = None, reverses: Row | None = None, **arguments: Any,
    ) -> Row | None:  # fmt: skip
        """Call an operation that moves money, by default its argument ``amount``."""
        receipt = self.answer(refused, service, by, **arguments)
        if receipt is None:
            return None
        assert receipt.transaction.timestamp == self.model.now
        return self.model.moved(receipt.transaction.pk, payer, receiver, moves or arguments["amount"], reverses)

    def answer(self, refused: Iterator[Refusal], service: Any, by: str, **arguments: Any) -> Any:
        """The result of the service with a new key: what the model allows must happen, what it refuses must be refused
        for the same reason."""
        refusal = next(refused, None)
        arguments["key"] = f"key {len(self.model.calls)}"
        if "user" not in arguments:
            arguments["user_id"] = self.user_id_of(by)
        note(f"{by}: {service.__name__} {arguments} at {self.model.now}: {refusal or 'allowed'}")
        if refusal:
            with pytest.raises(refusal):
                service(**arguments)
            return None
        result = service(**arguments)
        assert isinstance(result, ledger.Receipt | Hold | PaymentRequest)
        assert not result.replayed
        self.model.calls.append(Call(service, arguments, by, result))
        return result

    def random_person(self, choice: Random) -> str:
        return choice.choice(sorted(self.model.people))

    def pair(self, choice: Random) -> tuple[str, str]:
        """A payer and a receiver, mostly different."""
        me = self.random_person(choice)
        others = [other for other in sorted(self.model.people) if other != me]
        return me, choice.choice([*others, *others, me])

    def promise(self, choice: Random) -> tuple[ModelHold, str]:
        """A hold, mostly an open one, and the person who closes it, mostly its payee."""
        open_ones = [it for it in self.model.promises if self.model.status(it) == "OPEN"]
        found = choice.choice(open_ones * 3 + self.model.promises)
        return found, choice.choice([found.payee, found.payee, BOSS, found.payee, self.random_person(choice)])

    def request(self, choice: Random) -> ModelRequest:
        """A request, mostly a pending one."""
        pending = [it for it in self.model.asked if self.model.request_status(it) == "PENDING"]
        return choice.choice(pending * 3 + self.model.asked)

    def row(self, choice: Random) -> Row:
        """A movement, mostly one that can be given back."""
        transfers = [row for row in self.model.rows if row.payer and row.receiver and not row.reverses and row.left]
        return choice.choice(transfers * 3 + self.model.rows)

    def end_of(self, what: str) -> datetime:
        """The instant at which the next day or month begins."""
        here = self.model.now.astimezone(timezone.get_default_timezone())
        midnight = here.replace(hour=0, minute=0, second=0, microsecond=0)
        later = midnight + DAY if what == "a day's end" else (midnight.replace(day=1) + 32 * DAY).replace(day=1)
        return later.astimezone(UTC)

    def user_id_of(self, who: str) -> int:
        return self.boss.pk if who == BOSS else UserProfile.objects.get(phone_number=who).pk

    def wallet_of(self, phone: str) -> Wallet:
        return Wallet.objects.get(user__phone_number=phone)


@pytest.mark.django_db
def test_any_sequence_of_operations_is_what_the_model_says() -> None:
    """A failing sequence is printed with the seed that reproduces it."""

    class OneByOne(Operations):
        """Each sequence begins with an empty database and its own clocks."""

        def __init__(self) -> None:
            super().__init__()
            self.clocks = pytest.MonkeyPatch()
            self.around = atomic()
            self.around._from_testcase = True  # as Django's own tests set it, so that durable blocks may run inside
            self.around.__enter__()

        def teardown(self) -> None:
            """Once at the end is enough, because rows never change."""
            try:
                assert check_ledger.check().complaints() == []
            finally:
                self.clocks.undo()
                set_rollback(True)
                self.around.__exit__(None, None, None)

    # Fewer on PostgreSQL: all are in one transaction, whose dead rows are never vacuumed.
    config = settings(
        max_examples=30 if connection.vendor == "postgresql" else 100,
        stateful_step_count=50,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(OneByOne, settings=config)
