-- 023 agent_tasks, taken back.

DROP TABLE codex.budget_reservations;
DROP TABLE codex.agent_budget_periods;
DROP TABLE codex.agent_budgets;
DROP TABLE codex.agent_tasks;
