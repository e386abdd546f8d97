"""The rules of money: one class per rule, raised when it is broken. Nothing has moved then, except that it is unknown
after `OutcomeUnknown`."""

from typing import Any

from lokanetra.errors import Problem


class InsufficientFunds(Problem):
    """Raised when less than the amount can be spent: the balance without what is held."""

    status_code = 400
    default_code = "insufficient_funds"
    default_detail = "The wallet does not hold this much."


class SelfTransfer(Problem):
    """Raised when payer and receiver are the same, however the number is spelled."""

    status_code = 400
    default_code = "self_transfer"
    default_detail = "This is your own number."


class LimitExceeded(Problem):
    """Raised when an amount would break a limit of the caller's wallet, or for staff of the target. The answer has the
    `limit`."""

    status_code = 400
    default_code = "limit_exceeded"
    default_detail = "This is more than is allowed."

    def __init__(self, detail: str, limit: dict[str, Any]) -> None:
        super().__init__(detail)
        self.extra = {"limit": limit}


class SelfCreditDisabled(Problem):
    """Raised when a user credits their own wallet on a server that does not allow it."""

    status_code = 403
    default_code = "self_credit_disabled"
    default_detail = "Users cannot credit their own wallets here."


class OwnWallet(Problem):
    """Raised when staff, superusers too, would credit, debit, unfreeze or set the tier of their own wallet, or reverse
    a transaction of which it is a side, or close a hold that it pays."""

    status_code = 403
    default_code = "permission_denied"
    default_detail = "Staff do not adjust their own wallet: another member of staff must do it."


class WalletFrozen(Problem):
    """Raised when the caller's own wallet, or for staff the target, is frozen: it neither pays nor receives."""

    status_code = 403
    default_code = "wallet_frozen"
    default_detail = "This wallet is frozen."


class RecipientNotFound(Problem):
    """Raised when nobody has the receiver's phone number."""

    status_code = 404
    default_code = "recipient_not_found"
    default_detail = "Nobody here has this phone number."


class RecipientUnavailable(Problem):
    """Raised when the receiver is frozen, deactivated or at a limit: one answer, so that the payer learns nothing."""

    status_code = 409
    default_code = "recipient_unavailable"
    default_detail = "The receiver cannot take this payment."


class PayerUnavailable(Problem):
    """Raised when the payer of a hold or of a request for money is frozen or deactivated."""

    status_code = 409
    default_code = "payer_unavailable"
    default_detail = "The payer cannot make this payment."


class HoldClosed(Problem):
    """Raised when a hold was captured for the last time, was voided, or has expired."""

    status_code = 409
    default_code = "hold_closed"
    default_detail = "This hold was captured or voided, or has expired."


class CaptureExceedsHold(Problem):
    """Raised when more would be captured than remains of the hold."""

    status_code = 400
    default_code = "capture_exceeds_hold"
    default_detail = "Less than this remains of the hold."


class NotThePayee(Problem):
    """Raised when the payer would close a hold, or refund their own payment: only the payee can."""

    status_code = 403
    default_code = "permission_denied"
    default_detail = "Only the payee can do this."


class RequestClosed(Problem):
    """Raised when a request was paid, declined or cancelled, or has expired."""

    status_code = 409
    default_code = "request_closed"
    default_detail = "This request was paid, declined or cancelled, or has expired."


class NotThePayer(Problem):
    """Raised when the requester would pay or decline: only the payer can."""

    status_code = 403
    default_code = "permission_denied"
    default_detail = "Only the payer can do this."


class NotTheRequester(Problem):
    """Raised when the payer would cancel: only the requester can."""

    status_code = 403
    default_code = "permission_denied"
    default_detail = "Only the requester can do this."


class AlreadyReversed(Problem):
    """Raised when all of a transaction was given back already."""

    status_code = 409
    default_code = "already_reversed"
    default_detail = "All of this transaction was given back already."


class RefundExceedsRemaining(Problem):
    """Raised when more would be given back than remains of the transaction."""

    status_code = 400
    default_code = "refund_exceeds_remaining"
    default_detail = "Less than this remains to be given back."


class NotReversible(Problem):
    """Raised when the transaction is itself a reversal or a refund, or for a refund no transfer."""

    status_code = 409
    default_code = "not_reversible"
    default_detail = "This transaction cannot be given back."


class KeyReused(Problem):
    """Raised when an idempotency key is used again for another request."""

    status_code = 422
    default_code = "idempotency_key_reused"
    default_detail = "This Idempotency-Key was used for another request."


class OutcomeUnknown(Problem):
    """Raised when the connection broke while committing. Repeat with the same key, or look at the history."""

    status_code = 503
    default_code = "outcome_unknown"
    default_detail = "The connection broke while the payment was being saved. Repeat it with the same Idempotency-Key."


# What any operation that moves money may raise.
PAYMENT_ERRORS = (WalletFrozen, LimitExceeded, KeyReused, OutcomeUnknown)
# What paying somebody, now or later, may raise.
TRANSFER_ERRORS = (InsufficientFunds, SelfTransfer, RecipientNotFound, RecipientUnavailable, *PAYMENT_ERRORS)
# What giving back may raise.
REFUND_ERRORS = (AlreadyReversed, RefundExceedsRemaining, NotReversible, InsufficientFunds, *PAYMENT_ERRORS)
