from rest_framework.routers import SimpleRouter

from wallet.views import WalletAdminViewSet, WalletViewSet

router = SimpleRouter()
router.register("admin/wallets", WalletAdminViewSet, basename="wallet-admin")
router.register("", WalletViewSet, basename="wallet")

urlpatterns = router.urls
