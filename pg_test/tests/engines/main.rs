//! The engines: what happens to rows over time, each against a simple model, and with many sessions at once.

#[path = "../durability/dice.rs"]
#[allow(dead_code)]
mod dice;
#[path = "../functions/scene.rs"]
#[allow(dead_code)]
mod scene;

mod achievements;
mod achievements_model;
mod agent_budget_model;
mod agent_budgets;
mod agent_registry;
mod agent_task_model;
mod agent_tasks;
mod alert_model;
mod alerts;
mod campaign_model;
mod campaigns;
mod delivery;
mod delivery_model;
mod departures;
mod digests;
mod fill;
mod inbox;
mod signals;
mod together;
mod upkeep;
