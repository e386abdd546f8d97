"""The map of the API: includes only. Each app's `urls.py` has the paths below."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import RedirectView, View
from rest_framework.routers import SimpleRouter

from lokanetra import metrics
from lokanetra.health import HealthViewSet


@method_decorator(csrf_exempt, name="dispatch")
class Documentation(View):
    """A page of `schema.py`, which is imported on the first view: no other request needs what it imports."""

    http_method_names = ["get", "head"]
    page = ""

    def get(self, request: HttpRequest) -> HttpResponseBase:
        return import_string(f"lokanetra.schema.{self.page}").as_view()(request)

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self.get(request)  # it answers with the API's own error


health = SimpleRouter(trailing_slash=False)
health.register("", HealthViewSet, basename="health")

# Matched from the top at each request: the most used paths come first.
urlpatterns = [
    path("wallet/", include("wallet.urls")),
    path("transactions/", include("transactions.urls")),
    path("auth/", include("users.urls")),
    path("admin/", admin.site.urls),
    path("swagger.json", Documentation.as_view(page="SchemaJSON"), name="schema"),
    path("swagger/", Documentation.as_view(page="Swagger"), name="swagger"),
    path("redoc/", Documentation.as_view(page="ReDoc"), name="redoc"),
    path("metrics", metrics.Page.as_view()),
    path("", csrf_exempt(RedirectView.as_view(pattern_name="swagger", http_method_names=["get", "head"]))),
    path("", include(health.urls)),
]
