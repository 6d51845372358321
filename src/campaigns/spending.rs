//! What a campaign spends: never more than is allocated to it.
//!
//! `codex.campaign_spending` is a ledger: rows are added, and what was wrong is taken back by a negative amount. A
//! trigger adds each row to the sum in `codex.campaign_life`, while it holds the campaign's row; so two
//! sessions that spend at once do so one after the other, and the second sees what the first has left. Without an
//! allocated budget nothing can be spent; in an archived campaign money can only come back.

use super::steps::workspace_of;
use crate::argument;
use crate::context;
use crate::context::membership;
use crate::departures::erasing;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::idempotency;
use crate::owner::as_owner_of;
use crate::row_triggers::{Event, Row};
use crate::{statement, trigger_function};
use pgrx::datum::Date;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use pgrx::{AnyNumeric, Uuid};
use serde::{Deserialize, Serialize};
use serde_json::json;

// Written to, not only locked: a session in REPEATABLE READ that has an older picture of the sum gets 40001.
statement!(
    TOUCH(UUID, UUID) = "
UPDATE public.campaigns AS c
SET updated_at = now()
WHERE c.workspace_id = $1
  AND c.id = $2
RETURNING c.allocated_budget_amount, c.status"
);
statement!(
    SPENT(UUID, UUID) = "
SELECT l.spent_amount
FROM codex.campaign_life AS l
WHERE l.workspace_id = $1
  AND l.campaign_id = $2
FOR NO KEY UPDATE"
);
statement!(
    SUM_UP(UUID, UUID, NUMERIC) = "
INSERT INTO codex.campaign_life AS l (workspace_id, campaign_id, spent_amount)
VALUES ($1, $2, $3)
ON CONFLICT (workspace_id, campaign_id) DO UPDATE
SET spent_amount = excluded.spent_amount"
);

/// A number as it is put into a message: one can have a hundred thousand digits.
pub fn in_words(number: &AnyNumeric) -> String {
    shorten(&number.to_string())
}

/// Adds a row of the ledger to the sum of its campaign, or takes one away that is deleted.
fn count(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let (event, row) = Row::after(data)?;
    if erasing() {
        return Ok(std::ptr::null_mut());
    }
    if event == Event::Update {
        return Err(CodexError::wrong_state(
            "codex.campaign_spending is added to, and never changed",
        )
        .with_hint("Take back what was wrong by a row with a negative amount."));
    }
    let workspace = row.column("workspace_id", pg_sys::UUIDOID)?;
    let campaign = row.column("campaign_id", pg_sys::UUIDOID)?;
    let amount = row.column("amount", pg_sys::NUMERICOID)?;
    let of_row =
        |column| -> Option<Uuid> { row.new_value(column).or_else(|| row.old_value(column)) };
    let (Some(workspace), Some(campaign)) = (of_row(workspace), of_row(campaign)) else {
        return Ok(std::ptr::null_mut());
    };
    let added: AnyNumeric = match event {
        Event::Delete => {
            AnyNumeric::from(0) - row.old_value::<AnyNumeric>(amount).unwrap_or_default()
        }
        _ => row.new_value(amount).unwrap_or_default(),
    };
    if added == AnyNumeric::from(0) {
        return Ok(std::ptr::null_mut());
    }
    let key = || [workspace.into(), campaign.into()];
    let found = as_owner_of(c"public", c"campaigns", || {
        Spi::connect_mut(|client| {
            TOUCH.with(|s| {
                s.write_one(client, &key(), |row| {
                    Ok((row.get::<AnyNumeric>(1)?, row.get::<String>(2)?))
                })
            })
        })
    })?;
    // A campaign that is being deleted takes its ledger with it; one that is not there is left to the foreign key.
    let Some((budget, status)) = found else {
        return Ok(std::ptr::null_mut());
    };
    as_owner_of(c"codex", c"campaign_life", || {
        Spi::connect_mut(|client| {
            let spent = SPENT
                .with(|s| s.write_one(client, &key(), |row| row.get::<AnyNumeric>(1)))?
                .flatten()
                .unwrap_or_default();
            let sum = spent.clone() + added.clone();
            let (added_words, spent_words) = (in_words(&added), in_words(&spent));
            if added > AnyNumeric::from(0) {
                if status.as_deref() == Some("archived") {
                    return Err(CodexError::wrong_state(format!(
                        "campaign {campaign} is archived, and spends nothing more"
                    )));
                }
                let Some(budget) = budget else {
                    return Err(CodexError::wrong_state(format!(
                        "campaign {campaign} has no allocated budget, and cannot spend {added_words}"
                    ))
                    .with_hint("Set allocated_budget_amount of the campaign."));
                };
                if sum > budget {
                    return Err(CodexError::wrong_state(format!(
                        "campaign {campaign} cannot spend {added_words}: {spent_words} of its allocated budget of {} is spent",
                        in_words(&budget)
                    ))
                    .with_hint("Raise allocated_budget_amount of the campaign, or spend less."));
                }
            } else if sum < AnyNumeric::from(0) {
                return Err(CodexError::bad_value(format!(
                    "amount is {added_words}, and campaign {campaign} has spent {spent_words}: more cannot come back"
                )));
            }
            SUM_UP.with(|s| s.execute(client, &[workspace.into(), campaign.into(), sum.into()]))?;
            Ok(())
        })
    })?;
    Ok(std::ptr::null_mut())
}

trigger_function!(count_spending, count);

extension_sql!(
    r#"
CREATE FUNCTION count_spending() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'count_spending_trigger';

COMMENT ON FUNCTION count_spending() IS
'Trigger of codex.campaign_spending: keeps the sum in codex.campaign_life, as its owner. Refuses (55000) what is more than the allocated budget of the campaign, spending in an archived one, and changes of a row; (22023) more money back than was spent.';
"#,
    name = "trigger_count_spending"
);

statement!(
    SPEND(UUID, UUID, NUMERIC, TEXT, DATE, UUID) = "
INSERT INTO codex.campaign_spending (workspace_id, campaign_id, amount, description, spent_on, recorded_by)
VALUES ($1, $2, $3, $4, coalesce($5, current_date), $6)
RETURNING id"
);
statement!(
    LEFT(UUID, UUID) = "
SELECT l.spent_amount, c.allocated_budget_amount - l.spent_amount
FROM codex.campaign_life AS l
JOIN public.campaigns AS c
    ON c.workspace_id = l.workspace_id
    AND c.id = l.campaign_id
WHERE l.workspace_id = $1
  AND l.campaign_id = $2"
);

/// What was spent, as a caller is told of it; amounts as text, so that they keep all digits.
#[derive(Serialize, Deserialize)]
struct Spent {
    id: String,
    spent: String,
    remaining: Option<String>,
}

fn spend(
    client: &mut SpiClient<'_>,
    workspace: Uuid,
    campaign: Uuid,
    amount: AnyNumeric,
    description: &str,
    spent_on: Option<Date>,
) -> Outcome<Spent> {
    let user = context::current_user().filter(|user| membership::of(workspace, *user));
    let arguments = [
        workspace.into(),
        campaign.into(),
        amount.into(),
        description.into(),
        spent_on.into(),
        user.into(),
    ];
    let id = SPEND.with(|s| s.write_one(client, &arguments, |row| row.get::<Uuid>(1)))?;
    let left = LEFT.with(|s| {
        s.write_one(client, &[workspace.into(), campaign.into()], |row| {
            Ok((row.get::<AnyNumeric>(1)?, row.get::<AnyNumeric>(2)?))
        })
    })?;
    match (id.flatten(), left) {
        (Some(id), Some((Some(spent), remaining))) => Ok(Spent {
            id: id.to_string(),
            spent: spent.to_string(),
            remaining: remaining.map(|remaining| remaining.to_string()),
        }),
        _ => Err(CodexError::wrong_state(
            "the spending was not counted: a trigger of codex.campaign_spending is missing or suppressed it",
        )
        .with_hint("SELECT * FROM codex.verify() tells what is missing.")),
    }
}

fn number(text: &str) -> Outcome<AnyNumeric> {
    AnyNumeric::try_from(text).map_err(|_| {
        CodexError::corrupt(format!(
            "an amount of codex.requests.answer does not read: \"{}\"",
            shorten(text)
        ))
    })
}

/// Writes down what a campaign spends, if its allocated budget has that much left.
///
/// - `amount`: in the unit of `campaigns.allocated_budget_amount`; not 0. Negative: money that came back, at most what was
///   spent.
/// - `description`: what for; not blank.
/// - `spent_on`: the date; NULL for today.
/// - `idempotency_key`: the same call with the same key is done once, and gets the first answer.
///
/// Gives the row's id, what the campaign has spent in all, and what is left of its budget. For service roles.
///
/// Refuses: NULL for an argument without a default (22004); an amount of 0 or that is no number, more back than was spent,
/// a blank description (22023); a campaign that does not exist or is not visible here (P0002); more than is left, no
/// allocated budget, an archived campaign (55000).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn spend_campaign_budget(
    campaign: Option<Uuid>,
    amount: Option<AnyNumeric>,
    description: Option<&str>,
    spent_on: default!(Option<Date>, "NULL"),
    idempotency_key: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(spending_id, Uuid),
        name!(spent, AnyNumeric),
        name!(remaining, Option<AnyNumeric>),
    ),
> {
    let run = || -> Outcome<_> {
        let campaign = required(campaign, "campaign")?;
        let amount = required(amount, "amount")?;
        let words = amount.to_string();
        if amount == AnyNumeric::from(0) || !words.ends_with(|last: char| last.is_ascii_digit()) {
            return Err(CodexError::bad_value(format!(
                "amount is {}; it must be a number that is not 0",
                shorten(&words)
            )));
        }
        let description = argument::not_blank(description, "description")?;
        let spent = Spi::connect_mut(|client| {
            let workspace = workspace_of(client, campaign)?;
            let request = json!([
                campaign.to_string(),
                words,
                description,
                spent_on.map(|date| date.to_string())
            ]);
            let operation = "spend_campaign_budget";
            idempotency::once(
                client,
                operation,
                workspace,
                idempotency_key,
                &request,
                |client| spend(client, workspace, campaign, amount, description, spent_on),
            )
        })?;
        let id = uuid::Uuid::parse_str(&spent.id)
            .map_err(|_| CodexError::corrupt("an id of codex.requests.answer does not read"))?;
        Ok((
            Uuid::from_bytes(id.into_bytes()),
            number(&spent.spent)?,
            spent.remaining.as_deref().map(number).transpose()?,
        ))
    };
    TableIterator::once(run().or_raise())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION spend_campaign_budget(uuid, numeric, text, date, text) IS
'Writes down what a campaign spends, if its allocated budget has that much left; a negative amount is money that came back. Gives the row''s id, what is spent in all, and what is left. Sessions that spend for one campaign wait for each other. Errors: 22004 NULL, 22023 amount of 0 or no number, more back than was spent, blank description, P0002 no such campaign here, 55000 more than is left, no allocated budget, an archived campaign.';
"#,
    name = "comment_spend_campaign_budget",
    requires = [spend_campaign_budget]
);
