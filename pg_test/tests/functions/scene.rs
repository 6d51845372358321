//! What the tests of the functions begin with: two workspaces with a member each, and what belongs to them.

use codex_pg_test::postgres::{Client, Transaction};
use codex_pg_test::{Database, Uuid, member, value, workspace};

/// A migrated database with the workspaces Acme (member Anna) and Bolt (member Bob).
pub struct Scene {
    pub db: Database,
    pub admin: Client,
    pub acme: Uuid,
    pub anna: Uuid,
    pub bolt: Uuid,
    pub bob: Uuid,
}

impl Scene {
    pub fn new() -> Self {
        let db = Database::migrated();
        let mut admin = db.admin();
        let acme = workspace(&mut admin, "Acme");
        let anna = member(&mut admin, acme, "anna@acme.example");
        let bolt = workspace(&mut admin, "Bolt");
        let bob = member(&mut admin, bolt, "bob@bolt.example");
        Self {
            db,
            admin,
            acme,
            anna,
            bolt,
            bob,
        }
    }
}

/// A campaign of a workspace.
pub fn campaign(admin: &mut Client, workspace: Uuid) -> Uuid {
    value(
        admin,
        "INSERT INTO public.campaigns (workspace_id, name) VALUES ($1, 'Spring') RETURNING id",
        &[&workspace],
    )
}

/// A signal as an insight sees it; everything else is the default.
pub struct Signal<'a> {
    pub workspace: Uuid,
    /// `data_source`: where it was found.
    pub source: &'a str,
    pub category: &'a str,
    pub confidence: f64,
    /// How long ago it was seen, in days.
    pub age_days: f64,
}

impl Signal<'_> {
    /// A fresh one.
    pub fn fresh(workspace: Uuid, source: &str, confidence: f64) -> Signal<'_> {
        Signal {
            workspace,
            source,
            category: "market_trend",
            confidence,
            age_days: 0.0,
        }
    }

    pub fn insert(&self, admin: &mut Client) -> Uuid {
        value(
            admin,
            "INSERT INTO public.intelligence_signals
                 (workspace_id, source_type, signal_title, data_source, signal_category, confidence_score, signal_date)
             VALUES ($1, 'market', 'Signal', $2, $3, $4::float8::numeric, now() - $5::float8 * interval '1 day')
             RETURNING id",
            &[
                &self.workspace,
                &self.source,
                &self.category,
                &self.confidence,
                &self.age_days,
            ],
        )
    }
}

/// How many rows a table has.
pub fn rows(client: &mut Client, table: &str) -> i64 {
    value(client, &format!("SELECT count(*) FROM {table}"), &[])
}

/// Calls a list of 20 rows often enough for every kind of plan, and checks that it reads no more than `most`
/// rows of `table` each time.
pub fn touches_at_most(
    client: &mut Client,
    list: &str,
    parameters: &[&(dyn codex_pg_test::postgres::types::ToSql + Sync)],
    table: &str,
    most: i64,
) {
    for call in 1..=8 {
        let mut transaction = client.transaction().unwrap();
        // What this session has counted and not yet handed over to the statistics of the server.
        let counted = |transaction: &mut Transaction<'_>| -> (i64, i64) {
            let row = transaction
                .query_one(
                    "SELECT coalesce(idx_tup_fetch, 0), seq_tup_read
                     FROM pg_catalog.pg_stat_xact_user_tables
                     WHERE schemaname = 'public' AND relname = $1",
                    &[&table],
                )
                .unwrap();
            (row.get(0), row.get(1))
        };
        let before = counted(&mut transaction);
        let rows = transaction
            .query(&format!("SELECT * FROM codex.{list}"), parameters)
            .unwrap();
        assert_eq!(rows.len(), 20, "{list}");
        let after = counted(&mut transaction);
        let (read, scanned) = (after.0 - before.0, after.1 - before.1);
        assert!(
            scanned == 0 && (1..=most).contains(&read),
            "call {call} of {list} read {read} rows by index and {scanned} without"
        );
        transaction.commit().unwrap();
    }
}
