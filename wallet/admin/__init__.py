"""Money in the console: to find and look at. What changes something is a page of its own, and an operation of money;
tiers, which are no money, are edited."""

from wallet.admin import checks, holds, people, requests, tiers, wallets

__all__ = ["checks", "holds", "people", "requests", "tiers", "wallets"]
