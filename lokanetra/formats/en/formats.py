"""How Django writes times, and reads them, where it would do so in English of its own."""

DATETIME_FORMAT = "d M Y H:i"
