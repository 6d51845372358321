-- What a policy costs: 1,000,000 rows of 1,000 workspaces, the same role, the same data with and without protection.
--
--     createdb codex_bench
--     psql -X -d codex_bench -v ON_ERROR_STOP=1 -f bench/row_level_security.sql
--
-- Runs in its own database as a superuser; makes the role codex_bench_member and drops it. Each pair is measured in
-- turns, and the fastest of all turns counts: what other work on the machine adds is only ever more.

\set QUIET on
\pset footer off
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS raptorflow_codex;
SELECT count(*) AS migrations FROM codex.migrate();

INSERT INTO public.workspaces (name)
SELECT 'w' || n
FROM generate_series(1, 1000) AS n;
INSERT INTO public.users (email)
SELECT 'u' || n || '@bench.example'
FROM generate_series(1, 1000) AS n;
INSERT INTO public.workspace_members (workspace_id, user_id)
SELECT w.id, u.id
FROM public.workspaces AS w
    JOIN public.users AS u ON u.email = 'u' || substr(w.name, 2) || '@bench.example';

-- Shuffled, so that a workspace's rows lie all over the table.
CREATE TABLE public.protected (id uuid PRIMARY KEY, workspace_id uuid NOT NULL, name text, UNIQUE (workspace_id, id));
CREATE TABLE public.plain (LIKE public.protected INCLUDING ALL);
CREATE TEMP TABLE source AS
SELECT gen_random_uuid() AS id, w.id AS workspace_id, 'campaign ' || n AS name
FROM public.workspaces AS w
    CROSS JOIN generate_series(1, 1000) AS n
ORDER BY random();
INSERT INTO public.protected TABLE source;
INSERT INTO public.plain TABLE source;
SELECT codex.protect('public.protected') \g /dev/null

CREATE ROLE codex_bench_member;
SELECT codex.grant_member_role('codex_bench_member') \g /dev/null
GRANT SELECT ON public.protected, public.plain TO codex_bench_member;
VACUUM ANALYZE;

CREATE TEMP TABLE results (what text, unprotected numeric, policy numeric);
GRANT INSERT ON results TO codex_bench_member;

SELECT m.workspace_id, m.user_id
FROM public.workspace_members AS m
    JOIN public.workspaces AS w ON w.id = m.workspace_id
WHERE w.name = 'w500' \gset

SET ROLE codex_bench_member;
SET jit = off;
SET max_parallel_workers_per_gather = 0;
SELECT set_config('app.current_workspace_id', :'workspace_id', false),
    set_config('app.current_user_id', :'user_id', false) \g /dev/null

\echo Plans of the member: the context is an InitPlan, evaluated once a statement
EXPLAIN (COSTS OFF) SELECT * FROM public.protected;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SET enable_indexonlyscan = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM public.protected;

-- Milliseconds of a scan of the whole table.
DO $$
DECLARE
    workspace text := current_setting('app.current_workspace_id');
    begun timestamptz;
    plain numeric;
    protected numeric;
    took numeric;
BEGIN
    FOR turn IN 1..15 LOOP
        begun := clock_timestamp();
        EXECUTE format('SELECT count(*) FROM public.plain WHERE workspace_id = %L', workspace);
        took := extract(epoch FROM clock_timestamp() - begun) * 1000;
        plain := least(plain, took);
        begun := clock_timestamp();
        EXECUTE 'SELECT count(*) FROM public.protected';
        took := extract(epoch FROM clock_timestamp() - begun) * 1000;
        protected := least(protected, took);
    END LOOP;
    INSERT INTO pg_temp.results VALUES ('sequential scan, ms', plain, protected);
END
$$;

RESET enable_indexscan;
RESET enable_bitmapscan;
RESET enable_indexonlyscan;

-- Microseconds of one row by its id, in a kept plan.
DO $$
DECLARE
    ids uuid[] := ARRAY(SELECT id FROM public.protected);
    workspace uuid := current_setting('app.current_workspace_id');
    found text;
    begun timestamptz;
    plain numeric;
    protected numeric;
    took numeric;
BEGIN
    FOR turn IN 1..15 LOOP
        begun := clock_timestamp();
        FOR n IN 1..20000 LOOP
            SELECT p.name INTO found FROM public.plain AS p WHERE p.id = ids[1 + n % 1000] AND p.workspace_id = workspace;
        END LOOP;
        took := extract(epoch FROM clock_timestamp() - begun) * 1000000 / 20000;
        plain := least(plain, took);
        begun := clock_timestamp();
        FOR n IN 1..20000 LOOP
            SELECT p.name INTO found FROM public.protected AS p WHERE p.id = ids[1 + n % 1000];
        END LOOP;
        took := extract(epoch FROM clock_timestamp() - begun) * 1000000 / 20000;
        protected := least(protected, took);
    END LOOP;
    INSERT INTO pg_temp.results VALUES ('one row by its id, microseconds', plain, protected);
END
$$;

RESET ROLE;
\echo The fastest of 15 turns each
SELECT r.what,
    round(r.unprotected, 3) AS "filter written out",
    round(r.policy, 3) AS "policy",
    round(r.policy / r.unprotected, 3) AS "ratio",
    round(r.policy - r.unprotected, 3) AS "more"
FROM results AS r;

\echo Parallel workers, with the policy
SET ROLE codex_bench_member;
SET max_parallel_workers_per_gather = 2;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SET enable_indexonlyscan = off;
EXPLAIN (COSTS OFF, ANALYZE, TIMING OFF, SUMMARY OFF) SELECT count(*) FROM public.protected;
SELECT count(*) AS "rows seen, of 1000" FROM public.protected;

RESET ROLE;
DROP OWNED BY codex_bench_member;
DROP ROLE codex_bench_member;
