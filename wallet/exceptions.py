"""The rules of money: one class per rule, raised when it is broken. Whatever is raised, nothing moved,
save where `OutcomeUnknown` says that nobody knows."""

from lokanetra.errors import Problem


class InsufficientFunds(Problem):
    """Raised when the payer's wallet holds less than the amount."""

    status_code = 400
    default_code = "insufficient_funds"
    default_detail = "The wallet does not hold this much."


class SelfTransfer(Problem):
    """Raised when payer and receiver are one, however the number is spelled."""

    status_code = 400
    default_code = "self_transfer"
    default_detail = "This is your own number."


class LimitExceeded(Problem):
    """Raised when an amount is above the limit of one operation, or would lift the caller's wallet above its own."""

    status_code = 400
    default_code = "limit_exceeded"
    default_detail = "This is more than is allowed."


class SelfCreditDisabled(Problem):
    """Raised when a user credits himself on a server where that would print money."""

    status_code = 403
    default_code = "self_credit_disabled"
    default_detail = "Users cannot credit their own wallets here."


class OwnWallet(Problem):
    """Raised when staff, superusers too, would credit, debit or unfreeze their own wallet, or reverse a transaction of
    which it is a side."""

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
    """Raised when the receiver is frozen, deactivated or too full: one answer, so that nothing of his is told."""

    status_code = 409
    default_code = "recipient_unavailable"
    default_detail = "The receiver cannot take this payment."


class AlreadyReversed(Problem):
    """Raised when a transaction was reversed before."""

    status_code = 409
    default_code = "already_reversed"
    default_detail = "This transaction was reversed already."


class NotReversible(Problem):
    """Raised when the transaction is itself a reversal."""

    status_code = 409
    default_code = "not_reversible"
    default_detail = "A reversal cannot be reversed."


class KeyReused(Problem):
    """Raised when an idempotency key comes again with another request."""

    status_code = 422
    default_code = "idempotency_key_reused"
    default_detail = "This Idempotency-Key was used for another request."


class OutcomeUnknown(Problem):
    """Raised when the connection broke while committing. Repeat with the same key, or look at the history."""

    status_code = 503
    default_code = "outcome_unknown"
    default_detail = "The connection broke while the payment was being saved. Repeat it with the same Idempotency-Key."


# What any operation that moves money may answer.
PAYING = (WalletFrozen, LimitExceeded, KeyReused, OutcomeUnknown)
