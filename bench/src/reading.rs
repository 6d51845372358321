//! Reading under row-level security: a whole table, one row, and the lists of what needs attention.

use crate::Result;
use crate::compare::{Bench, Side};
use crate::session::{BASELINE, CODEX, MEMBER, OWNER, PLAIN, Session};
use postgres::types::ToSql;
use uuid::Uuid;

/// The lists, by the names of their measures.
pub const LISTS: [&str; 4] = [
    "unread notifications",
    "priority signals",
    "critical alerts",
    "active insights",
];

/// Rows of a list that are asked for.
const TOP: i32 = 20;

/// CPU time that a list may take, in microseconds.
const LIST_TARGET: f64 = 200.0;

pub fn measure(bench: &mut Bench) -> Result<()> {
    scan(bench)?;
    point_select(bench)?;
    lists(bench)
}

/// What a query of the first workspace has to name when no policy does.
pub fn fixed_id(kind: &str) -> Result<Uuid> {
    let mut session = Session::open(CODEX, OWNER)?;
    Ok(session
        .query_one("SELECT public.bench_id($1, 0)", &[&kind])?
        .get(0))
}

fn scan(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "sequential scan";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let rows = bench.rows.unwrap_or(0);
    let calls = u32::try_from((2_000_000 / rows.max(1)).clamp(1, 20)).unwrap_or(1);
    let count = "SELECT count(*) FROM public.intelligence_signals";
    let filtered = format!("{count} WHERE workspace_id = '{}'", fixed_id("workspace")?);
    let side = |name, database, role, sql: String| -> Result<Side<'static>> {
        let mut session = Session::in_workspace(database, role)?;
        session.batch_execute(
            "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;
             SET max_parallel_workers_per_gather = 0",
        )?;
        let statement = session.prepare(&sql)?;
        Ok(Side::new(name, session, calls, move |session| {
            for _ in 0..calls {
                session.query_one(&statement, &[])?;
            }
            Ok(())
        }))
    };
    let measure = bench.compare(
        NAME,
        "count(*) of a table, no index; limit: the same with the filter written out",
        vec![
            side("codex", CODEX, MEMBER, count.to_string())?,
            side("baseline", BASELINE, PLAIN, count.to_string())?,
            side("limit", CODEX, OWNER, filtered)?,
        ],
    )?;
    if rows >= 1_000_000 {
        let ratio = measure.cpu("codex") / measure.cpu("limit");
        bench.at_most(NAME, "CPU, codex ÷ filter written out", ratio, 1.25, "×");
    }
    Ok(())
}

fn point_select(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "point select";
    const IDS: u32 = 5_000;
    if !bench.wants(NAME) {
        return Ok(());
    }
    let side = |name, database, role| -> Result<Side<'static>> {
        let mut owner = Session::open(database, OWNER)?;
        let ids: Vec<Uuid> = owner
            .query(
                "SELECT id
                 FROM public.intelligence_signals
                 WHERE workspace_id = public.bench_id('workspace', 0)
                 ORDER BY md5(id::text)
                 LIMIT $1",
                &[&i64::from(IDS)],
            )?
            .iter()
            .map(|row| row.get(0))
            .collect();
        let calls = u32::try_from(ids.len())?;
        let mut session = Session::in_workspace(database, role)?;
        let statement = session.prepare("SELECT public.bench_point_selects($1)")?;
        Ok(Side::new(name, session, calls, move |session| {
            let found: i64 = session.query_one(&statement, &[&ids])?.get(0);
            if found == ids.len() as i64 {
                Ok(())
            } else {
                Err(format!("{found} of {} rows are visible", ids.len()).into())
            }
        }))
    };
    let measure = bench.compare(
        NAME,
        "one row by its id, from a loop inside the server; limit: the same without policies",
        vec![
            side("codex", CODEX, MEMBER)?,
            side("baseline", BASELINE, PLAIN)?,
            side("limit", CODEX, OWNER)?,
        ],
    )?;
    let more = measure.cpu("codex") - measure.cpu("limit");
    bench.at_most(
        NAME,
        "CPU under policies, more than without",
        more,
        0.6,
        "µs",
    );
    Ok(())
}

/// A list as all three sides ask for it.
struct List {
    name: &'static str,
    function: &'static str,
    /// Whose list it is.
    of: &'static str,
    /// The statement that the function of the Codex runs; $1 is whose list it is, $2 how many rows.
    bare: &'static str,
}

fn lists(bench: &mut Bench) -> Result<()> {
    let [unread, signals, alerts, insights] = LISTS;
    let lists = [
        List {
            name: unread,
            function: "get_user_unread_notifications($1, p_limit => $2)",
            of: "user",
            bare: "SELECT n.id, n.notification_type, n.title, n.message, n.priority_level, n.created_at
                   FROM public.user_notifications AS n
                   WHERE n.user_id = $1
                     AND n.workspace_id = public.bench_id('workspace', 0)
                     AND NOT n.is_read
                     AND (n.expires_at IS NULL OR n.expires_at > now())
                   ORDER BY (CASE n.priority_level WHEN 'urgent' THEN 0 WHEN 'high' THEN 1 WHEN 'low' THEN 3 ELSE 2 END),
                            n.created_at DESC NULLS LAST
                   LIMIT $2",
        },
        List {
            name: signals,
            function: "get_priority_signals($1, p_limit => $2)",
            of: "workspace",
            bare: "SELECT s.id, s.signal_title, s.signal_category, s.confidence_score, s.relevance_score, s.created_at
                   FROM public.intelligence_signals AS s
                   WHERE s.workspace_id = $1
                     AND s.action_status = 'new'
                     AND s.confidence_score >= 75
                     AND (s.expiry_date IS NULL OR s.expiry_date > now())
                   ORDER BY (s.confidence_score * coalesce(s.relevance_score, 50)) DESC NULLS LAST,
                            s.created_at DESC NULLS LAST
                   LIMIT $2",
        },
        List {
            name: alerts,
            function: "get_critical_alerts($1, p_limit => $2)",
            of: "workspace",
            bare: "SELECT a.id, a.title, a.description, a.alert_type, a.created_at
                   FROM public.system_alerts AS a
                   WHERE a.workspace_id = $1
                     AND a.status = 'active'
                     AND a.severity_level IN ('critical', 'high')
                     AND (a.expiry_date IS NULL OR a.expiry_date > now())
                   ORDER BY a.severity_level, a.created_at DESC NULLS LAST
                   LIMIT $2",
        },
        List {
            name: insights,
            function: "get_active_insights($1, p_limit => $2)",
            of: "workspace",
            bare: "SELECT i.id, i.insight_title, i.insight_type, i.confidence_score, i.number_of_signals_analyzed, i.created_at
                   FROM public.market_insights AS i
                   WHERE i.workspace_id = $1
                     AND i.insight_status = 'active'
                     AND (i.time_relevance_start IS NULL OR i.time_relevance_start <= current_date)
                     AND (i.time_relevance_end IS NULL OR i.time_relevance_end >= current_date)
                   ORDER BY i.confidence_score DESC NULLS LAST, i.created_at DESC NULLS LAST
                   LIMIT $2",
        },
    ];
    for list in lists {
        list.measure(bench)?;
    }
    Ok(())
}

impl List {
    fn measure(&self, bench: &mut Bench) -> Result<()> {
        if !bench.wants(self.name) {
            return Ok(());
        }
        let rows = bench.rows.unwrap_or(0);
        let of = fixed_id(self.of)?;
        let side = |name, database, role, sql: String, calls: u32| -> Result<Side<'static>> {
            let mut session = Session::in_workspace(database, role)?;
            let statement = session.prepare(&sql)?;
            Ok(Side::new(name, session, calls, move |session| {
                // As int4 for a function, as int8 for a LIMIT.
                let (narrow, wide) = (TOP, i64::from(TOP));
                let top: &(dyn ToSql + Sync) = if sql.contains("LIMIT") {
                    &wide
                } else {
                    &narrow
                };
                for _ in 0..calls {
                    session.query(&statement, &[&of, top])?;
                }
                Ok(())
            }))
        };
        // The baseline's cost grows with the table: a batch of it takes about as long at every size.
        let slow = u32::try_from((1_000_000 / rows.max(1)).clamp(4, 100)).unwrap_or(4);
        let measure = bench.compare(
            self.name,
            "the top 20 of a list; limit: its statement, bare",
            vec![
                side(
                    "codex",
                    CODEX,
                    MEMBER,
                    format!("SELECT * FROM codex.{}", self.function),
                    300,
                )?,
                side(
                    "baseline",
                    BASELINE,
                    PLAIN,
                    format!("SELECT * FROM public.{}", self.function),
                    slow,
                )?,
                side("limit", CODEX, OWNER, self.bare.to_string(), 300)?,
            ],
        )?;
        if rows >= 1_000_000 {
            let cpu = measure.cpu("codex");
            bench.at_most(self.name, "CPU", cpu, LIST_TARGET, "µs");
        }
        Ok(())
    }
}
