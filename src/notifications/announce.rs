//! Announcements: a NOTIFY for every new notification, for a server that pushes to browsers.
//!
//! Off by default. A transaction that announced something takes a lock on the whole database when it commits, so
//! that such transactions commit one after the other; docs/engines/notifications.md has what that costs. And any
//! role of the database may LISTEN: an announcement holds ids and nothing else.

use crate::error::Outcome;
use crate::statement;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, Uuid};

/// The channel to LISTEN on.
const CHANNEL: &str = "codex_notifications";

static NOTIFY: GucSetting<bool> = GucSetting::<bool>::new(false);

pub fn define_settings() {
    GucRegistry::define_bool_guc(
        c"raptorflow_codex.notify",
        c"Whether every new notification is announced by NOTIFY on codex_notifications; off by default.",
        c"The announcement is a JSON object of ids: workspace_id, user_id, notification_id, and the channel. Transactions that announce commit one after the other. Set it with ALTER DATABASE, for all sessions.",
        &NOTIFY,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// Whether notifications are announced.
pub fn wanted() -> bool {
    NOTIFY.get()
}

statement!(ANNOUNCE(TEXT, TEXT) = "SELECT pg_catalog.pg_notify($1, $2)");

/// Announces a notification, when the transaction commits.
pub fn notification(
    workspace: Option<Uuid>,
    user: Option<Uuid>,
    notification: Option<Uuid>,
    channel: Option<&str>,
) -> Outcome<()> {
    let id = |id: Option<Uuid>| id.map(|id| id.to_string());
    let payload = serde_json::json!({
        "workspace_id": id(workspace),
        "user_id": id(user),
        "notification_id": id(notification),
        "channel": channel,
    });
    Spi::connect_mut(|client| {
        ANNOUNCE.with(|statement| {
            statement.write(
                client,
                &[CHANNEL.into(), payload.to_string().into()],
                |_| Ok(()),
            )
        })
    })?;
    Ok(())
}
