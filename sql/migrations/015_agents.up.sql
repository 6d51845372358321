-- 015 agents: agent_registry, agent_capabilities, agent_assignments, agent_performance.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

CREATE TABLE public.agent_registry (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    agent_name text NOT NULL
        CHECK (btrim(agent_name) <> ''),
    agent_type text NOT NULL
        CHECK (agent_type IN ('lord', 'researcher', 'creative', 'intelligence', 'guardian')),
    guild_name text,
    description text,
    purpose text,
    domain_expertise text[],
    model_config jsonb,
    system_prompt text,
    personality_traits text[],
    supported_inputs text[],
    supported_outputs text[],
    tool_access text[],
    avg_execution_time_seconds integer
        CHECK (avg_execution_time_seconds >= 0),
    success_rate_percentage numeric
        CHECK (success_rate_percentage BETWEEN 0 AND 100),
    error_rate_percentage numeric
        CHECK (error_rate_percentage BETWEEN 0 AND 100),
    cost_per_execution numeric
        CHECK (cost_per_execution >= 0 AND cost_per_execution < 'Infinity'),
    is_active boolean DEFAULT true,
    version text DEFAULT '1.0',
    release_date date,
    deprecated_date date,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT agent_registry_dates_check CHECK (release_date <= deprecated_date),
    CONSTRAINT agent_registry_agent_name_version_key UNIQUE NULLS NOT DISTINCT (agent_name, version)
);

COMMENT ON TABLE public.agent_registry IS
    'The AI agents, shared by all workspaces. Everybody with SELECT reads; the owner writes.';

CREATE INDEX agent_registry_active_idx
    ON public.agent_registry (agent_type)
    WHERE is_active;

SELECT codex.protect_shared('public.agent_registry');

CREATE TRIGGER agent_registry_updated_at
    BEFORE UPDATE ON public.agent_registry
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE public.agent_capabilities (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    agent_id uuid NOT NULL REFERENCES public.agent_registry (id) ON DELETE CASCADE,
    capability_name text NOT NULL
        CHECK (btrim(capability_name) <> ''),
    description text,
    category text NOT NULL
        CHECK (category IN ('research', 'analysis', 'creation', 'optimization', 'monitoring')),
    subcategory text,
    input_types text[],
    output_types text[],
    external_apis text[],
    required_permissions text[],
    typical_execution_time_seconds integer
        CHECK (typical_execution_time_seconds >= 0),
    typical_token_usage bigint
        CHECK (typical_token_usage >= 0),
    typical_cost numeric
        CHECK (typical_cost >= 0 AND typical_cost < 'Infinity'),
    success_rate_percentage numeric
        CHECK (success_rate_percentage BETWEEN 0 AND 100),
    is_enabled boolean DEFAULT true,
    configuration jsonb,
    parameter_schema jsonb,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT agent_capabilities_agent_id_capability_name_key UNIQUE (agent_id, capability_name)
);

COMMENT ON TABLE public.agent_capabilities IS
    'What an agent can do, shared by all workspaces like agent_registry.';

CREATE INDEX agent_capabilities_enabled_idx
    ON public.agent_capabilities (category, capability_name)
    WHERE is_enabled;

SELECT codex.protect_shared('public.agent_capabilities');

CREATE TRIGGER agent_capabilities_updated_at
    BEFORE UPDATE ON public.agent_capabilities
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE public.agent_assignments (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    agent_id uuid NOT NULL REFERENCES public.agent_registry (id) ON DELETE RESTRICT,
    assigned_to_campaign_id uuid,
    assigned_to_guild_operation_id uuid,
    assignment_status text NOT NULL DEFAULT 'active'
        CHECK (assignment_status IN ('active', 'paused', 'completed', 'failed', 'archived')),
    priority_level text DEFAULT 'normal'
        CHECK (priority_level IN ('low', 'normal', 'high', 'critical')),
    assigned_date timestamptz DEFAULT now(),
    assignment_config jsonb,
    task_queue jsonb,
    execution_constraints jsonb,
    tasks_assigned integer DEFAULT 0,
    tasks_completed integer DEFAULT 0,
    tasks_failed integer DEFAULT 0,
    total_tokens_used bigint DEFAULT 0
        CHECK (total_tokens_used >= 0),
    total_cost_incurred numeric DEFAULT 0
        CHECK (total_cost_incurred >= 0 AND total_cost_incurred < 'Infinity'),
    assigned_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT agent_assignments_workspace_id_id_key UNIQUE (workspace_id, id),
    CONSTRAINT agent_assignments_tasks_check CHECK (least(tasks_assigned, tasks_completed, tasks_failed) >= 0),
    CONSTRAINT agent_assignments_assigned_to_campaign_id_fkey FOREIGN KEY (workspace_id, assigned_to_campaign_id)
        REFERENCES public.campaigns (workspace_id, id) ON DELETE CASCADE
) WITH (fillfactor = 80);

COMMENT ON TABLE public.agent_assignments IS
    'An agent put to work in a workspace, for one campaign or for the whole workspace.';

CREATE INDEX agent_assignments_active_idx
    ON public.agent_assignments (workspace_id, agent_id)
    WHERE assignment_status = 'active';
CREATE INDEX agent_assignments_agent_id_idx
    ON public.agent_assignments (agent_id);
CREATE INDEX agent_assignments_workspace_id_assigned_to_campaign_id_idx
    ON public.agent_assignments (workspace_id, assigned_to_campaign_id)
    WHERE assigned_to_campaign_id IS NOT NULL;
CREATE INDEX agent_assignments_assigned_by_idx
    ON public.agent_assignments (assigned_by)
    WHERE assigned_by IS NOT NULL;

SELECT codex.protect('public.agent_assignments');

CREATE TRIGGER agent_assignments_updated_at
    BEFORE UPDATE ON public.agent_assignments
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE public.agent_performance (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    agent_id uuid NOT NULL REFERENCES public.agent_registry (id) ON DELETE RESTRICT,
    measurement_date date NOT NULL,
    measurement_hour integer
        CHECK (measurement_hour BETWEEN 0 AND 23),
    execution_count integer DEFAULT 0,
    success_count integer DEFAULT 0,
    failure_count integer DEFAULT 0,
    error_count integer DEFAULT 0,
    avg_execution_time_seconds numeric,
    min_execution_time_seconds numeric,
    max_execution_time_seconds numeric,
    p50_execution_time_seconds numeric,
    p95_execution_time_seconds numeric,
    p99_execution_time_seconds numeric,
    total_input_tokens bigint DEFAULT 0,
    total_output_tokens bigint DEFAULT 0,
    avg_input_tokens_per_execution numeric,
    avg_output_tokens_per_execution numeric,
    total_cost_incurred numeric DEFAULT 0,
    avg_cost_per_execution numeric,
    success_rate_percentage numeric,
    error_rate_percentage numeric,
    quality_score numeric,
    created_at timestamptz DEFAULT now(),
    total_execution_time_seconds numeric NOT NULL DEFAULT 0,
    execution_time_sketch bytea,
    CONSTRAINT agent_performance_workspace_id_id_key UNIQUE (workspace_id, id),
    -- In this order it serves the foreign key to agent_registry as well.
    CONSTRAINT agent_performance_bucket_key UNIQUE NULLS NOT DISTINCT (agent_id, workspace_id, measurement_date, measurement_hour),
    -- Few checks over many columns: Postgres parses every check anew for every statement that writes, and one for
    -- each of the twenty columns took longer than the write itself.
    CONSTRAINT agent_performance_outcomes_check CHECK (success_count + failure_count <= execution_count),
    CONSTRAINT agent_performance_counts_check CHECK (
        least(execution_count, success_count, failure_count, error_count) >= 0
    ),
    CONSTRAINT agent_performance_tokens_check CHECK (
        least(total_input_tokens, total_output_tokens) >= 0
    ),
    CONSTRAINT agent_performance_amounts_check CHECK (
        least(
            total_execution_time_seconds, avg_execution_time_seconds,
            min_execution_time_seconds, max_execution_time_seconds,
            p50_execution_time_seconds, p95_execution_time_seconds, p99_execution_time_seconds,
            avg_input_tokens_per_execution, avg_output_tokens_per_execution,
            total_cost_incurred, avg_cost_per_execution
        ) >= 0
        AND greatest(
            total_execution_time_seconds, avg_execution_time_seconds,
            min_execution_time_seconds, max_execution_time_seconds,
            p50_execution_time_seconds, p95_execution_time_seconds, p99_execution_time_seconds,
            avg_input_tokens_per_execution, avg_output_tokens_per_execution,
            total_cost_incurred, avg_cost_per_execution
        ) < 'Infinity'
    ),
    CONSTRAINT agent_performance_percentages_check CHECK (
        least(success_rate_percentage, error_rate_percentage, quality_score) >= 0
        AND greatest(success_rate_percentage, error_rate_percentage, quality_score) <= 100
    )
) WITH (fillfactor = 70);

COMMENT ON TABLE public.agent_performance IS
    'Executions of one agent in one workspace in one UTC hour: counts, sums, averages and percentiles.';
COMMENT ON COLUMN public.agent_performance.execution_time_sketch IS
    'Quantile sketch of the execution times in seconds; its first byte is the version of its format. Read by codex.agent_performance_summary().';
COMMENT ON COLUMN public.agent_performance.measurement_hour IS
    'Hour of the day in UTC, 0 to 23.';
COMMENT ON COLUMN public.agent_performance.measurement_date IS
    'Day in UTC.';
COMMENT ON COLUMN public.agent_performance.total_execution_time_seconds IS
    'Sum of the execution times in seconds; the average is this divided by execution_count.';

CREATE INDEX agent_performance_workspace_id_measurement_date_idx
    ON public.agent_performance (workspace_id, measurement_date);

SELECT codex.protect('public.agent_performance');

-- One row an execution that came with an id: what makes a retried record_agent_execution() count once.
CREATE TABLE codex.agent_executions (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    execution_id uuid NOT NULL,
    agent_id uuid NOT NULL REFERENCES public.agent_registry (id) ON DELETE RESTRICT,
    executed_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, execution_id)
);

COMMENT ON TABLE codex.agent_executions IS
    'Executions recorded with an id, so that the same execution counts once.';

CREATE INDEX agent_executions_agent_id_idx
    ON codex.agent_executions (agent_id);

SELECT codex.protect('codex.agent_executions');
