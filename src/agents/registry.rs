//! Who can do what: finding agents by a capability, and filling the registry from a list.
//!
//! The registry is shared by all workspaces. Everybody may look for agents; whoever owns the tables seeds them, from a list
//! that is kept with the product's code: seeding it again changes only what the list says otherwise.

use super::amount;
use crate::argument::{self, Jsonb};
use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::statement;
use pgrx::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

const TYPES: &[&str] = &["lord", "researcher", "creative", "intelligence", "guardian"];
const CATEGORIES: &[&str] = &[
    "research",
    "analysis",
    "creation",
    "optimization",
    "monitoring",
];

/// The longest capability that can be asked for, in characters.
const LONGEST_CAPABILITY: usize = 200;

statement!(
    FIND(TEXT, TEXT, TEXT, NUMERIC, INT8) = "
SELECT
    r.id,
    r.agent_name,
    r.agent_type,
    r.guild_name,
    r.version,
    c.capability_name,
    c.category,
    lower(btrim(c.capability_name)) = lower(btrim($1)),
    coalesce(c.success_rate_percentage, r.success_rate_percentage),
    coalesce(c.typical_cost, r.cost_per_execution),
    coalesce(c.typical_execution_time_seconds, r.avg_execution_time_seconds),
    c.typical_token_usage
FROM public.agent_capabilities AS c
JOIN public.agent_registry AS r
    ON r.id = c.agent_id
WHERE c.is_enabled
  AND r.is_active
  AND (r.deprecated_date IS NULL OR r.deprecated_date > (now() AT TIME ZONE 'UTC')::date)
  AND NOT EXISTS (
      SELECT
      FROM regexp_split_to_table(lower(btrim($1)), '\\s+') AS w (word)
      WHERE position(w.word IN lower(c.capability_name)) = 0
  )
  AND ($2 IS NULL OR c.category = $2)
  AND ($3 IS NULL OR r.agent_type = $3)
  AND ($4 IS NULL OR coalesce(c.typical_cost, r.cost_per_execution) <= $4)
ORDER BY 8 DESC, 9 DESC NULLS LAST, 10 NULLS LAST, r.agent_name, r.id, c.capability_name
LIMIT $5"
);

type Found = (
    Option<Uuid>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<bool>,
    Option<AnyNumeric>,
    Option<AnyNumeric>,
    Option<i32>,
    Option<i64>,
);

/// Finds the agents that can do something: those with an enabled capability whose name has every word of `capability`,
/// whatever their case and order; active ones that are not deprecated.
///
/// - `capability`: not blank, up to 200 characters.
/// - `category`: research, analysis, creation, optimization or monitoring; `agent_type`: lord, researcher, creative,
///   intelligence or guardian; NULL for any.
/// - `max_cost`: what an execution may cost, finite, 0 or more; agents that do not say are left out then. NULL for any.
/// - `max_rows`: 1 to 1000.
///
/// Capabilities of exactly that name come first (`is_exact`), then by success rate (the capability's own, else the
/// agent's) from the best on, then by cost from the cheapest on, then by name; what is not known comes last. An agent has a
/// row for each capability that fits. Refuses: NULL (22004); a value out of its list or range (22023).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn find_agents(
    capability: Option<&str>,
    category: default!(Option<&str>, "NULL"),
    agent_type: default!(Option<&str>, "NULL"),
    max_cost: default!(Option<AnyNumeric>, "NULL"),
    max_rows: default!(Option<i32>, 20),
) -> TableIterator<
    'static,
    (
        name!(agent_id, Option<Uuid>),
        name!(agent_name, Option<String>),
        name!(type_of_agent, Option<String>),
        name!(guild_name, Option<String>),
        name!(version, Option<String>),
        name!(capability_name, Option<String>),
        name!(capability_category, Option<String>),
        name!(is_exact, Option<bool>),
        name!(success_rate, Option<AnyNumeric>),
        name!(typical_cost, Option<AnyNumeric>),
        name!(typical_seconds, Option<i32>),
        name!(typical_tokens, Option<i64>),
    ),
> {
    let run = || -> Outcome<Vec<Found>> {
        let capability = required(capability, "capability")?;
        argument::key(Some(capability), "capability", LONGEST_CAPABILITY)?;
        let one_of = |value, name, list| match value {
            None => Ok(None),
            some => argument::one_of(some, name, list).map(Some),
        };
        let category = one_of(category, "category", CATEGORIES)?;
        let agent_type = one_of(agent_type, "agent_type", TYPES)?;
        let max_cost = match max_cost {
            None => None,
            Some(most) => Some(amount(most, "max_cost")?.0),
        };
        let max_rows = argument::between(max_rows, "max_rows", 1..=1000)?;
        let arguments = [
            capability.into(),
            category.into(),
            agent_type.into(),
            max_cost.into(),
            max_rows.into(),
        ];
        Spi::connect(|client| {
            FIND.with(|statement| {
                statement.read(client, &arguments, |row| {
                    Ok((
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                        row.get(6)?,
                        row.get(7)?,
                        row.get(8)?,
                        row.get(9)?,
                        row.get(10)?,
                        row.get(11)?,
                        row.get(12)?,
                    ))
                })
            })
        })
    };
    TableIterator::new(run().or_raise())
}

/// What a key of the list may hold.
#[derive(Clone, Copy)]
enum Kind {
    /// Text that is not blank.
    Text,
    /// One of these.
    OneOf(&'static [&'static str]),
    Texts,
    /// A whole number of an integer column, 0 or more.
    Whole,
    /// A whole number of a bigint column, 0 or more.
    Big,
    /// A finite number, 0 or more.
    Amount,
    Percentage,
    Truth,
    /// A date, as 2026-01-31.
    Date,
    Json,
    /// The capabilities of an agent.
    Capabilities,
}

const AGENT_KEYS: &[(&str, Kind)] = &[
    ("agent_name", Kind::Text),
    ("agent_type", Kind::OneOf(TYPES)),
    ("version", Kind::Text),
    ("guild_name", Kind::Text),
    ("description", Kind::Text),
    ("purpose", Kind::Text),
    ("domain_expertise", Kind::Texts),
    ("model_config", Kind::Json),
    ("system_prompt", Kind::Text),
    ("personality_traits", Kind::Texts),
    ("supported_inputs", Kind::Texts),
    ("supported_outputs", Kind::Texts),
    ("tool_access", Kind::Texts),
    ("avg_execution_time_seconds", Kind::Whole),
    ("success_rate_percentage", Kind::Percentage),
    ("error_rate_percentage", Kind::Percentage),
    ("cost_per_execution", Kind::Amount),
    ("is_active", Kind::Truth),
    ("release_date", Kind::Date),
    ("deprecated_date", Kind::Date),
    ("capabilities", Kind::Capabilities),
];

const CAPABILITY_KEYS: &[(&str, Kind)] = &[
    ("capability_name", Kind::Text),
    ("category", Kind::OneOf(CATEGORIES)),
    ("description", Kind::Text),
    ("subcategory", Kind::Text),
    ("input_types", Kind::Texts),
    ("output_types", Kind::Texts),
    ("external_apis", Kind::Texts),
    ("required_permissions", Kind::Texts),
    ("typical_execution_time_seconds", Kind::Whole),
    ("typical_token_usage", Kind::Big),
    ("typical_cost", Kind::Amount),
    ("success_rate_percentage", Kind::Percentage),
    ("is_enabled", Kind::Truth),
    ("configuration", Kind::Json),
    ("parameter_schema", Kind::Json),
];

impl Kind {
    /// What is wrong with a value; None when nothing is.
    fn complaint(self, value: &Value) -> Option<String> {
        let number = |most: f64| value.as_f64().is_some_and(|n| (0.0..=most).contains(&n));
        let whole = |most: i64| value.as_i64().is_some_and(|n| (0..=most).contains(&n));
        let (fits, wanted) = match self {
            Self::Text => (
                value.as_str().is_some_and(|text| !text.trim().is_empty()),
                "a text that is not blank".to_string(),
            ),
            Self::OneOf(list) => (
                value.as_str().is_some_and(|text| list.contains(&text)),
                format!("one of {}", list.join(", ")),
            ),
            Self::Texts => (
                value
                    .as_array()
                    .is_some_and(|texts| texts.iter().all(Value::is_string)),
                "a list of texts".to_string(),
            ),
            Self::Whole => (
                whole(i64::from(i32::MAX)),
                "a whole number, 0 to 2147483647".to_string(),
            ),
            Self::Big => (whole(i64::MAX), "a whole number, 0 or more".to_string()),
            Self::Amount => (number(f64::MAX), "a number, 0 or more".to_string()),
            Self::Percentage => (number(100.0), "a number from 0 to 100".to_string()),
            Self::Truth => (value.is_boolean(), "true or false".to_string()),
            Self::Date => (
                value.as_str().is_some_and(is_date),
                "a date such as 2026-01-31".to_string(),
            ),
            Self::Json => (true, String::new()),
            Self::Capabilities => (value.is_array(), "a list of capabilities".to_string()),
        };
        (!fits).then_some(wanted)
    }
}

/// Whether a text is a day of the calendar, written as 2026-01-31.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else {
        return false;
    };
    let digits = |part: &str, length: usize| {
        (part.len() == length && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse::<u32>().unwrap_or(0))
    };
    let (Some(year), Some(month), Some(day)) = (digits(year, 4), digits(month, 2), digits(day, 2))
    else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => 0,
    };
    year > 0 && (1..=last).contains(&day)
}

/// Checks one object of the list: its keys, what they hold, and that `required` are there.
fn check_object<'a>(
    value: &'a Value,
    place: &str,
    keys: &[(&str, Kind)],
    required_keys: [&str; 2],
) -> Outcome<&'a Map<String, Value>> {
    let Some(object) = value.as_object() else {
        return Err(CodexError::bad_value(format!("{place} is not an object")));
    };
    for (key, value) in object {
        let Some((_, kind)) = keys.iter().find(|(name, _)| name == key) else {
            let known: Vec<&str> = keys.iter().map(|(name, _)| *name).collect();
            return Err(CodexError::bad_value(format!(
                "{place} has the key \"{}\", which is not known",
                shorten(key)
            ))
            .with_hint(format!("Known keys: {}.", known.join(", "))));
        };
        if !value.is_null()
            && let Some(wanted) = kind.complaint(value)
        {
            return Err(CodexError::bad_value(format!(
                "{place}.{key} is {}",
                shorten(&value.to_string())
            ))
            .with_hint(format!("It has to be {wanted}.")));
        }
    }
    for key in required_keys {
        if object.get(key).is_none_or(Value::is_null) {
            return Err(CodexError::bad_value(format!("{place}.{key} is missing")));
        }
    }
    Ok(object)
}

/// Checks the whole list.
fn check_list(list: &Value) -> Outcome<()> {
    let Some(list) = list.as_array() else {
        return Err(CodexError::bad_value("agents is not a list of agents"));
    };
    let mut names = BTreeSet::new();
    for (number, agent) in list.iter().enumerate() {
        let place = format!("agents[{number}]");
        let agent = check_object(agent, &place, AGENT_KEYS, ["agent_name", "agent_type"])?;
        let text = |key: &str| agent.get(key).and_then(Value::as_str);
        let name = (
            text("agent_name").unwrap_or_default(),
            text("version").unwrap_or("1.0"),
        );
        if !names.insert(name) {
            return Err(CodexError::bad_value(format!(
                "{place} is another \"{}\" of version {}",
                shorten(name.0),
                shorten(name.1)
            )));
        }
        if let (Some(from), Some(to)) = (text("release_date"), text("deprecated_date"))
            && from > to
        {
            return Err(CodexError::bad_value(format!(
                "{place} is deprecated on {to}, before its release on {from}"
            )));
        }
        let mut capabilities = BTreeSet::new();
        let list = agent.get("capabilities").and_then(Value::as_array);
        for (number, capability) in list.into_iter().flatten().enumerate() {
            let place = format!("{place}.capabilities[{number}]");
            let required_keys = ["capability_name", "category"];
            let capability = check_object(capability, &place, CAPABILITY_KEYS, required_keys)?;
            let name = capability.get("capability_name").and_then(Value::as_str);
            if !capabilities.insert(name) {
                return Err(CodexError::bad_value(format!(
                    "{place} is another \"{}\"",
                    shorten(name.unwrap_or_default())
                )));
            }
        }
    }
    Ok(())
}

// The list as rows. What it does not say is NULL.
macro_rules! listed_agents {
    () => {
        "jsonb_to_recordset($1) AS l (
    agent_name text, agent_type text, version text, guild_name text, description text, purpose text,
    domain_expertise text[], model_config jsonb, system_prompt text, personality_traits text[],
    supported_inputs text[], supported_outputs text[], tool_access text[], avg_execution_time_seconds integer,
    success_rate_percentage numeric, error_rate_percentage numeric, cost_per_execution numeric, is_active boolean,
    release_date date, deprecated_date date, capabilities jsonb
)"
    };
}
macro_rules! listed_capabilities {
    () => {
        concat!(
            listed_agents!(),
            "
JOIN public.agent_registry AS a
    ON a.agent_name = l.agent_name
    AND a.version = coalesce(l.version, '1.0')
CROSS JOIN LATERAL jsonb_to_recordset(
    CASE WHEN jsonb_typeof(l.capabilities) = 'array' THEN l.capabilities ELSE '[]' END
) AS k (
    capability_name text, category text, description text, subcategory text, input_types text[], output_types text[],
    external_apis text[], required_permissions text[], typical_execution_time_seconds integer,
    typical_token_usage bigint, typical_cost numeric, success_rate_percentage numeric, is_enabled boolean,
    configuration jsonb, parameter_schema jsonb
)"
        )
    };
}

statement!(
    ADD_AGENTS(JSONB) = concat!(
        "
INSERT INTO public.agent_registry (
    agent_name, agent_type, version, guild_name, description, purpose, domain_expertise, model_config, system_prompt,
    personality_traits, supported_inputs, supported_outputs, tool_access, avg_execution_time_seconds,
    success_rate_percentage, error_rate_percentage, cost_per_execution, is_active, release_date, deprecated_date
)
SELECT
    l.agent_name, l.agent_type, coalesce(l.version, '1.0'), l.guild_name, l.description, l.purpose, l.domain_expertise,
    l.model_config, l.system_prompt, l.personality_traits, l.supported_inputs, l.supported_outputs, l.tool_access,
    l.avg_execution_time_seconds, l.success_rate_percentage, l.error_rate_percentage, l.cost_per_execution,
    coalesce(l.is_active, true), l.release_date, l.deprecated_date
FROM ",
        listed_agents!(),
        "
ORDER BY l.agent_name, l.version
ON CONFLICT (agent_name, version) DO NOTHING"
    )
);
statement!(
    CHANGE_AGENTS(JSONB) = concat!(
        "
UPDATE public.agent_registry AS a
SET agent_type = n.agent_type,
    guild_name = n.guild_name,
    description = n.description,
    purpose = n.purpose,
    domain_expertise = n.domain_expertise,
    model_config = n.model_config,
    system_prompt = n.system_prompt,
    personality_traits = n.personality_traits,
    supported_inputs = n.supported_inputs,
    supported_outputs = n.supported_outputs,
    tool_access = n.tool_access,
    avg_execution_time_seconds = n.avg_execution_time_seconds,
    success_rate_percentage = n.success_rate_percentage,
    error_rate_percentage = n.error_rate_percentage,
    cost_per_execution = n.cost_per_execution,
    is_active = n.is_active,
    release_date = n.release_date,
    deprecated_date = n.deprecated_date
FROM (
    SELECT
        o.id,
        l.agent_type,
        coalesce(l.guild_name, o.guild_name) AS guild_name,
        coalesce(l.description, o.description) AS description,
        coalesce(l.purpose, o.purpose) AS purpose,
        coalesce(l.domain_expertise, o.domain_expertise) AS domain_expertise,
        coalesce(l.model_config, o.model_config) AS model_config,
        coalesce(l.system_prompt, o.system_prompt) AS system_prompt,
        coalesce(l.personality_traits, o.personality_traits) AS personality_traits,
        coalesce(l.supported_inputs, o.supported_inputs) AS supported_inputs,
        coalesce(l.supported_outputs, o.supported_outputs) AS supported_outputs,
        coalesce(l.tool_access, o.tool_access) AS tool_access,
        coalesce(l.avg_execution_time_seconds, o.avg_execution_time_seconds) AS avg_execution_time_seconds,
        coalesce(l.success_rate_percentage, o.success_rate_percentage) AS success_rate_percentage,
        coalesce(l.error_rate_percentage, o.error_rate_percentage) AS error_rate_percentage,
        coalesce(l.cost_per_execution, o.cost_per_execution) AS cost_per_execution,
        coalesce(l.is_active, o.is_active) AS is_active,
        coalesce(l.release_date, o.release_date) AS release_date,
        coalesce(l.deprecated_date, o.deprecated_date) AS deprecated_date
    FROM ",
        listed_agents!(),
        "
    JOIN public.agent_registry AS o
        ON o.agent_name = l.agent_name
        AND o.version = coalesce(l.version, '1.0')
) AS n
WHERE a.id = n.id
  AND (
      a.agent_type, a.guild_name, a.description, a.purpose, a.domain_expertise, a.model_config, a.system_prompt,
      a.personality_traits, a.supported_inputs, a.supported_outputs, a.tool_access, a.avg_execution_time_seconds,
      a.success_rate_percentage, a.error_rate_percentage, a.cost_per_execution, a.is_active, a.release_date,
      a.deprecated_date
  ) IS DISTINCT FROM (
      n.agent_type, n.guild_name, n.description, n.purpose, n.domain_expertise, n.model_config, n.system_prompt,
      n.personality_traits, n.supported_inputs, n.supported_outputs, n.tool_access, n.avg_execution_time_seconds,
      n.success_rate_percentage, n.error_rate_percentage, n.cost_per_execution, n.is_active, n.release_date,
      n.deprecated_date
  )"
    )
);
statement!(
    ADD_CAPABILITIES(JSONB) = concat!(
        "
INSERT INTO public.agent_capabilities (
    agent_id, capability_name, category, description, subcategory, input_types, output_types, external_apis,
    required_permissions, typical_execution_time_seconds, typical_token_usage, typical_cost, success_rate_percentage,
    is_enabled, configuration, parameter_schema
)
SELECT
    a.id, k.capability_name, k.category, k.description, k.subcategory, k.input_types, k.output_types, k.external_apis,
    k.required_permissions, k.typical_execution_time_seconds, k.typical_token_usage, k.typical_cost,
    k.success_rate_percentage, coalesce(k.is_enabled, true), k.configuration, k.parameter_schema
FROM ",
        listed_capabilities!(),
        "
ORDER BY a.id, k.capability_name
ON CONFLICT (agent_id, capability_name) DO NOTHING"
    )
);
statement!(
    CHANGE_CAPABILITIES(JSONB) = concat!(
        "
UPDATE public.agent_capabilities AS c
SET category = n.category,
    description = n.description,
    subcategory = n.subcategory,
    input_types = n.input_types,
    output_types = n.output_types,
    external_apis = n.external_apis,
    required_permissions = n.required_permissions,
    typical_execution_time_seconds = n.typical_execution_time_seconds,
    typical_token_usage = n.typical_token_usage,
    typical_cost = n.typical_cost,
    success_rate_percentage = n.success_rate_percentage,
    is_enabled = n.is_enabled,
    configuration = n.configuration,
    parameter_schema = n.parameter_schema
FROM (
    SELECT
        o.id,
        k.category,
        coalesce(k.description, o.description) AS description,
        coalesce(k.subcategory, o.subcategory) AS subcategory,
        coalesce(k.input_types, o.input_types) AS input_types,
        coalesce(k.output_types, o.output_types) AS output_types,
        coalesce(k.external_apis, o.external_apis) AS external_apis,
        coalesce(k.required_permissions, o.required_permissions) AS required_permissions,
        coalesce(k.typical_execution_time_seconds, o.typical_execution_time_seconds) AS typical_execution_time_seconds,
        coalesce(k.typical_token_usage, o.typical_token_usage) AS typical_token_usage,
        coalesce(k.typical_cost, o.typical_cost) AS typical_cost,
        coalesce(k.success_rate_percentage, o.success_rate_percentage) AS success_rate_percentage,
        coalesce(k.is_enabled, o.is_enabled) AS is_enabled,
        coalesce(k.configuration, o.configuration) AS configuration,
        coalesce(k.parameter_schema, o.parameter_schema) AS parameter_schema
    FROM ",
        listed_capabilities!(),
        "
    JOIN public.agent_capabilities AS o
        ON o.agent_id = a.id
        AND o.capability_name = k.capability_name
) AS n
WHERE c.id = n.id
  AND (
      c.category, c.description, c.subcategory, c.input_types, c.output_types, c.external_apis, c.required_permissions,
      c.typical_execution_time_seconds, c.typical_token_usage, c.typical_cost, c.success_rate_percentage, c.is_enabled,
      c.configuration, c.parameter_schema
  ) IS DISTINCT FROM (
      n.category, n.description, n.subcategory, n.input_types, n.output_types, n.external_apis, n.required_permissions,
      n.typical_execution_time_seconds, n.typical_token_usage, n.typical_cost, n.success_rate_percentage, n.is_enabled,
      n.configuration, n.parameter_schema
  )"
    )
);
statement!(
    RETIRE(JSONB) = concat!(
        "
UPDATE public.agent_registry AS a
SET is_active = false
WHERE a.is_active IS DISTINCT FROM false
  AND NOT EXISTS (
      SELECT
      FROM ",
        listed_agents!(),
        "
      WHERE l.agent_name = a.agent_name
        AND coalesce(l.version, '1.0') = a.version
  )"
    )
);

/// Fills the registry from a list: adds the agents and capabilities that are new, changes those that the list says
/// something else of, and leaves the rest alone. The same list again changes nothing.
///
/// - `agents`: a JSON list of objects with `agent_name` and `agent_type`, any other column of `agent_registry` but its
///   id and its times, and `capabilities`: a list of objects with `capability_name` and `category`, and any other column of
///   `agent_capabilities` likewise. An agent is known by its name and version ("1.0" where none is given), a capability by
///   its agent and its name. A key that is missing or null says nothing: what is there stays.
/// - `retire_others`: whether agents that the list does not have are set inactive.
///
/// Returns one row: how many agents and capabilities were added and changed, and how many agents retired. All or nothing.
/// For the owner of the tables. Refuses: NULL (22004); an unknown key, a value of the wrong kind, the same agent or
/// capability twice (22023), naming the place in the list; a caller without the privilege to write the registry (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn seed_agents(
    agents: Option<Jsonb>,
    retire_others: default!(Option<bool>, false),
) -> TableIterator<
    'static,
    (
        name!(agents_added, i64),
        name!(agents_changed, i64),
        name!(agents_retired, i64),
        name!(capabilities_added, i64),
        name!(capabilities_changed, i64),
    ),
> {
    let run = || -> Outcome<_> {
        let agents = required(agents, "agents")?;
        let retire_others = required(retire_others, "retire_others")?;
        let list: Value = serde_json::from_str(&agents.text())
            .map_err(|error| CodexError::bad_value(format!("agents cannot be read: {error}")))?;
        check_list(&list)?;
        Spi::connect_mut(|client| seed(client, agents, retire_others))
    };
    TableIterator::once(run().or_raise())
}

fn seed(
    client: &mut SpiClient<'_>,
    agents: Jsonb,
    retire_others: bool,
) -> Outcome<(i64, i64, i64, i64, i64)> {
    let list = [agents.into()];
    let agents_added = ADD_AGENTS.with(|statement| statement.execute(client, &list))?;
    let agents_changed = CHANGE_AGENTS.with(|statement| statement.execute(client, &list))?;
    let retired = if retire_others {
        RETIRE.with(|statement| statement.execute(client, &list))?
    } else {
        0
    };
    let added = ADD_CAPABILITIES.with(|statement| statement.execute(client, &list))?;
    let changed = CHANGE_CAPABILITIES.with(|statement| statement.execute(client, &list))?;
    Ok((
        agents_added as i64,
        agents_changed as i64,
        retired as i64,
        added as i64,
        changed as i64,
    ))
}

extension_sql!(
    r#"
ALTER FUNCTION find_agents(text, text, text, numeric, integer) ROWS 5;
COMMENT ON FUNCTION find_agents(text, text, text, numeric, integer) IS
'Finds the active agents with an enabled capability whose name has every word of capability, whatever their case; of a category, of a type, at most at a cost, where given. Exact names first, then by success rate, then the cheapest. A row for each capability that fits. Errors: 22004 NULL, 22023 bad value.';
COMMENT ON FUNCTION seed_agents(jsonb, boolean) IS
'Fills the registry from a JSON list of agents with their capabilities (keys as the columns): adds what is new, changes what the list says otherwise, leaves the rest alone; with retire_others agents that are not in it become inactive. The same list again changes nothing. Returns how many. For the owner of the tables. Errors: 22004 NULL, 22023 unknown key or bad value, 42501 without the privilege.';
"#,
    name = "comment_agent_registry",
    requires = [find_agents, seed_agents]
);
