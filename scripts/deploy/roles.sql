-- Runs when the database is created: the role of servers and workers. It owns nothing; the migrate service grants its
-- rights.
\getenv password SERVER_PASSWORD
CREATE ROLE lokanetra_server LOGIN PASSWORD :'password';
