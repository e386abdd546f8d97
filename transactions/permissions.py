"""The rights to see other people's history."""

from users.permissions import HasRight


class MayExport(HasRight):
    right = "transactions.export_transaction"
    message = "This needs the right to export transactions."


class MayViewEvents(HasRight):
    right = "transactions.view_event"
    message = "This needs the right to view events."
