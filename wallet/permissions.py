"""The rights over other people's wallets."""

from users.permissions import HasRight


class MayAdjust(HasRight):
    right = "wallet.adjust_wallet"
    message = "This needs the right to adjust wallets."


class MayChange(HasRight):
    right = "wallet.change_wallet"
    message = "This needs the right to change wallets."
