//! Campaigns: stepping, spending and rolling up, among ever more history, ledger rows and quests of others.

use crate::Result;
use crate::compare::{Bench, Side, Spread};
use crate::engines_signals::flat;
use crate::session::{CODEX, MEMBER, OWNER, SERVICE, Session};
use crate::throughput;
use uuid::Uuid;

const WORKERS: usize = 8;
const ROUNDS: usize = 3;

/// Twenty campaigns of the first workspace with a thousand quests each, on three levels; `$rows` rows of the ledger and of
/// the history, and as many quests, of other campaigns and of these.
const FILL: &str = "
SET session_replication_role = replica;
INSERT INTO public.campaigns (id, workspace_id, name, status, start_date, end_date, allocated_budget_amount)
SELECT bench_id('live', n), bench_id('workspace', 0), 'Live ' || n, 'active', current_date - 1, current_date + 365, 1e15
FROM generate_series(0, 19) AS n
ON CONFLICT DO NOTHING;
INSERT INTO public.campaign_quests (id, workspace_id, campaign_id, name, parent_quest_id, status)
SELECT bench_id('quest ' || c || ' ', n), bench_id('workspace', 0), bench_id('live', c), 'Quest ' || n,
    CASE WHEN n >= 10 THEN bench_id('quest ' || c || ' ', n / 10) END, CASE WHEN n % 3 = 0 THEN 'completed' ELSE 'pending' END
FROM generate_series(0, 19) AS c, generate_series(1, 1000) AS n
ON CONFLICT DO NOTHING;
INSERT INTO public.campaign_quests (id, workspace_id, campaign_id, name)
SELECT bench_id('other quest', n), bench_id('workspace', n % 10), bench_id('campaign', n % 20), 'Quest ' || n
FROM generate_series(1, $rows) AS n
ON CONFLICT DO NOTHING;
INSERT INTO codex.campaign_spending (id, workspace_id, campaign_id, amount, description)
SELECT bench_id('spending', n), bench_id('workspace', 0), bench_id('live', n % 20), 1, 'Ads'
FROM generate_series(1, $rows) AS n
ON CONFLICT DO NOTHING;
INSERT INTO codex.campaign_history (workspace_id, campaign_id, version, from_status, to_status, guarded)
SELECT bench_id('workspace', 0), bench_id('live', n % 20), 1 + (n + 19) / 20, 'active', 'paused', true
FROM generate_series(20, $rows) AS n
ON CONFLICT DO NOTHING;
INSERT INTO codex.campaign_life AS l (workspace_id, campaign_id, version, spent_amount)
SELECT h.workspace_id, h.campaign_id, max(h.version), 0
FROM codex.campaign_history AS h
GROUP BY h.workspace_id, h.campaign_id
ON CONFLICT (workspace_id, campaign_id) DO UPDATE
SET version = greatest(l.version, excluded.version);
UPDATE codex.campaign_life AS l
SET spent_amount = (SELECT sum(s.amount) FROM codex.campaign_spending AS s WHERE s.campaign_id = l.campaign_id);
SET session_replication_role = origin;
ANALYZE codex.campaign_spending, codex.campaign_history, codex.campaign_life, public.campaign_quests";

pub fn measure(bench: &mut Bench) -> Result<()> {
    let names = ["step campaign", "spend", "move quest", "campaign progress"];
    if let Some(rows) = bench.rows
        && names.iter().any(|name| bench.wants(name))
    {
        let fill = FILL.replace("$rows", &rows.to_string());
        Session::open(CODEX, OWNER)?.batch_execute(&fill)?;
    }
    let live = "public.bench_id('live', 7)";
    let calls = [
        (
            names[0],
            "a campaign is paused, and goes on; each is a step",
            SERVICE,
            300,
            vec![
                format!("SELECT codex.transition_campaign({live}, 'paused')"),
                format!("SELECT codex.transition_campaign({live}, 'active')"),
            ],
        ),
        (
            names[1],
            "an amount, from the budget of a campaign",
            SERVICE,
            300,
            vec![format!(
                "SELECT codex.spend_campaign_budget({live}, 1.25, 'Ads')"
            )],
        ),
        (
            names[2],
            "a quest with ten below it, to and fro; each is a move",
            MEMBER,
            100,
            vec![
                format!("SELECT codex.reparent_quest({}, {})", quest(12), quest(2)),
                format!("SELECT codex.reparent_quest({}, {})", quest(12), quest(1)),
            ],
        ),
        (
            names[3],
            "of a campaign with a thousand quests on four levels",
            MEMBER,
            20,
            vec![format!("SELECT codex.campaign_progress({live})")],
        ),
    ];
    for (name, what, role, times, statements) in calls {
        if !bench.wants(name) {
            continue;
        }
        let mut session = Session::in_workspace(CODEX, role)?;
        let statements = statements
            .iter()
            .map(|sql| session.prepare(sql))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let side = Side::new("codex", session, times, move |session| {
            for turn in 0..times as usize {
                session.query(&statements[turn % statements.len()], &[])?;
            }
            Ok(())
        });
        bench.compare(name, what, vec![side])?;
        flat(bench, name, "codex");
    }
    Ok(())
}

fn quest(number: u32) -> String {
    format!("public.bench_id('quest 7 ', {number})")
}

/// Many who spend at once: for twenty campaigns, and all for one.
pub fn at_once(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "throughput, spend";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let mut owner = Session::open(CODEX, OWNER)?;
    owner.batch_execute(&FILL.replace("$rows", "20"))?;
    let campaigns: Vec<Uuid> = owner
        .query(
            "SELECT public.bench_id('live', n) FROM generate_series(0, 19) AS n",
            &[],
        )?
        .iter()
        .map(|row| row.get(0))
        .collect();
    let mut values = Vec::new();
    for (connections, campaigns) in [
        (1, &campaigns[..]),
        (WORKERS, &campaigns[..]),
        (WORKERS, &campaigns[..1]),
    ] {
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            rates.push(throughput::at_once(connections, |number| {
                let mut session = Session::in_workspace(CODEX, SERVICE)?;
                let statement =
                    session.prepare("SELECT codex.spend_campaign_budget($1, 1, 'Ads')")?;
                let (campaigns, mut turn) = (campaigns.to_vec(), number * 7);
                Ok(Box::new(move || {
                    turn = (turn + 1) % campaigns.len();
                    session.execute(&statement, &[&campaigns[turn]])?;
                    Ok(1)
                }))
            })?);
        }
        let whom = format!("{connections} workers, {} campaigns", campaigns.len());
        values.push((whom, Spread::of(rates).median));
    }
    bench.figure(
        NAME,
        "amounts a second, each checked against its budget",
        values,
        "/s",
    );
    Ok(())
}
