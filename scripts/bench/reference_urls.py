"""The product's URLs and `/reference/`, a balance without any query. The difference to `/wallet/balance/` is the cost
of looking up the login and the wallet."""

from decimal import Decimal

from django.urls import path
from rest_framework.request import Request
from rest_framework_simplejwt.tokens import AccessToken, Token

from lokanetra import urls
from lokanetra.endpoints import Endpoints, endpoint
from users import tokens
from users.exceptions import TokenNotValid
from users.models import UserProfile
from users.permissions import Authenticated
from wallet.models import Wallet
from wallet.serializers import BalanceSerializer


class TokenAlone(tokens.LoginAuthentication):
    """Signature, lifetime, issuer and audience are checked; whether the login has ended is not."""

    def authenticate(self, request: Request) -> tuple[UserProfile, Token]:  # type: ignore[override]
        kind, _, text = (self.get_header(request) or b"").decode("latin-1").partition(" ")
        if kind != "Bearer":
            raise TokenNotValid
        token = tokens.read(AccessToken, text)
        return UserProfile(pk=int(token["user_id"]), username=f"user_{token['user_id']}"), token


class ReferenceViewSet(Endpoints):
    authentication_classes = [TokenAlone]

    @endpoint(gives=BalanceSerializer)
    def list(self, request: Authenticated) -> Wallet:
        return Wallet(user=request.user, balance=Decimal("100000.00"))


urlpatterns = [path("reference/", ReferenceViewSet.as_view({"get": "list"})), *urls.urlpatterns]
