-- What a transfer costs the database alone, for pgbench: two wallets of :first to :last, what they count, and
-- a row that agrees with them. Days are those of the default `TIME_ZONE`; on the first of a month months are not begun.
\set wallets :last - :first + 1
\set payer random(:first, :last)
\set receiver :first + (:payer - :first + random(1, :wallets - 1)) % :wallets
BEGIN;
SELECT id, balance FROM wallet_wallet WHERE id IN (:payer, :receiver) ORDER BY id FOR NO KEY UPDATE;
UPDATE wallet_wallet SET balance = balance - 100,
    day = (now() AT TIME ZONE 'Asia/Kolkata')::date,
    out_day = CASE WHEN day = (now() AT TIME ZONE 'Asia/Kolkata')::date THEN out_day ELSE 0 END + 100,
    count_day = CASE WHEN day = (now() AT TIME ZONE 'Asia/Kolkata')::date THEN count_day ELSE 0 END + 1,
    out_month = out_month + 100
    WHERE id = :payer RETURNING user_id AS payer_user, balance AS payer_balance \gset
UPDATE wallet_wallet SET balance = balance + 100,
    day = (now() AT TIME ZONE 'Asia/Kolkata')::date,
    out_day = CASE WHEN day = (now() AT TIME ZONE 'Asia/Kolkata')::date THEN out_day ELSE 0 END,
    count_day = CASE WHEN day = (now() AT TIME ZONE 'Asia/Kolkata')::date THEN count_day ELSE 0 END,
    in_month = in_month + 100
    WHERE id = :receiver RETURNING balance AS receiver_balance \gset
INSERT INTO transactions_transaction
    (transaction_type, sender_id, receiver_id, amount, sender_balance, receiver_balance, remarks, timestamp,
     initiated_by_id, reverses_id, hold_id)
VALUES
    ('TRANSFER', :payer, :receiver, 100, :payer_balance, :receiver_balance, 'Lunch', clock_timestamp(),
     :payer_user, NULL, NULL)
RETURNING id;
COMMIT;
