//! Budgets: who may set them, and whether there is something left for another attempt. What attempts under way do when
//! nothing is left is `attempt/spending.rs`'s.

use carrel_agent::AgentLimits;
use carrel_domain::{Allowance, AttemptLimits, Budget, BudgetId, Level, OrganizationId, UserId};
use carrel_store::Principal;

use crate::{Control, ControlError};

impl Control {
    /// Says what the organization, or a member of it, may spend in a calendar month.
    ///
    /// # Errors
    /// When the person is no owner of the organization, or there is no such owner of a budget.
    pub async fn set_budget(
        &self,
        by: Principal,
        owner: BudgetId,
        allowance: Allowance,
    ) -> Result<Budget, ControlError> {
        Ok(self.inner.store.set_budget(by, owner, allowance).await?)
    }

    /// Whether there is something left to be spent for what this person asks for.
    pub(crate) async fn admit(&self, organization: OrganizationId, user: UserId) -> Result<(), ControlError> {
        let budgets = self.inner.store.budgets_of(organization, user).await?;
        used_up(&budgets).map_or(Ok(()), |reason| Err(ControlError::Exhausted(reason)))
    }

    /// Whether the installation gives as much as was asked for, and can hold it with this model. What an environment gives is seen when it is settled.
    pub(crate) fn gives(&self, asked: AttemptLimits, model: &str) -> Result<(), ControlError> {
        let AgentLimits { steps, tokens, cost_usd_micros, wall_clock, .. } = self.inner.limits.agent;
        let too_much = |field, what: String, variable: &str| {
            let way_out = format!("ask for no more, or have an administrator raise it with {variable}");
            Err(ControlError::invalid(field, format!("the service gives no attempt more than {what}; {way_out}")))
        };
        if asked.steps.is_some_and(|asked| asked > steps) {
            return too_much("limits.steps", format!("{steps} steps"), "CARREL_MAX_STEPS");
        }
        if let (Some(asked), Some(most)) = (asked.tokens, tokens)
            && asked > most
        {
            return too_much("limits.tokens", format!("{most} tokens"), "CARREL_MAX_TOKENS");
        }
        if let (Some(asked), Some(most)) = (asked.cost_usd_micros, cost_usd_micros)
            && asked > most
        {
            let most = format!("{} USD", carrel_domain::budget::usd(most));
            return too_much("limits.cost_usd_micros", most, "CARREL_MAX_COST_USD");
        }
        let seconds = wall_clock.as_secs();
        if asked.wall_clock_s.is_some_and(|asked| u64::from(asked) > seconds) {
            return too_much("limits.wall_clock_s", format!("{seconds} s"), "CARREL_MAX_ATTEMPT_SECONDS");
        }
        let is_priced = self.inner.models.get(model).is_none_or(|known| known.endpoint.price.is_some());
        if asked.cost_usd_micros.is_some() && !is_priced {
            let problem = format!(
                "what the model `{model}` costs is not known, so a limit in money cannot be held: limit its tokens, or choose \
                 another model; {GIVE_A_PRICE}"
            );
            return Err(ControlError::invalid("limits.cost_usd_micros", problem));
        }
        Ok(())
    }
}

/// The way out where a model has no price.
pub(crate) const GIVE_A_PRICE: &str = "an administrator gives it a `price` in the file of models: docs/models.md";

/// Why nothing more may be spent, if so.
pub(crate) fn used_up(budgets: &[Budget]) -> Option<String> {
    budgets.iter().find(|budget| budget.level() == Level::Exhausted).and_then(Budget::notice)
}
