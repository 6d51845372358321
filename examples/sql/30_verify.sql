-- Is the Codex whole in this database? One row a check.
\ir lib/begin.sql

\echo
\echo '━━━ Verify ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
CREATE TEMP TABLE verdict AS SELECT * FROM codex.verify();
\echo 'The named checks:'
SELECT id, what, passed FROM verdict WHERE id ~ '^01[3-7]\.[0-9]' ORDER BY id;
\echo 'All of them:'
SELECT count(*) AS checks, count(*) FILTER (WHERE passed) AS passed, count(*) FILTER (WHERE NOT passed) AS failed FROM verdict;
\echo 'What failed, and what to do:'
SELECT id, what, expected, actual, hint FROM verdict WHERE NOT passed ORDER BY id;
SELECT codex.verify_or_raise() \gset
