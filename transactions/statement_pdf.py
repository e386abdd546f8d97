"""The layout of a statement as PDF. It draws the rows that it is given and reads no database.

Texts are drawn as they are, never as markup. The font in `fonts/` has Latin and Devanagari; characters of other scripts
become a box.
"""

import re
import unicodedata
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from time import sleep
from typing import Any

from django.conf import settings
from django.utils import timezone
from fontTools.ttLib import TTFont
from fpdf import FPDF

from transactions.statements import Statement
from users import phones
from wallet.money import rupees

FONTS = Path(__file__).parent / "fonts"
REGULAR, BOLD = (FONTS / f"NotoSansDevanagari-{name}.ttf" for name in ("Regular", "Bold"))
PRODUCT = "Lokanetra"
BOX = "\u25a1"

# Categories of characters that combine with the previous one.
MARKS = ("Mn", "Me")

# Millimetres on A4, and points of text.
MARGIN, LINE, SMALL, PLAIN, LARGE = 12, 4.5, 7.5, 9, 18
COLUMNS = {"Date": 25, "No.": 18, "Details": 58, "Paid out": 27, "Paid in": 27, "Balance": 31}
WIDTHS = list(COLUMNS.values())
DETAILS = WIDTHS[2]
FOOT = 18
GREY, BLACK, RULE, SHADE = 95, 20, 200, 243

NAMES = {"CREDIT": "Credit", "DEBIT": "Debit", ("TRANSFER", "OUT"): "Transfer to", ("TRANSFER", "IN"): "Transfer from"}
# The vowel sign that is drawn before its consonants although it follows them in the text.
VOWEL_I = re.compile("((?:[\u0915-\u0939\u0958-\u095f]\u093c?\u094d)*[\u0915-\u0939\u0958-\u095f]\u093c?)\u093f")


class Drawing(FPDF):
    """The pages of one statement, batch by batch of its rows."""

    def __init__(self, statement: Statement) -> None:
        super().__init__(format="A4")
        self.statement = statement
        self.owner, self.phone = owner_name(statement), masked_phone(statement)
        self.set_title(f"Statement {statement.start_date} to {statement.end_date}")
        self.set_margin(MARGIN)
        self.set_auto_page_break(True, FOOT)
        self.add_font("noto", "", REGULAR)
        self.add_font("noto", "B", BOLD)
        self.c_margin = 0.8
        self.add_page()
        self._first_page()

    def add(self, rows: list[tuple]) -> None:
        for row in rows:
            self._row(*row)
            sleep(0)  # lets waiting threads run now, not only after the five milliseconds of the interpreter

    def finish(self) -> bytes:
        """The bytes of the file."""
        if not self.statement.count:
            self._balance_line("No transactions in this period.", "")
        self._balance_line("Closing balance", rupees(self.statement.closing_balance))
        return bytes(self.output())

    # --- Every page ----------------------------------------------------------------------------------

    def header(self) -> None:
        if self.page_no() > 1:
            self._column_heads()

    def footer(self) -> None:
        self._style(SMALL, grey=GREY)
        self.set_y(-FOOT + 6)
        self.cell(self.epw, LINE, f"{self.owner}  {self.phone}")
        self.set_x(self.l_margin)
        self.cell(self.epw, LINE, f"Page {self.page_no()} of {self.str_alias_nb_pages}", align="C")

    def _column_heads(self) -> None:
        self._style(SMALL, bold=True)
        self.set_fill_color(SHADE)
        for name, width in COLUMNS.items():
            self.cell(width, LINE + 2, name, align=_align(name), fill=True)
        self.ln(LINE + 3)

    # --- The first page ------------------------------------------------------------------------------

    def _first_page(self) -> None:
        self._style(LARGE, bold=True)
        self.cell(self.epw / 2, 10, "Statement")
        self._style(PLAIN, grey=GREY)
        self.cell(self.epw / 2, 10, PRODUCT, align="R")
        self.ln(13)
        self._facts()
        self._sums()
        self._column_heads()
        self._balance_line("Opening balance", rupees(self.statement.opening_balance))

    def _facts(self) -> None:
        period = f"{_day(self.statement.start_date)} to {_day(self.statement.end_date)}"
        issued = f"{timezone.localtime():%d %b %Y, %H:%M}. Times are of {settings.TIME_ZONE}."
        facts = {"Name": self.owner, "Phone": self.phone, "Period": period, "Issued": issued}
        for name, value in facts.items():
            self._style(PLAIN, grey=GREY)
            self.cell(22, LINE + 1, name)
            self._style(PLAIN)
            self.cell(self.epw - 22, LINE + 1, value)
            self.ln(LINE + 1)
        self.ln(4)

    def _sums(self) -> None:
        statement, width = self.statement, self.epw / 4
        sums = {"Opening balance": statement.opening_balance, "Total paid in": statement.total_in}
        sums |= {"Total paid out": statement.total_out, "Closing balance": statement.closing_balance}
        self._style(SMALL, grey=GREY)
        for name in sums:
            self.cell(width, LINE, name)
        self.ln(LINE)
        self._style(PLAIN + 2, bold=True)
        for amount in sums.values():
            self._fitted_cell(width, LINE + 2, rupees(amount))
        self.ln(LINE + 6)

    # --- The table -----------------------------------------------------------------------------------

    def _balance_line(self, text: str, amount: str) -> None:
        self._make_room(1)
        self._style(SMALL, bold=True)
        self.cell(sum(WIDTHS[:-1]), LINE + 1, text)
        self._fitted_cell(WIDTHS[-1], LINE + 1, amount, align="R")
        self._rule(LINE + 1)

    def _row(
        self, at: datetime, pk: int, kind: str, direction: str, counterparty: str, remarks: str, *money: Decimal
    ) -> None:
        amount, balance = map(rupees, money)
        self._style(SMALL)
        name = NAMES.get(kind) or f"{NAMES[kind, direction]} {printable(counterparty)}"
        details = self._lines(name) + self._lines(printable(remarks))
        self._make_room(len(details))
        out, in_ = (amount, "") if direction == "OUT" else ("", amount)
        self.cell(WIDTHS[0], LINE, f"{timezone.localtime(at):%d %b %Y %H:%M}")
        self.cell(WIDTHS[1], LINE, str(pk), align="R")
        self.cell(DETAILS, LINE, details[0])
        for width, text in zip(WIDTHS[3:], (out, in_, balance), strict=True):
            self._fitted_cell(width, LINE, text, align="R")
        self._following_lines(details[1:])
        self._rule(LINE)

    def _following_lines(self, lines: list[str]) -> None:
        """The details below the first line."""
        self.set_text_color(GREY)
        for line in lines:
            self.ln(LINE)
            self.set_x(self.l_margin + sum(WIDTHS[:2]))
            self.cell(DETAILS, LINE, line)

    def _lines(self, text: str) -> list[str]:
        if self.get_string_width(text) <= DETAILS - 2 * self.c_margin:
            return [text] if text else []
        found: Any = self.multi_cell(DETAILS, LINE, text, dry_run=True, output="LINES")
        return found

    def _fitted_cell(self, width: float, height: float, text: str, align: str = "L") -> None:
        """A cell whose text shrinks until it fits."""
        size = self.font_size_pt
        while self.get_string_width(text) > width - 2 * self.c_margin:
            self.set_font_size(self.font_size_pt - 0.5)
        self.cell(width, height, text, align=align)
        self.set_font_size(size)

    def _make_room(self, lines: int) -> None:
        """Start a new page where a row of this many lines would not fit."""
        if self.will_page_break(LINE * lines + 2):
            self.add_page()
            self._style(SMALL)

    def _rule(self, height: float) -> None:
        self.ln(height + 0.6)
        self.set_draw_color(RULE)
        self.line(self.l_margin, self.y, self.l_margin + self.epw, self.y)
        self.ln(0.6)

    def _style(self, size: float, *, bold: bool = False, grey: int = BLACK) -> None:
        self.set_font("noto", "B" if bold else "", size)
        self.set_text_color(grey)


def _align(column: str) -> str:
    return "L" if column in ("Date", "Details") else "R"


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


# --- Texts -------------------------------------------------------------------------------------------


def owner_name(statement: Statement) -> str:
    """The owner's name. A phone number in it is masked as `masked_phone` does."""
    user = statement.wallet.user
    name = user.get_full_name() or user.username
    return printable(name.replace(user.phone, masked_phone(statement)) if user.phone else name)


def masked_phone(statement: Statement) -> str:
    number = statement.wallet.user.phone_number
    return phones.masked(number) if number else "none"


def printable(text: str | None) -> str:
    """One line of characters that the font has; invisible ones are dropped, and others become a box."""
    line = " ".join((text or "outside").split()) if text != "" else ""
    return "".join(_glyph(sign) for sign in VOWEL_I.sub("\u093f\\1", line))


def _glyph(sign: str) -> str:
    if not sign.isprintable():
        return ""
    if ord(sign) in _font_characters():
        return sign
    return "" if unicodedata.category(sign) in MARKS else BOX


@cache
def _font_characters() -> frozenset[int]:
    return frozenset(TTFont(REGULAR).getBestCmap())
