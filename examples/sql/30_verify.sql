-- Is the Codex whole in this database? One row a check.
\ir lib/begin.sql

\echo
\echo '━━━ Verify ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
CREATE TEMP TABLE verdict AS SELECT * FROM codex.verify();
\echo 'The named checks:'
SELECT id, what, passed FROM verdict WHERE id ~ '^01[3-7]\.[0-9]' ORDER BY id;
\echo 'All of them:'
SELECT count(*) AS checks, count(*) FILTER (WHERE passed) AS passed, count(*) FILTER (WHERE NOT passed) AS failed FROM verdict;
SELECT count(*) > 0 AS failed FROM verdict WHERE NOT passed \gset
\if :failed
    \echo 'What failed, and what to do:'
    SELECT id, left(what, 40) AS what, left(expected, 40) AS expected, left(actual, 60) AS actual, left(hint, 60) AS hint
    FROM verdict
    WHERE NOT passed
    ORDER BY id;
\endif
-- For scripts: one sentence, or an error that names what failed.
SELECT codex.verify_or_raise() AS verdict;
