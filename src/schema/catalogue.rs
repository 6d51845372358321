//! The migrations this library knows, in order.
//!
//! Numbers up to 017 are the product's own. A released file never changes: the ledger of every database keeps its
//! checksum, and `codex.migrate()` refuses to go on from another text.

use super::shape::Definition;
use sha2::{Digest, Sha256};

/// One numbered migration.
pub struct Migration {
    /// Its number; the schema version of a database is the highest one applied.
    pub version: i32,
    /// Its name, as in the file name.
    pub name: &'static str,
    /// What it does.
    pub body: Body,
    /// The tables it makes, in the order in which they are made, schema included.
    pub tables: &'static [&'static str],
    /// What it adds to tables of older migrations: relation, kind and name, as in `sql/shape.tsv`. Before it is
    /// applied, nobody expects these.
    pub adds: &'static [(&'static str, &'static str, &'static str)],
    /// What it takes away from tables of older migrations: relation, kind, name and definition, as `sql/shape.tsv` had
    /// it. Before it is applied, these are expected.
    pub drops: &'static [(&'static str, &'static str, &'static str, &'static str)],
}

/// What a migration is made of.
pub enum Body {
    /// The bookkeeping tables, and those of the tables it builds on that are missing.
    Foundation,
    /// 011: mends three tables of older databases that came in two shapes.
    MendLegacy,
    /// 012: moves the unused tables of older databases out of the way.
    ArchiveUnused,
    /// A text to run, and the one that takes it back.
    Text {
        /// Makes it.
        up: &'static str,
        /// Takes it back.
        down: &'static str,
    },
}

macro_rules! text {
    ($file:literal) => {
        Body::Text {
            up: include_str!(concat!("../../sql/migrations/", $file, ".up.sql")),
            down: include_str!(concat!("../../sql/migrations/", $file, ".down.sql")),
        }
    };
}

/// The last of the product's own migrations. A database may stay there: what comes after it is ours, and is
/// expected once it is applied.
pub const PRODUCT: i32 = 17;

/// All migrations, oldest first.
pub const ALL: &[Migration] = &[
    Migration {
        version: 10,
        name: "foundation",
        body: Body::Foundation,
        tables: &["codex.migrations", "codex.roles", "codex.adopted"],
        adds: &[],
        drops: &[],
    },
    Migration {
        version: 11,
        name: "mend_legacy",
        body: Body::MendLegacy,
        tables: &[],
        adds: &[],
        drops: &[],
    },
    Migration {
        version: 12,
        name: "archive_unused",
        body: Body::ArchiveUnused,
        tables: &[],
        adds: &[],
        drops: &[],
    },
    Migration {
        version: 13,
        name: "positioning_and_campaigns",
        body: text!("013_positioning_and_campaigns"),
        tables: &[
            "public.positioning",
            "public.message_architecture",
            "public.campaigns",
            "public.campaign_quests",
            "public.campaign_cohorts",
        ],
        adds: &[],
        drops: &[],
    },
    Migration {
        version: 14,
        name: "achievements",
        body: text!("014_achievements"),
        tables: &[
            "public.achievements",
            "public.user_achievements",
            "public.user_stats",
        ],
        adds: &[],
        drops: &[],
    },
    Migration {
        version: 15,
        name: "agents",
        body: text!("015_agents"),
        tables: &[
            "public.agent_registry",
            "public.agent_capabilities",
            "public.agent_assignments",
            "public.agent_performance",
            "codex.agent_executions",
        ],
        adds: &[],
        drops: &[],
    },
    Migration {
        version: 16,
        name: "intelligence",
        body: text!("016_intelligence"),
        tables: &[
            "public.intelligence_signals",
            "public.market_insights",
            "codex.insight_signals",
        ],
        adds: &[],
        drops: &[],
    },
    Migration {
        version: 17,
        name: "alerts_and_notifications",
        body: text!("017_alerts_and_notifications"),
        tables: &["public.system_alerts", "public.user_notifications"],
        adds: &[],
        drops: &[],
    },
    Migration {
        version: 18,
        name: "requests",
        body: text!("018_requests"),
        tables: &["codex.requests"],
        adds: &[],
        drops: &[],
    },
    Migration {
        version: 19,
        name: "points_and_metrics",
        body: text!("019_points_and_metrics"),
        tables: &[
            "codex.user_time_zones",
            "codex.metric_events",
            "codex.metric_totals",
            "codex.metric_days",
            "codex.achievement_metrics",
            "codex.points_ledger",
        ],
        adds: &[
            ("public.achievements", "trigger", "achievements_a_rule"),
            ("public.achievements", "trigger", "achievements_metrics"),
        ],
        drops: &[],
    },
    Migration {
        version: 20,
        name: "campaign_life",
        body: text!("020_campaign_life"),
        tables: &[
            "codex.campaign_policies",
            "codex.campaign_life",
            "codex.campaign_history",
            "codex.campaign_spending",
        ],
        adds: &[
            ("public.campaigns", "trigger", "campaigns_followed"),
            (
                "public.campaign_quests",
                "trigger",
                "campaign_quests_tree_insert",
            ),
            (
                "public.campaign_quests",
                "trigger",
                "campaign_quests_tree_update",
            ),
            (
                "public.campaign_cohorts",
                "trigger",
                "campaign_cohorts_shares_insert",
            ),
            (
                "public.campaign_cohorts",
                "trigger",
                "campaign_cohorts_shares_update",
            ),
        ],
        drops: &[],
    },
    Migration {
        version: 21,
        name: "alert_life",
        body: text!("021_alert_life"),
        tables: &[
            "codex.alert_silences",
            "codex.alert_policies",
            "codex.alert_fan_out",
            "codex.alert_life",
            "codex.alert_events",
        ],
        adds: &[
            (
                "public.system_alerts",
                "index",
                "system_alerts_open_expiry_idx",
            ),
            (
                "public.system_alerts",
                "index",
                "system_alerts_resolved_dedup_idx",
            ),
            ("public.system_alerts", "trigger", "system_alerts_opened"),
            ("public.system_alerts", "trigger", "system_alerts_changed"),
        ],
        drops: &[],
    },
    Migration {
        version: 22,
        name: "delivery",
        body: text!("022_delivery"),
        tables: &[
            "codex.deliveries",
            "codex.notification_preferences",
            "codex.quiet_hours",
            "codex.digests",
            "codex.digest_items",
        ],
        adds: &[
            ("public.user_notifications", "column", "seen_at"),
            ("public.user_notifications", "column", "archived_at"),
            (
                "public.user_notifications",
                "index",
                "user_notifications_inbox_idx",
            ),
            (
                "public.user_notifications",
                "index",
                "user_notifications_unread_list_idx",
            ),
            (
                "public.user_notifications",
                "index",
                "user_notifications_read_at_idx",
            ),
            (
                "public.user_notifications",
                "index",
                "user_notifications_expires_at_idx",
            ),
            (
                "public.user_notifications",
                "trigger",
                "user_notifications_sent",
            ),
            (
                "public.user_notifications",
                "trigger",
                "user_notifications_deleted",
            ),
        ],
        drops: &[
            (
                "public.user_notifications",
                "index",
                "user_notifications_unread_idx",
                "CREATE INDEX user_notifications_unread_idx ON public.user_notifications USING btree (user_id, workspace_id, ( CASE priority_level WHEN 'urgent'::text THEN 0 WHEN 'high'::text THEN 1 WHEN 'low'::text THEN 3 ELSE 2 END), created_at DESC NULLS LAST) WHERE (NOT is_read)",
            ),
            (
                "public.user_notifications",
                "index",
                "user_notifications_user_id_idx",
                "CREATE INDEX user_notifications_user_id_idx ON public.user_notifications USING btree (user_id)",
            ),
        ],
    },
    Migration {
        version: 23,
        name: "agent_tasks",
        body: text!("023_agent_tasks"),
        tables: &[
            "codex.agent_tasks",
            "codex.agent_budgets",
            "codex.agent_budget_periods",
            "codex.budget_reservations",
        ],
        adds: &[],
        drops: &[],
    },
    Migration {
        version: 24,
        name: "signal_life",
        body: text!("024_signal_life"),
        tables: &[
            "codex.signal_half_lives",
            "codex.signal_fingerprints",
            "codex.signal_sightings",
            "codex.insight_changes",
        ],
        adds: &[
            (
                "public.market_insights",
                "index",
                "market_insights_stale_idx",
            ),
            (
                "public.intelligence_signals",
                "index",
                "intelligence_signals_expiry_idx",
            ),
            (
                "public.intelligence_signals",
                "index",
                "intelligence_signals_fading_idx",
            ),
        ],
        drops: &[],
    },
    Migration {
        version: 25,
        name: "departures",
        body: text!("025_departures"),
        tables: &["codex.departures"],
        adds: &[],
        drops: &[],
    },
    Migration {
        version: 26,
        name: "upkeep",
        body: text!("026_upkeep"),
        tables: &[],
        adds: &[(
            "codex.agent_executions",
            "index",
            "agent_executions_recorded_at_idx",
        )],
        drops: &[],
    },
];

/// The number of the newest migration.
pub fn latest() -> i32 {
    ALL.iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0)
}

/// The migration of that number.
pub fn find(version: i32) -> Option<&'static Migration> {
    ALL.iter().find(|migration| migration.version == version)
}

/// The tables of the product that the migrations make: those in schema `public`.
pub fn product_tables() -> impl Iterator<Item = (i32, &'static str)> {
    ALL.iter().flat_map(|migration| {
        migration
            .tables
            .iter()
            .filter_map(move |table| Some((migration.version, table.strip_prefix("public.")?)))
    })
}

/// The migration that makes a table, given as `schema.table`.
pub fn version_of_table(table: &str) -> Option<i32> {
    ALL.iter()
        .find(|migration| migration.tables.contains(&table))
        .map(|migration| migration.version)
}

/// What the migrations after `version` take away, and which one: expected until that one is applied.
pub fn dropped_after(version: i32) -> impl Iterator<Item = (&'static Migration, Definition)> {
    ALL.iter()
        .filter(move |migration| migration.version > version)
        .flat_map(|migration| migration.drops.iter().map(move |drop| (migration, drop)))
        .map(|(migration, (relation, kind, name, text))| {
            let definition = Definition {
                relation: (*relation).to_string(),
                kind: (*kind).to_string(),
                name: (*name).to_string(),
                text: (*text).to_string(),
            };
            (migration, definition)
        })
        .filter(move |(_, definition)| {
            version_of_table(&definition.relation).is_some_and(|made| made <= version)
        })
}

/// The migration that makes a definition: that of its table, unless a later one adds it.
pub fn version_of(definition: &Definition) -> Option<i32> {
    ALL.iter()
        .find(|migration| {
            migration.adds.iter().any(|(relation, kind, name)| {
                definition.relation == *relation
                    && definition.kind == *kind
                    && definition.name == *name
            })
        })
        .map(|migration| migration.version)
        .or_else(|| version_of_table(&definition.relation))
}

impl Migration {
    /// The tables of older migrations that it adds something to.
    pub fn tables_added_to(&self) -> impl Iterator<Item = &'static str> {
        self.adds.iter().map(|(relation, _, _)| *relation)
    }

    /// The tables of older migrations whose rows it reads while nobody may write them.
    pub fn tables_read_under_lock(&self) -> &'static [&'static str] {
        match self.name {
            "points_and_metrics" => &["public.user_stats"],
            _ => &[],
        }
    }

    /// What it makes, in words.
    pub fn in_words(&self) -> String {
        let mut added_to: Vec<&str> = self.tables_added_to().collect();
        added_to.dedup();
        match (self.tables, added_to.as_slice()) {
            ([], []) => "makes no table".to_string(),
            ([], added_to) => format!("adds to {}", added_to.join(", ")),
            (tables, _) => format!("makes {}", tables.join(", ")),
        }
    }

    /// The file a person would look at.
    pub fn file(&self) -> String {
        match self.body {
            Body::Foundation => "sql/foundation/".to_string(),
            _ => format!("sql/migrations/{:03}_{}.up.sql", self.version, self.name),
        }
    }

    /// SHA-256 of everything the migration runs, up and down, in hexadecimal.
    pub fn checksum(&self) -> String {
        let mut hash = Sha256::new();
        match &self.body {
            Body::Foundation => {
                for piece in super::foundation::PIECES {
                    hash.update(piece.sql.as_bytes());
                }
            }
            Body::MendLegacy => hash.update(super::legacy::MEND_RULES.as_bytes()),
            Body::ArchiveUnused => {
                for table in super::legacy::UNUSED_TABLES {
                    hash.update(table.as_bytes());
                    hash.update(b"\n");
                }
            }
            Body::Text { up, down } => {
                hash.update(up.as_bytes());
                hash.update(down.as_bytes());
            }
        }
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// How messages name it.
    pub fn label(&self) -> String {
        format!("{:03} {}", self.version, self.name)
    }
}
