// Two people pay each other, with the generated types: if those are wrong this does not compile.
//
// LOKANETRA_URL is the address of the server, which must let users credit themselves. PHONES are two new numbers.
// If the server does not return the code, as one in development does, the program asks for it.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline/promises";

import createClient from "openapi-fetch";

import type { components, paths } from "./api.js";

type Schemas = components["schemas"];
type Answer<Data, Error> = { data?: Data; error?: Error; response: Response };

const baseUrl = process.env["LOKANETRA_URL"] ?? "http://127.0.0.1:8000";
const [payerPhone = "9870000011", payeePhone = "9870000012"] = (process.env["PHONES"] ?? "").split(/\s+/).filter(Boolean);
const terminal = createInterface({ input: process.stdin });

// --- The exact types ---

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type True<Fact extends true> = Fact;
type TransferRefusal = NonNullable<Awaited<ReturnType<typeof transferTooMuch>>["error"]>;

export type Checked = [
  True<Same<Schemas["Receipt"]["transaction_type"], "CREDIT" | "DEBIT" | "TRANSFER">>,
  True<Same<Schemas["Receipt"]["amount"], string>>,
  True<Same<Schemas["Receipt"]["remarks"], string>>,
  True<Same<Schemas["Receipt"]["sender"], string | null>>,
  True<Same<Schemas["Receipt"]["hold"], number | null>>,
  True<Same<Schemas["Hold"]["status"], "OPEN" | "CAPTURED" | "VOIDED" | "EXPIRED">>,
  True<Same<Schemas["Hold"]["closed_at"], string | null>>,
  True<Same<Schemas["PaymentRequest"]["status"], "PENDING" | "PAID" | "DECLINED" | "CANCELLED" | "EXPIRED">>,
  True<Same<Schemas["BalanceAt"]["status"], "ACTIVE" | "FROZEN" | null>>,
  True<Same<Schemas["Limit"]["limit"], string | number>>,
  True<Same<Schemas["Event"]["data"], { [key: string]: unknown }>>,
  True<Same<Schemas["Sent"], { phone_number: string; otp?: string; expires_in: number; resend_after: number }>>,
  True<Same<paths["/wallet/holds/{id}/"]["get"]["parameters"]["path"], { id: number }>>,
  True<Same<Extract<TransferRefusal["code"], "insufficient_funds" | "hold_closed">, "insufficient_funds">>,
  True<Same<string extends TransferRefusal["code"] ? true : false, false>>,
];

// --- The calls ---

/** The data of a response; throws its problem if there is one. */
function expectData<Data, Error>({ data, error, response }: Answer<Data, Error>): Data {
  if (data === undefined) throw new TypeError(`${response.status}: ${JSON.stringify(error)}`);
  return data;
}

function expectError<Data, Error>({ error }: Answer<Data, Error>): NonNullable<Error> {
  assert(error, "it was not refused");
  return error;
}

async function codeOf(sent: Schemas["Sent"]): Promise<string> {
  if (sent.otp !== undefined) return sent.otp;
  console.log(`code of ${sent.phone_number}?`);
  return terminal.question("");
}

async function logIn(phone_number: string) {
  const nobody = createClient<paths>({ baseUrl });
  const sent = expectData(await nobody.POST("/auth/send-otp/", { body: { phone_number } }));
  const body = { phone_number, otp: await codeOf(sent) };
  const { access, user } = expectData(await nobody.POST("/auth/verify-otp/", { body }));
  assert.equal(user.phone_number, phone_number);
  return { user, api: createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${access}` } }) };
}

const once = () => ({ header: { "Idempotency-Key": randomUUID() } });
const payer = await logIn(payerPhone);
const payee = await logIn(payeePhone);

async function balance(): Promise<Schemas["BalanceAt"]> {
  return expectData(await payer.api.GET("/wallet/balance/"));
}

function transferTooMuch() {
  return payer.api.POST("/wallet/transfer/", { body: { to_phone_number: payeePhone, amount: "5000.00" } });
}

async function pay(): Promise<void> {
  const credit = expectData(await payer.api.POST("/wallet/credit/", { params: once(), body: { amount: "1000.00" } }));
  assert.equal(credit.sender, null);
  const call = { params: once(), body: { to_phone_number: payeePhone, amount: "150.50", remarks: "Lunch" } };
  const first = await payer.api.POST("/wallet/transfer/", call);
  const again = await payer.api.POST("/wallet/transfer/", call);
  assert.deepEqual(expectData(again), expectData(first));
  assert.equal(again.response.headers.get("Idempotent-Replayed"), "true");
  assert.equal((await balance()).balance, "849.50");
}

async function list(): Promise<void> {
  const page = expectData(await payer.api.GET("/transactions/", { params: { query: { page_size: 1 } } }));
  assert.equal(page.results[0]?.direction, "OUT");
  assert(page.next);
  const cursor = new URL(page.next).searchParams.get("cursor") ?? "";
  const next = expectData(await payer.api.GET("/transactions/", { params: { query: { page_size: 1, cursor } } }));
  assert.deepEqual([next.results[0]?.transaction_type, next.next], ["CREDIT", null]);
}

async function refusals(): Promise<void> {
  const problem = expectError(await transferTooMuch());
  assert.equal(problem.code satisfies Schemas["Problem"]["code"], "insufficient_funds");
  const unread = expectError(await payer.api.POST("/wallet/debit/", { body: { amount: "0.00" } }));
  assert.deepEqual([unread.code, unread.errors?.["amount"]?.length], ["validation_error", 1]);
}

async function hold(): Promise<void> {
  const body = { to_phone_number: payeePhone, amount: "100.00" };
  const { id, status } = expectData(await payer.api.POST("/wallet/holds/", { params: once(), body }));
  assert.deepEqual([status, (await balance()).held], ["OPEN", "100.00"]);
  const captured = { params: { path: { id }, ...once() }, body: { amount: "60.00" } };
  assert.equal(expectData(await payee.api.POST("/wallet/holds/{id}/capture/", captured)).hold, id);
  const closed = expectError(await payee.api.POST("/wallet/holds/{id}/void/", { params: { path: { id } } }));
  assert.equal(closed.code, "hold_closed");
}

async function request(): Promise<void> {
  const body = { from_phone_number: payerPhone, amount: "75.00" };
  const { id } = expectData(await payee.api.POST("/wallet/requests/", { params: once(), body }));
  const receipt = expectData(await payer.api.POST("/wallet/requests/{id}/pay/", { params: { path: { id }, ...once() } }));
  const paid = expectData(await payee.api.GET("/wallet/requests/{id}/", { params: { path: { id } } }));
  assert.deepEqual([paid.status, paid.transaction], ["PAID", receipt.transaction_id]);
}

async function statement(): Promise<void> {
  const { closing_balance, count } = expectData(await payer.api.GET("/transactions/statement/"));
  assert.deepEqual([closing_balance, count], [(await balance()).balance, 4]);
}

for (const step of [pay, list, refusals, hold, request, statement]) {
  await step();
  console.log(`done: ${step.name}`);
}
terminal.close();
