//! `carrel budget`: what may be spent in a month and run at once, and what was.

use carrel_domain::budget::usd;
use carrel_wire::{Budget, BudgetLevel, BudgetList, BudgetOwnerKind, Me, SetBudget};
use uuid::Uuid;

use crate::cli::limits::{BudgetCommand, Person};
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, safe};
use crate::settings::Settings;

pub(crate) async fn budget(command: BudgetCommand, settings: &Settings, json: bool) -> Result<(), Failure> {
    let client = Client::find(settings)?;
    let list: BudgetList = client.get("budgets").await?;
    let BudgetCommand::Set { person, tokens, cost, attempts } = command else {
        let shown: Vec<String> = list.items.iter().map(shown).collect();
        return if json { output::document(&list) } else { output::line(&shown.join("\n")) };
    };
    let before = meant(&client, &list, person).await?;
    let request = SetBudget {
        tokens: tokens.map_or(before.tokens, |most| most.0),
        cost_usd_micros: cost.map_or(before.cost_usd_micros, |most| most.0),
        attempts: attempts.map_or(before.attempts, |most| most.0),
    };
    let set: Budget = client.put(&format!("budgets/{}", before.id), &request).await?;
    if json { output::document(&set) } else { output::line(&shown(&set)) }
}

/// Says on standard error which budgets are nearly used up: whoever has just delegated something wants to know.
pub(crate) async fn warn(client: &Client, by: Uuid) -> Result<(), Failure> {
    let list: BudgetList = client.get("budgets").await?;
    let counts = |budget: &&Budget| budget.owner == BudgetOwnerKind::Organization || budget.id == by;
    for budget in list.items.iter().filter(counts) {
        if let Some(notice) = &budget.notice {
            anstream::eprintln!("warning: {}", safe(notice));
        }
    }
    Ok(())
}

/// The budget that is to be set.
async fn meant<'a>(client: &Client, list: &'a BudgetList, person: Option<Person>) -> Result<&'a Budget, Failure> {
    let wanted = match person {
        None => None,
        Some(Person::Id(id)) => Some(id),
        Some(Person::Me) => Some(client.get::<Me>("me").await?.user.id),
    };
    let is_meant = |budget: &&Budget| match wanted {
        None => budget.owner == BudgetOwnerKind::Organization,
        Some(id) => budget.owner == BudgetOwnerKind::Person && budget.id == id,
    };
    let found = list.items.iter().find(is_meant);
    found.ok_or_else(|| Failure::usage("there is no such member; `carrel budget show` lists them with their ids"))
}

/// A budget for people: one line.
fn shown(budget: &Budget) -> String {
    let whose = match budget.owner {
        BudgetOwnerKind::Organization => format!("organization {}", safe(&budget.name)),
        BudgetOwnerKind::Person => format!("{} ({})", safe(&budget.name), budget.id),
    };
    let tokens = match budget.tokens {
        Some(most) => format!("{} of {most} tokens", budget.tokens_used),
        None => format!("{} tokens, any number", budget.tokens_used),
    };
    let cost = match budget.cost_usd_micros {
        Some(most) => format!("{} of {} USD", usd(budget.cost_usd_micros_used), usd(most)),
        None => format!("{} USD, any amount", usd(budget.cost_usd_micros_used)),
    };
    let level = match budget.level {
        BudgetLevel::Fine => "",
        BudgetLevel::Near => "; nearly used up",
        BudgetLevel::Exhausted => "; used up: no attempt can begin",
    };
    let resets = budget.resets_at.strftime("%Y-%m-%d");
    let attempts = match budget.attempts {
        Some(most) => format!("; at once: {most} attempts"),
        None => String::new(),
    };
    format!("{whose}: in {} {tokens}; {cost}{level}; anew on {resets}{attempts}", budget.month)
}
