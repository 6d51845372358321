-- 018 requests, taken back.

DROP TABLE codex.requests;
