"""Who may call what. Which rows a caller sees is up to the querysets."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from users.models import UserProfile


class Authenticated(Request):
    """The request of an endpoint that is not public, for the type checker."""

    user: UserProfile


class IsStaff(BasePermission):
    """Staff, by token or by a session of the admin."""

    for_staff = True
    message = "This is for staff."

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.user.is_active and request.user.is_staff


class IsSuperuser(IsStaff):
    message = "This is for superusers."

    def has_permission(self, request: Request, view: Any) -> bool:
        return super().has_permission(request, view) and request.user.is_superuser


class HasRight(IsStaff):
    """Staff with one of Django's permissions. Subclasses name it."""

    right: str

    def has_permission(self, request: Request, view: Any) -> bool:
        return self.is_granted_to(request.user)

    @classmethod
    def is_granted_to(cls, user: Any) -> bool:
        return user.is_staff and user.has_perm(cls.right)


class MayChangeUsers(HasRight):
    right = "users.change_userprofile"
    message = "This needs the right to change users."
