-- What does not grow, the same in both databases: 10 workspaces, 1,000 members in the first and 100 in each other,
-- 87 agents with 30 days of hours in the first workspace, 1,000 achievements, 20 campaigns.

CREATE FUNCTION public.bench_id(kind text, number bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN md5(kind || number)::uuid;

INSERT INTO public.workspaces (id, name)
SELECT bench_id('workspace', n), 'Workspace ' || n
FROM generate_series(0, 9) AS n;

INSERT INTO public.users (id, email, full_name)
SELECT bench_id('user', n), 'user' || n || '@example.com', 'User ' || n
FROM generate_series(0, 1899) AS n;

INSERT INTO public.workspace_members (workspace_id, user_id)
SELECT bench_id('workspace', CASE WHEN n < 1000 THEN 0 ELSE 1 + (n - 1000) / 100 END), bench_id('user', n)
FROM generate_series(0, 1899) AS n;

INSERT INTO public.agent_registry (id, agent_name, agent_type)
SELECT bench_id('agent', n), 'Agent ' || n, (ARRAY['lord', 'researcher', 'creative', 'intelligence', 'guardian'])[1 + n % 5]
FROM generate_series(0, 86) AS n;

INSERT INTO public.campaigns (id, workspace_id, name, status)
SELECT bench_id('campaign', n), bench_id('workspace', n % 10), 'Campaign ' || n, 'active'
FROM generate_series(0, 19) AS n;

INSERT INTO public.agent_assignments (workspace_id, agent_id)
SELECT bench_id('workspace', 0), bench_id('agent', n)
FROM generate_series(0, 86) AS n;

INSERT INTO public.achievements (id, workspace_id, name, badge_type, condition_type, points_reward, badge_unlocks)
SELECT bench_id('achievement', n), bench_id('workspace', 0), 'Achievement ' || n, 'milestone', 'count', 10,
       CASE WHEN n % 10 = 0 THEN ARRAY['badge ' || n] END
FROM generate_series(0, 999) AS n;

-- A thousand point selects in one call, so that what a select costs is not lost in what the protocol costs.
CREATE FUNCTION public.bench_point_selects(ids uuid[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    wanted uuid;
    found_title text;
    found_rows bigint := 0;
BEGIN
    FOREACH wanted IN ARRAY ids LOOP
        SELECT s.signal_title INTO found_title FROM public.intelligence_signals AS s WHERE s.id = wanted;
        IF found_title IS NOT NULL THEN
            found_rows := found_rows + 1;
        END IF;
    END LOOP;
    RETURN found_rows;
END $$;
