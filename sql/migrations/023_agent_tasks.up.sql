-- 023 agent_tasks: agent_tasks, agent_budgets, agent_budget_periods, budget_reservations.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

CREATE TABLE codex.agent_tasks (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    id uuid NOT NULL DEFAULT codex.uuid_v7(),
    assignment_id uuid NOT NULL,
    agent_id uuid NOT NULL REFERENCES public.agent_registry (id) ON DELETE RESTRICT,
    task_type text NOT NULL
        CHECK (btrim(task_type) <> '' AND length(task_type) <= 200),
    payload jsonb NOT NULL DEFAULT '{}',
    priority_rank integer NOT NULL DEFAULT 2
        CHECK (priority_rank BETWEEN 0 AND 3),
    status text NOT NULL DEFAULT 'waiting',
    reason text,
    due_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 5,
    lease_token uuid,
    worker text,
    leased_at timestamptz,
    last_error text,
    result jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (workspace_id, id),
    CONSTRAINT agent_tasks_assignment_id_fkey FOREIGN KEY (workspace_id, assignment_id)
        REFERENCES public.agent_assignments (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT agent_tasks_status_check CHECK (
        CASE status
            WHEN 'waiting' THEN finished_at IS NULL AND attempts < max_attempts
            WHEN 'leased' THEN finished_at IS NULL AND lease_token IS NOT NULL AND worker IS NOT NULL
            WHEN 'done' THEN finished_at IS NOT NULL
            WHEN 'dead' THEN finished_at IS NOT NULL AND reason IS NOT NULL
            WHEN 'cancelled' THEN finished_at IS NOT NULL AND reason IS NOT NULL
            ELSE false
        END
    ),
    CONSTRAINT agent_tasks_reason_check CHECK (
        reason IN ('assignment_paused', 'agent_inactive', 'attempts', 'permanent', 'cancelled', 'assignment_ended')
    ),
    CONSTRAINT agent_tasks_attempts_check CHECK (attempts >= 0 AND attempts <= max_attempts AND max_attempts <= 100)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02);

COMMENT ON TABLE codex.agent_tasks IS
    'The queue of an assignment: what its agent has to do, is doing, and did.';
COMMENT ON COLUMN codex.agent_tasks.agent_id IS
    'The agent of the assignment.';
COMMENT ON COLUMN codex.agent_tasks.priority_rank IS
    '0 critical, 1 high, 2 normal, 3 low; the smaller go first.';
COMMENT ON COLUMN codex.agent_tasks.status IS
    'waiting, leased (a worker is at it), done, dead (given up), cancelled.';
COMMENT ON COLUMN codex.agent_tasks.reason IS
    'assignment_paused, agent_inactive: put off. attempts, permanent: why it is dead. cancelled, assignment_ended: why it is cancelled.';
COMMENT ON COLUMN codex.agent_tasks.due_at IS
    'Waiting: not before this time. Leased: when the lease runs out.';
COMMENT ON COLUMN codex.agent_tasks.attempts IS
    'How many times a worker took it.';
COMMENT ON COLUMN codex.agent_tasks.lease_token IS
    'Of the last claim, another one each time. Only who has it may say how it went.';
COMMENT ON COLUMN codex.agent_tasks.result IS
    'What the worker gave with complete_agent_task().';

CREATE INDEX agent_tasks_waiting_idx
    ON codex.agent_tasks (priority_rank, due_at)
    WHERE status = 'waiting';
CREATE INDEX agent_tasks_waiting_in_workspace_idx
    ON codex.agent_tasks (workspace_id, priority_rank, due_at)
    WHERE status = 'waiting';
CREATE INDEX agent_tasks_waiting_for_agent_in_workspace_idx
    ON codex.agent_tasks (workspace_id, agent_id, priority_rank, due_at)
    WHERE status = 'waiting';
-- For the foreign key too, so that it has all of them.
CREATE INDEX agent_tasks_agent_id_idx
    ON codex.agent_tasks (agent_id, status, priority_rank, due_at);
CREATE INDEX agent_tasks_assignment_id_idx
    ON codex.agent_tasks (workspace_id, assignment_id);
CREATE INDEX agent_tasks_leased_idx
    ON codex.agent_tasks (due_at)
    WHERE status = 'leased';
CREATE INDEX agent_tasks_finished_at_idx
    ON codex.agent_tasks (finished_at)
    WHERE finished_at IS NOT NULL;

SELECT codex.protect('codex.agent_tasks');


CREATE TABLE codex.agent_budgets (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    id uuid NOT NULL DEFAULT codex.uuid_v7(),
    agent_id uuid REFERENCES public.agent_registry (id) ON DELETE CASCADE,
    period text NOT NULL
        CHECK (period IN ('day', 'week', 'month', 'total')),
    token_limit bigint
        CHECK (token_limit >= 0),
    cost_limit numeric
        CHECK (cost_limit >= 0 AND cost_limit < 'Infinity'),
    soft_limit_percentage integer DEFAULT 80
        CHECK (soft_limit_percentage BETWEEN 1 AND 100),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id),
    CONSTRAINT agent_budgets_workspace_id_agent_id_period_key UNIQUE NULLS NOT DISTINCT (workspace_id, agent_id, period)
);

COMMENT ON TABLE codex.agent_budgets IS
    'How much agents may use in a period: one agent, or all agents of the workspace together.';
COMMENT ON COLUMN codex.agent_budgets.agent_id IS
    'The agent; NULL for all agents of the workspace together.';
COMMENT ON COLUMN codex.agent_budgets.period IS
    'day, week (from Monday), month: by the calendar in UTC; total: once and for all.';
COMMENT ON COLUMN codex.agent_budgets.token_limit IS
    'Tokens a period, input and output together; NULL for no limit.';
COMMENT ON COLUMN codex.agent_budgets.cost_limit IS
    'Money a period, in the workspace''s currency; NULL for no limit.';
COMMENT ON COLUMN codex.agent_budgets.soft_limit_percentage IS
    'At how many percent of a limit an alert is raised, once a period; NULL for never.';

CREATE INDEX agent_budgets_agent_id_idx
    ON codex.agent_budgets (agent_id)
    WHERE agent_id IS NOT NULL;

SELECT codex.protect('codex.agent_budgets');

CREATE TRIGGER agent_budgets_updated_at
    BEFORE UPDATE ON codex.agent_budgets
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE codex.agent_budget_periods (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT codex.uuid_v7(),
    budget_id uuid NOT NULL,
    period_start timestamptz NOT NULL,
    tokens_reserved bigint NOT NULL DEFAULT 0
        CHECK (tokens_reserved >= 0),
    tokens_used bigint NOT NULL DEFAULT 0
        CHECK (tokens_used >= 0),
    cost_reserved numeric NOT NULL DEFAULT 0
        CHECK (cost_reserved >= 0 AND cost_reserved < 'Infinity'),
    cost_used numeric NOT NULL DEFAULT 0
        CHECK (cost_used >= 0 AND cost_used < 'Infinity'),
    alerted_at timestamptz,
    PRIMARY KEY (workspace_id, id),
    CONSTRAINT agent_budget_periods_workspace_id_budget_id_period_start_key UNIQUE (workspace_id, budget_id, period_start),
    CONSTRAINT agent_budget_periods_budget_id_fkey FOREIGN KEY (workspace_id, budget_id)
        REFERENCES codex.agent_budgets (workspace_id, id) ON DELETE CASCADE
) WITH (fillfactor = 50);

COMMENT ON TABLE codex.agent_budget_periods IS
    'What of a budget is used and reserved in one period. Its row is locked by whoever reserves.';
COMMENT ON COLUMN codex.agent_budget_periods.period_start IS
    'The first moment of the period, in UTC; -infinity for the budget that is once and for all.';
COMMENT ON COLUMN codex.agent_budget_periods.tokens_reserved IS
    'The sum of the reservations that are held. Likewise cost_reserved.';
COMMENT ON COLUMN codex.agent_budget_periods.tokens_used IS
    'The sum of what reservations were settled with. Likewise cost_used.';
COMMENT ON COLUMN codex.agent_budget_periods.alerted_at IS
    'When the alert of the soft limit was raised.';

SELECT codex.protect('codex.agent_budget_periods');


CREATE TABLE codex.budget_reservations (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    id uuid NOT NULL DEFAULT codex.uuid_v7(),
    agent_id uuid NOT NULL REFERENCES public.agent_registry (id) ON DELETE RESTRICT,
    status text NOT NULL DEFAULT 'held',
    tokens bigint NOT NULL
        CHECK (tokens >= 0),
    cost numeric NOT NULL
        CHECK (cost >= 0 AND cost < 'Infinity'),
    tokens_used bigint
        CHECK (tokens_used >= 0),
    cost_used numeric
        CHECK (cost_used >= 0 AND cost_used < 'Infinity'),
    period_ids uuid[] NOT NULL,
    idempotency_key text
        CHECK (btrim(idempotency_key) <> '' AND length(idempotency_key) <= 200),
    reserved_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (workspace_id, id),
    CONSTRAINT budget_reservations_status_check CHECK (
        CASE status
            WHEN 'held' THEN finished_at IS NULL AND tokens_used IS NULL AND cost_used IS NULL
            WHEN 'settled' THEN finished_at IS NOT NULL AND tokens_used IS NOT NULL AND cost_used IS NOT NULL
            WHEN 'released' THEN finished_at IS NOT NULL AND tokens_used IS NULL AND cost_used IS NULL
            WHEN 'expired' THEN finished_at IS NOT NULL AND tokens_used IS NULL AND cost_used IS NULL
            ELSE false
        END
    ),
    CONSTRAINT budget_reservations_dates_check CHECK (reserved_at <= expires_at)
) WITH (fillfactor = 80);

COMMENT ON TABLE codex.budget_reservations IS
    'What an agent is about to use or has used, taken from every budget that it falls under.';
COMMENT ON COLUMN codex.budget_reservations.status IS
    'held, settled (used), released (not used), expired (never heard of again).';
COMMENT ON COLUMN codex.budget_reservations.period_ids IS
    'The rows of agent_budget_periods that it counts in; a budget that was removed since is passed over.';

CREATE INDEX budget_reservations_agent_id_idx
    ON codex.budget_reservations (agent_id);
CREATE UNIQUE INDEX budget_reservations_idempotency_key
    ON codex.budget_reservations (workspace_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX budget_reservations_held_idx
    ON codex.budget_reservations (expires_at)
    WHERE status = 'held';
CREATE INDEX budget_reservations_held_in_workspace_idx
    ON codex.budget_reservations (workspace_id, expires_at)
    WHERE status = 'held';
CREATE INDEX budget_reservations_finished_at_idx
    ON codex.budget_reservations (finished_at)
    WHERE finished_at IS NOT NULL;

SELECT codex.protect('codex.budget_reservations');
