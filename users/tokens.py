"""Logins: issue, rotate, end. SimpleJWT makes and reads the tokens; rows of `Login` say whether they are valid."""

import logging
from datetime import datetime, timedelta
from functools import lru_cache
from time import time
from typing import Any
from uuid import uuid4

from django.db import DEFAULT_DB_ALIAS
from django.db.models import F
from django.utils import timezone
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, Token

from lokanetra.prepared import Placeholder, Prepared, insert, send_waiting
from users.exceptions import TokenNotValid, TokenReused
from users.models import Login, UserProfile

logger = logging.getLogger(__name__)

# A login ends after a month even if it is refreshed, so that a lost phone is not logged in for ever.
LOGIN_LIFETIME = timedelta(days=30)
# A double tap, a lost answer and parallel calls use a token twice within this time; later it was stolen.
REUSE_GRACE = timedelta(seconds=10)
# Ours have about 400 characters. A longer one is not ours, and parsing it takes time.
MAX_TOKEN_LENGTH = 1024

# With its wallet, which most requests need next: one query instead of two.
ACCOUNT = Prepared(
    lambda: UserProfile.objects.select_related("wallet").filter(
        pk=Placeholder("user_id"), is_active=True, token_version=Placeholder("token_version")
    )
)


class LoginAuthentication(JWTAuthentication):
    """Bearer access tokens, of accounts that are active and have not logged out everywhere since.

    An endpoint whose service checks the account gets what the token says, without a query.
    """

    def authenticate(self, request: Request) -> tuple[UserProfile, Token | None] | None:  # type: ignore[override]
        header = self.get_header(request)
        if header is None or header.split(maxsplit=1)[:1] != [b"Bearer"]:
            return None
        return self.accept(header[len(b"Bearer") :].strip().decode("latin-1"), request)

    def accept(self, text: str, request: Request) -> tuple[UserProfile, Token | None]:
        """Who calls with this text after `Bearer`. Raises TokenNotValid."""
        token = read(AccessToken, text)
        return (user_from_token(token) if _authenticates_in_service(request) else account_of(token)), token

    def check(self, token: Token) -> None:
        """Raises TokenNotValid when the token is no longer valid."""
        account_of(token)


def _authenticates_in_service(request: Request) -> bool:
    """Never for a view without a contract, such as one of a library."""
    contract = getattr(request.parser_context["view"], "contract", None)
    return getattr(contract, "account_checked_in_service", False)


def issue(user: UserProfile) -> dict[str, str]:
    """A new login, as the pair `{"access", "refresh"}`."""
    login = new_login(user)
    insert(login)
    send_waiting()
    return first_pair(login)


def new_login(user: UserProfile) -> Login:
    """A new login, not yet in the database."""
    return Login.build(
        id=None,
        user=user,
        created_at=timezone.now(),
        refresh_jti=uuid4().hex,
        previous_jti=None,
        rotated_at=None,
        ended_at=None,
    )


def first_pair(login: Login) -> dict[str, str]:
    """The first pair of tokens of a login. Signing takes long enough not to be done while others wait for a lock."""
    refresh = RefreshToken()
    refresh["jti"] = login.refresh_jti
    return _pair(refresh, login.user, login)


def rotate(text: str) -> dict[str, str]:
    """A new pair for a refresh token, which works once: of parallel calls one wins, and its pair works.

    Raises TokenReused for the others, and ends the login when that happens later than the grace allows;
    TokenNotValid when the token, its login or its account has ended.
    """
    old = read(RefreshToken, text)
    user, new, now = account_of(old), RefreshToken(), timezone.now()
    won = _open_logins(old, now).filter(refresh_jti=old["jti"]).update(
        refresh_jti=new["jti"], previous_jti=F("refresh_jti"), rotated_at=now
    )  # fmt: skip
    if not won:
        _refuse(old, now)
    return _pair(new, user, Login.objects.get(pk=old["sid"]))


def end(text: str, user: UserProfile) -> None:
    """End the login of this refresh token of the user's; ending it again changes nothing."""
    token = read(RefreshToken, text)
    if token.get("user_id") != str(user.pk):
        raise TokenNotValid
    _open_logins(token, timezone.now()).update(ended_at=timezone.now())
    logger.info("login %s of user %s ended", token.get("sid"), user.pk)


def end_all(*users: UserProfile) -> None:
    """End every login of the users, access tokens included, at once."""
    UserProfile.objects.filter(pk__in=[user.pk for user in users]).update(token_version=F("token_version") + 1)
    Login.objects.filter(user__in=users, ended_at=None).update(ended_at=timezone.now())
    logger.info("all logins of %s ended", ", ".join(f"user {user.pk}" for user in users))


def read(kind: type[Token], text: str) -> Any:
    """The token of this kind, its signature, lifetime, issuer and audience checked. Raises TokenNotValid."""
    if len(text) > MAX_TOKEN_LENGTH:
        raise TokenNotValid
    try:
        token = _verified(kind, text)  # type: ignore[arg-type]
        if token["exp"] <= time():
            raise TokenNotValid
        return token
    except (TokenError, RecursionError):  # deeply nested JSON needs no signature to be read
        raise TokenNotValid from None


@lru_cache(1024)
def _verified(kind: type[Token], text: str) -> Token:
    """Cached, because a token is read with every request and never changes; `read` checks its lifetime."""
    return kind(text)  # type: ignore[arg-type]


def account_of(token: Token) -> UserProfile:
    """The active account of the token, read from the database. Raises TokenNotValid."""
    found = ACCOUNT(user_id=int(token.get("user_id", 0)), token_version=token.get("token_version"))
    if not found:
        raise TokenNotValid
    return found[0]


def user_from_token(token: Token) -> UserProfile:
    """The account with the id and the `token_version` of the token, unchecked and without a query. Other fields are
    read from the database when they are used."""
    values = int(token.get("user_id", 0)), token.get("token_version", -1)
    return UserProfile.from_db(DEFAULT_DB_ALIAS, ["id", "token_version"], values)


def _open_logins(token: Token, now: datetime) -> Any:
    return Login.objects.filter(
        pk=token.get("sid"), user=int(token["user_id"]), ended_at=None, created_at__gt=now - LOGIN_LIFETIME
    )


def _refuse(old: Token, now: datetime) -> None:
    """Raise why a refresh token is refused, and end its login when it was reused after the grace."""
    login = _open_logins(old, now).first()
    if login is None:
        raise TokenNotValid
    in_grace = login.previous_jti == old["jti"] and login.rotated_at and now - login.rotated_at <= REUSE_GRACE
    if not in_grace:
        _open_logins(old, now).update(ended_at=now)
        logger.warning("login %s ended: an old refresh token of user %s was reused", login.pk, login.user_id)
    raise TokenReused


def _pair(refresh: RefreshToken, user: UserProfile, login: Login) -> dict[str, str]:
    refresh["user_id"] = str(user.pk)
    refresh["sid"] = login.pk
    refresh["token_version"] = user.token_version
    last_moment = login.created_at + LOGIN_LIFETIME
    if refresh.current_time + refresh.lifetime > last_moment:
        refresh.set_exp(from_time=last_moment, lifetime=timedelta())
    return {"access": str(refresh.access_token), "refresh": str(refresh)}
