-- 026 upkeep, taken back.

DROP INDEX codex.agent_executions_recorded_at_idx;
