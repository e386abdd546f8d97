-- When the database is made: the role that servers and workers connect as. It owns nothing; the migration's job gives it
-- its rights.
\getenv password SERVER_PASSWORD
CREATE ROLE lokanetra_server LOGIN PASSWORD :'password';
