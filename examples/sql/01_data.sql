-- The data of the demo: three workspaces of an imagined product, the same in every run.
--
-- Ids are made from names (pg_temp.id), so that a row can be referred to where it is needed and a second run
-- gives the same ids. Dates are counted from today, so that what is active stays active.
-- Run as the owner of the tables, in this folder: the roster of agents is read from agent_roster.tsv.

\ir lib/begin.sql
SET client_min_messages = warning;

BEGIN;

CREATE FUNCTION pg_temp.id(kind text, name text) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN md5(kind || ':' || name)::uuid;


-- Workspaces and their people. Priya works for two of them.

INSERT INTO public.workspaces (id, name)
SELECT pg_temp.id('workspace', name), name
FROM (VALUES ('Alpenglow Outdoor'), ('Ledgerline'), ('Harvest & Hearth')) AS w (name);

CREATE TEMP TABLE person (workspace text, full_name text, email text, role text) ON COMMIT DROP;
INSERT INTO person VALUES
    ('Alpenglow Outdoor', 'Anna Lindqvist', 'anna@alpenglow.example', 'owner'),
    ('Alpenglow Outdoor', 'Tomas Reyes', 'tomas@alpenglow.example', 'member'),
    ('Alpenglow Outdoor', 'Jonas Weber', 'jonas@alpenglow.example', 'member'),
    ('Alpenglow Outdoor', 'Priya Nair', 'priya@nairstudio.example', 'member'),
    ('Ledgerline', 'Grace Okafor', 'grace@ledgerline.example', 'owner'),
    ('Ledgerline', 'Daniel Kim', 'daniel@ledgerline.example', 'member'),
    ('Ledgerline', 'Sofia Marino', 'sofia@ledgerline.example', 'member'),
    ('Ledgerline', 'Ben Carver', 'ben@ledgerline.example', 'member'),
    ('Harvest & Hearth', 'Hannah Brooks', 'hannah@hearth.example', 'owner'),
    ('Harvest & Hearth', 'Luis Ortega', 'luis@hearth.example', 'member'),
    ('Harvest & Hearth', 'Priya Nair', 'priya@nairstudio.example', 'member');

INSERT INTO public.users (id, email, full_name)
SELECT DISTINCT pg_temp.id('user', email), email, full_name
FROM person;

INSERT INTO public.workspace_members (workspace_id, user_id, role)
SELECT pg_temp.id('workspace', workspace), pg_temp.id('user', email), role
FROM person;


-- Eight cohorts.

CREATE TEMP TABLE cohort (workspace text, name text) ON COMMIT DROP;
INSERT INTO cohort VALUES
    ('Alpenglow Outdoor', 'Trail runners'),
    ('Alpenglow Outdoor', 'Weekend hikers'),
    ('Alpenglow Outdoor', 'Gear upgraders'),
    ('Ledgerline', 'Founders with under ten people'),
    ('Ledgerline', 'Finance managers'),
    ('Ledgerline', 'Accounting partners'),
    ('Harvest & Hearth', 'Busy parents'),
    ('Harvest & Hearth', 'Health-minded singles');

INSERT INTO public.cohorts (id, workspace_id, name)
SELECT pg_temp.id('cohort', name), pg_temp.id('workspace', workspace), name
FROM cohort;


-- One positioning and one message architecture a workspace.

INSERT INTO public.positioning (
    id, workspace_id, name, market_segment, target_persona, key_message, value_proposition, differentiation,
    target_pain_points, solution_benefits, created_by
)
SELECT pg_temp.id('positioning', workspace), pg_temp.id('workspace', workspace), name, market_segment, target_persona,
       key_message, value_proposition, differentiation, pain_points, benefits, pg_temp.id('user', author)
FROM (VALUES
    ('Alpenglow Outdoor', 'Light gear that lasts', 'Direct-to-consumer outdoor equipment',
     'Runs or hikes every week, replaces gear every second year', 'Carry less, keep it longer',
     'Gear a third lighter than the class average, repaired free for ten years',
     'Our own repair workshop; rivals outsource theirs',
     ARRAY['Gear wears out after one season', 'Light gear is fragile'],
     ARRAY['Ten-year repair promise', 'Weight printed on every label'], 'anna@alpenglow.example'),
    ('Ledgerline', 'The one-day close', 'Accounting software for companies of 5 to 80 people',
     'Finance manager who closes the month alone', 'Close the books in a day, not a week',
     'Bank, card and payroll matched by nightfall', 'Explains every match; the others only score them',
     ARRAY['Month-end takes a week', 'Spreadsheets that one person understands'],
     ARRAY['Automatic matching', 'A trail that an auditor accepts'], 'grace@ledgerline.example'),
    ('Harvest & Hearth', 'Dinner from an hour away', 'Regional meal kits',
     'Two jobs, two children, forty minutes to cook', 'From a farm you could drive to',
     'Seasonal kits from farms within an hour', 'We name the farm on the box',
     ARRAY['No time to plan', 'Tired of packaging'],
     ARRAY['Ready in 30 minutes', 'Boxes taken back'], 'hannah@hearth.example')
) AS p (workspace, name, market_segment, target_persona, key_message, value_proposition, differentiation,
        pain_points, benefits, author);

INSERT INTO public.message_architecture (
    id, workspace_id, name, positioning_id, primary_message, secondary_messages, content_pillars, brand_voice,
    tone_guidelines, created_by
)
SELECT pg_temp.id('message', workspace), pg_temp.id('workspace', workspace), name, pg_temp.id('positioning', workspace),
       primary_message, secondary, pillars, voice, tone, pg_temp.id('user', author)
FROM (VALUES
    ('Alpenglow Outdoor', 'Messages 2026', 'Carry less, keep it longer',
     ARRAY['Repaired free for ten years', 'Weighed, not estimated'], ARRAY['Weight', 'Repair', 'Routes'],
     'A guide who has been there', 'Concrete, dry humour, no superlatives', 'tomas@alpenglow.example'),
    ('Ledgerline', 'Messages for finance teams', 'Close the books in a day',
     ARRAY['Every match explained', 'Ready for the auditor'], ARRAY['Time', 'Trust', 'Control'],
     'A colleague who is good with numbers', 'Plain figures, no jargon', 'sofia@ledgerline.example'),
    ('Harvest & Hearth', 'Kitchen-table messages', 'From a farm you could drive to',
     ARRAY['On the table in 30 minutes', 'We take the box back'], ARRAY['Farms', 'Time', 'Waste'],
     'A neighbour who cooks', 'Warm, short sentences', 'luis@hearth.example')
) AS m (workspace, name, primary_message, secondary, pillars, voice, tone, author);


-- Twelve campaigns. "subject" is what their quests and moves are about.

CREATE TEMP TABLE campaign (
    workspace text, name text, subject text, objective text, status text, from_day integer, to_day integer,
    budget numeric, reach bigint, engagements bigint, conversions integer, roi numeric, author text
) ON COMMIT DROP;
INSERT INTO campaign VALUES
    ('Alpenglow Outdoor', 'Spring Trail Launch', 'the Ridge 2 trail shoe', 'Sell 2,000 pairs in eight weeks', 'completed', -150, -94, 42000, 318400, 21750, 2214, 61.4, 'anna@alpenglow.example'),
    ('Alpenglow Outdoor', 'Pack Light Summer', 'the 900 g Traverse pack', 'Make Traverse the best seller of the summer', 'active', -21, 28, 36500, 141200, 9820, 804, NULL, 'tomas@alpenglow.example'),
    ('Alpenglow Outdoor', 'Boot Trade-In', 'the boot trade-in', '1,500 worn pairs back, half of them exchanged for new', 'active', -9, 42, 18000, 52800, 4105, 312, NULL, 'jonas@alpenglow.example'),
    ('Alpenglow Outdoor', 'First Snow Layers', 'merino base layers', 'Sign up 10,000 people before the first snow', 'planning', 45, 110, 27500, 0, 0, 0, NULL, 'priya@nairstudio.example'),
    ('Ledgerline', 'Close the Books in a Day', 'the one-day close', '400 trials from finance managers', 'active', -30, 31, 58000, 96300, 6240, 268, NULL, 'sofia@ledgerline.example'),
    ('Ledgerline', 'Accountant Partner Programme', 'the partner programme', '60 accounting firms signed by the end of the quarter', 'active', -14, 62, 31000, 18700, 1910, 23, NULL, 'daniel@ledgerline.example'),
    ('Ledgerline', 'Leave the Spreadsheet', 'moving from a spreadsheet', 'Move 250 companies off spreadsheets', 'completed', -190, -120, 47500, 204900, 15320, 287, 38.9, 'ben@ledgerline.example'),
    ('Ledgerline', 'Audit-Ready by January', 'the audit trail', 'Upsell the audit trail to a fifth of all customers', 'draft', 50, 120, 22000, 0, 0, 0, NULL, 'grace@ledgerline.example'),
    ('Harvest & Hearth', 'Back-to-School Dinners', '30-minute school-night kits', '3,000 first boxes from families', 'completed', -110, -62, 25500, 167300, 13480, 3190, 47.2, 'hannah@hearth.example'),
    ('Harvest & Hearth', 'We Kept Your Seat', 'the win-back box', 'Win back a tenth of those who left', 'paused', -40, 20, 9500, 22900, 1840, 96, NULL, 'luis@hearth.example'),
    ('Harvest & Hearth', 'Farms Within an Hour', 'the farms behind the box', 'Be the name people say for regional food', 'active', -25, 60, 19000, 74100, 8920, 541, NULL, 'hannah@hearth.example'),
    ('Harvest & Hearth', 'Holiday Table', 'the holiday table box', 'Sell 1,200 holiday boxes in advance', 'planning', 20, 48, 14000, 0, 0, 0, NULL, 'priya@nairstudio.example');

INSERT INTO public.campaigns (
    id, workspace_id, name, description, objective, status, positioning_id, message_architecture_id, target_geographies,
    start_date, end_date, planned_duration_days, budget_allocation, allocated_budget_amount, total_reach,
    total_engagements, conversion_count, roi_percentage, created_by
)
SELECT pg_temp.id('campaign', name), pg_temp.id('workspace', workspace), name,
       'Everything that ' || workspace || ' does about ' || subject || '.', objective, status,
       pg_temp.id('positioning', workspace), pg_temp.id('message', workspace), ARRAY['US', 'CA'],
       current_date + from_day, current_date + to_day, to_day - from_day, budget,
       CASE WHEN status IN ('draft', 'planning') THEN 0 ELSE round(budget * 0.8) END,
       reach, engagements, conversions, roi, pg_temp.id('user', author)
FROM campaign;


-- Four quests a campaign; writing and producing belong to the message.

CREATE TEMP TABLE quest (step integer, name text, objective text, output text, agents text[], parent integer) ON COMMIT DROP;
INSERT INTO quest VALUES
    (1, 'Know the buyer', 'Find out who decides about %s, and in which words', 'Research brief, one page', ARRAY['Voice of Customer', 'Synthesis Engine'], NULL),
    (2, 'Settle the message', 'One promise and three proofs for %s', 'Message sheet, approved', ARRAY['Strategos', 'Headline Smith'], NULL),
    (3, 'Produce the content', 'Everything that goes out about %s', 'Landing page, four mails, six posts, one clip', ARRAY['Long-Form Weaver', 'Email Persuader', 'Script Wright'], 2),
    (4, 'Measure and learn', 'Tell what worked for %s, and what to drop', 'Report with three decisions', ARRAY['A/B Tester', 'Seer'], NULL);

INSERT INTO public.campaign_quests (
    id, workspace_id, campaign_id, name, objective, parent_quest_id, quest_order, status, start_date, due_date,
    assigned_to_agents, expected_output, created_by
)
SELECT pg_temp.id('quest', c.name || '/' || q.step), pg_temp.id('workspace', c.workspace), pg_temp.id('campaign', c.name),
       q.name, format(q.objective, c.subject),
       CASE WHEN q.parent IS NOT NULL THEN pg_temp.id('quest', c.name || '/' || q.parent) END, q.step,
       CASE c.status
           WHEN 'completed' THEN 'completed'
           WHEN 'active' THEN (ARRAY['completed', 'completed', 'in_progress', 'pending'])[q.step]
           WHEN 'paused' THEN (ARRAY['completed', 'completed', 'on_hold', 'on_hold'])[q.step]
           WHEN 'planning' THEN (ARRAY['in_progress', 'pending', 'pending', 'pending'])[q.step]
           ELSE 'pending'
       END,
       current_date + c.from_day + (q.step - 1) * 10, current_date + c.from_day + q.step * 10,
       q.agents, q.output, pg_temp.id('user', c.author)
FROM campaign AS c
CROSS JOIN quest AS q
ORDER BY c.name, q.step;


-- Each campaign addresses the cohorts of its workspace.

INSERT INTO public.campaign_cohorts (
    workspace_id, campaign_id, cohort_id, allocation_percentage, target_count, reached_count, converted_count
)
SELECT pg_temp.id('workspace', c.workspace), pg_temp.id('campaign', c.name), pg_temp.id('cohort', h.name),
       round(100.0 / count(*) OVER (PARTITION BY c.name), 1),
       5000 * row_number() OVER (PARTITION BY c.name ORDER BY h.name),
       c.reach / 20 / row_number() OVER (PARTITION BY c.name ORDER BY h.name),
       c.conversions / count(*) OVER (PARTITION BY c.name)
FROM campaign AS c
JOIN cohort AS h USING (workspace);


-- Thirteen moves a campaign: 156.

INSERT INTO public.moves (id, workspace_id, name, status)
SELECT pg_temp.id('move', c.name || '/' || m.step), pg_temp.id('workspace', c.workspace), format(m.name, c.subject),
       CASE
           WHEN c.status = 'completed' THEN 'completed'
           WHEN c.status = 'active' AND m.step <= 7 THEN 'completed'
           WHEN c.status = 'active' AND m.step <= 9 THEN 'active'
           ELSE 'planned'
       END
FROM campaign AS c
CROSS JOIN (VALUES
    (1, 'Interview eight buyers about %s'),
    (2, 'Compare what three rivals say about %s'),
    (3, 'Write the promise and the proofs for %s'),
    (4, 'Put up the landing page for %s'),
    (5, 'Announce %s to the newsletter'),
    (6, 'Record a 30-second clip about %s'),
    (7, 'Answer the ten most asked questions about %s'),
    (8, 'Send samples to five creators: %s'),
    (9, 'Run search ads for %s'),
    (10, 'Test two headlines for %s'),
    (11, 'Remind those who looked and left: %s'),
    (12, 'Publish a customer''s story about %s'),
    (13, 'Report what was learned from %s')
) AS m (step, name);


-- The agents, shared by all workspaces, from the roster.

CREATE TEMP TABLE roster (
    code text, agent_name text, agent_type text, guild_name text, capability_name text, category text, description text
) ON COMMIT DROP;
\copy roster FROM 'agent_roster.tsv' WITH (FORMAT csv, DELIMITER E'\t', HEADER true)

INSERT INTO public.agent_registry (
    id, agent_name, agent_type, guild_name, description, purpose, model_config, avg_execution_time_seconds, cost_per_execution
)
SELECT pg_temp.id('agent', code), agent_name, agent_type, guild_name, description, capability_name,
       jsonb_build_object('code', code, 'temperature', CASE agent_type WHEN 'creative' THEN 0.8 ELSE 0.2 END),
       CASE agent_type WHEN 'lord' THEN 40 WHEN 'researcher' THEN 25 WHEN 'creative' THEN 15 ELSE 5 END,
       CASE agent_type WHEN 'lord' THEN 0.12 WHEN 'researcher' THEN 0.05 WHEN 'creative' THEN 0.03 ELSE 0.01 END
FROM roster;

INSERT INTO public.agent_capabilities (
    agent_id, capability_name, description, category, typical_execution_time_seconds, typical_token_usage, typical_cost
)
SELECT pg_temp.id('agent', code), capability_name, description, category,
       CASE category WHEN 'monitoring' THEN 5 WHEN 'creation' THEN 15 ELSE 25 END,
       CASE category WHEN 'monitoring' THEN 1200 WHEN 'creation' THEN 4500 ELSE 9000 END,
       CASE category WHEN 'monitoring' THEN 0.01 WHEN 'creation' THEN 0.03 ELSE 0.06 END
FROM roster;

INSERT INTO public.agent_assignments (id, workspace_id, agent_id, assigned_to_campaign_id, priority_level, assigned_by)
SELECT pg_temp.id('assignment', c.name || '/' || a.code), pg_temp.id('workspace', c.workspace), pg_temp.id('agent', a.code),
       pg_temp.id('campaign', c.name), a.priority, pg_temp.id('user', c.author)
FROM campaign AS c
CROSS JOIN (VALUES ('MUS-001', 'high'), ('MUS-004', 'normal'), ('RES-001', 'normal')) AS a (code, priority)
WHERE c.status = 'active';


-- Six achievements a workspace; two ask for another first.

INSERT INTO public.achievements (
    id, workspace_id, name, description, badge_type, category, tier, condition_type, condition_value,
    required_previous_achievement_id, points_reward, badge_unlocks, rarity_level
)
SELECT pg_temp.id('achievement', w.name || '/' || a.name), pg_temp.id('workspace', w.name), a.name, a.description, a.badge,
       a.category, a.tier, a.condition, a.value::jsonb,
       CASE WHEN a.needs IS NOT NULL THEN pg_temp.id('achievement', w.name || '/' || a.needs) END,
       a.points, ARRAY[a.badge_name], a.rarity
FROM (VALUES ('Alpenglow Outdoor'), ('Ledgerline'), ('Harvest & Hearth')) AS w (name)
CROSS JOIN (VALUES
    (1, 'First Campaign', 'Start your first campaign', 'milestone', 'campaigns', 'bronze', 'count', '{"metric": "campaign.started", "threshold": 1}', NULL, 250, 'starter', 'common'),
    (2, 'Five in the Field', 'Run five campaigns to the end', 'milestone', 'campaigns', 'silver', 'count', '{"metric": "campaign.completed", "threshold": 5}', 'First Campaign', 750, 'field-marshal', 'uncommon'),
    (3, 'Season Champion', 'Bring in 50,000 with your campaigns', 'excellence', 'campaigns', 'gold', 'milestone', '{"metric": "campaign.revenue", "threshold": 50000}', 'Five in the Field', 1500, 'champion', 'rare'),
    (4, 'Good Ear', 'Read signals on three days in a row', 'exploration', 'intelligence', 'bronze', 'time_based', '{"metric": "signal.read", "streak": {"days": 3}}', NULL, 300, 'good-ear', 'common'),
    (5, 'First to Answer', 'Acknowledge three critical alerts within a week', 'speed', 'alerts', 'silver', 'time_based', '{"metric": "alert.acknowledged", "threshold": 3, "window": {"days": 7}}', NULL, 400, 'responder', 'uncommon'),
    (6, 'Hundred Moves', 'A hundred moves executed, four of five with success', 'quality', 'moves', 'gold', 'combination', '{"all": [{"count": {"metric": "move.executed", "threshold": 100}}, {"count": {"metric": "move.succeeded", "threshold": 80}}]}', NULL, 1000, 'centurion', 'rare')
) AS a (step, name, description, badge, category, tier, condition, value, needs, points, badge_name, rarity)
ORDER BY w.name, a.step;

INSERT INTO public.user_stats (
    workspace_id, user_id, campaigns_created, campaigns_active, campaigns_completed, moves_created, moves_executed,
    moves_successful, login_count, last_active_at
)
SELECT pg_temp.id('workspace', s.workspace), pg_temp.id('user', s.email), s.created, s.active, s.completed, s.moves, s.executed,
       s.successful, s.logins, now() - s.away
FROM (VALUES
    ('Alpenglow Outdoor', 'anna@alpenglow.example', 3, 1, 2, 28, 26, 21, 148, interval '2 hours'),
    ('Alpenglow Outdoor', 'tomas@alpenglow.example', 2, 1, 1, 19, 17, 12, 96, interval '1 day'),
    ('Alpenglow Outdoor', 'priya@nairstudio.example', 1, 0, 0, 6, 4, 4, 31, interval '4 hours'),
    ('Ledgerline', 'grace@ledgerline.example', 4, 2, 1, 31, 30, 23, 201, interval '20 minutes'),
    ('Ledgerline', 'daniel@ledgerline.example', 1, 1, 0, 12, 9, 6, 77, interval '3 days'),
    ('Harvest & Hearth', 'hannah@hearth.example', 3, 1, 1, 22, 20, 18, 122, interval '50 minutes'),
    ('Harvest & Hearth', 'priya@nairstudio.example', 2, 0, 1, 9, 8, 7, 44, interval '5 hours')
) AS s (workspace, email, created, active, completed, moves, executed, successful, logins, away);


-- What the Matrix heard.

INSERT INTO public.intelligence_signals (
    id, workspace_id, source_agent_id, source_type, data_source, signal_title, signal_description, signal_category,
    key_findings, confidence_score, relevance_score, signal_date, detection_date, expiry_date, action_status
)
SELECT pg_temp.id('signal', s.title), pg_temp.id('workspace', s.workspace), pg_temp.id('agent', s.agent), s.source, s.origin, s.title,
       s.description, s.category, ARRAY[s.finding], s.confidence, s.relevance, now() - s.age, now() - s.age,
       CASE WHEN s.valid_days IS NOT NULL THEN now() + s.valid_days * interval '1 day' END, s.status
FROM (VALUES
    ('Alpenglow Outdoor', 'MAT-004', 'competitor', 'northpeak.example', 'NorthPeak cut its 40-litre pack to $129', 'The price fell by $40 on all colours.', 'competitor_activity', 'Their pack is now $30 under ours', 92, 95, interval '1 day', 21, 'new'),
    ('Alpenglow Outdoor', 'RES-016', 'competitor', 'ad library', 'NorthPeak started a "lightest in class" ad', 'Fourteen versions on two networks.', 'competitor_activity', 'Claims 890 g without a hip belt', 84, 90, interval '3 days', 30, 'new'),
    ('Alpenglow Outdoor', 'MAT-003', 'customer', 'r/ultralight', 'Hikers ask for a repairable hip belt', '61 comments in two days.', 'customer_sentiment', 'Buckles break before the fabric does', 78, 85, interval '2 days', NULL, 'new'),
    ('Alpenglow Outdoor', 'RES-003', 'trend', 'search volume', 'Searches for "pack under 1 kg" doubled', 'Up 104 % on last year.', 'market_trend', 'Growth is in two- to three-day trips', 88, 80, interval '5 days', 60, 'new'),
    ('Alpenglow Outdoor', 'RES-012', 'industry', 'Outdoor Trade Weekly', 'Nylon 6.6 prices rise in the autumn', 'Mills announce 8 to 11 %.', 'industry_news', 'Affects packs from October', 70, NULL, interval '6 days', NULL, 'new'),
    ('Alpenglow Outdoor', 'RES-009', 'customer', 'shop reviews', 'Ridge 2 sizing runs small', '37 of 412 reviews say so.', 'customer_sentiment', 'Half a size, most in women''s sizes', 81, 40, interval '20 days', NULL, 'acknowledged'),
    ('Alpenglow Outdoor', 'MAT-001', 'market', 'newswire', 'Mountain huts sold out until September', 'Bookings up by a fifth.', 'market_trend', 'More overnight trips this summer', 76, 60, interval '40 days', -3, 'new'),
    ('Ledgerline', 'RES-015', 'competitor', 'price page', 'Bookwise dropped its free tier', 'From next month on all plans cost.', 'competitor_activity', '90,000 free companies must choose', 95, 92, interval '1 day', 45, 'new'),
    ('Ledgerline', 'MAT-003', 'customer', 'r/Accounting', 'Month-end threads name spreadsheets again', 'Eleven threads in a week.', 'customer_sentiment', 'The close takes six days on average', 74, 88, interval '4 days', NULL, 'new'),
    ('Ledgerline', 'RES-012', 'industry', 'CPA Journal', 'New lease rules apply from January', 'Companies with leases must restate.', 'industry_news', 'Audit trail becomes a selling point', 90, 75, interval '9 days', 90, 'new'),
    ('Ledgerline', 'MAT-013', 'customer', 'podcast "Close Enough"', 'A CFO praised explained matches', 'Minute 18 of episode 92.', 'customer_sentiment', 'Asks for an export for auditors', 68, 70, interval '12 days', NULL, 'new'),
    ('Harvest & Hearth', 'RES-009', 'customer', 'box surveys', 'Families want two-pot recipes', '212 of 640 answers.', 'customer_sentiment', 'Washing up is the top complaint', 86, 83, interval '2 days', NULL, 'new'),
    ('Harvest & Hearth', 'MAT-001', 'market', 'regional press', 'Two farm shops opened in the north', 'Both with a weekly box.', 'competitor_activity', 'Same farms as ours', 79, 77, interval '3 days', 30, 'new'),
    ('Harvest & Hearth', 'RES-003', 'trend', 'search volume', 'Searches for returnable packaging rise', 'Up 38 % in a year.', 'market_trend', 'Strongest in cities', 73, 66, interval '8 days', NULL, 'new')
) AS s (workspace, agent, source, origin, title, description, category, finding, confidence, relevance, age, valid_days, status);


-- Alerts that were there before today's.

INSERT INTO public.system_alerts (
    id, workspace_id, alert_type, severity_level, status, title, description, triggered_by_agent_id, related_campaign_id,
    created_at, triggered_at
)
SELECT pg_temp.id('alert', a.title), pg_temp.id('workspace', a.workspace), a.type, a.severity, 'active', a.title, a.description,
       pg_temp.id('agent', a.agent), pg_temp.id('campaign', a.campaign), now() - a.age, now() - a.age
FROM (VALUES
    ('Alpenglow Outdoor', 'performance', 'high', 'Search ads spend faster than planned', '62 % of the budget after 43 % of the days.', 'MUS-027', 'Pack Light Summer', interval '5 hours'),
    ('Alpenglow Outdoor', 'milestone', 'info', '300 boots traded in', 'A fifth of the goal after nine days.', 'LORD-007', 'Boot Trade-In', interval '1 day'),
    ('Ledgerline', 'anomaly', 'critical', 'Trial sign-ups fell to zero at 14:00', 'The form answers with an error since the release.', 'MUS-027', 'Close the Books in a Day', interval '35 minutes'),
    ('Ledgerline', 'opportunity', 'medium', 'Bookwise customers search for a new home', 'Bids on their name are cheap this week.', 'RES-001', 'Close the Books in a Day', interval '1 day'),
    ('Harvest & Hearth', 'action_required', 'high', 'Win-back mails go to unsubscribed people', 'The list was imported without the opt-outs.', 'MUS-019', 'We Kept Your Seat', interval '2 days')
) AS a (workspace, type, severity, title, description, agent, campaign, age);

INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, channel, priority_level, created_at)
SELECT pg_temp.id('workspace', n.workspace), pg_temp.id('user', n.email), n.type, n.title, n.message, n.channel, n.priority, now() - n.age
FROM (VALUES
    ('Alpenglow Outdoor', 'anna@alpenglow.example', 'summary', 'Your week', 'Two campaigns active, 1,116 conversions, 57 moves done.', 'email', 'low', interval '2 days'),
    ('Alpenglow Outdoor', 'anna@alpenglow.example', 'message', 'Jonas asks for a decision', 'Which of the two boot posters goes to print?', 'in_app', 'normal', interval '3 hours'),
    ('Alpenglow Outdoor', 'priya@nairstudio.example', 'reminder', 'First Snow Layers starts in 45 days', 'The landing page has no owner yet.', 'in_app', 'high', interval '1 day'),
    ('Ledgerline', 'grace@ledgerline.example', 'alert', 'Trial form is down', 'No sign-up since 14:00.', 'slack', 'urgent', interval '30 minutes'),
    ('Harvest & Hearth', 'priya@nairstudio.example', 'message', 'Hannah shared the holiday menu', 'Six dishes, two of them vegan.', 'in_app', 'normal', interval '6 hours'),
    ('Harvest & Hearth', 'hannah@hearth.example', 'summary', 'Your week', 'One campaign active, 541 conversions.', 'email', 'low', interval '2 days')
) AS n (workspace, email, type, title, message, channel, priority, age);

COMMIT;
ANALYZE;

\echo
\echo '== What was loaded'
SELECT w.name AS workspace,
       (SELECT count(*) FROM public.workspace_members AS m WHERE m.workspace_id = w.id) AS members,
       (SELECT count(*) FROM public.campaigns AS c WHERE c.workspace_id = w.id) AS campaigns,
       (SELECT count(*) FROM public.campaign_quests AS q WHERE q.workspace_id = w.id) AS quests,
       (SELECT count(*) FROM public.cohorts AS h WHERE h.workspace_id = w.id) AS cohorts,
       (SELECT count(*) FROM public.moves AS m WHERE m.workspace_id = w.id) AS moves,
       (SELECT count(*) FROM public.achievements AS a WHERE a.workspace_id = w.id) AS achievements,
       (SELECT count(*) FROM public.intelligence_signals AS s WHERE s.workspace_id = w.id) AS signals,
       (SELECT count(*) FROM public.system_alerts AS a WHERE a.workspace_id = w.id) AS alerts,
       (SELECT count(*) FROM public.user_notifications AS n WHERE n.workspace_id = w.id) AS notifications
FROM public.workspaces AS w
ORDER BY w.name;

SELECT agent_type, guild_name, count(*) AS agents
FROM public.agent_registry
GROUP BY agent_type, guild_name
ORDER BY min(created_at), agent_type;
