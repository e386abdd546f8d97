"""The rights over other people's wallets."""

from typing import Any

from rest_framework.request import Request

from users.permissions import HasRight


class MayAdjust(HasRight):
    right = "wallet.adjust_wallet"
    message = "This needs the right to adjust wallets."


class MayChange(HasRight):
    right = "wallet.change_wallet"
    message = "This needs the right to change wallets."


class PayeeOrMayAdjust(MayAdjust):
    """Anybody with a token, for whose hold it is the service knows. A session of the admin is for staff with the right
    alone."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.auth is not None or super().has_permission(request, view)
