-- 025 departures, taken back.

DROP TABLE codex.departures;
