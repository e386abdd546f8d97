from rest_framework.routers import SimpleRouter

from transactions.views.events import EventViewSet
from transactions.views.ledger import TransactionViewSet
from transactions.views.webhooks import DeliveryViewSet, WebhookViewSet

router = SimpleRouter()
router.register("events", EventViewSet, basename="event")
router.register("webhooks/deliveries", DeliveryViewSet, basename="delivery")
router.register("webhooks", WebhookViewSet, basename="webhook")
router.register("", TransactionViewSet, basename="transaction")

urlpatterns = router.urls
