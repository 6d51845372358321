-- The tables of the product as they are written by hand: random keys, foreign keys of one column, and an index of one
-- column for every foreign key and for every column that a function filters by or lists in the order of.
-- The columns, defaults and value lists are those of the Codex.

CREATE TABLE public.users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email text,
    full_name text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.workspaces (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.workspace_members (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES public.users (id) ON DELETE CASCADE,
    role text NOT NULL DEFAULT 'member',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, user_id)
);
CREATE INDEX workspace_members_user_idx ON public.workspace_members (user_id);

CREATE TABLE public.cohorts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    name text NOT NULL
);

CREATE TABLE public.moves (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    name text NOT NULL
);

CREATE TABLE public.campaigns (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    name text NOT NULL,
    description text,
    objective text,
    status text NOT NULL DEFAULT 'draft'
        CHECK (status IN ('draft', 'planning', 'active', 'paused', 'completed', 'archived')),
    target_segments text[],
    target_geographies text[],
    start_date date,
    end_date date,
    planned_duration_days integer,
    budget_allocation numeric,
    allocated_budget_amount numeric,
    resource_allocation jsonb,
    total_reach bigint DEFAULT 0,
    total_engagements bigint DEFAULT 0,
    conversion_count integer DEFAULT 0,
    roi_percentage numeric,
    created_by uuid REFERENCES public.users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE INDEX campaigns_workspace_idx ON public.campaigns (workspace_id);
CREATE INDEX campaigns_status_idx ON public.campaigns (status);
CREATE INDEX campaigns_created_by_idx ON public.campaigns (created_by);

CREATE TABLE public.campaign_quests (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    campaign_id uuid NOT NULL REFERENCES public.campaigns (id) ON DELETE CASCADE,
    name text NOT NULL,
    description text,
    objective text,
    parent_quest_id uuid REFERENCES public.campaign_quests (id) ON DELETE CASCADE,
    quest_order integer,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'in_progress', 'completed', 'blocked', 'on_hold')),
    start_date date,
    end_date date,
    due_date date,
    assigned_to_agents text[],
    expected_output text,
    actual_output text,
    created_by uuid REFERENCES public.users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE INDEX campaign_quests_workspace_idx ON public.campaign_quests (workspace_id);
CREATE INDEX campaign_quests_campaign_idx ON public.campaign_quests (campaign_id);
CREATE INDEX campaign_quests_parent_idx ON public.campaign_quests (parent_quest_id);
CREATE INDEX campaign_quests_created_by_idx ON public.campaign_quests (created_by);

CREATE TABLE public.achievements (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    name text NOT NULL,
    description text,
    icon_url text,
    badge_type text NOT NULL
        CHECK (badge_type IN ('milestone', 'excellence', 'exploration', 'collaboration', 'speed', 'quality')),
    category text,
    tier text DEFAULT 'bronze'
        CHECK (tier IN ('bronze', 'silver', 'gold', 'platinum')),
    condition_type text NOT NULL
        CHECK (condition_type IN ('count', 'milestone', 'combination', 'time_based')),
    condition_value jsonb,
    required_previous_achievement_id uuid REFERENCES public.achievements (id) ON DELETE SET NULL,
    points_reward integer DEFAULT 0,
    badge_unlocks text[],
    unlock_perks text[],
    is_active boolean DEFAULT true,
    rarity_level text DEFAULT 'common'
        CHECK (rarity_level IN ('common', 'uncommon', 'rare', 'legendary')),
    created_by uuid REFERENCES public.users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE INDEX achievements_workspace_idx ON public.achievements (workspace_id);
CREATE INDEX achievements_previous_idx ON public.achievements (required_previous_achievement_id);
CREATE INDEX achievements_created_by_idx ON public.achievements (created_by);

CREATE TABLE public.user_achievements (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES public.users (id) ON DELETE CASCADE,
    achievement_id uuid NOT NULL REFERENCES public.achievements (id) ON DELETE CASCADE,
    progress_percentage integer DEFAULT 0
        CHECK (progress_percentage BETWEEN 0 AND 100),
    progress_value integer DEFAULT 0,
    progress_data jsonb,
    unlocked_at timestamptz,
    unlocked_by_event text,
    is_locked boolean DEFAULT true,
    display_on_profile boolean DEFAULT true,
    visibility text DEFAULT 'public'
        CHECK (visibility IN ('public', 'private', 'friends_only')),
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    UNIQUE (user_id, achievement_id)
);
CREATE INDEX user_achievements_workspace_idx ON public.user_achievements (workspace_id);
CREATE INDEX user_achievements_achievement_idx ON public.user_achievements (achievement_id);

CREATE TABLE public.user_stats (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES public.users (id) ON DELETE CASCADE,
    campaigns_created integer DEFAULT 0,
    campaigns_active integer DEFAULT 0,
    campaigns_completed integer DEFAULT 0,
    total_campaign_reach bigint DEFAULT 0,
    content_pieces_created integer DEFAULT 0,
    content_pieces_published integer DEFAULT 0,
    total_engagement_count bigint DEFAULT 0,
    moves_created integer DEFAULT 0,
    moves_executed integer DEFAULT 0,
    moves_successful integer DEFAULT 0,
    success_rate_percentage numeric,
    collaborations_count integer DEFAULT 0,
    teams_joined integer DEFAULT 0,
    total_points integer DEFAULT 0,
    achievements_unlocked integer DEFAULT 0,
    achievements_in_progress integer DEFAULT 0,
    badges_earned text[],
    login_count integer DEFAULT 0,
    last_active_at timestamptz,
    total_hours_engaged integer DEFAULT 0,
    experience_level integer DEFAULT 1,
    experience_percentage numeric DEFAULT 0,
    stats_last_updated timestamptz DEFAULT now(),
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    UNIQUE (workspace_id, user_id)
);
CREATE INDEX user_stats_user_idx ON public.user_stats (user_id);

CREATE TABLE public.agent_registry (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_name text NOT NULL,
    agent_type text NOT NULL
        CHECK (agent_type IN ('lord', 'researcher', 'creative', 'intelligence', 'guardian')),
    is_active boolean DEFAULT true,
    version text DEFAULT '1.0',
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);

CREATE TABLE public.agent_assignments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    agent_id uuid NOT NULL REFERENCES public.agent_registry (id) ON DELETE RESTRICT,
    assigned_to_campaign_id uuid REFERENCES public.campaigns (id) ON DELETE CASCADE,
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
    total_tokens_used bigint DEFAULT 0,
    total_cost_incurred numeric DEFAULT 0,
    assigned_by uuid REFERENCES public.users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE INDEX agent_assignments_workspace_idx ON public.agent_assignments (workspace_id);
CREATE INDEX agent_assignments_agent_idx ON public.agent_assignments (agent_id);
CREATE INDEX agent_assignments_campaign_idx ON public.agent_assignments (assigned_to_campaign_id);
CREATE INDEX agent_assignments_status_idx ON public.agent_assignments (assignment_status);
CREATE INDEX agent_assignments_assigned_by_idx ON public.agent_assignments (assigned_by);

CREATE TABLE public.agent_performance (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
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
    UNIQUE (workspace_id, agent_id, measurement_date, measurement_hour)
);
CREATE INDEX agent_performance_agent_idx ON public.agent_performance (agent_id);
CREATE INDEX agent_performance_date_idx ON public.agent_performance (measurement_date);

CREATE TABLE public.intelligence_signals (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    source_agent_id uuid REFERENCES public.agent_registry (id) ON DELETE SET NULL,
    source_type text NOT NULL
        CHECK (source_type IN ('competitor', 'market', 'trend', 'industry', 'customer')),
    data_source text,
    signal_title text NOT NULL,
    signal_description text,
    signal_category text NOT NULL
        CHECK (signal_category IN ('competitor_activity', 'market_trend', 'industry_news', 'customer_sentiment', 'technology_shift')),
    key_findings text[],
    data_points jsonb,
    confidence_score numeric
        CHECK (confidence_score BETWEEN 0 AND 100),
    relevance_score numeric
        CHECK (relevance_score BETWEEN 0 AND 100),
    related_competitor_ids uuid[],
    related_cohort_ids uuid[],
    related_campaign_ids uuid[],
    signal_date timestamptz,
    detection_date timestamptz DEFAULT now(),
    expiry_date timestamptz,
    action_status text DEFAULT 'new'
        CHECK (action_status IN ('new', 'acknowledged', 'actioned', 'archived')),
    assigned_to_user_id uuid REFERENCES public.users (id) ON DELETE SET NULL,
    action_notes text,
    created_by uuid REFERENCES public.users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE INDEX intelligence_signals_workspace_idx ON public.intelligence_signals (workspace_id);
CREATE INDEX intelligence_signals_agent_idx ON public.intelligence_signals (source_agent_id);
CREATE INDEX intelligence_signals_status_idx ON public.intelligence_signals (action_status);
CREATE INDEX intelligence_signals_confidence_idx ON public.intelligence_signals (confidence_score);
CREATE INDEX intelligence_signals_created_at_idx ON public.intelligence_signals (created_at);
CREATE INDEX intelligence_signals_assigned_idx ON public.intelligence_signals (assigned_to_user_id);
CREATE INDEX intelligence_signals_created_by_idx ON public.intelligence_signals (created_by);

CREATE TABLE public.market_insights (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    insight_title text NOT NULL,
    insight_description text,
    insight_type text NOT NULL
        CHECK (insight_type IN ('opportunity', 'threat', 'trend', 'gap', 'pattern')),
    category text,
    source_signal_ids uuid[],
    source_agent_id uuid REFERENCES public.agent_registry (id) ON DELETE SET NULL,
    number_of_signals_analyzed integer,
    key_conclusions text[],
    supporting_evidence text[],
    confidence_level text DEFAULT 'medium'
        CHECK (confidence_level IN ('low', 'medium', 'high')),
    confidence_score numeric
        CHECK (confidence_score BETWEEN 0 AND 100),
    business_implications text[],
    recommended_actions text[],
    potential_impact text,
    potential_roi_percentage numeric,
    relevant_for_competitors uuid[],
    relevant_for_cohorts uuid[],
    relevant_for_campaigns uuid[],
    relevant_segments text[],
    time_relevance_start date,
    time_relevance_end date,
    discovery_date timestamptz DEFAULT now(),
    insight_status text DEFAULT 'active'
        CHECK (insight_status IN ('active', 'archived', 'superseded')),
    actioned_date timestamptz,
    created_by uuid REFERENCES public.users (id) ON DELETE SET NULL,
    reviewed_by uuid REFERENCES public.users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE INDEX market_insights_workspace_idx ON public.market_insights (workspace_id);
CREATE INDEX market_insights_agent_idx ON public.market_insights (source_agent_id);
CREATE INDEX market_insights_status_idx ON public.market_insights (insight_status);
CREATE INDEX market_insights_confidence_idx ON public.market_insights (confidence_score);
CREATE INDEX market_insights_created_at_idx ON public.market_insights (created_at);
CREATE INDEX market_insights_created_by_idx ON public.market_insights (created_by);
CREATE INDEX market_insights_reviewed_by_idx ON public.market_insights (reviewed_by);

CREATE TABLE public.system_alerts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    alert_type text NOT NULL
        CHECK (alert_type IN ('performance', 'error', 'milestone', 'anomaly', 'action_required', 'opportunity')),
    severity_level text NOT NULL DEFAULT 'info'
        CHECK (severity_level IN ('critical', 'high', 'medium', 'low', 'info')),
    status text NOT NULL DEFAULT 'active'
        CHECK (status IN ('active', 'acknowledged', 'resolved', 'dismissed')),
    title text NOT NULL,
    description text,
    message text,
    action_url text,
    triggered_by_agent_id uuid REFERENCES public.agent_registry (id) ON DELETE SET NULL,
    triggered_by_signal_id uuid REFERENCES public.intelligence_signals (id) ON DELETE SET NULL,
    triggered_by_event text,
    related_campaign_id uuid REFERENCES public.campaigns (id) ON DELETE CASCADE,
    related_cohort_id uuid REFERENCES public.cohorts (id) ON DELETE CASCADE,
    related_move_id uuid REFERENCES public.moves (id) ON DELETE CASCADE,
    data_points jsonb,
    recommended_actions text[],
    created_at timestamptz DEFAULT now(),
    triggered_at timestamptz,
    acknowledged_at timestamptz,
    resolved_at timestamptz,
    expiry_date timestamptz,
    acknowledged_by uuid REFERENCES public.users (id) ON DELETE SET NULL,
    action_taken text,
    created_by uuid REFERENCES public.users (id) ON DELETE SET NULL,
    updated_at timestamptz DEFAULT now()
);
CREATE INDEX system_alerts_workspace_idx ON public.system_alerts (workspace_id);
CREATE INDEX system_alerts_severity_idx ON public.system_alerts (severity_level);
CREATE INDEX system_alerts_status_idx ON public.system_alerts (status);
CREATE INDEX system_alerts_created_at_idx ON public.system_alerts (created_at);
CREATE INDEX system_alerts_agent_idx ON public.system_alerts (triggered_by_agent_id);
CREATE INDEX system_alerts_signal_idx ON public.system_alerts (triggered_by_signal_id);
CREATE INDEX system_alerts_campaign_idx ON public.system_alerts (related_campaign_id);
CREATE INDEX system_alerts_cohort_idx ON public.system_alerts (related_cohort_id);
CREATE INDEX system_alerts_move_idx ON public.system_alerts (related_move_id);
CREATE INDEX system_alerts_acknowledged_by_idx ON public.system_alerts (acknowledged_by);
CREATE INDEX system_alerts_created_by_idx ON public.system_alerts (created_by);

CREATE TABLE public.user_notifications (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES public.users (id) ON DELETE CASCADE,
    notification_type text NOT NULL
        CHECK (notification_type IN ('alert', 'achievement', 'message', 'reminder', 'summary')),
    title text NOT NULL,
    message text NOT NULL,
    description text,
    related_alert_id uuid REFERENCES public.system_alerts (id) ON DELETE CASCADE,
    related_achievement_id uuid REFERENCES public.achievements (id) ON DELETE SET NULL,
    related_campaign_id uuid REFERENCES public.campaigns (id) ON DELETE CASCADE,
    channel text NOT NULL DEFAULT 'in_app'
        CHECK (channel IN ('in_app', 'email', 'slack', 'sms', 'push')),
    is_read boolean DEFAULT false,
    read_at timestamptz,
    delivery_status text DEFAULT 'pending'
        CHECK (delivery_status IN ('pending', 'delivered', 'failed', 'bounced')),
    delivery_method text,
    action_url text,
    action_label text,
    call_to_action text,
    priority_level text DEFAULT 'normal'
        CHECK (priority_level IN ('low', 'normal', 'high', 'urgent')),
    expires_at timestamptz,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE INDEX user_notifications_workspace_idx ON public.user_notifications (workspace_id);
CREATE INDEX user_notifications_user_idx ON public.user_notifications (user_id);
CREATE INDEX user_notifications_is_read_idx ON public.user_notifications (is_read);
CREATE INDEX user_notifications_created_at_idx ON public.user_notifications (created_at);
CREATE INDEX user_notifications_alert_idx ON public.user_notifications (related_alert_id);
CREATE INDEX user_notifications_achievement_idx ON public.user_notifications (related_achievement_id);
CREATE INDEX user_notifications_campaign_idx ON public.user_notifications (related_campaign_id);
