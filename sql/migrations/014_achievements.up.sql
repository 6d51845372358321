-- 014 achievements: achievements, user_achievements, user_stats.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

CREATE TABLE public.achievements (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    name text NOT NULL
        CHECK (btrim(name) <> ''),
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
    required_previous_achievement_id uuid,
    points_reward integer DEFAULT 0
        CHECK (points_reward >= 0),
    badge_unlocks text[],
    unlock_perks text[],
    is_active boolean DEFAULT true,
    rarity_level text DEFAULT 'common'
        CHECK (rarity_level IN ('common', 'uncommon', 'rare', 'legendary')),
    created_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT achievements_workspace_id_id_key UNIQUE (workspace_id, id),
    CONSTRAINT achievements_not_its_own_prerequisite_check CHECK (required_previous_achievement_id <> id),
    CONSTRAINT achievements_required_previous_achievement_id_fkey FOREIGN KEY (workspace_id, required_previous_achievement_id)
        REFERENCES public.achievements (workspace_id, id) ON DELETE SET NULL (required_previous_achievement_id)
);

COMMENT ON TABLE public.achievements IS
    'What a user of the workspace can unlock, and the points it pays.';

CREATE INDEX achievements_active_idx
    ON public.achievements (workspace_id, condition_type)
    WHERE is_active;
CREATE INDEX achievements_workspace_id_required_previous_achievement_id_idx
    ON public.achievements (workspace_id, required_previous_achievement_id)
    WHERE required_previous_achievement_id IS NOT NULL;
CREATE INDEX achievements_created_by_idx
    ON public.achievements (created_by)
    WHERE created_by IS NOT NULL;

SELECT codex.protect('public.achievements');

CREATE TRIGGER achievements_acyclic
    BEFORE INSERT OR UPDATE OF required_previous_achievement_id ON public.achievements
    FOR EACH ROW EXECUTE FUNCTION codex.refuse_cycle();
CREATE TRIGGER achievements_updated_at
    BEFORE UPDATE ON public.achievements
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE public.user_achievements (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES :users (id) ON DELETE CASCADE,
    achievement_id uuid NOT NULL,
    progress_percentage integer DEFAULT 0
        CHECK (progress_percentage BETWEEN 0 AND 100),
    progress_value integer DEFAULT 0
        CHECK (progress_value >= 0),
    progress_data jsonb,
    unlocked_at timestamptz,
    unlocked_by_event text,
    is_locked boolean DEFAULT true,
    display_on_profile boolean DEFAULT true,
    visibility text DEFAULT 'public'
        CHECK (visibility IN ('public', 'private', 'friends_only')),
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT user_achievements_workspace_id_id_key UNIQUE (workspace_id, id),
    -- In this order it serves the foreign key below as well, and no shorter index competes with it for the look-up of
    -- one user's achievement.
    CONSTRAINT user_achievements_workspace_id_achievement_id_user_id_key UNIQUE (workspace_id, achievement_id, user_id),
    CONSTRAINT user_achievements_achievement_id_fkey FOREIGN KEY (workspace_id, achievement_id)
        REFERENCES public.achievements (workspace_id, id) ON DELETE CASCADE
) WITH (fillfactor = 90);

COMMENT ON TABLE public.user_achievements IS
    'Progress and unlocks of one user. Written by functions; the user sees his own rows.';

CREATE INDEX user_achievements_user_id_idx
    ON public.user_achievements (user_id);

SELECT codex.protect('public.user_achievements', user_column => 'user_id', user_writes => false);

CREATE TRIGGER user_achievements_updated_at
    BEFORE UPDATE ON public.user_achievements
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE public.user_stats (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES :users (id) ON DELETE CASCADE,
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
    CONSTRAINT user_stats_workspace_id_id_key UNIQUE (workspace_id, id),
    CONSTRAINT user_stats_moves_check CHECK (moves_successful <= moves_executed),
    -- Few checks over many columns: Postgres parses every check anew for every statement that writes.
    CONSTRAINT user_stats_counts_check CHECK (
        least(
            campaigns_created, campaigns_active, campaigns_completed,
            content_pieces_created, content_pieces_published,
            moves_created, moves_executed, moves_successful,
            collaborations_count, teams_joined,
            total_points, achievements_unlocked, achievements_in_progress,
            login_count, total_hours_engaged
        ) >= 0
    ),
    CONSTRAINT user_stats_experience_level_check CHECK (experience_level >= 1),
    CONSTRAINT user_stats_totals_check CHECK (
        least(total_campaign_reach, total_engagement_count) >= 0
    ),
    CONSTRAINT user_stats_percentages_check CHECK (
        least(success_rate_percentage, experience_percentage) >= 0
        AND greatest(success_rate_percentage, experience_percentage) <= 100
    ),
    CONSTRAINT user_stats_workspace_id_user_id_key UNIQUE (workspace_id, user_id)
) WITH (fillfactor = 80);

COMMENT ON TABLE public.user_stats IS
    'Counters, points and level of one user in one workspace. Written by functions; the user sees his own row.';
COMMENT ON COLUMN public.user_stats.total_points IS
    'Sum of the points of all unlocked achievements.';
COMMENT ON COLUMN public.user_stats.experience_level IS
    'total_points / 1000 + 1, kept by a trigger.';
COMMENT ON COLUMN public.user_stats.experience_percentage IS
    'Way to the next level in percent: total_points % 1000 / 10, kept by a trigger.';
COMMENT ON COLUMN public.user_stats.success_rate_percentage IS
    'moves_successful / moves_executed * 100, 0 when none were executed, kept by a trigger.';

CREATE INDEX user_stats_user_id_idx
    ON public.user_stats (user_id);

SELECT codex.protect('public.user_stats', user_column => 'user_id', user_writes => false);

CREATE TRIGGER user_stats_experience_level
    BEFORE INSERT OR UPDATE ON public.user_stats
    FOR EACH ROW EXECUTE FUNCTION codex.update_experience_level();
CREATE TRIGGER user_stats_success_rate
    BEFORE INSERT OR UPDATE ON public.user_stats
    FOR EACH ROW EXECUTE FUNCTION codex.calculate_move_success_rate();
CREATE TRIGGER user_stats_updated_at
    BEFORE UPDATE ON public.user_stats
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();
