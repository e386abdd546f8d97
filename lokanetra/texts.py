"""Which characters a text may have: none that hides or reorders others, and none that is invisible."""

import re
import unicodedata

from django.core.exceptions import ValidationError

# Invisible characters that languages and emoji need: joiners, and direction marks, which reorder no letters.
NEEDED = "\u200c\u200d\u200e\u200f\u061c"
# The flags of England, Scotland and Wales contain invisible characters.
FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f")


def one_line(text: str) -> None:
    """Raises ValidationError for characters that reorder others, control characters, line breaks, and invisible
    characters."""
    if text.isprintable():
        return
    for sign in FLAG.sub("", text):
        if _is_refused(sign):
            raise ValidationError(f"Leave out the character U+{ord(sign):04X}: it cannot be seen.", code="invalid")


def lines(text: str) -> None:
    """The same for a text that may have line breaks."""
    one_line(text.replace("\r\n", "").replace("\n", ""))


def _is_refused(sign: str) -> bool:
    category = unicodedata.category(sign)
    is_no_character = ord(sign) & 0xFFFE == 0xFFFE or "\ufdd0" <= sign <= "\ufdef"
    # An unassigned character may be tomorrow's emoji.
    return category in ("Cc", "Cs", "Zl", "Zp") or is_no_character or (category == "Cf" and sign not in NEEDED)
