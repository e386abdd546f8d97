from rest_framework.routers import SimpleRouter

from users.views import AuthViewSet, UserAdminViewSet

router = SimpleRouter()
router.register("admin/users", UserAdminViewSet, basename="user")
router.register("", AuthViewSet, basename="auth")

urlpatterns = router.urls
