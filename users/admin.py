"""Accounts in the console: create, deactivate, assign a phone. Codes and logins are read-only."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError
from django.db.models import Q, QuerySet
from django.forms import CharField, ChoiceField, IntegerField, ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from lokanetra.actions import ActionForm, ShownOnce, action_page, current_account, show_secret, visible_or_404
from lokanetra.admin import TIME, ConsoleAdmin, MomentRangeFilter, ReadOnlyAdmin, exact_time, link
from users import accounts, audit, keys, phones
from users.exceptions import LastSuperuser
from users.filters import PhoneFormField
from users.models import OTP, ApiKey, Login, UserProfile, UserQuerySet

RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")


class PhoneForm(ModelForm):
    phone_number = PhoneFormField(
        required=False,
        empty_value=None,
        widget=UnfoldAdminTextInputWidget,
        help_text="A mobile number in any usual spelling. It ends the account's logins when it changes.",
    )


class NewUserForm(PhoneForm, UserCreationForm):
    usable_password = ChoiceField(
        label="Log in by password",
        required=False,
        choices={"true": "Enabled", "false": "Disabled"},
        help_text="Who works in this console needs one. Everybody else logs in with a one-time password.",
    )

    class Meta:
        model = UserProfile
        fields = ("username", "phone_number")


class UserForm(PhoneForm, UserChangeForm):
    class Meta:
        model = UserProfile
        fields = "__all__"  # noqa: DJ007  (the admin's fieldsets choose)


@admin.register(UserProfile)
class UserProfileAdmin(UserAdmin, ConsoleAdmin):
    """Only superusers grant rights, and only they edit accounts that have any."""

    form = UserForm
    add_form = NewUserForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "shown_phone", "full_name", "active", "staff", "date_joined")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups")
    filter_horizontal = ()
    search_fields = ("username", "phone_number", "first_name", "last_name")
    search_help_text = "How a username, phone number or name begins, or the last digits of a phone."
    ordering = ("-id",)
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "phone_number", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Access", {"fields": ("is_active", *RIGHTS)}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "phone_number", "usable_password", "password1", "password2")}),)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: UserProfile | None = None) -> bool:
        may = super().has_change_permission(request, obj)
        return may and (request.user.is_superuser or obj is None or not (obj.is_staff or obj.is_superuser))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if request.user.is_superuser else (*fields, "username", *RIGHTS)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"usable_password": "false"}  # most accounts log in with a one-time password only

    def search(self, rows: UserQuerySet, text: str) -> UserQuerySet:
        return rows.search(text)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except LastSuperuser as refused:
            self.message_user(request, " ".join(refused.messages), messages.ERROR)
        except (IntegrityError, ValidationError):
            self.message_user(request, "This phone number or username was taken just now.", messages.ERROR)
        return HttpResponseRedirect(request.path)

    def user_change_password(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_superuser:  # the account may get rights later, and keeps the password
            raise PermissionDenied
        return super().user_change_password(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: UserProfile, form: ModelForm, change: bool) -> None:
        columns = {field.name for field in obj._meta.concrete_fields}
        edited = {name: getattr(obj, name) for name in form.changed_data if name in columns}
        if not change:
            obj.token_version = accounts.MADE_BY_STAFF
            obj.save()
        elif edited:
            accounts.administer(by=current_account(request), user_id=obj.pk, **edited)
            if obj == request.user and {"phone_number", "is_active"} & set(edited):
                self.message_user(request, "Your logins have ended, this one too: log in again.", messages.WARNING)

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """What is changed here; `accounts` logs its own changes."""
        if isinstance(form, AdminPasswordChangeForm):
            return {"password": {}}
        return {
            name: {"before": _names(form.initial[name]), "after": _names(form.cleaned_data[name])}
            for name in ("groups", "user_permissions")
            if name in form.changed_data
        }

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        after = {"username": obj.username, "phone_number": obj.phone_number}
        audit.record(
            user_id=current_account(request).pk, on=obj, what="account", flag=ADDITION, before=None, after=after
        )

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        for what, details in message.items():
            audit.record(user_id=current_account(request).pk, on=obj, what=what, **details)

    @display(description="phone", ordering="phone_number")
    def shown_phone(self, user: UserProfile) -> str | None:
        return user.phone

    @display(description="name")
    def full_name(self, user: UserProfile) -> str:
        return user.get_full_name()

    @display(description="active", boolean=True, ordering="is_active")
    def active(self, user: UserProfile) -> bool:
        return user.is_active

    @display(description="staff", boolean=True, ordering="is_staff")
    def staff(self, user: UserProfile) -> bool:
        return user.is_staff


@admin.register(OTP)
class OTPAdmin(ReadOnlyAdmin):
    list_display = ("shown_phone", "created_at", "sent_at", "expires_at", "attempts", "used_at")
    fields = ("shown_phone", "created_at", "sent_at", "expires_at", "attempts", "used_at")
    search_fields = ("phone_number",)
    search_help_text = "How a phone number begins, or its last digits."
    ordering = ("-id",)

    @display(description="phone", ordering="phone_number")
    def shown_phone(self, otp: OTP) -> str | None:
        return phones.show(otp.phone_number)

    def search(self, rows: QuerySet, text: str) -> QuerySet:
        return rows.filter(phones.query("phone_number", text))


@admin.register(Login)
class LoginAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "whose", "rotated_at", "ended_at")
    fields = ("user", "created_at", "rotated_at", "ended_at")
    list_select_related = ("user",)
    search_fields = ("user__username", "user__phone_number")
    search_help_text = "How a username or phone number begins, or the last digits of a phone."
    ordering = ("-id",)

    @display(description="user", ordering="user")
    def whose(self, login: Login) -> str:
        return link(login.user, login.user)

    def search(self, rows: QuerySet, text: str) -> QuerySet:
        return rows.filter(user__in=UserProfile.objects.matching(text).values("pk"))


class NewKeyForm(ModelForm):
    """Saving it creates the secret, which the next page shows."""

    account = CharField(
        max_length=150,
        widget=UnfoldAdminTextInputWidget,
        help_text="The username of a service account, which is made if there is none. Its page gives it rights.",
    )
    days = IntegerField(
        min_value=keys.MIN_DAYS, max_value=keys.MAX_DAYS, initial=365, widget=UnfoldAdminIntegerFieldWidget
    )

    class Meta:
        model = ApiKey
        fields = ("name", "networks")
        widgets: ClassVar = {
            "name": UnfoldAdminTextInputWidget,
            "networks": UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        }

    def clean_account(self) -> str:
        name = self.cleaned_data["account"]
        UserProfile.username_validator(name)
        if UserProfile.objects.filter(username=name).exclude(is_service=True, is_superuser=False).exists():
            raise ValidationError(f"{name} is not a service account.")
        return name

    def clean_networks(self) -> str:
        try:
            return keys.parse_networks(self.cleaned_data["networks"])
        except ValidationError as error:
            raise ValidationError(error.messages) from None


@admin.register(ApiKey)
class ApiKeyAdmin(ShownOnce, ReadOnlyAdmin):
    """For superusers: the model has no permissions that could be granted to others."""

    form = NewKeyForm
    list_display = ("name", "account", "prefix", "expires_at", "last_used_at", "revoked_at")
    fields = (
        "account", "name", "prefix", "networks", "created_at", "created_by", "expires_at", "last_used_at", "revoked_at",
    )  # fmt: skip
    list_select_related = ("account",)
    search_fields = ("prefix",)
    search_help_text = "How the prefix or the name of a key begins."
    ordering = ("-id",)
    actions_detail = ("revoke",)

    def search(self, rows: QuerySet, text: str) -> QuerySet:
        return rows.filter(Q(prefix__startswith=text) | Q(name__startswith=text))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_revoke_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else ("account", "name", "days", "networks")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **kwargs) if obj else NewKeyForm

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        data = form.cleaned_data
        account = keys.service_account(data["account"])
        key, obj.text = keys.create(
            account, name=data["name"], days=data["days"], networks=data["networks"], by=current_account(request)
        )
        obj.pk, obj.prefix, obj.account = key.pk, key.prefix, account

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """`keys.create` has logged it."""

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        about = f"A key of {obj.account}."
        return show_secret(request, self, title="New API key", about=about, secret=obj.text)

    @action(description="Revoke", icon="key_off", permissions=["revoke"])
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = visible_or_404(self, request, object_id)

        def do(reason: str, **_: Any) -> str:
            keys.revoke(ApiKey.objects.filter(pk=key.pk), by=current_account(request), reason=reason)
            return "The key is revoked."

        facts = {"Key": key, "Account": key.account, "Last used": key.last_used_at or "never"}
        back = reverse("admin:users_apikey_change", args=[key.pk])
        return action_page(request, self, key, title="Revoke", facts=facts, form_class=ActionForm, do=do, back=back)


admin.site.unregister(Group)


@admin.register(Group)
class RightsAdmin(GroupAdmin, ConsoleAdmin):
    """For superusers, because groups grant rights."""

    filter_horizontal = ()

    def search(self, rows: QuerySet, text: str) -> QuerySet:
        return rows.filter(name__icontains=text)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser

    has_view_permission = has_delete_permission = has_change_permission

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        changed = form.cleaned_data if add else form.changed_data
        before = None if add else {name: _log_value(form.initial[name]) for name in changed}
        return {"before": before, "after": {name: _log_value(form.cleaned_data[name]) for name in changed}}

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        audit.record(user_id=current_account(request).pk, on=obj, what="group", flag=ADDITION, **message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        if message["after"]:
            audit.record(user_id=current_account(request).pk, on=obj, what="group", **message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """With its permissions and members, because the members lose these permissions."""
        for group in queryset:
            rights, members = _names(group.permissions.all()), _names(group.user_set.all())
            before = {"name": group.name, "permissions": rights, "members": members}
            audit.record(
                user_id=current_account(request).pk, on=group, what="group", flag=DELETION, before=before, after=None
            )


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """What staff did. Nobody edits it."""

    list_display = ("time", "user", "thing", "what", "before", "after", "reason")
    fields = ("time", "user", "thing", "what", "before", "after", "reason")
    list_filter = (("action_time", MomentRangeFilter), "action_flag")
    list_filter_submit = True
    list_select_related = ("user", "content_type")
    search_fields = ("user__username", "object_repr")
    search_help_text = "How a username begins, of who did it or of whose account it was."
    ordering = ("-id",)

    def search(self, rows: QuerySet, text: str) -> QuerySet:
        return rows.filter(Q(user__username__startswith=text) | Q(object_repr__startswith=text))

    @display(description=TIME)
    def time(self, entry: LogEntry) -> str:
        return exact_time(entry.action_time)

    @display(description="on")
    def thing(self, entry: LogEntry) -> str:
        kind = entry.content_type.name if entry.content_type else ""
        return entry.object_repr if entry.object_repr.startswith(kind) else f"{kind} {entry.object_repr}"

    @display(description="what")
    def what(self, entry: LogEntry) -> str:
        return audit.details(entry).get("what") or entry.get_change_message()

    @display(description="before")
    def before(self, entry: LogEntry) -> str:
        return _readable(audit.details(entry).get("before"))

    @display(description="after")
    def after(self, entry: LogEntry) -> str:
        return _readable(audit.details(entry).get("after"))

    @display(description="reason")
    def reason(self, entry: LogEntry) -> str:
        return audit.details(entry).get("reason", "")


def _names(objects: Any) -> list[str]:
    return sorted(str(thing) for thing in objects)


def _log_value(value: Any) -> Any:
    """A field as the log keeps it."""
    return value if isinstance(value, str) else _names(value)


def _readable(state: Any) -> str:
    """A logged state as text."""
    if isinstance(state, dict):
        return "; ".join(f"{name}: {_readable(value) or 'none'}" for name, value in state.items())
    if isinstance(state, list):
        return ", ".join(map(str, state))
    return "" if state is None else str(state)
