//! What may be spent: by one attempt, and by a person or an organization in a calendar month.

use carrel_domain::BudgetOwner;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What one attempt may use at most. What is absent is as much as the environment and the service give, and nothing is ever
/// more than that. An attempt that resumes another counts anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttemptLimits {
    /// Requests to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, example = 50)]
    pub steps: Option<u32>,
    /// Tokens sent and produced, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, example = 2_000_000)]
    pub tokens: Option<u64>,
    /// Millionths of a US dollar, where prices are configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, example = 2_500_000)]
    pub cost_usd_micros: Option<u64>,
    /// Seconds from the start of the attempt to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 10, example = 1800)]
    pub wall_clock_s: Option<u32>,
}

impl From<carrel_domain::AttemptLimits> for AttemptLimits {
    fn from(limits: carrel_domain::AttemptLimits) -> Self {
        let carrel_domain::AttemptLimits { steps, tokens, cost_usd_micros, wall_clock_s } = limits;
        Self { steps, tokens, cost_usd_micros, wall_clock_s }
    }
}

/// A budget as it stands in the calendar month (UTC) that is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Budget {
    /// The id of the organization or the person whose it is.
    pub id: Uuid,
    /// Which of both.
    pub owner: BudgetOwnerKind,
    /// What the organization or the person is called.
    pub name: String,
    /// The month.
    #[schema(example = "2026-11")]
    pub month: String,
    /// When the next one begins, and counting starts at nothing.
    pub resets_at: Timestamp,
    /// How many tokens may be used in a month; null for any number.
    pub tokens: Option<u64>,
    /// How many were.
    pub tokens_used: u64,
    /// What may be spent in a month, in millionths of a US dollar; null for any amount.
    pub cost_usd_micros: Option<u64>,
    /// What was.
    pub cost_usd_micros_used: u64,
    /// How many attempts may run at once; null for as many as the installation gives everybody.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// How much is left.
    pub level: BudgetLevel,
    /// How it stands and the way out, in words; null as long as there is enough.
    pub notice: Option<String>,
}

/// Whose a budget is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetOwnerKind {
    /// Everybody's in the organization, together.
    Organization,
    /// What one person asks for.
    Person,
}

/// How much of a budget is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetLevel {
    /// Enough, or there is no limit.
    Fine,
    /// At least 80 hundredths are used.
    Near,
    /// Nothing: attempts are refused, and those under way come to their end.
    Exhausted,
}

impl From<carrel_domain::Budget> for Budget {
    fn from(budget: carrel_domain::Budget) -> Self {
        use carrel_domain::Level;
        Self {
            id: budget.owner.id().as_uuid(),
            owner: match budget.owner {
                BudgetOwner::Organization(_) => BudgetOwnerKind::Organization,
                BudgetOwner::Person(_) => BudgetOwnerKind::Person,
            },
            month: budget.month.to_string(),
            resets_at: budget.month.ends_at(),
            tokens: budget.allowance.tokens,
            tokens_used: budget.spent.tokens,
            cost_usd_micros: budget.allowance.cost_usd_micros,
            cost_usd_micros_used: budget.spent.cost_usd_micros,
            attempts: budget.allowance.attempts,
            level: match budget.level() {
                Level::Fine => BudgetLevel::Fine,
                Level::Near => BudgetLevel::Near,
                Level::Exhausted => BudgetLevel::Exhausted,
            },
            notice: budget.notice(),
            name: budget.name,
        }
    }
}

/// The budgets: the organization's first, then those of its members.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BudgetList {
    /// All of them.
    pub items: Vec<Budget>,
}

/// Says what may be spent in a calendar month, and what may run at once. What is absent or null is not limited by it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetBudget {
    /// Tokens sent and produced, together.
    #[serde(default)]
    #[schema(example = 50_000_000)]
    pub tokens: Option<u64>,
    /// Millionths of a US dollar, where prices are configured.
    #[serde(default)]
    #[schema(example = 100_000_000)]
    pub cost_usd_micros: Option<u64>,
    /// Attempts that may run at once; further ones wait. Null: as many as the installation gives everybody. A limit below what
    /// runs stops nothing.
    #[serde(default)]
    #[schema(example = 4)]
    pub attempts: Option<u32>,
}
