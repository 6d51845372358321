-- 020 campaign_life: campaign_policies, campaign_life, campaign_history, campaign_spending.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

CREATE TABLE codex.campaign_policies (
    workspace_id uuid PRIMARY KEY REFERENCES public.workspaces (id) ON DELETE CASCADE,
    guard_updates boolean NOT NULL DEFAULT true,
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE codex.campaign_policies IS
    'How strict a workspace is with the life of its campaigns. Without a row: a plain UPDATE of a status is recorded, not judged.';
COMMENT ON COLUMN codex.campaign_policies.guard_updates IS
    'Whether a plain UPDATE of a campaign''s status has to keep to the steps and conditions of codex.transition_campaign(), too.';

SELECT codex.protect('codex.campaign_policies');

CREATE TRIGGER campaign_policies_updated_at
    BEFORE UPDATE ON codex.campaign_policies
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


-- A campaign whose status never changed, and that spent nothing, needs no row.
CREATE TABLE codex.campaign_life (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    campaign_id uuid NOT NULL,
    version integer NOT NULL DEFAULT 1
        CHECK (version >= 1),
    status_since timestamptz,
    spent_amount numeric NOT NULL DEFAULT 0
        CHECK (spent_amount >= 0 AND spent_amount < 'Infinity'),
    PRIMARY KEY (workspace_id, campaign_id),
    CONSTRAINT campaign_life_campaign_id_fkey FOREIGN KEY (workspace_id, campaign_id)
        REFERENCES public.campaigns (workspace_id, id) ON DELETE CASCADE
) WITH (fillfactor = 90);

COMMENT ON TABLE codex.campaign_life IS
    'What is known of a campaign beside its row, written by triggers as the owner of this table. Without a row: version 1, nothing spent.';
COMMENT ON COLUMN codex.campaign_life.version IS
    'From 1 on, one more with each change of the status: what expected_version of codex.transition_campaign() is held against.';
COMMENT ON COLUMN codex.campaign_life.status_since IS
    'When the status changed last. NULL: never.';
COMMENT ON COLUMN codex.campaign_life.spent_amount IS
    'The sum of the campaign''s rows in codex.campaign_spending, in the unit of campaigns.allocated_budget_amount, which it never exceeds.';

SELECT codex.protect('codex.campaign_life');


CREATE TABLE codex.campaign_history (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    campaign_id uuid NOT NULL,
    version integer NOT NULL
        CHECK (version >= 1),
    from_status text NOT NULL,
    to_status text NOT NULL,
    guarded boolean NOT NULL,
    user_id uuid REFERENCES :users (id) ON DELETE SET NULL,
    database_role text NOT NULL DEFAULT current_user,
    reason text
        CHECK (btrim(reason) <> ''),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, campaign_id, version),
    CONSTRAINT campaign_history_status_check CHECK (from_status <> to_status),
    CONSTRAINT campaign_history_campaign_id_fkey FOREIGN KEY (workspace_id, campaign_id)
        REFERENCES public.campaigns (workspace_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE codex.campaign_history IS
    'Each change of a campaign''s status, in order. Rows are added by a trigger as the owner of this table, and never changed: nobody else may write them.';
COMMENT ON COLUMN codex.campaign_history.version IS
    'The version that the change made: from 2 on, without a gap.';
COMMENT ON COLUMN codex.campaign_history.from_status IS
    'As of campaigns.status; an adopted table may allow more of them than a new one.';
COMMENT ON COLUMN codex.campaign_history.guarded IS
    'Whether the step and its conditions were judged. False: a plain UPDATE where the workspace has no policy.';
COMMENT ON COLUMN codex.campaign_history.user_id IS
    'Who did it, where that is known: the actor that the function was told, else the user of the transaction.';
COMMENT ON COLUMN codex.campaign_history.database_role IS
    'The role that the session worked as.';

CREATE INDEX campaign_history_user_id_idx
    ON codex.campaign_history (user_id)
    WHERE user_id IS NOT NULL;

SELECT codex.protect('codex.campaign_history');


CREATE TABLE codex.campaign_spending (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    campaign_id uuid NOT NULL,
    amount numeric NOT NULL DEFAULT 0
        CHECK (amount > '-Infinity' AND amount < 'Infinity'),
    description text NOT NULL
        CHECK (btrim(description) <> ''),
    spent_on date NOT NULL DEFAULT current_date,
    recorded_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT campaign_spending_workspace_id_id_key UNIQUE (workspace_id, id),
    CONSTRAINT campaign_spending_campaign_id_fkey FOREIGN KEY (workspace_id, campaign_id)
        REFERENCES public.campaigns (workspace_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE codex.campaign_spending IS
    'What a campaign spent. Added to, never changed: what was wrong is taken back by a negative amount.';
COMMENT ON COLUMN codex.campaign_spending.amount IS
    'In the unit of campaigns.allocated_budget_amount. Negative: money that came back. 0: nothing, for a note.';

CREATE INDEX campaign_spending_workspace_id_campaign_id_idx
    ON codex.campaign_spending (workspace_id, campaign_id, spent_on);
CREATE INDEX campaign_spending_recorded_by_idx
    ON codex.campaign_spending (recorded_by)
    WHERE recorded_by IS NOT NULL;

SELECT codex.protect('codex.campaign_spending');

CREATE TRIGGER campaign_spending_counted
    AFTER INSERT OR DELETE OR UPDATE OF workspace_id, campaign_id, amount ON codex.campaign_spending
    FOR EACH ROW EXECUTE FUNCTION codex.count_spending();


-- Without WHEN: in an adopted table the status may be a varchar, and the condition would be another one.
CREATE TRIGGER campaigns_followed
    AFTER UPDATE ON public.campaigns
    FOR EACH ROW EXECUTE FUNCTION codex.follow_campaign();

-- After the triggers that touch the campaign: these have locked it.
CREATE TRIGGER campaign_quests_tree_insert
    AFTER INSERT ON public.campaign_quests
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION codex.keep_quest_tree();
CREATE TRIGGER campaign_quests_tree_update
    AFTER UPDATE ON public.campaign_quests
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION codex.keep_quest_tree();

CREATE TRIGGER campaign_cohorts_shares_insert
    AFTER INSERT ON public.campaign_cohorts
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION codex.keep_cohort_shares();
CREATE TRIGGER campaign_cohorts_shares_update
    AFTER UPDATE ON public.campaign_cohorts
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION codex.keep_cohort_shares();
