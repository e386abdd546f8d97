"""The map of the API: includes only. Each app's `urls.py` says what lies under its path."""

from django.contrib import admin
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import RedirectView
from rest_framework.routers import SimpleRouter

from lokanetra import schema
from lokanetra.health import HealthViewSet

health = SimpleRouter(trailing_slash=False)
health.register("", HealthViewSet, basename="health")

urlpatterns = [
    path("", csrf_exempt(RedirectView.as_view(url="/swagger/", http_method_names=["get", "head"]))),
    path("", include(health.urls)),
    path("auth/", include("users.urls")),
    path("wallet/", include("wallet.urls")),
    path("transactions/", include("transactions.urls")),
    path("admin/", admin.site.urls),
    path("swagger.json", schema.SchemaJSON.as_view(), name="schema"),
    path("swagger/", schema.Swagger.as_view(), name="swagger"),
    path("redoc/", schema.ReDoc.as_view(), name="redoc"),
]
