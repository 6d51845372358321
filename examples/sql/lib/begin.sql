-- Included by every script: how results look, and the ids of the people and workspaces of the demo.
\set ON_ERROR_STOP on
\set QUIET on
\set VERBOSITY terse
\pset pager off
\pset border 2
\pset linestyle unicode
\pset null '–'
\pset footer off
-- The roles that the product logs in with; tools/demo makes them.
\if :{?member}
\else
    \set member demo_member
    \set service demo_service
\endif

-- 01_data.sql makes ids from names.
SELECT md5('workspace:Alpenglow Outdoor')::uuid AS alpenglow,
       md5('workspace:Ledgerline')::uuid AS ledgerline,
       md5('workspace:Harvest & Hearth')::uuid AS hearth,
       md5('user:anna@alpenglow.example')::uuid AS anna,
       md5('user:tomas@alpenglow.example')::uuid AS tomas,
       md5('user:jonas@alpenglow.example')::uuid AS jonas,
       md5('user:priya@nairstudio.example')::uuid AS priya,
       md5('user:grace@ledgerline.example')::uuid AS grace,
       md5('agent:MUS-004')::uuid AS email_persuader,
       md5('agent:MUS-027')::uuid AS optimizer
\gset
