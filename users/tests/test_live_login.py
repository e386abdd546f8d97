"""Parallel logins on the production server: attempts are counted, and of those with one code one succeeds."""

import sys
from collections import Counter

from lokanetra.tests.live import Answer, Live, at_once


def statuses(answers: list[Answer]) -> Counter:
    return Counter(answer.status for answer in answers)


def send(live: Live, phone: str) -> str:
    """The code that was delivered."""
    assert live.post("/auth/send-otp/", {"phone_number": phone}).status == 201
    return live.codes[phone]


def verify(live: Live, phone: str, code: str) -> Answer:
    return live.post("/auth/verify-otp/", {"phone_number": phone, "otp": code})


def test_of_forty_wrong_codes_twenty_are_answered_and_five_count_on_the_code(live: Live):
    code = send(live, "9866666666")
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    answers = at_once(*[lambda: verify(live, "9866666666", wrong)] * 40)
    assert statuses(answers) == {400: 20, 429: 20}
    assert {answer.code for answer in answers} == {"otp_invalid", "throttled"}
    counted = "from users.models import OTP; print(OTP.objects.get(phone_number='+919866666666').attempts)"
    assert live.run(sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", counted).stdout == "5\n"
    assert verify(live, "9866666666", code).status == 429


def test_five_wrong_codes_invalidate_the_right_one(live: Live):
    code = send(live, "9866666667")
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    assert statuses(at_once(*[lambda: verify(live, "9866666667", wrong)] * 5)) == {400: 5}
    assert verify(live, "9866666667", code).code == "otp_invalid"


def test_ten_right_codes_are_one_login_one_user_and_one_wallet(live: Live):
    code = send(live, "9877777777")
    answers = at_once(*[lambda: verify(live, "9877777777", code)] * 10)
    assert statuses(answers) == {200: 1, 400: 9}
    winner = next(answer for answer in answers if answer.status == 200)
    assert winner.body["user"]["username"] == "user_9877777777"
    assert live.balance(winner.body["access"]) == "0.00"


def test_of_eight_refreshes_one_wins_and_stays_in(live: Live):
    refresh = verify(live, "9877777778", send(live, "9877777778")).body["refresh"]
    answers = at_once(*[lambda: live.post("/auth/token/refresh/", {"refresh": refresh})] * 8)
    assert statuses(answers) == {200: 1, 401: 7}
    assert {answer.code for answer in answers if answer.status == 401} == {"token_reused"}
    winner = next(answer for answer in answers if answer.status == 200)
    assert live.balance(winner.body["access"]) == "0.00"
    assert live.post("/auth/token/refresh/", {"refresh": winner.body["refresh"]}).status == 200
