"""Meters for a layer of the product: instructions as callgrind counts them, which are reproducible, or seconds."""

import ctypes
import mmap
import time
from typing import Protocol

# What is metered: its name in the bill, its depth, and the path of its function.
LAYERS = [
    ("all of the request", 0, "scripts.bench.bill_worker:handle"),
    ("environ", 1, "lokanetra.rsgi:environ_of"),
    ("Django's handler", 1, "lokanetra.rsgi:Handler.answer"),
    ("request object", 2, "django.core.handlers.wsgi:WSGIRequest.__init__"),
    ("routing", 2, "lokanetra.rsgi:Handler.resolve_request"),
    ("log line", 2, "logging:Logger.info"),
    ("host and slash", 2, "lokanetra.middleware:SlashMiddleware.process_request"),
    ("DRF's dispatch", 2, "rest_framework.views:APIView.dispatch"),
    ("request object of DRF", 3, "rest_framework.viewsets:ViewSetMixin.initialize_request"),
    ("token, and its account", 3, "rest_framework.views:APIView.perform_authentication"),
    ("permission", 3, "rest_framework.views:APIView.check_permissions"),
    ("rate limit", 3, "rest_framework.views:APIView.check_throttles"),
    ("body, parameters, key", 3, "lokanetra.endpoints:Contract.read"),
    ("parser", 4, "lokanetra.parsers:JSONParser.parse"),
    ("serializer", 4, "rest_framework.serializers:Serializer.run_validation"),
    ("operation", 3, "wallet.faults:_once"),
    ("BEGIN", 4, "django.db.transaction:Atomic.__enter__"),
    ("lock of the wallets", 4, "wallet.ledger:lock_pair"),
    ("rules", 4, "wallet.rules:check_pair"),
    ("writes", 4, "wallet.books:write"),
    ("COMMIT", 4, "django.db.transaction:Atomic.__exit__"),
    ("code: created and sent", 3, "users.otp:send"),
    ("code: verified", 3, "users.otp:verify"),
    ("limits of codes", 4, "users.limits:consume"),
    ("answer", 3, "lokanetra.endpoints:Contract.answer"),
    ("statements, with their round trips", 1, "lokanetra.prepared:_rows_of"),
    ("other statements", 1, "django.db.backends.utils:CursorWrapper.execute"),
]

# Requests from a program to callgrind (valgrind.h and callgrind.h of valgrind 3).
DUMP, ZERO, TOGGLE, START, STOP = (0x43540000 + number for number in (3, 1, 2, 4, 5))
# mov rax, rdi; xor edx, edx; valgrind's mark: four rotations by 128 bits in all; xchg rbx, rbx; mov rax, rdx; ret
REQUEST = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")


class Meter(Protocol):
    def begin(self) -> None: ...

    def enter(self) -> None: ...

    def leave(self) -> None: ...

    def end(self, name: str) -> None: ...


class Clock:
    """Microseconds between `enter` and `leave`, summed up."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def begin(self) -> None:
        self.total = 0.0

    def enter(self) -> None:
        self.entered = time.perf_counter()

    def leave(self) -> None:
        self.total += time.perf_counter() - self.entered

    def end(self, name: str) -> None:
        self.found[name] = self.total * 1e6


class Instructions:
    """The same in instructions, which callgrind writes to a file for each name. Only on x86-64 and under callgrind."""

    def __init__(self) -> None:
        page = mmap.mmap(-1, len(REQUEST), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(REQUEST)
        self.page = page
        self.request = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(
            ctypes.addressof(ctypes.c_char.from_buffer(page))
        )
        self._send(START)
        self._send(TOGGLE)  # counts nothing until a layer is entered

    def begin(self) -> None:
        self._send(ZERO)

    def enter(self) -> None:
        self._send(TOGGLE)

    leave = enter

    def end(self, name: str) -> None:
        self._send(DUMP, name.encode())

    def _send(self, code: int, text: bytes = b"") -> None:
        pointer = ctypes.c_char_p(text)
        words = (ctypes.c_uint64 * 6)(code, ctypes.cast(pointer, ctypes.c_void_p).value or 0)
        self.request(ctypes.addressof(words))
