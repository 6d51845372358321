-- A workspace is handed over, a person is forgotten, a workspace is erased.
\ir lib/begin.sql

\echo
\echo '━━━ A person or a workspace leaves ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
SELECT current_user AS owner \gset
\connect - :service
\echo 'Harvest & Hearth asks for everything it has. Its service exports it as JSON lines; what a row refers to comes first:'
BEGIN;
SELECT codex.enter_workspace(:'hearth') \gset
SELECT coalesce(e.line::json ->> 'table', (SELECT k FROM json_object_keys(e.line::json) AS k LIMIT 1)) AS line, count(*) AS lines
FROM codex.export_workspace(:'hearth') WITH ORDINALITY AS e (line, place)
GROUP BY 1
ORDER BY min(e.place);
COMMIT;

\connect - :owner
SET client_min_messages = warning;
\echo 'Tomas leaves the product. What is his goes; what the workspaces keep stays, and no longer says that it was his. (Rolled back here:'
\echo 'the demo goes on with him.)'
BEGIN;
SELECT table_name, action, rows FROM codex.erase_user(:'tomas') WHERE rows > 0;
\echo 'Asked again, nothing is left but the row in the table of users, which is the application''s:'
SELECT table_name, action, rows FROM codex.erase_user(:'tomas') WHERE rows > 0;
ROLLBACK;

\echo 'Harvest & Hearth leaves altogether; nobody else''s row is touched:'
BEGIN;
SELECT count(*) AS campaigns_of_others FROM public.campaigns WHERE workspace_id <> :'hearth';
SELECT table_name, rows FROM codex.erase_workspace(:'hearth') WHERE rows > 0;
SELECT count(*) AS campaigns_of_others FROM public.campaigns;
SELECT kind, rows_deleted, rows_anonymised FROM codex.departures;
ROLLBACK;
