"""`/auth/`: log in and out, one's own profile, and the accounts as staff see them."""

from typing import Any

from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from lokanetra.addresses import client_of
from lokanetra.endpoints import Endpoints, endpoint
from lokanetra.pagination import NumberedPages
from users import accounts, otp, serializers, tokens
from users.exceptions import OTPInvalid, SMSUnavailable, TokenNotValid, TokenReused, TooManyRequests
from users.filters import UserFilter
from users.models import UserProfile, UserQuerySet
from users.permissions import Authenticated, IsStaff, IsSuperuser, MayChangeUsers


class AuthViewSet(Endpoints):
    @action(detail=False, methods=["post"], url_path="send-otp")
    @endpoint(
        takes=serializers.PhoneSerializer,
        gives=serializers.SentSerializer,
        status=201,
        allow=AllowAny,
        errors=[TooManyRequests, SMSUnavailable],
    )
    def send_otp(self, request: Request, phone_number: str) -> otp.Sent:
        """Send a one-time password to a phone.

        The code works once, for five minutes, and replaces the one sent before. The answer is the same whether
        or not the number has an account. Only a server in development mode answers with the code itself.
        """
        return otp.send(phone_number=phone_number, address=client_of(request))

    @action(detail=False, methods=["post"], url_path="verify-otp")
    @endpoint(
        takes=serializers.CodeSerializer,
        gives=serializers.LoginSerializer,
        allow=AllowAny,
        errors=[OTPInvalid, TooManyRequests],
    )
    def verify_otp(self, request: Request, **login: str) -> dict[str, Any]:
        """Log in with a one-time password.

        The first login of a number creates its account and its wallet. The access token lives ten minutes,
        the refresh token seven days.
        """
        user, pair = otp.verify(**login, address=client_of(request))
        return {**pair, "user": user}

    @action(detail=False, methods=["post"], url_path="token/refresh")
    @endpoint(
        takes=serializers.RefreshSerializer,
        gives=serializers.PairSerializer,
        allow=AllowAny,
        errors=[TokenNotValid, TokenReused],
    )
    def refresh(self, request: Request, refresh: str) -> dict[str, str]:
        """Exchange a refresh token for a new pair.

        A refresh token works once. Used again within ten seconds (a double tap, a lost answer) it is refused
        and nothing else happens; used again later it also ends its login.
        """
        return tokens.rotate(refresh)

    @action(detail=False, methods=["post"])
    @endpoint(takes=serializers.RefreshSerializer, status=204, errors=[TokenNotValid])
    def logout(self, request: Authenticated, refresh: str) -> None:
        """End the login of a refresh token.

        The refresh token is dead at once; the access token lives out its ten minutes.
        """
        tokens.end(refresh, request.user)

    @action(detail=False, methods=["post"], url_path="logout-all")
    @endpoint(status=204)
    def logout_all(self, request: Authenticated) -> None:
        """End every login of the caller.

        Every refresh and access token is dead at once, and so is a code that was sent before.
        """
        tokens.end_all(request.user)

    @action(detail=False)
    @endpoint(gives=serializers.ProfileSerializer)
    def me(self, request: Authenticated) -> UserProfile:
        """Show one's own account."""
        return request.user

    @me.mapping.patch
    @endpoint(takes=serializers.ProfileChangeSerializer, gives=serializers.ProfileSerializer)
    def change_me(self, request: Authenticated, **changes: str) -> UserProfile:
        """Change one's own names and e-mail address."""
        return accounts.change(request.user, **changes)


class UserAdminViewSet(Endpoints):
    lookup_value_regex = "[0-9]{1,18}"

    @endpoint(
        gives=serializers.UserSerializer, filters=UserFilter, pages=NumberedPages, allow_stale=True, allow=IsStaff
    )
    def list(self, request: Authenticated) -> UserQuerySet:
        """List the accounts, newest first."""
        return UserProfile.objects.order_by("-id")

    @endpoint(takes=serializers.NewUserSerializer, gives=serializers.UserSerializer, status=201, allow=IsSuperuser)
    def create(self, request: Authenticated, **fields: Any) -> UserProfile:
        """Create an account, its wallet included.

        Without a username it is called after its phone number. It logs in with a one-time password.
        """
        return accounts.create_by_staff(by=request.user, **fields)

    @endpoint(gives=serializers.UserSerializer, allow=IsStaff)
    def retrieve(self, request: Authenticated, pk: str) -> UserProfile:
        """Show an account."""
        return get_object_or_404(UserProfile, pk=pk)

    @endpoint(takes=serializers.UserChangeSerializer, gives=serializers.UserSerializer, allow=MayChangeUsers)
    def partial_update(self, request: Authenticated, pk: str, **changes: Any) -> UserProfile:
        """Change an account: its phone, its names, whether it is active or staff.

        Only superusers change staff and superusers, and only they make somebody staff. A new phone, and
        deactivation, end the account's logins, and codes sent before open nothing any more.
        """
        return accounts.administer(by=request.user, user_id=int(pk), **changes)
