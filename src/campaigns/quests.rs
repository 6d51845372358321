//! Quests are a tree: of one campaign, without cycles, and not too deep.
//!
//! `codex.refuse_cycle()` refuses cycles, and a parent that is too deep already, while a row is written. What it cannot
//! see is judged here, at the end of the statement:
//!
//! - a parent of another campaign;
//! - what hangs below a quest that moves: no quest may have more than 1000 above it, also when whole trees move;
//! - a quest that somebody adds at the bottom while somebody else moves the top: both lock the campaign.

use super::cohorts::lock_campaigns;
use super::rows::each_row;
use crate::argument;
use crate::error::{CodexError, OrRaise, Outcome, required};
use crate::idempotency;
use crate::owner::as_owner_of;
use crate::{statement, trigger_function};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use pgrx::{Uuid, pg_sys};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// So many quests may be above a quest: as many as `codex.refuse_cycle()` lets a row have.
const MOST_ABOVE: usize = 1000;

/// Where a quest is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    campaign: Uuid,
    parent: Option<Uuid>,
}

/// Quests by their ids.
type Places = BTreeMap<Uuid, Place>;

statement!(
    BY_ID(UUID_ARRAY) = "
SELECT q.id, q.campaign_id, q.parent_quest_id
FROM public.campaign_quests AS q
WHERE q.id = ANY ($1)"
);
// By way of the workspaces, so that the index of parents serves.
statement!(
    BY_PARENT(UUID_ARRAY) = "
SELECT q.id, q.campaign_id, q.parent_quest_id
FROM public.campaign_quests AS p
JOIN public.campaign_quests AS q
    ON q.workspace_id = p.workspace_id
    AND q.parent_quest_id = p.id
WHERE p.id = ANY ($1)"
);

/// The rows of a transition table.
fn places(
    data: &pg_sys::TriggerData,
    rows: *mut pg_sys::Tuplestorestate,
) -> Outcome<BTreeMap<Uuid, Place>> {
    let mut places = BTreeMap::new();
    let columns = [
        ("id", pg_sys::UUIDOID),
        ("campaign_id", pg_sys::UUIDOID),
        ("parent_quest_id", pg_sys::UUIDOID),
    ];
    each_row(data, rows, columns, |row, [id, campaign, parent]| {
        if let (Some(id), Some(campaign)) = (row.get(id), row.get(campaign)) {
            let parent = row.get(parent);
            places.insert(id, Place { campaign, parent });
        }
        Ok(())
    })?;
    Ok(places)
}

/// Refuses (22023) what would not be a tree of one campaign.
fn keep_tree(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let before = places(data, data.tg_oldtable)?;
    let mut changed = places(data, data.tg_newtable)?;
    let is_update = !data.tg_oldtable.is_null();
    // A quest without a parent that is new has nothing above it, and whatever is below it is in `changed` itself.
    changed
        .retain(|id, place| before.get(id) != Some(place) && (is_update || place.parent.is_some()));
    if changed.is_empty() {
        return Ok(std::ptr::null_mut());
    }
    let campaigns: BTreeSet<Uuid> = changed
        .iter()
        .flat_map(|(id, place)| [Some(place.campaign), before.get(id).map(|old| old.campaign)])
        .flatten()
        .collect();
    lock_campaigns(&campaigns.into_iter().collect::<Vec<_>>())?;
    as_owner_of(c"public", c"campaign_quests", || {
        Spi::connect_mut(|client| {
            let below = if is_update {
                all_below(client, &changed)?
            } else {
                BTreeMap::new()
            };
            judge(client, changed, below)
        })
    })?;
    Ok(std::ptr::null_mut())
}

trigger_function!(keep_quest_tree, keep_tree);

extension_sql!(
    r#"
CREATE FUNCTION keep_quest_tree() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'keep_quest_tree_trigger';

COMMENT ON FUNCTION keep_quest_tree() IS
'Trigger of campaign_quests, once a statement: refuses (22023) a parent of another campaign, and a quest with more than 1000 above it, also far below one that moves. Statements that change the tree of one campaign wait for each other.';
"#,
    name = "trigger_keep_quest_tree"
);

fn fetch(
    client: &mut SpiClient<'_>,
    ids: &[Uuid],
    statement: &'static std::thread::LocalKey<crate::statement::Statement>,
) -> Outcome<Vec<(Uuid, Place)>> {
    let rows = statement.with(|s| {
        s.write(client, &[ids.to_vec().into()], |row| {
            Ok((
                row.get::<Uuid>(1)?,
                row.get::<Uuid>(2)?,
                row.get::<Uuid>(3)?,
            ))
        })
    })?;
    Ok(rows
        .into_iter()
        .filter_map(|(id, campaign, parent)| {
            let campaign = campaign?;
            Some((id?, Place { campaign, parent }))
        })
        .collect())
}

/// What is below these quests, level by level.
fn all_below(client: &mut SpiClient<'_>, of: &Places) -> Outcome<Places> {
    let mut below = BTreeMap::new();
    let mut level: Vec<Uuid> = of.keys().copied().collect();
    while !level.is_empty() {
        let children = fetch(client, &level, &BY_PARENT)?;
        level = children
            .into_iter()
            .filter_map(|(id, place)| below.insert(id, place).is_none().then_some(id))
            .collect();
    }
    Ok(below)
}

fn judge(client: &mut SpiClient<'_>, changed: Places, below: Places) -> Outcome<()> {
    let concerned: Vec<Uuid> = changed.keys().chain(below.keys()).copied().collect();
    let mut known = changed.clone();
    known.extend(below);
    // What is above, level by level, as far as it is not known yet.
    loop {
        let unknown: BTreeSet<Uuid> = known
            .values()
            .filter_map(|place| place.parent)
            .filter(|parent| !known.contains_key(parent))
            .collect();
        let found = fetch(client, &unknown.into_iter().collect::<Vec<_>>(), &BY_ID)?;
        if found.is_empty() {
            break;
        }
        known.extend(found);
    }
    for id in &concerned {
        let Some((place, parent)) = above(&known, *id) else {
            continue;
        };
        let parent_campaign = known[&parent].campaign;
        if parent_campaign != place.campaign
            && (changed.contains_key(id) || changed.contains_key(&parent))
        {
            return Err(CodexError::bad_value(format!(
                "parent_quest_id of quest {id} cannot be {parent}, which belongs to another campaign"
            ))
            .with_detail(format!(
                "The quest belongs to campaign {}, its parent to {parent_campaign}.",
                place.campaign
            )));
        }
    }
    let mut depths: BTreeMap<Uuid, usize> = BTreeMap::new();
    for id in concerned {
        if depth(&known, &mut depths, id) > MOST_ABOVE {
            return Err(CodexError::bad_value(format!(
                "quest {id} would have more than {MOST_ABOVE} quests above it"
            )));
        }
    }
    Ok(())
}

/// The place of a quest, and its parent where that is known.
fn above(known: &Places, id: Uuid) -> Option<(Place, Uuid)> {
    let place = known.get(&id)?;
    let parent = place.parent?;
    known.contains_key(&parent).then_some((*place, parent))
}

/// How many quests are above one; more than may be, where they are a circle.
fn depth(known: &Places, depths: &mut BTreeMap<Uuid, usize>, id: Uuid) -> usize {
    let mut path = Vec::new();
    let mut at = id;
    let mut depth = loop {
        if let Some(depth) = depths.get(&at) {
            break *depth;
        }
        match above(known, at) {
            None => {
                depths.insert(at, 0);
                break 0;
            }
            Some(_) if path.len() > MOST_ABOVE => break MOST_ABOVE,
            Some((_, parent)) => {
                path.push(at);
                at = parent;
            }
        }
    };
    for below in path.into_iter().rev() {
        depth = (depth + 1).min(MOST_ABOVE + 1);
        depths.insert(below, depth);
    }
    depth
}

statement!(
    WORKSPACE_OF(UUID) = "
SELECT q.workspace_id
FROM public.campaign_quests AS q
WHERE q.id = $1"
);
statement!(
    LOCK_QUEST(UUID) = "
SELECT q.campaign_id, q.parent_quest_id, q.quest_order
FROM public.campaign_quests AS q
WHERE q.id = $1
FOR NO KEY UPDATE"
);
statement!(
    PARENT(UUID, UUID) = "
SELECT q.campaign_id
FROM public.campaign_quests AS q
WHERE q.workspace_id = $1
  AND q.id = $2"
);
statement!(
    MOVE(UUID, UUID, INT4) = "
UPDATE public.campaign_quests AS q
SET parent_quest_id = $2,
    quest_order = coalesce($3, q.quest_order)
WHERE q.id = $1"
);

/// Hangs a quest, with all that is below it, under another quest of its campaign. Returns whether anything changed.
///
/// - `parent`: the quest that it is to be a part of; NULL for the top of the campaign.
/// - `quest_order`: its new place among others; NULL leaves it.
/// - `idempotency_key`: the same call with the same key is done once, and gets the first answer.
///
/// Sessions that move quests of one workspace wait for each other, so that no two of them can close a circle.
///
/// Refuses: NULL for the quest (22004); a parent that is the quest itself or below it, that belongs to another
/// campaign, or under which a quest would have more than 1000 above it (22023); a quest that does not exist or is not
/// visible here (P0002); a parent that is not (23503).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn reparent_quest(
    quest: Option<Uuid>,
    parent: default!(Option<Uuid>, "NULL"),
    quest_order: default!(Option<i32>, "NULL"),
    idempotency_key: default!(Option<&str>, "NULL"),
) -> bool {
    let run = || -> Outcome<bool> {
        let quest = required(quest, "quest")?;
        argument::key(idempotency_key, "idempotency_key", argument::LONGEST_KEY)?;
        let not_here = || CodexError::not_found(format!("there is no quest {quest} here"));
        Spi::connect_mut(|client| {
            let workspace = WORKSPACE_OF
                .with(|s| s.read_one(client, &[quest.into()], |row| row.get::<Uuid>(1)))?
                .flatten()
                .ok_or_else(not_here)?;
            let request = json!([
                quest.to_string(),
                parent.map(|parent| parent.to_string()),
                quest_order
            ]);
            let operation = "reparent_quest";
            idempotency::once(
                client,
                operation,
                workspace,
                idempotency_key,
                &request,
                |client| {
                    let found = LOCK_QUEST.with(|s| {
                        s.write_one(client, &[quest.into()], |row| {
                            Ok((row.get::<Uuid>(1)?, row.get::<Uuid>(2)?, row.get::<i32>(3)?))
                        })
                    })?;
                    let (_, current, order) = found.ok_or_else(not_here)?;
                    if let Some(parent) = parent {
                        if parent == quest {
                            return Err(CodexError::bad_value(format!(
                                "parent is {parent}, the quest itself"
                            )));
                        }
                        PARENT
                            .with(|s| {
                                s.write_one(client, &[workspace.into(), parent.into()], |row| {
                                    row.get::<Uuid>(1)
                                })
                            })?
                            .ok_or_else(|| {
                                CodexError::unknown_reference(format!(
                                    "parent is {parent}, and there is no such quest"
                                ))
                            })?;
                    }
                    if current == parent && (quest_order.is_none() || quest_order == order) {
                        return Ok(false);
                    }
                    MOVE.with(|s| {
                        s.execute(client, &[quest.into(), parent.into(), quest_order.into()])
                    })?;
                    Ok(true)
                },
            )
        })
    };
    run().or_raise()
}

extension_sql!(
    r#"
COMMENT ON FUNCTION reparent_quest(uuid, uuid, integer, text) IS
'Hangs a quest, with all that is below it, under another quest of its campaign (NULL: the top), and gives it a place among others (quest_order; NULL leaves it). Returns whether anything changed. Sessions that move quests of one workspace wait for each other. Errors: 22004 NULL quest, 22023 a parent that is the quest itself or below it, of another campaign, or too deep (more than 1000 above a quest), P0002 no such quest here, 23503 no such parent.';
"#,
    name = "comment_reparent_quest",
    requires = [reparent_quest]
);
