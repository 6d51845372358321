-- From 0.1.0 to 0.2.0: what a database of 0.1.0 lacks. Written by `make shape` from the two install scripts.

DO $$
DECLARE
    function_here pg_catalog.regprocedure;
    for_everybody CONSTANT pg_catalog.text[] := ARRAY[
        -- policies, defaults and triggers
        'current_workspace_id', 'current_user_id', 'acts_for_workspace', 'uuid_v7', 'set_updated_at', 'refuse_cycle',
        'update_campaign_timestamp', 'update_experience_level', 'calculate_move_success_rate',
        -- the context
        'enter_workspace', 'is_workspace_member',
        -- the engine: it works with the caller's own privileges
        'migrate', 'rollback', 'verify', 'verify_or_raise', 'status', 'migration_sql', 'expose', 'unexpose', 'protect',
        'protect_shared', 'unprotect', 'unprotected_tables', 'grant_member_role', 'grant_service_role',
        'grant_operator_role', 'revoke_role', 'settle_grants', 'isolation_report', 'isolation_selftest'
    ];
BEGIN
    FOR function_here IN
        SELECT p.oid
        FROM pg_catalog.pg_proc AS p
            JOIN pg_catalog.pg_depend AS d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
                AND d.objid OPERATOR(pg_catalog.=) p.oid
                AND d.deptype OPERATOR(pg_catalog.=) 'e'
            JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
        WHERE e.extname OPERATOR(pg_catalog.=) 'raptorflow_codex'
            AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND NOT (p.proname::pg_catalog.text OPERATOR(pg_catalog.=) ANY (for_everybody))
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function_here);
    END LOOP;
END
$$;
