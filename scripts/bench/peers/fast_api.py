"""The same contract by FastAPI, SQLAlchemy and asyncpg, in the usual way: a pool, prepared statements, durable commits.

The database is at DATABASE_URL, tokens are signed with JWT_SIGNING_KEY.
"""

import json
import os
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, StringConstraints
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

MAX_PAISE = 100_000_000_00
NAMES = {"balance": ["user"], "lock": ["user", "phone"], "write": ["payer", "receiver", "paise", "remarks", "user"]}

app = FastAPI()
engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=7, max_overflow=0)


def _statement(name: str, sql: str) -> Any:
    """Replace the numbered parameters by names, the highest number first."""
    for number, parameter in reversed(list(enumerate(NAMES[name], 1))):
        kind = "text" if parameter in ("phone", "remarks") else "bigint"
        sql = sql.replace(f"${number}", f"CAST(:{parameter} AS {kind})")
    return text(sql)


templates = json.loads(Path(__file__).with_name("statements.json").read_text())
statements = {name: _statement(name, statement) for name, statement in templates.items()}


class Problem(Exception):
    def __init__(self, status: int, code: str, detail: str) -> None:
        self.status, self.code, self.detail = status, code, detail


@app.exception_handler(Problem)
async def as_problem(request: Request, fault: Problem) -> JSONResponse:
    body = {"type": "about:blank", "status": fault.status, "code": fault.code, "detail": fault.detail}
    return JSONResponse(body, fault.status, media_type="application/problem+json")


class Transfer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    to_phone_number: Annotated[str, StringConstraints(max_length=20)]
    amount: Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,2})?$")]
    remarks: Annotated[str, StringConstraints(max_length=255)] = ""


@lru_cache(1000)
def _claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, os.environ["JWT_SIGNING_KEY"], ["HS256"], issuer="lokanetra", audience="lokanetra")


def caller(request: Request) -> dict[str, Any]:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        claims = _claims(token)
    except jwt.PyJWTError:
        claims = {}
    if kind != "Bearer" or claims.get("token_type") != "access":
        raise Problem(401, "token_not_valid", "The token is not valid.")
    return claims


def check_account(account: Any, claims: dict[str, Any]) -> None:
    if account is None or not account.is_active or account.token_version != claims["token_version"]:
        raise Problem(401, "token_not_valid", "The token is not valid.")


def check(payer: Any, receiver: Any, paise: int) -> None:
    if paise <= 0:
        raise Problem(400, "validation_error", "The amount must be more than zero.")
    if payer.status != "ACTIVE":
        raise Problem(403, "wallet_frozen", "The wallet is frozen.")
    if receiver is None or not receiver.is_active:
        raise Problem(404, "recipient_not_found", "Nobody has this number.")
    if receiver.id == payer.id:
        raise Problem(400, "self_transfer", "This is your own wallet.")
    if receiver.status != "ACTIVE":
        raise Problem(403, "recipient_unavailable", "The wallet cannot receive.")
    if payer.balance - payer.held < paise:
        raise Problem(400, "insufficient_funds", "There is not enough.")
    if receiver.balance + paise > MAX_PAISE:
        raise Problem(400, "limit_exceeded", "That is too much.")


def to_rupees(paise: int) -> str:
    return f"{paise // 100}.{paise % 100:02}"


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/wallet/balance/")
async def balance(claims: Annotated[dict, Depends(caller)]) -> dict[str, Any]:
    async with engine.connect() as connection:
        found = (await connection.execute(statements["balance"], {"user": int(claims["user_id"])})).first()
    check_account(found, claims)
    held = found.held - found.due
    body = {"user": found.username, "balance": to_rupees(found.balance), "currency": "INR", "status": found.status}
    return body | {"held": to_rupees(held), "available": to_rupees(found.balance - held), "tier": found.tier}


@app.post("/wallet/transfer/")
async def transfer(body: Transfer, claims: Annotated[dict, Depends(caller)]) -> dict[str, Any]:
    async with engine.begin() as connection:
        payer, receiver, row = await _move(connection, body, claims)
    receipt = {"transaction_id": row.id, "transaction_type": "TRANSFER", "amount": body.amount}
    receipt |= {"balance": to_rupees(row.sender_balance), "sender": payer.username, "receiver": receiver.username}
    return receipt | {"remarks": body.remarks, "timestamp": row.timestamp, "hold": None, "reverses": None}


async def _move(connection: AsyncConnection, body: Transfer, claims: dict[str, Any]) -> tuple[Any, Any, Any]:
    user, to, paise = int(claims["user_id"]), body.to_phone_number, int(Decimal(body.amount) * 100)
    phone = f"+91{to}" if len(to) == 10 else to
    wallets = (await connection.execute(statements["lock"], {"user": user, "phone": phone})).all()
    payer: Any = next((wallet for wallet in wallets if wallet.user_id == user), None)
    check_account(payer, claims)
    receiver: Any = next((wallet for wallet in wallets if wallet.phone_number == phone), None)
    check(payer, receiver, paise)
    values = {"payer": payer.id, "receiver": receiver.id, "paise": paise, "remarks": body.remarks, "user": user}
    return payer, receiver, (await connection.execute(statements["write"], values)).one()
