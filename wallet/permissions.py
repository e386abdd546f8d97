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
    """Anybody with a token, because the service checks whose hold it is. By a session of the admin only staff with the
    right."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.auth is not None or super().has_permission(request, view)
