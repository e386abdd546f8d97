"""Money in the console: to find and look at. Changes are actions with pages of their own, which call operations; only
tiers are edited in forms."""

from wallet.admin import checks, holds, people, requests, tiers, wallets

__all__ = ["checks", "holds", "people", "requests", "tiers", "wallets"]
