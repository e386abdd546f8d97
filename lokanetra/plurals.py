"""Counts with their nouns and verbs, for the texts of commands and pages."""

from django.template.defaultfilters import pluralize


def how_many(count: int, noun: str) -> str:
    """Such as `1 account` and `2,000 accounts`."""
    return f"{count:,} {noun}{pluralize(count)}"


def verb(count: int, singular: str, plural: str) -> str:
    """The form of the verb, such as `has` or `have`."""
    return singular if count == 1 else plural
