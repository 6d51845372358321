//! DROP EXTENSION takes code and no data, and what it took comes back.

use crate::picture::{Picture, checksum, tables};
use crate::story;
use codex_pg_test::{Database, fails_with, value};
use std::collections::BTreeMap;

#[test]
fn a_dropped_extension_leaves_every_row_to_the_owner_alone_and_comes_back_whole() {
    let db = Database::migrated();
    let mut admin = db.admin();
    story::tell(&mut admin);
    story::tell_of_the_engines(&mut admin);
    let (member, service) = (db.role("member"), db.role("service"));
    admin
        .batch_execute(&format!(
            "SELECT codex.grant_member_role('{member}'); SELECT codex.grant_service_role('{service}')"
        ))
        .unwrap();
    let workspace: String = value(
        &mut admin,
        "SELECT id::text FROM public.workspaces LIMIT 1",
        &[],
    );
    let before = Picture::of(&db);
    let all = tables(&mut admin);
    let sums = |admin: &mut _| -> BTreeMap<String, String> {
        all.iter()
            .map(|table| (table.clone(), checksum(admin, table)))
            .collect()
    };
    let rows = sums(&mut admin);

    let refusal = fails_with(
        admin.batch_execute("DROP EXTENSION raptorflow_codex"),
        "2BP01",
    );
    // Postgres names a hundred of them, in no order that is promised, and says how many more there are in its log.
    let named = |kind: &str| {
        let lines = refusal.detail.lines();
        lines.filter(|line| line.starts_with(kind)).count()
    };
    assert!(named("trigger ") > 0, "{}", refusal.detail);
    assert!(named("policy ") > 0, "{}", refusal.detail);
    assert_eq!(refusal.detail.lines().count(), 101, "{}", refusal.detail);
    assert!(refusal.hint.contains("CASCADE"), "{}", refusal.hint);

    admin
        .batch_execute("DROP EXTENSION raptorflow_codex CASCADE")
        .unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(rows, sums(&mut admin), "every row stays");
    let context = format!("SELECT set_config('app.current_workspace_id', '{workspace}', false)");
    for role in [&member, &service] {
        let mut session = db.login(role);
        session.batch_execute(&context).unwrap();
        let mut checked = 0;
        for table in &all {
            // Agents are everybody's to read, with or without the extension.
            if ["public.agent_registry", "public.agent_capabilities"].contains(&table.as_str()) {
                continue;
            }
            let reads: bool = value(
                &mut session,
                "SELECT has_table_privilege($1, 'SELECT')",
                &[table],
            );
            if reads {
                let seen: i64 = value(&mut session, &format!("SELECT count(*) FROM {table}"), &[]);
                assert_eq!(seen, 0, "{role} sees {table}");
                checked += 1;
            }
        }
        assert!(checked >= 16, "{role} may read {checked} tables");
        fails_with(
            session.batch_execute(&format!(
                "INSERT INTO public.campaigns (id, workspace_id, name) VALUES (gen_random_uuid(), '{workspace}', 'No')"
            )),
            "42501",
        );
    }

    admin
        .batch_execute("CREATE EXTENSION raptorflow_codex; SELECT codex.migrate(); SELECT codex.verify_or_raise()")
        .unwrap_or_else(|error| panic!("{error:?}"));
    before.assert_same(&Picture::of(&db), "after CREATE EXTENSION and migrate()");
}
