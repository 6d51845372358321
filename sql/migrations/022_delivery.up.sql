-- 022 delivery: deliveries, notification_preferences, quiet_hours, digests, digest_items; the inbox of user_notifications.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

ALTER TABLE public.user_notifications
    ADD COLUMN seen_at timestamptz,
    ADD COLUMN archived_at timestamptz;

COMMENT ON COLUMN public.user_notifications.seen_at IS
    'When it was first shown to the user in a list, read or not.';
COMMENT ON COLUMN public.user_notifications.archived_at IS
    'When the user put it away. What is archived counts as read.';

-- Every index costs a notification time and space, and there are more of them than of anything else. So inbox and archive
-- share one, which is also the one that the foreign key to the user needs; and what is unread is listed and counted
-- from one, the counts without a look at the rows.
-- CASE and not coalesce(): Postgres knows of it that it leaks nothing, so that under row-level security, too, a page
-- begins at its place in the index.
CREATE INDEX user_notifications_inbox_idx
    ON public.user_notifications (
        user_id,
        workspace_id,
        (archived_at IS NULL),
        (CASE WHEN created_at IS NULL THEN '-infinity'::timestamptz ELSE created_at END),
        id
    );
DROP INDEX IF EXISTS public.user_notifications_user_id_idx;
CREATE INDEX user_notifications_unread_list_idx
    ON public.user_notifications (
        user_id,
        workspace_id,
        (CASE priority_level WHEN 'urgent' THEN 0 WHEN 'high' THEN 1 WHEN 'low' THEN 3 ELSE 2 END),
        created_at DESC NULLS LAST
    )
    INCLUDE (seen_at, expires_at)
    WHERE NOT is_read;
DROP INDEX IF EXISTS public.user_notifications_unread_idx;
-- For retention.
CREATE INDEX user_notifications_read_at_idx
    ON public.user_notifications (read_at)
    WHERE read_at IS NOT NULL;
CREATE INDEX user_notifications_expires_at_idx
    ON public.user_notifications (expires_at)
    WHERE expires_at IS NOT NULL;


-- No foreign key to the notification: it would have to go by (workspace_id, id), and for that every notification of
-- every channel would need one more index. The triggers below make the row and take it away.
CREATE TABLE codex.deliveries (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    notification_id uuid NOT NULL,
    channel text NOT NULL
        CHECK (channel IN ('email', 'slack', 'sms', 'push')),
    priority_rank integer NOT NULL
        CHECK (priority_rank BETWEEN 0 AND 3),
    status text NOT NULL DEFAULT 'waiting',
    reason text,
    due_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 8,
    lease_token uuid,
    worker text,
    leased_at timestamptz,
    last_error text,
    provider_reference text,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (workspace_id, notification_id),
    CONSTRAINT deliveries_status_check CHECK (
        CASE status
            WHEN 'waiting' THEN finished_at IS NULL AND attempts < max_attempts
            WHEN 'leased' THEN finished_at IS NULL AND lease_token IS NOT NULL AND worker IS NOT NULL
            WHEN 'delivered' THEN finished_at IS NOT NULL
            WHEN 'dead' THEN finished_at IS NOT NULL AND reason IS NOT NULL
            WHEN 'suppressed' THEN finished_at IS NOT NULL AND reason IS NOT NULL
            ELSE false
        END
    ),
    CONSTRAINT deliveries_reason_check CHECK (
        reason IN ('quiet_hours', 'preference', 'expired', 'not_a_member', 'attempts', 'permanent')
    ),
    CONSTRAINT deliveries_attempts_check CHECK (attempts >= 0 AND attempts <= max_attempts AND max_attempts <= 100)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02);

COMMENT ON TABLE codex.deliveries IS
    'The way of a notification to its user outside of the product: one row for each that is not in_app.';
COMMENT ON COLUMN codex.deliveries.priority_rank IS
    '0 urgent, 1 high, 2 normal, 3 low; the smaller go first.';
COMMENT ON COLUMN codex.deliveries.status IS
    'waiting, leased (a worker is at it), delivered, dead (given up), suppressed (not to be delivered; reason says why).';
COMMENT ON COLUMN codex.deliveries.reason IS
    'quiet_hours: put off until they end. preference, expired, not_a_member: why it is suppressed. attempts, permanent: why it is dead.';
COMMENT ON COLUMN codex.deliveries.due_at IS
    'Waiting: not before this time. Leased: when the lease runs out.';
COMMENT ON COLUMN codex.deliveries.attempts IS
    'How many times a worker took it.';
COMMENT ON COLUMN codex.deliveries.lease_token IS
    'Of the last claim. Only who has it may say how it went.';
COMMENT ON COLUMN codex.deliveries.provider_reference IS
    'What the provider calls the message.';

CREATE INDEX deliveries_waiting_idx
    ON codex.deliveries (channel, priority_rank, due_at)
    WHERE status = 'waiting';
CREATE INDEX deliveries_waiting_in_workspace_idx
    ON codex.deliveries (workspace_id, channel, priority_rank, due_at)
    WHERE status = 'waiting';
CREATE INDEX deliveries_leased_idx
    ON codex.deliveries (due_at)
    WHERE status = 'leased';

SELECT codex.protect('codex.deliveries');

-- A notification in_app costs the conditions and nothing else, as long as announcements are off.
CREATE TRIGGER user_notifications_sent
    AFTER INSERT ON public.user_notifications
    FOR EACH ROW
    WHEN (NEW.channel <> 'in_app' OR pg_catalog.current_setting('raptorflow_codex.notify', true) = 'on')
    EXECUTE FUNCTION codex.queue_delivery();
CREATE TRIGGER user_notifications_deleted
    AFTER DELETE ON public.user_notifications
    FOR EACH ROW
    WHEN (OLD.channel <> 'in_app')
    EXECUTE FUNCTION codex.queue_delivery();


CREATE TABLE codex.notification_preferences (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES :users (id) ON DELETE CASCADE,
    channel text NOT NULL
        CHECK (channel IN ('email', 'slack', 'sms', 'push')),
    notification_type text NOT NULL DEFAULT '*'
        CHECK (notification_type IN ('*', 'alert', 'achievement', 'message', 'reminder', 'summary')),
    enabled boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, user_id, channel, notification_type)
);

COMMENT ON TABLE codex.notification_preferences IS
    'Which notifications a user wants to get by which channel. Without a row: all.';
COMMENT ON COLUMN codex.notification_preferences.notification_type IS
    '* is for all types that have no row of their own.';

CREATE INDEX notification_preferences_user_id_idx
    ON codex.notification_preferences (user_id);

SELECT codex.protect('codex.notification_preferences', user_column => 'user_id');

CREATE TRIGGER notification_preferences_updated_at
    BEFORE UPDATE ON codex.notification_preferences
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE codex.quiet_hours (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES :users (id) ON DELETE CASCADE,
    starts_at time NOT NULL DEFAULT '22:00'
        CHECK (starts_at < time '24:00'),
    ends_at time NOT NULL DEFAULT '07:00',
    time_zone text NOT NULL DEFAULT 'UTC'
        CHECK (btrim(time_zone) <> ''),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, user_id),
    CONSTRAINT quiet_hours_times_check CHECK (ends_at <> starts_at)
);

COMMENT ON TABLE codex.quiet_hours IS
    'When a user wants no message outside of the product: from starts_at until ends_at, over midnight where that is earlier.';
COMMENT ON COLUMN codex.quiet_hours.time_zone IS
    'A name of pg_timezone_names, such as Europe/Berlin; a trigger sees to it.';

CREATE INDEX quiet_hours_user_id_idx
    ON codex.quiet_hours (user_id);

SELECT codex.protect('codex.quiet_hours', user_column => 'user_id');

CREATE TRIGGER quiet_hours_time_zone
    BEFORE INSERT OR UPDATE OF time_zone ON codex.quiet_hours
    FOR EACH ROW EXECUTE FUNCTION codex.check_time_zone();
CREATE TRIGGER quiet_hours_updated_at
    BEFORE UPDATE ON codex.quiet_hours
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE codex.digests (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES :users (id) ON DELETE CASCADE,
    digest_key text NOT NULL
        CHECK (btrim(digest_key) <> '' AND length(digest_key) <= 200),
    channel text NOT NULL
        CHECK (channel IN ('in_app', 'email', 'slack', 'sms', 'push')),
    item_count integer NOT NULL DEFAULT 1
        CHECK (item_count >= 1),
    opened_at timestamptz NOT NULL DEFAULT now(),
    closes_at timestamptz NOT NULL,
    closed_at timestamptz,
    notification_id uuid,
    CONSTRAINT digests_workspace_id_id_key UNIQUE (workspace_id, id),
    CONSTRAINT digests_notification_id_check CHECK (notification_id IS NULL OR closed_at IS NOT NULL)
);

COMMENT ON TABLE codex.digests IS
    'What is collected for a user under a key, to be sent as one notification. Open until closed_at.';
COMMENT ON COLUMN codex.digests.notification_id IS
    'The notification that it was sent as; NULL when it is open, or when the user had left the workspace.';

CREATE UNIQUE INDEX digests_open_key
    ON codex.digests (workspace_id, user_id, digest_key)
    WHERE closed_at IS NULL;
CREATE INDEX digests_closes_at_idx
    ON codex.digests (closes_at)
    WHERE closed_at IS NULL;
CREATE INDEX digests_closed_at_idx
    ON codex.digests (closed_at)
    WHERE closed_at IS NOT NULL;
CREATE INDEX digests_user_id_idx
    ON codex.digests (user_id);

SELECT codex.protect('codex.digests', user_column => 'user_id');


CREATE TABLE codex.digest_items (
    workspace_id uuid NOT NULL,
    digest_id uuid NOT NULL,
    position integer NOT NULL
        CHECK (position >= 1),
    title text NOT NULL
        CHECK (btrim(title) <> ''),
    message text NOT NULL
        CHECK (btrim(message) <> ''),
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, digest_id, position),
    CONSTRAINT digest_items_digest_id_fkey FOREIGN KEY (workspace_id, digest_id)
        REFERENCES codex.digests (workspace_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE codex.digest_items IS
    'What was put into a digest, in order.';

SELECT codex.protect('codex.digest_items');
