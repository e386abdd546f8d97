from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TransactionsConfig(AppConfig):
    name = "transactions"

    def ready(self) -> None:
        from users import groups

        # The last of the apps whose permissions the groups have.
        post_migrate.connect(groups.create, sender=self, dispatch_uid="groups")
