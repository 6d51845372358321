-- Installs the Codex into this database and says who may do what in it.
\ir lib/begin.sql
SET client_min_messages = warning; -- codex.migrate() tells the same in its result

CREATE EXTENSION raptorflow_codex;
SELECT version, name, outcome FROM codex.migrate();

-- The role that the product's API logs in with, and the role of its backend jobs.
SELECT codex.grant_member_role(:'member') \gset
SELECT codex.grant_service_role(:'service') \gset
