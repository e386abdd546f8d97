"""Accounts in the console: create, deactivate, assign a phone. Codes and logins are there to look at."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from lokanetra.admin import CappedPaginator, ReadOnlyAdmin
from users import accounts, phones
from users.models import OTP, Login, UserProfile

RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")


class PhoneForm(ModelForm):
    """Reads the phone number in any usual spelling."""

    def clean_phone_number(self) -> str | None:
        text = self.cleaned_data.get("phone_number")
        return phones.parse(text) if text else None


class NewUserForm(PhoneForm, UserCreationForm):
    class Meta:
        model = UserProfile
        fields = ("username", "phone_number")


class UserForm(PhoneForm, UserChangeForm):
    class Meta:
        model = UserProfile
        fields = "__all__"  # noqa: DJ007  (the admin's fieldsets choose)


@admin.register(UserProfile)
class UserProfileAdmin(UserAdmin, ModelAdmin):
    """Rights are a superuser's to give, and nobody else edits an account that has any."""

    form = UserForm
    add_form = NewUserForm
    change_password_form = AdminPasswordChangeForm
    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_display = ("username", "shown_phone", "full_name", "active", "staff", "date_joined")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups")
    search_fields = ("username", "phone_number", "first_name", "last_name")
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

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, term: str) -> tuple[QuerySet, bool]:
        return (queryset.matching(term) | super().get_search_results(request, queryset, term)[0]).distinct(), False

    def save_model(self, request: HttpRequest, obj: UserProfile, form: ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and "phone_number" in form.changed_data:
            accounts.assign_phone(obj, obj.phone_number)
        if change and "is_active" in form.changed_data:
            accounts.set_active(obj, obj.is_active)

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
    search_fields = ("phone_number__startswith",)
    ordering = ("-id",)

    @display(description="phone", ordering="phone_number")
    def shown_phone(self, otp: OTP) -> str | None:
        return phones.show(otp.phone_number)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, term: str) -> tuple[QuerySet, bool]:
        return queryset.filter(phones.query("phone_number", term)), False


@admin.register(Login)
class LoginAdmin(ReadOnlyAdmin):
    list_display = ("user", "created_at", "rotated_at", "ended_at")
    fields = ("user", "created_at", "rotated_at", "ended_at")
    list_select_related = ("user",)
    search_fields = ("user__username", "user__phone_number")
    ordering = ("-id",)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, term: str) -> tuple[QuerySet, bool]:
        return queryset.filter(user__in=UserProfile.objects.matching(term).values("pk")), False


admin.site.unregister(Group)


@admin.register(Group)
class RightsAdmin(GroupAdmin, ModelAdmin):
    """Groups carry rights: a superuser's business."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    has_view_permission = has_add_permission = has_module_permission

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser

    has_delete_permission = has_change_permission
