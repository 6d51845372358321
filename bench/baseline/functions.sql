-- The functions of the product in plain PL/pgSQL: what the contracts ask for in the simplest way that a careful
-- person writes it, without what the contracts ask for beyond that (idempotency, percentiles, exactly once under
-- concurrency, refusals in words).

CREATE FUNCTION public.set_updated_at() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'campaigns', 'campaign_quests', 'achievements', 'user_achievements', 'user_stats', 'agent_assignments',
        'intelligence_signals', 'market_insights', 'system_alerts', 'user_notifications'
    ] LOOP
        EXECUTE format(
            'CREATE TRIGGER %I BEFORE UPDATE ON public.%I FOR EACH ROW EXECUTE FUNCTION public.set_updated_at()',
            name || '_updated_at', name
        );
    END LOOP;
END $$;


CREATE FUNCTION public.update_campaign_timestamp() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.campaigns
    SET updated_at = now()
    WHERE id = coalesce(NEW.campaign_id, OLD.campaign_id);
    RETURN NULL;
END $$;

CREATE TRIGGER campaign_quests_campaign_timestamp
    AFTER INSERT OR UPDATE OR DELETE ON public.campaign_quests
    FOR EACH ROW EXECUTE FUNCTION public.update_campaign_timestamp();


CREATE FUNCTION public.update_experience_level() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.experience_level := NEW.total_points / 1000 + 1;
    NEW.experience_percentage := NEW.total_points % 1000 / 10.0;
    RETURN NEW;
END $$;

CREATE TRIGGER user_stats_experience_level
    BEFORE INSERT OR UPDATE ON public.user_stats
    FOR EACH ROW EXECUTE FUNCTION public.update_experience_level();

CREATE FUNCTION public.calculate_move_success_rate() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.success_rate_percentage := CASE
        WHEN NEW.moves_executed = 0 THEN 0
        ELSE NEW.moves_successful::numeric / NEW.moves_executed * 100
    END;
    RETURN NEW;
END $$;

CREATE TRIGGER user_stats_success_rate
    BEFORE INSERT OR UPDATE ON public.user_stats
    FOR EACH ROW EXECUTE FUNCTION public.calculate_move_success_rate();


CREATE FUNCTION public.unlock_achievement(
    p_user_id uuid, p_achievement_id uuid, p_workspace_id uuid, p_event_type text DEFAULT 'manual'
) RETURNS TABLE (success boolean, message text, points_awarded integer)
LANGUAGE plpgsql AS $$
DECLARE
    achievement public.achievements;
    unlocked boolean;
BEGIN
    SELECT * INTO achievement
    FROM public.achievements AS a
    WHERE a.id = p_achievement_id AND a.workspace_id = p_workspace_id;
    IF NOT FOUND THEN
        RETURN QUERY SELECT false, 'Achievement not found', 0;
        RETURN;
    END IF;

    SELECT NOT u.is_locked INTO unlocked
    FROM public.user_achievements AS u
    WHERE u.user_id = p_user_id AND u.achievement_id = p_achievement_id;
    IF unlocked THEN
        RETURN QUERY SELECT false, 'Achievement already unlocked', 0;
        RETURN;
    END IF;
    IF NOT achievement.is_active THEN
        RETURN QUERY SELECT false, 'Achievement is not active', 0;
        RETURN;
    END IF;
    IF achievement.required_previous_achievement_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM public.user_achievements AS u
        WHERE u.user_id = p_user_id
          AND u.achievement_id = achievement.required_previous_achievement_id
          AND NOT u.is_locked
    ) THEN
        RETURN QUERY SELECT false, 'Required achievement is not unlocked', 0;
        RETURN;
    END IF;
    IF NOT EXISTS (
        SELECT FROM public.workspace_members AS m
        WHERE m.workspace_id = p_workspace_id AND m.user_id = p_user_id
    ) THEN
        RETURN QUERY SELECT false, 'User is not a member of the workspace', 0;
        RETURN;
    END IF;

    INSERT INTO public.user_achievements (
        workspace_id, user_id, achievement_id, progress_percentage, unlocked_at, unlocked_by_event, is_locked
    )
    VALUES (p_workspace_id, p_user_id, p_achievement_id, 100, now(), p_event_type, false)
    ON CONFLICT (user_id, achievement_id) DO UPDATE
    SET progress_percentage = 100,
        unlocked_at = now(),
        unlocked_by_event = p_event_type,
        is_locked = false;

    INSERT INTO public.user_stats AS s (
        workspace_id, user_id, total_points, achievements_unlocked, badges_earned, stats_last_updated
    )
    VALUES (p_workspace_id, p_user_id, achievement.points_reward, 1, achievement.badge_unlocks, now())
    ON CONFLICT (workspace_id, user_id) DO UPDATE
    SET total_points = s.total_points + achievement.points_reward,
        achievements_unlocked = s.achievements_unlocked + 1,
        badges_earned = s.badges_earned || achievement.badge_unlocks,
        stats_last_updated = now();

    RETURN QUERY SELECT true, 'Achievement unlocked successfully', achievement.points_reward;
END $$;


CREATE FUNCTION public.record_agent_execution(
    p_workspace_id uuid, p_agent_id uuid, p_execution_time_seconds numeric, p_input_tokens bigint,
    p_output_tokens bigint, p_cost numeric, p_success boolean
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    succeeded integer := p_success::integer;
BEGIN
    INSERT INTO public.agent_performance AS p (
        workspace_id, agent_id, measurement_date, measurement_hour,
        execution_count, success_count, failure_count, error_count,
        avg_execution_time_seconds, min_execution_time_seconds, max_execution_time_seconds,
        total_input_tokens, total_output_tokens, avg_input_tokens_per_execution, avg_output_tokens_per_execution,
        total_cost_incurred, avg_cost_per_execution, success_rate_percentage, error_rate_percentage
    )
    VALUES (
        p_workspace_id, p_agent_id, (now() AT TIME ZONE 'UTC')::date, extract(hour FROM now() AT TIME ZONE 'UTC'),
        1, succeeded, 1 - succeeded, 1 - succeeded,
        p_execution_time_seconds, p_execution_time_seconds, p_execution_time_seconds,
        p_input_tokens, p_output_tokens, p_input_tokens, p_output_tokens,
        p_cost, p_cost, 100 * succeeded, 100 * (1 - succeeded)
    )
    ON CONFLICT (workspace_id, agent_id, measurement_date, measurement_hour) DO UPDATE
    SET execution_count = p.execution_count + 1,
        success_count = p.success_count + succeeded,
        failure_count = p.failure_count + 1 - succeeded,
        error_count = p.error_count + 1 - succeeded,
        avg_execution_time_seconds =
            (p.avg_execution_time_seconds * p.execution_count + p_execution_time_seconds) / (p.execution_count + 1),
        min_execution_time_seconds = least(p.min_execution_time_seconds, p_execution_time_seconds),
        max_execution_time_seconds = greatest(p.max_execution_time_seconds, p_execution_time_seconds),
        total_input_tokens = p.total_input_tokens + p_input_tokens,
        total_output_tokens = p.total_output_tokens + p_output_tokens,
        avg_input_tokens_per_execution = (p.total_input_tokens + p_input_tokens)::numeric / (p.execution_count + 1),
        avg_output_tokens_per_execution = (p.total_output_tokens + p_output_tokens)::numeric / (p.execution_count + 1),
        total_cost_incurred = p.total_cost_incurred + p_cost,
        avg_cost_per_execution = (p.total_cost_incurred + p_cost) / (p.execution_count + 1),
        success_rate_percentage = 100 * (p.success_count + succeeded)::numeric / (p.execution_count + 1),
        error_rate_percentage = 100 * (p.error_count + 1 - succeeded)::numeric / (p.execution_count + 1);

    UPDATE public.agent_assignments
    SET tasks_completed = tasks_completed + succeeded,
        tasks_failed = tasks_failed + 1 - succeeded,
        total_tokens_used = total_tokens_used + p_input_tokens + p_output_tokens,
        total_cost_incurred = total_cost_incurred + p_cost
    WHERE id = (
        SELECT a.id
        FROM public.agent_assignments AS a
        WHERE a.workspace_id = p_workspace_id
          AND a.agent_id = p_agent_id
          AND a.assignment_status = 'active'
        ORDER BY a.assigned_date
        LIMIT 1
    );
END $$;


-- Percentiles cannot be had from what is kept; this is the rest of the summary.
CREATE FUNCTION public.agent_performance_summary(p_workspace_id uuid, p_from timestamptz, p_to timestamptz)
RETURNS TABLE (agent_id uuid, executions bigint, success_rate numeric, tokens numeric, cost numeric)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT p.agent_id,
           sum(p.execution_count),
           100 * sum(p.success_count)::numeric / sum(p.execution_count),
           sum(p.total_input_tokens + p.total_output_tokens),
           sum(p.total_cost_incurred)
    FROM public.agent_performance AS p
    WHERE p.workspace_id = p_workspace_id
      AND p.measurement_date + make_interval(hours => p.measurement_hour) >= p_from AT TIME ZONE 'UTC'
      AND p.measurement_date + make_interval(hours => p.measurement_hour) < p_to AT TIME ZONE 'UTC'
    GROUP BY p.agent_id;
END $$;


CREATE FUNCTION public.create_insight_from_signals(
    p_workspace_id uuid, p_signal_ids uuid[], p_insight_title text, p_insight_type text, p_conclusions text[],
    p_created_by uuid
) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    confidence numeric;
    found_signals integer;
    insight uuid;
BEGIN
    SELECT count(*), 100 * (1 - exp(sum(ln(greatest(1 - s.strongest, 0.000001)))))
    INTO found_signals, confidence
    FROM (
        SELECT max(s.confidence_score / 100) AS strongest
        FROM public.intelligence_signals AS s
        WHERE s.workspace_id = p_workspace_id AND s.id = ANY (p_signal_ids)
        GROUP BY coalesce(s.source_agent_id::text, s.data_source, s.source_type)
    ) AS s;
    IF found_signals = 0 THEN
        RAISE EXCEPTION 'no signals';
    END IF;

    INSERT INTO public.market_insights (
        workspace_id, insight_title, insight_type, source_signal_ids, number_of_signals_analyzed, key_conclusions,
        confidence_score, confidence_level, created_by
    )
    VALUES (
        p_workspace_id, p_insight_title, p_insight_type, p_signal_ids, cardinality(p_signal_ids), p_conclusions,
        confidence, CASE WHEN confidence < 50 THEN 'low' WHEN confidence < 80 THEN 'medium' ELSE 'high' END,
        p_created_by
    )
    RETURNING id INTO insight;

    UPDATE public.intelligence_signals
    SET action_status = 'actioned'
    WHERE workspace_id = p_workspace_id AND id = ANY (p_signal_ids);
    RETURN insight;
END $$;


CREATE FUNCTION public.get_active_insights(p_workspace_id uuid, p_limit integer DEFAULT NULL)
RETURNS TABLE (id uuid, title text, type text, confidence numeric, signal_count integer, created_at timestamptz)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT i.id, i.insight_title, i.insight_type, i.confidence_score, i.number_of_signals_analyzed, i.created_at
    FROM public.market_insights AS i
    WHERE i.workspace_id = p_workspace_id
      AND i.insight_status = 'active'
      AND (i.time_relevance_start IS NULL OR i.time_relevance_start <= current_date)
      AND (i.time_relevance_end IS NULL OR i.time_relevance_end >= current_date)
    ORDER BY i.confidence_score DESC NULLS LAST, i.created_at DESC
    LIMIT p_limit;
END $$;

CREATE FUNCTION public.get_priority_signals(
    p_workspace_id uuid, p_confidence_threshold numeric DEFAULT 75, p_limit integer DEFAULT NULL
) RETURNS TABLE (id uuid, title text, category text, confidence numeric, relevance numeric, created_at timestamptz)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT s.id, s.signal_title, s.signal_category, s.confidence_score, s.relevance_score, s.created_at
    FROM public.intelligence_signals AS s
    WHERE s.workspace_id = p_workspace_id
      AND s.action_status = 'new'
      AND s.confidence_score >= p_confidence_threshold
      AND (s.expiry_date IS NULL OR s.expiry_date > now())
    ORDER BY s.confidence_score * coalesce(s.relevance_score, 50) DESC NULLS LAST, s.created_at DESC
    LIMIT p_limit;
END $$;

CREATE FUNCTION public.get_critical_alerts(p_workspace_id uuid, p_limit integer DEFAULT NULL)
RETURNS TABLE (id uuid, title text, description text, alert_type text, created_at timestamptz)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT a.id, a.title, a.description, a.alert_type, a.created_at
    FROM public.system_alerts AS a
    WHERE a.workspace_id = p_workspace_id
      AND a.status = 'active'
      AND a.severity_level IN ('critical', 'high')
      AND (a.expiry_date IS NULL OR a.expiry_date > now())
    ORDER BY a.severity_level, a.created_at DESC
    LIMIT p_limit;
END $$;

CREATE FUNCTION public.get_user_unread_notifications(p_user_id uuid, p_limit integer DEFAULT NULL)
RETURNS TABLE (id uuid, type text, title text, message text, priority text, created_at timestamptz)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT n.id, n.notification_type, n.title, n.message, n.priority_level, n.created_at
    FROM public.user_notifications AS n
    WHERE n.user_id = p_user_id
      AND NOT n.is_read
      AND (n.expires_at IS NULL OR n.expires_at > now())
    ORDER BY CASE n.priority_level WHEN 'urgent' THEN 0 WHEN 'high' THEN 1 WHEN 'normal' THEN 2 ELSE 3 END,
             n.created_at DESC
    LIMIT p_limit;
END $$;


CREATE FUNCTION public.send_user_notification(
    p_workspace_id uuid, p_user_id uuid, p_notification_type text, p_title text, p_message text,
    p_channel text DEFAULT 'in_app', p_priority text DEFAULT 'normal', p_action_url text DEFAULT NULL,
    p_alert_id uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    notification uuid;
BEGIN
    INSERT INTO public.user_notifications (
        workspace_id, user_id, notification_type, title, message, channel, priority_level, action_url,
        related_alert_id
    )
    VALUES (
        p_workspace_id, p_user_id, p_notification_type, p_title, p_message, p_channel, p_priority, p_action_url,
        p_alert_id
    )
    RETURNING id INTO notification;
    RETURN notification;
END $$;
