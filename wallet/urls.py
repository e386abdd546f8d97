from rest_framework.routers import SimpleRouter

from wallet.views.holds import HoldViewSet
from wallet.views.requests import PaymentRequestViewSet
from wallet.views.staff import (
    HoldAdminViewSet,
    PaymentRequestAdminViewSet,
    PhoneAdminViewSet,
    TierAdminViewSet,
    WalletAdminViewSet,
)
from wallet.views.wallets import WalletViewSet

router = SimpleRouter()
router.register("admin/wallets", WalletAdminViewSet, basename="wallet-admin")
router.register("admin/holds", HoldAdminViewSet, basename="hold-admin")
router.register("admin/requests", PaymentRequestAdminViewSet, basename="request-admin")
router.register("admin/tiers", TierAdminViewSet, basename="tier-admin")
router.register("admin", PhoneAdminViewSet, basename="phone-admin")
router.register("holds", HoldViewSet, basename="hold")
router.register("requests", PaymentRequestViewSet, basename="request")
router.register("", WalletViewSet, basename="wallet")

urlpatterns = router.urls
