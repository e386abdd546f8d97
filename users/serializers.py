"""What the login endpoints read and write. Input and output are different classes."""

import re
from typing import Any

from django.contrib.auth.validators import UnicodeUsernameValidator
from rest_framework import serializers

from lokanetra.parsers import Text, TrueOrFalse, UTCDateTimeField
from users import phones
from users.models import UserProfile


class PhoneField(Text):
    """Any usual spelling in, E.164 inside, the number as people write it out."""

    pattern = phones.PATTERN

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(rule=None, trim_whitespace=False, **kwargs)
        self.validators = []  # of what was parsed they would refuse nothing

    def to_internal_value(self, data: Any) -> str:
        return phones.parse(super().to_internal_value(data))

    def to_representation(self, value: str) -> str:
        return phones.show(value)


class CodeField(Text):
    """Six ASCII digits; not one character more."""

    pattern = "^[0-9]{6}$"
    default_error_messages = {"digits": "A code is six digits."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(rule=None, trim_whitespace=False, **kwargs)
        self.validators = []  # of six digits they would refuse nothing

    def to_internal_value(self, data: Any) -> str:
        code = super().to_internal_value(data)
        if not re.fullmatch("[0-9]{6}", code):
            self.fail("digits")
        return code


class EmailText(Text, serializers.EmailField):
    pass


class PhoneSerializer(serializers.Serializer):
    phone_number = PhoneField()


class CodeSerializer(PhoneSerializer):
    otp = CodeField(source="code")


class SentSerializer(serializers.Serializer):
    phone_number = serializers.CharField(source="phone")
    otp = serializers.CharField(source="code", required=False, help_text="Only while developing: with OTP_ECHO.")
    expires_in = serializers.IntegerField(help_text="Seconds.")
    resend_after = serializers.IntegerField(help_text="Seconds.")

    def to_representation(self, sent: Any) -> dict[str, Any]:
        shown = super().to_representation(sent)
        return shown if sent.code else {name: value for name, value in shown.items() if name != "otp"}


class AccountSerializer(serializers.ModelSerializer):
    phone_number = PhoneField(allow_null=True)

    class Meta:
        model = UserProfile
        fields = ["id", "username", "phone_number"]


class PairSerializer(serializers.Serializer):
    access = serializers.CharField()
    refresh = serializers.CharField()


class LoginSerializer(PairSerializer):
    user = AccountSerializer()


class RefreshSerializer(serializers.Serializer):
    refresh = Text(rule=None)


class ProfileSerializer(AccountSerializer):
    email = serializers.CharField(allow_blank=True)

    class Meta(AccountSerializer.Meta):
        fields = [*AccountSerializer.Meta.fields, "first_name", "last_name", "email"]


class ProfileChangeSerializer(serializers.Serializer):
    first_name = Text(max_length=150, allow_blank=True, required=False)
    last_name = Text(max_length=150, allow_blank=True, required=False)
    email = EmailText(max_length=254, allow_blank=True, required=False)


class UserSerializer(ProfileSerializer):
    date_joined = UTCDateTimeField()

    class Meta(ProfileSerializer.Meta):
        fields = [*ProfileSerializer.Meta.fields, "is_active", "is_staff", "is_superuser", "date_joined"]


class NewUserSerializer(ProfileChangeSerializer):
    phone_number = PhoneField()
    username = Text(max_length=150, required=False, validators=[UnicodeUsernameValidator()])
    is_staff = TrueOrFalse(required=False)


class UserChangeSerializer(ProfileChangeSerializer):
    phone_number = PhoneField(required=False)
    is_active = TrueOrFalse(required=False)
    is_staff = TrueOrFalse(required=False)
