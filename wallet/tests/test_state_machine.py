"""Any sequence of operations leaves what a model of a dozen lines in memory predicts, and books that agree."""

from decimal import Decimal
from typing import Any

import pytest
from django.db.transaction import atomic, set_rollback
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from transactions.models import Transaction
from users import accounts, otp
from users.exceptions import TokenNotValid
from users.models import UserProfile
from wallet import exceptions, ledger, payments, refunds, status
from wallet.management.commands import check_ledger
from wallet.models import Wallet

PEOPLE = st.sampled_from(["+919999999999", "+919888888888", "+919777777777"])
AMOUNTS = st.sampled_from(
    [Decimal("0.01"), Decimal("10.00"), Decimal("99.99"), Decimal("1000000.00"), Decimal("1000000.01")]
)
REFUSALS = (
    exceptions.InsufficientFunds,
    exceptions.SelfTransfer,
    exceptions.LimitExceeded,
    exceptions.WalletFrozen,
    exceptions.RecipientUnavailable,
    exceptions.AlreadyReversed,
    exceptions.NotReversible,
)


class Payments(RuleBasedStateMachine):
    """`balances`, `frozen` and `inactive` by phone; `done` is every movement as (call, receipt)."""

    @initialize()
    def begin(self) -> None:
        self.balances: dict[str, Decimal] = {}
        self.frozen: set[str] = set()
        self.inactive: set[str] = set()
        self.done: list[tuple[dict[str, Any], ledger.Receipt]] = []
        self.keys = 0
        self.boss = UserProfile.objects.create_superuser("boss")

    @rule(phone=PEOPLE)
    def log_in(self, phone: str) -> None:
        sent = otp.send(phone_number=phone, address="127.0.0.1")
        if phone in self.inactive:
            return
        user, _ = otp.verify(phone_number=phone, code=sent.code or "", address="127.0.0.1")
        assert user.phone_number == phone
        self.balances.setdefault(phone, Decimal(0))

    @precondition(lambda self: self.balances)
    @rule(data=st.data(), amount=AMOUNTS)
    def credit(self, data: st.DataObject, amount: Decimal) -> None:
        me = self.somebody(data)
        allowed = self.may_pay(me) and amount <= 1_000_000
        self.move(allowed, payments.credit, {me: amount}, user_id=self.id_of(me), amount=amount)

    @precondition(lambda self: self.balances)
    @rule(data=st.data(), amount=AMOUNTS)
    def debit(self, data: st.DataObject, amount: Decimal) -> None:
        me = self.somebody(data)
        allowed = self.may_pay(me) and amount <= self.balances[me] and amount <= 1_000_000
        self.move(allowed, payments.debit, {me: -amount}, user_id=self.id_of(me), amount=amount)

    @precondition(lambda self: self.balances)
    @rule(data=st.data(), amount=AMOUNTS)
    def transfer(self, data: st.DataObject, amount: Decimal) -> None:
        me, other = self.somebody(data), self.somebody(data)
        allowed = self.may_pay(me) and self.may_pay(other) and me != other
        allowed = allowed and amount <= self.balances[me] and amount <= 1_000_000
        changes = {me: -amount, other: amount}
        self.move(allowed, payments.transfer, changes, user_id=self.id_of(me), to=other, amount=amount)

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        call, first = data.draw(st.sampled_from(self.done))
        again = call["service"](**call["arguments"])
        assert again.replayed
        assert (again.transaction.pk, again.balance) == (first.transaction.pk, first.balance)

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def reuse_a_key(self, data: st.DataObject) -> None:
        call, _ = data.draw(st.sampled_from(self.done))
        with pytest.raises(exceptions.KeyReused):
            call["service"](**call["arguments"] | {"remarks": "something else"})

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def reverse(self, data: st.DataObject) -> None:
        call, receipt = data.draw(st.sampled_from(self.done))
        original = receipt.transaction
        changes = {phone: -change for phone, change in call["changes"].items()}
        fresh = not original.reverses_id and not Transaction.objects.filter(reverses=original).exists()
        able = all(phone not in self.frozen and self.balances[phone] + change >= 0 for phone, change in changes.items())
        arguments = {"user_id": self.boss.pk, "transaction_id": original.pk, "remarks": "wrong"}
        self.move(fresh and able, refunds.reverse, changes, **arguments)

    @precondition(lambda self: self.balances)
    @rule(data=st.data(), freeze=st.booleans())
    def freeze_or_unfreeze(self, data: st.DataObject, freeze: bool) -> None:
        phone = self.somebody(data)
        service = status.freeze if freeze else status.unfreeze
        service(user_id=self.boss.pk, wallet_id=self.wallet_of(phone).pk, reason="to see")
        (self.frozen.add if freeze else self.frozen.discard)(phone)

    @precondition(lambda self: self.balances)
    @rule(data=st.data(), active=st.booleans())
    def activate_or_deactivate(self, data: st.DataObject, active: bool) -> None:
        phone = self.somebody(data)
        accounts.set_active(UserProfile.objects.get(phone_number=phone), active)
        (self.inactive.discard if active else self.inactive.add)(phone)

    @invariant()
    def the_database_is_what_the_model_says(self) -> None:
        if hasattr(self, "balances"):
            found = dict(Wallet.objects.exclude(user=self.boss).values_list("user__phone_number", "balance"))
            assert found == self.balances
            assert Transaction.objects.count() == len(self.done)
            assert check_ledger.check().complaints() == []

    def move(self, allowed: bool, service: Any, changes: dict[str, Decimal], **arguments: Any) -> None:
        """Calls the service under a new key; what the model allows must happen, and nothing else."""
        self.keys += 1
        arguments["key"] = f"key {self.keys}"
        try:
            receipt = service(**arguments)
        except REFUSALS + (TokenNotValid,):
            assert not allowed
            return
        assert allowed
        for phone, change in changes.items():
            self.balances[phone] += change
        self.done.append(({"service": service, "arguments": arguments, "changes": changes}, receipt))

    def somebody(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.balances)))

    def may_pay(self, phone: str) -> bool:
        return phone not in self.frozen | self.inactive

    def id_of(self, phone: str) -> int:
        return UserProfile.objects.get(phone_number=phone).pk

    def wallet_of(self, phone: str) -> Wallet:
        return Wallet.objects.get(user__phone_number=phone)


@pytest.mark.django_db
def test_any_sequence_of_operations_is_what_the_model_says() -> None:
    """A failing sequence is printed with the seed that finds it again."""

    class OneByOne(Payments):
        """Each sequence begins with an empty database."""

        def __init__(self) -> None:
            super().__init__()
            self.around = atomic()
            self.around._from_testcase = True  # as Django's own tests mark it, so that durable blocks may run inside
            self.around.__enter__()

        def teardown(self) -> None:
            set_rollback(True)
            self.around.__exit__(None, None, None)

    config = settings(
        max_examples=60, stateful_step_count=30, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(OneByOne, settings=config)
