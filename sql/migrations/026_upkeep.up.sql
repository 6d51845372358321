-- 026 upkeep: finds what has served by its age.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

CREATE INDEX agent_executions_recorded_at_idx
    ON codex.agent_executions (recorded_at);
