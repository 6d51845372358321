-- 013 positioning and campaigns: positioning, message_architecture, campaigns, campaign_quests, campaign_cohorts.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

CREATE TABLE public.positioning (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    name text NOT NULL
        CHECK (btrim(name) <> ''),
    description text,
    market_segment text NOT NULL
        CHECK (btrim(market_segment) <> ''),
    target_persona text,
    key_message text,
    value_proposition text,
    differentiation text,
    target_pain_points text[],
    solution_benefits text[],
    created_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT positioning_workspace_id_id_key UNIQUE (workspace_id, id)
);

COMMENT ON TABLE public.positioning IS
    'How the workspace positions its offer for one market segment.';

CREATE INDEX positioning_created_by_idx
    ON public.positioning (created_by)
    WHERE created_by IS NOT NULL;

SELECT codex.protect('public.positioning');

CREATE TRIGGER positioning_updated_at
    BEFORE UPDATE ON public.positioning
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE public.message_architecture (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    name text NOT NULL
        CHECK (btrim(name) <> ''),
    description text,
    positioning_id uuid,
    primary_message text NOT NULL
        CHECK (btrim(primary_message) <> ''),
    secondary_messages text[],
    content_pillars text[],
    brand_voice text,
    tone_guidelines text,
    target_audience text,
    key_topics text[],
    content_themes text[],
    created_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT message_architecture_workspace_id_id_key UNIQUE (workspace_id, id),
    CONSTRAINT message_architecture_positioning_id_fkey FOREIGN KEY (workspace_id, positioning_id)
        REFERENCES public.positioning (workspace_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE public.message_architecture IS
    'The messages that carry a positioning: primary, secondary, pillars, voice.';

CREATE INDEX message_architecture_workspace_id_positioning_id_idx
    ON public.message_architecture (workspace_id, positioning_id)
    WHERE positioning_id IS NOT NULL;
CREATE INDEX message_architecture_created_by_idx
    ON public.message_architecture (created_by)
    WHERE created_by IS NOT NULL;

SELECT codex.protect('public.message_architecture');

CREATE TRIGGER message_architecture_updated_at
    BEFORE UPDATE ON public.message_architecture
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE public.campaigns (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    name text NOT NULL
        CHECK (btrim(name) <> ''),
    description text,
    objective text,
    status text NOT NULL DEFAULT 'draft'
        CHECK (status IN ('draft', 'planning', 'active', 'paused', 'completed', 'archived')),
    positioning_id uuid,
    message_architecture_id uuid,
    target_segments text[],
    target_geographies text[],
    start_date date,
    end_date date,
    planned_duration_days integer
        CHECK (planned_duration_days >= 0),
    budget_allocation numeric
        CHECK (budget_allocation >= 0 AND budget_allocation < 'Infinity'),
    allocated_budget_amount numeric
        CHECK (allocated_budget_amount >= 0 AND allocated_budget_amount < 'Infinity'),
    resource_allocation jsonb,
    total_reach bigint DEFAULT 0
        CHECK (total_reach >= 0),
    total_engagements bigint DEFAULT 0
        CHECK (total_engagements >= 0),
    conversion_count integer DEFAULT 0
        CHECK (conversion_count >= 0),
    roi_percentage numeric
        CHECK (roi_percentage > '-Infinity' AND roi_percentage < 'Infinity'),
    created_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT campaigns_workspace_id_id_key UNIQUE (workspace_id, id),
    CONSTRAINT campaigns_dates_check CHECK (start_date <= end_date),
    CONSTRAINT campaigns_positioning_id_fkey FOREIGN KEY (workspace_id, positioning_id)
        REFERENCES public.positioning (workspace_id, id) ON DELETE SET NULL (positioning_id),
    CONSTRAINT campaigns_message_architecture_id_fkey FOREIGN KEY (workspace_id, message_architecture_id)
        REFERENCES public.message_architecture (workspace_id, id) ON DELETE SET NULL (message_architecture_id)
) WITH (fillfactor = 90);

COMMENT ON TABLE public.campaigns IS
    'A campaign of the workspace, with its dates, budget and results. updated_at also follows its quests and cohorts.';

CREATE INDEX campaigns_active_idx
    ON public.campaigns (workspace_id, start_date)
    WHERE status = 'active';
CREATE INDEX campaigns_workspace_id_positioning_id_idx
    ON public.campaigns (workspace_id, positioning_id)
    WHERE positioning_id IS NOT NULL;
CREATE INDEX campaigns_workspace_id_message_architecture_id_idx
    ON public.campaigns (workspace_id, message_architecture_id)
    WHERE message_architecture_id IS NOT NULL;
CREATE INDEX campaigns_created_by_idx
    ON public.campaigns (created_by)
    WHERE created_by IS NOT NULL;

SELECT codex.protect('public.campaigns');

CREATE TRIGGER campaigns_updated_at
    BEFORE UPDATE ON public.campaigns
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE public.campaign_quests (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    campaign_id uuid NOT NULL,
    name text NOT NULL
        CHECK (btrim(name) <> ''),
    description text,
    objective text,
    parent_quest_id uuid,
    quest_order integer,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'in_progress', 'completed', 'blocked', 'on_hold')),
    start_date date,
    end_date date,
    due_date date,
    assigned_to_agents text[],
    expected_output text,
    actual_output text,
    created_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT campaign_quests_workspace_id_id_key UNIQUE (workspace_id, id),
    CONSTRAINT campaign_quests_dates_check CHECK (start_date <= end_date AND start_date <= due_date),
    CONSTRAINT campaign_quests_not_its_own_parent_check CHECK (parent_quest_id <> id),
    CONSTRAINT campaign_quests_campaign_id_fkey FOREIGN KEY (workspace_id, campaign_id)
        REFERENCES public.campaigns (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT campaign_quests_parent_quest_id_fkey FOREIGN KEY (workspace_id, parent_quest_id)
        REFERENCES public.campaign_quests (workspace_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE public.campaign_quests IS
    'A piece of work inside a campaign; quests form a tree by parent_quest_id.';

CREATE INDEX campaign_quests_workspace_id_campaign_id_idx
    ON public.campaign_quests (workspace_id, campaign_id, quest_order);
CREATE INDEX campaign_quests_workspace_id_parent_quest_id_idx
    ON public.campaign_quests (workspace_id, parent_quest_id)
    WHERE parent_quest_id IS NOT NULL;
CREATE INDEX campaign_quests_created_by_idx
    ON public.campaign_quests (created_by)
    WHERE created_by IS NOT NULL;

SELECT codex.protect('public.campaign_quests');

CREATE TRIGGER campaign_quests_acyclic
    BEFORE INSERT OR UPDATE OF parent_quest_id ON public.campaign_quests
    FOR EACH ROW EXECUTE FUNCTION codex.refuse_cycle();
CREATE TRIGGER campaign_quests_campaign_timestamp_insert
    AFTER INSERT ON public.campaign_quests
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION codex.update_campaign_timestamp();
CREATE TRIGGER campaign_quests_campaign_timestamp_update
    AFTER UPDATE ON public.campaign_quests
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION codex.update_campaign_timestamp();
CREATE TRIGGER campaign_quests_campaign_timestamp_delete
    AFTER DELETE ON public.campaign_quests
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION codex.update_campaign_timestamp();
CREATE TRIGGER campaign_quests_updated_at
    BEFORE UPDATE ON public.campaign_quests
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE public.campaign_cohorts (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    campaign_id uuid NOT NULL,
    cohort_id uuid NOT NULL,
    allocation_percentage numeric
        CHECK (allocation_percentage BETWEEN 0 AND 100),
    target_count integer
        CHECK (target_count >= 0),
    reached_count integer DEFAULT 0
        CHECK (reached_count >= 0),
    converted_count integer DEFAULT 0
        CHECK (converted_count >= 0),
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT campaign_cohorts_workspace_id_id_key UNIQUE (workspace_id, id),
    CONSTRAINT campaign_cohorts_workspace_id_campaign_id_cohort_id_key UNIQUE (workspace_id, campaign_id, cohort_id),
    CONSTRAINT campaign_cohorts_campaign_id_fkey FOREIGN KEY (workspace_id, campaign_id)
        REFERENCES public.campaigns (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT campaign_cohorts_cohort_id_fkey FOREIGN KEY (workspace_id, cohort_id)
        REFERENCES public.cohorts (workspace_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE public.campaign_cohorts IS
    'Which cohorts a campaign addresses, and how many of them it reached.';

CREATE INDEX campaign_cohorts_workspace_id_cohort_id_idx
    ON public.campaign_cohorts (workspace_id, cohort_id);

SELECT codex.protect('public.campaign_cohorts');

CREATE TRIGGER campaign_cohorts_campaign_timestamp_insert
    AFTER INSERT ON public.campaign_cohorts
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION codex.update_campaign_timestamp();
CREATE TRIGGER campaign_cohorts_campaign_timestamp_update
    AFTER UPDATE ON public.campaign_cohorts
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION codex.update_campaign_timestamp();
CREATE TRIGGER campaign_cohorts_campaign_timestamp_delete
    AFTER DELETE ON public.campaign_cohorts
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION codex.update_campaign_timestamp();
CREATE TRIGGER campaign_cohorts_updated_at
    BEFORE UPDATE ON public.campaign_cohorts
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();
