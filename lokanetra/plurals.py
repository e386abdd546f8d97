"""How many of what, as people say it: for commands and pages that speak to them."""

from django.template.defaultfilters import pluralize


def how_many(count: int, noun: str) -> str:
    """Such as `1 account` and `2,000 accounts`."""
    return f"{count:,} {noun}{pluralize(count)}"


def verb(count: int, of_one: str, of_many: str) -> str:
    """What so many do: `has` or `have`."""
    return of_one if count == 1 else of_many
