"""The right over other people's history."""

from users.permissions import HasRight


class MayExport(HasRight):
    right = "transactions.export_transaction"
    message = "This needs the right to export transactions."
