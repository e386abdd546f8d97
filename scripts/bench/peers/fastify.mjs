// The same contract by Fastify and node-postgres, in the usual way: a pool, prepared statements, durable commits.
// Listens on PORT with WORKERS processes; the database is at DATABASE_URL, tokens are signed with JWT_SIGNING_KEY.
import cluster from "node:cluster";
import { readFileSync } from "node:fs";
import Fastify from "fastify";
import { createVerifier } from "fast-jwt";
import pg from "pg";

const { PORT, WORKERS, DATABASE_URL, JWT_SIGNING_KEY } = process.env;
const statements = JSON.parse(readFileSync(new URL("statements.json", import.meta.url), "utf8"));
const MAX_PAISE = 100_000_000_00n;

class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    Object.assign(this, { status, code });
  }
}

pg.types.setTypeParser(pg.types.builtins.INT8, BigInt);
const verify = createVerifier({
  key: JWT_SIGNING_KEY, algorithms: ["HS256"], allowedIss: "lokanetra", allowedAud: "lokanetra", cache: 1000,
});
const query = (client, name, values) => client.query({ name, text: statements[name], values });
const toRupees = (paise) => `${paise / 100n}.${String(paise % 100n).padStart(2, "0")}`;

function caller(request) {
  const [kind, token] = (request.headers.authorization ?? "").split(" ");
  if (kind !== "Bearer") throw new Problem(401, "not_authenticated", "Log in first.");
  try {
    const claims = verify(token);
    if (claims.token_type === "access") return claims;
  } catch {}
  throw new Problem(401, "token_not_valid", "The token is not valid.");
}

function checkAccount(account, claims) {
  if (!account?.is_active || account.token_version !== claims.token_version)
    throw new Problem(401, "token_not_valid", "The token is not valid.");
}

async function transfer(pool, claims, { to_phone_number: to, amount, remarks = "" }) {
  const [rupees, part = ""] = amount.split(".");
  const paise = BigInt(rupees) * 100n + BigInt(part.padEnd(2, "0"));
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const wallets = (await query(client, "lock", [claims.user_id, to.length === 10 ? `+91${to}` : to])).rows;
    const payer = wallets.find((wallet) => String(wallet.user_id) === claims.user_id);
    checkAccount(payer, claims);
    const receiver = wallets.find((wallet) => wallet.phone_number?.endsWith(to));
    check(payer, receiver, paise);
    const values = [payer.id, receiver.id, paise, remarks, claims.user_id];
    const [row] = (await query(client, "write", values)).rows;
    await client.query("COMMIT");
    return { row, payer, receiver };
  } catch (fault) {
    await client.query("ROLLBACK");
    throw fault;
  } finally {
    client.release();
  }
}

function check(payer, receiver, paise) {
  if (paise <= 0n) throw new Problem(400, "validation_error", "The amount must be more than zero.");
  if (payer.status !== "ACTIVE") throw new Problem(403, "wallet_frozen", "The wallet is frozen.");
  if (!receiver?.is_active) throw new Problem(404, "recipient_not_found", "Nobody has this number.");
  if (receiver.id === payer.id) throw new Problem(400, "self_transfer", "This is your own wallet.");
  if (receiver.status !== "ACTIVE") throw new Problem(403, "recipient_unavailable", "The wallet cannot receive.");
  if (payer.balance - payer.held < paise) throw new Problem(400, "insufficient_funds", "There is not enough.");
  if (receiver.balance + paise > MAX_PAISE) throw new Problem(400, "limit_exceeded", "That is too much.");
}

const BODY = {
  type: "object",
  additionalProperties: false,
  required: ["to_phone_number", "amount"],
  properties: {
    to_phone_number: { type: "string", maxLength: 20 },
    amount: { type: "string", pattern: "^(0|[1-9][0-9]{0,11})(\\.[0-9]{1,2})?$" },
    remarks: { type: "string", maxLength: 255 },
  },
};

function serve() {
  const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 7 });
  const app = Fastify();
  app.setErrorHandler((fault, request, reply) => {
    const status = fault.status ?? fault.statusCode ?? 500;
    reply.code(status).type("application/problem+json");
    return { type: "about:blank", status, code: fault.code ?? "server_error", detail: fault.message };
  });
  app.get("/readyz", async () => ({ status: "ok" }));
  app.get("/wallet/balance/", async (request) => {
    const claims = caller(request);
    const [found] = (await query(pool, "balance", [claims.user_id])).rows;
    checkAccount(found, claims);
    const held = found.held - found.due;
    return {
      user: found.username, balance: toRupees(found.balance), currency: "INR", status: found.status,
      held: toRupees(held), available: toRupees(found.balance - held), tier: found.tier,
    };
  });
  app.post("/wallet/transfer/", { schema: { body: BODY } }, async (request) => {
    const { row, payer, receiver } = await transfer(pool, caller(request), request.body);
    const { amount, remarks = "" } = request.body;
    return {
      transaction_id: Number(row.id), transaction_type: "TRANSFER", amount, balance: toRupees(row.sender_balance),
      sender: payer.username, receiver: receiver.username, remarks, timestamp: row.timestamp, hold: null, reverses: null,
    };
  });
  app.listen({ port: Number(PORT), host: "127.0.0.1" });
}

if (cluster.isPrimary) for (let worker = 0; worker < Number(WORKERS); worker++) cluster.fork();
else serve();
