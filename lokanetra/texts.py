"""What a text that people write may be made of: no character that lies about the others, and none that nobody sees."""

import re
import unicodedata

from django.core.exceptions import ValidationError

# Signs without a shape that languages and emoji are written with: joiners, and marks of a direction, which turn no
# letter around.
NEEDED = "\u200c\u200d\u200e\u200f\u061c"
# The flags of England, Scotland and Wales are spelled with signs that nobody sees.
FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f")


def one_line(text: str) -> None:
    """Raises ValidationError for characters that turn others around, control characters, line breaks, and such as
    take no place."""
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
    # What is merely not assigned yet may be tomorrow's emoji.
    return category in ("Cc", "Cs", "Zl", "Zp") or is_no_character or (category == "Cf" and sign not in NEEDED)
