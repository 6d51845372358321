-- 015 agents, taken back.

DROP TABLE codex.agent_executions;
DROP TABLE public.agent_performance;
DROP TABLE public.agent_assignments;
DROP TABLE public.agent_capabilities;
DROP TABLE public.agent_registry;
