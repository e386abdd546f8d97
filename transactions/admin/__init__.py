"""The ledger and the webhooks in the console."""

from transactions.admin import ledger, webhooks

__all__ = ["ledger", "webhooks"]
