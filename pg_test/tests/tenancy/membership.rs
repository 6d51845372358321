//! Being taken for a member, and staying one.

use crate::scene::{Scene, count, here, here_in, set};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Uuid, fails_with, value};

fn is_member(
    session: &mut impl codex_pg_test::postgres::GenericClient,
    workspace: Uuid,
    user: Uuid,
) -> bool {
    value(
        session,
        "SELECT codex.is_workspace_member($1, $2)",
        &[&workspace, &user],
    )
}

#[test]
fn only_members_have_a_workspace() {
    let mut scene = Scene::new();
    let mut session = scene.db.login("member");
    for (workspace, user, member) in [
        (scene.acme, scene.anna, true),
        (scene.acme, scene.abe, true),
        (scene.acme, scene.bob, false),
        (scene.bolt, scene.bob, true),
        (scene.bolt, scene.anna, false),
        (scene.cask, scene.anna, true),
        (Uuid::new_v4(), scene.anna, false),
        (scene.acme, Uuid::new_v4(), false),
    ] {
        assert_eq!(is_member(&mut session, workspace, user), member);
        set(&mut session, Some(workspace), Some(user));
        assert_eq!(here(&mut session), member.then_some(workspace));
        set(&mut session, None, None);
    }
    for (workspace, user) in [(None, Some(scene.anna)), (Some(scene.acme), None)] {
        fails_with(
            scene.admin.execute(
                "SELECT codex.is_workspace_member($1, $2)",
                &[&workspace, &user],
            ),
            "22004",
        );
    }
}

#[test]
fn a_membership_revoked_between_transactions_ends_the_access() {
    let mut scene = Scene::new();
    let mut anna = scene.anna();
    assert_eq!(count(&mut anna, "public.campaigns"), 1);
    scene
        .admin
        .execute(
            "DELETE FROM public.workspace_members WHERE user_id = $1 AND workspace_id = $2",
            &[&scene.anna, &scene.acme],
        )
        .unwrap();
    assert_eq!(here(&mut anna), None);
    assert_eq!(count(&mut anna, "public.campaigns"), 0);
    scene
        .admin
        .execute(
            "INSERT INTO public.workspace_members (workspace_id, user_id) VALUES ($1, $2)",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    assert_eq!(count(&mut anna, "public.campaigns"), 1);
}

#[test]
fn a_transaction_sees_at_once_what_it_did_to_its_own_memberships() {
    let mut scene = Scene::new();
    let (acme, bob) = (scene.acme, scene.bob);
    let add = format!(
        "INSERT INTO public.workspace_members (workspace_id, user_id) VALUES ('{acme}', '{bob}')"
    );
    let remove = format!(
        "DELETE FROM public.workspace_members WHERE workspace_id = '{acme}' AND user_id = '{bob}'"
    );
    let admin = &mut scene.admin;
    let mut t = admin.transaction().unwrap();
    assert!(!is_member(&mut t, acme, bob));
    t.batch_execute(&add).unwrap();
    assert!(is_member(&mut t, acme, bob), "added in this transaction");
    t.execute("SELECT codex.enter_workspace($1, $2)", &[&acme, &bob])
        .unwrap();
    assert_eq!(here_in(&mut t), Some(acme));
    t.batch_execute(&remove).unwrap();
    assert!(!is_member(&mut t, acme, bob), "removed in this transaction");
    assert_eq!(here_in(&mut t), None);
    t.batch_execute(&format!("SAVEPOINT a; {add}")).unwrap();
    assert!(is_member(&mut t, acme, bob));
    t.batch_execute("ROLLBACK TO a").unwrap();
    assert!(
        !is_member(&mut t, acme, bob),
        "the addition was rolled back"
    );
    t.batch_execute(&format!("{add}; SAVEPOINT b; {remove}"))
        .unwrap();
    assert!(!is_member(&mut t, acme, bob));
    t.batch_execute("ROLLBACK TO b").unwrap();
    assert!(is_member(&mut t, acme, bob), "the removal was rolled back");
    t.batch_execute(
        "DO $$ BEGIN
             BEGIN
                 DELETE FROM public.workspace_members;
                 RAISE EXCEPTION 'back';
             EXCEPTION WHEN OTHERS THEN NULL;
             END;
         END $$",
    )
    .unwrap();
    assert!(
        is_member(&mut t, acme, bob),
        "a block with an exception was rolled back"
    );
    t.batch_execute("TRUNCATE public.workspace_members")
        .unwrap();
    assert!(!is_member(&mut t, acme, bob), "truncated");
    t.rollback().unwrap();
    assert!(!is_member(admin, acme, bob));
}

#[test]
fn within_one_statement_the_context_is_one() {
    let mut scene = Scene::new();
    // The owner's statement that removes the membership and reads with the context in one go.
    let acme = scene.acme;
    let anna = scene.anna;
    let mut t = scene.admin.transaction().unwrap();
    t.execute("SELECT codex.enter_workspace($1, $2)", &[&acme, &anna])
        .unwrap();
    let row = t
        .query_one(
            "WITH gone AS (DELETE FROM public.workspace_members WHERE user_id = $1 RETURNING 1)
             SELECT codex.current_workspace_id(), (SELECT count(*) FROM gone), codex.current_workspace_id()",
            &[&anna],
        )
        .unwrap();
    assert_eq!(row.get::<_, Option<Uuid>>(0), row.get::<_, Option<Uuid>>(2));
    assert_eq!(here_in(&mut t), None);
}

#[test]
fn membership_is_looked_up_once_a_transaction() {
    let scene = Scene::new();
    let mut anna = scene.anna();
    let looked_up = |t: &mut codex_pg_test::postgres::Transaction<'_>| -> i64 {
        value(
            t,
            "SELECT (coalesce(seq_scan, 0) + coalesce(idx_scan, 0))::bigint
             FROM pg_catalog.pg_stat_xact_all_tables
             WHERE relid = 'public.workspace_members'::regclass",
            &[],
        )
    };
    let mut t = anna.transaction().unwrap();
    let before = looked_up(&mut t);
    for _ in 0..50 {
        assert_eq!(here_in(&mut t), Some(scene.acme));
        let seen: i64 = value(&mut t, "SELECT count(*) FROM public.user_stats", &[]);
        assert_eq!(seen, 1);
    }
    for number in 0..20 {
        t.execute(
            "INSERT INTO public.campaigns (workspace_id, name) VALUES ($1, $2)",
            &[&scene.acme, &format!("{number}")],
        )
        .unwrap();
    }
    assert_eq!(
        looked_up(&mut t) - before,
        1,
        "also when the transaction writes to other tables"
    );
    t.rollback().unwrap();
}

#[test]
fn the_policies_of_the_membership_table_are_not_asked() {
    let mut scene = Scene::new();
    // Nobody can read the table, not even its owner, and its policy would recurse.
    scene
        .admin
        .batch_execute(
            "ALTER TABLE public.workspace_members FORCE ROW LEVEL SECURITY;
             CREATE POLICY recursive ON public.workspace_members AS RESTRICTIVE
                 USING (codex.is_workspace_member(workspace_id, codex.current_user_id()));
             CREATE POLICY nothing ON public.workspace_members AS RESTRICTIVE USING (false)",
        )
        .unwrap();
    let role = scene.db.role("member");
    scene
        .admin
        .batch_execute(&format!(
            "REVOKE ALL ON public.workspace_members FROM {role}"
        ))
        .unwrap();
    let mut anna = scene.anna();
    assert_eq!(here(&mut anna), Some(scene.acme));
    assert_eq!(count(&mut anna, "public.campaigns"), 1);
    set(&mut anna, Some(scene.bolt), Some(scene.anna));
    assert_eq!(here(&mut anna), None);
}

#[test]
fn the_older_membership_table_is_taken_where_the_newer_is_missing() {
    let mut scene = Scene::new();
    let older = |admin: &mut Client, columns: &str| {
        admin
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS public.user_workspaces;
                 CREATE TABLE public.user_workspaces ({columns})"
            ))
            .unwrap();
    };
    scene
        .admin
        .batch_execute("ALTER TABLE public.workspace_members RENAME TO members_of_old")
        .unwrap();
    assert!(
        !is_member(&mut scene.admin, scene.acme, scene.anna),
        "no table, no members"
    );
    assert_eq!(here(&mut scene.anna()), None);

    for keys in [
        "",
        ", PRIMARY KEY (id)",
        ", UNIQUE (workspace_id)",
        ", UNIQUE (user_id, workspace_id)",
        ", UNIQUE (user_id, extra, workspace_id)",
    ] {
        older(
            &mut scene.admin,
            &format!("extra int, id int, user_id uuid, workspace_id uuid{keys}"),
        );
        scene
            .admin
            .execute(
                "INSERT INTO public.user_workspaces (id, user_id, workspace_id) VALUES (1, $1, NULL), (2, $1, $2), (3, NULL, $3)",
                &[&scene.anna, &scene.acme, &scene.bolt],
            )
            .unwrap();
        assert!(
            is_member(&mut scene.admin, scene.acme, scene.anna),
            "{keys}"
        );
        assert!(
            !is_member(&mut scene.admin, scene.bolt, scene.anna),
            "{keys}"
        );
        assert!(
            !is_member(&mut scene.admin, scene.bolt, scene.bob),
            "{keys}"
        );
        assert_eq!(here(&mut scene.anna()), Some(scene.acme), "{keys}");
    }
    // A partial index, and one on an expression, do not count.
    scene
        .admin
        .batch_execute(
            "ALTER TABLE public.user_workspaces DROP CONSTRAINT user_workspaces_user_id_extra_workspace_id_key;
             CREATE INDEX ON public.user_workspaces (workspace_id, user_id) WHERE id = 1;
             CREATE INDEX ON public.user_workspaces ((coalesce(workspace_id, user_id)), user_id)",
        )
        .unwrap();
    assert!(is_member(&mut scene.admin, scene.acme, scene.anna));

    // What cannot be read as a membership table makes nobody a member, and no error.
    older(&mut scene.admin, "user_id text, workspace_id uuid");
    assert_eq!(here(&mut scene.anna()), None);
    older(&mut scene.admin, "who uuid");
    assert_eq!(here(&mut scene.anna()), None);
    scene
        .admin
        .batch_execute("DROP TABLE public.user_workspaces; CREATE VIEW public.user_workspaces AS SELECT workspace_id, user_id FROM public.members_of_old")
        .unwrap();
    assert_eq!(here(&mut scene.anna()), None);
    let told: String = value(
        &mut scene.admin,
        "SELECT severity FROM codex.isolation_report() WHERE object = 'membership'",
        &[],
    );
    assert_eq!(told, "high");
}

#[test]
fn a_session_follows_the_membership_table_when_it_is_altered() {
    let mut scene = Scene::new();
    let mut anna = scene.anna();
    assert_eq!(here(&mut anna), Some(scene.acme));
    // What the look-up of this session has kept must not outlive any of these.
    for change in [
        "CREATE UNIQUE INDEX CONCURRENTLY members_by_user ON public.workspace_members (user_id, workspace_id)",
        "DROP INDEX CONCURRENTLY public.members_by_user",
        "ALTER TABLE public.workspace_members DROP CONSTRAINT workspace_members_pkey",
        "DROP INDEX CONCURRENTLY public.workspace_members_user_id_idx",
        "ALTER TABLE public.workspace_members ADD COLUMN extra uuid DEFAULT codex.uuid_v7()",
        "CREATE INDEX ON public.workspace_members (extra, user_id)",
        "VACUUM FULL public.workspace_members",
        "ALTER TABLE public.workspace_members DROP COLUMN role",
        "CREATE INDEX ON public.workspace_members (workspace_id)",
        "REINDEX TABLE CONCURRENTLY public.workspace_members",
        "ALTER TABLE public.workspace_members ADD PRIMARY KEY (workspace_id, user_id)",
        "CREATE TABLE public.copy (LIKE public.workspace_members); INSERT INTO public.copy TABLE public.workspace_members; DROP TABLE public.workspace_members; ALTER TABLE public.copy RENAME TO workspace_members",
    ] {
        scene.admin.batch_execute(change).unwrap();
        assert_eq!(here(&mut anna), Some(scene.acme), "{change}");
        set(&mut anna, Some(scene.bolt), Some(scene.anna));
        assert_eq!(here(&mut anna), None, "{change}");
        set(&mut anna, Some(scene.acme), Some(scene.anna));
    }
    scene
        .admin
        .batch_execute("ALTER TABLE public.workspace_members RENAME COLUMN user_id TO who")
        .unwrap();
    assert_eq!(here(&mut anna), None);
    scene
        .admin
        .batch_execute("ALTER TABLE public.workspace_members RENAME COLUMN who TO user_id")
        .unwrap();
    assert_eq!(here(&mut anna), Some(scene.acme));
    scene
        .admin
        .batch_execute("DROP TABLE public.workspace_members")
        .unwrap();
    assert_eq!(here(&mut anna), None);
}

#[test]
fn a_service_is_what_was_granted_and_what_inherits_it() {
    let mut scene = Scene::new();
    let service = scene.db.role("service");
    let member = scene.db.role("member");
    let heir = scene.db.role("heir");
    let acts =
        |session: &mut Client| -> bool { value(session, "SELECT codex.acts_for_workspace()", &[]) };
    scene
        .admin
        .batch_execute(&format!("GRANT {service} TO {heir}"))
        .unwrap();
    assert!(acts(&mut scene.db.login("service")));
    assert!(acts(&mut scene.db.login("heir")));
    assert!(!acts(&mut scene.db.login("member")));
    assert!(acts(&mut scene.admin));

    let mut session = scene.db.login("member");
    scene
        .admin
        .batch_execute(&format!("GRANT {service} TO {member}"))
        .unwrap();
    assert!(acts(&mut session));
    scene
        .admin
        .batch_execute(&format!("REVOKE {service} FROM {member}"))
        .unwrap();
    assert!(!acts(&mut session));
    let mut session = scene.db.login("service");
    scene
        .admin
        .execute("SELECT codex.revoke_role($1::text::regrole)", &[&service])
        .unwrap();
    fails_with(
        session.execute("SELECT codex.acts_for_workspace()", &[]),
        "42501",
    );
    // A grant of all functions, as some guides recommend, makes nobody a service.
    scene
        .admin
        .batch_execute(&format!(
            "GRANT ALL ON SCHEMA codex TO {member}; GRANT ALL ON ALL FUNCTIONS IN SCHEMA codex TO {member};
             GRANT ALL ON ALL TABLES IN SCHEMA codex TO {member}"
        ))
        .unwrap();
    let mut session = scene.db.login("member");
    assert!(!acts(&mut session));
    fails_with(
        session.execute(
            "INSERT INTO codex.roles (role_name, kind) VALUES (current_user, 'service')",
            &[],
        ),
        "42501",
    );
    assert_eq!(
        session
            .execute("UPDATE codex.roles SET kind = 'service'", &[])
            .unwrap(),
        0
    );
    assert!(!acts(&mut session));
}

#[test]
fn what_is_known_of_one_role_is_not_taken_for_another() {
    let mut scene = Scene::new();
    let service = scene.db.role("service");
    let member = scene.db.role("member");
    let both = scene.db.role("both");
    scene
        .admin
        .batch_execute(&format!(
            "ALTER ROLE {both} NOINHERIT; GRANT {service}, {member} TO {both}"
        ))
        .unwrap();
    let mut session = scene.session("both", Some(scene.acme), Some(scene.anna));
    let mut t = session.transaction().unwrap();
    for _ in 0..5 {
        for (role, stats) in [(&member, 1_i64), (&service, 2)] {
            t.batch_execute(&format!("SET LOCAL ROLE {role}")).unwrap();
            let seen: i64 = value(&mut t, "SELECT count(*) FROM public.user_stats", &[]);
            assert_eq!(seen, stats, "as {role}");
        }
    }
}
