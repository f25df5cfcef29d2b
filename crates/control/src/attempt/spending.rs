//! What an attempt may use: the least of what whoever asked for it, its environment and the installation say; how a person
//! raises that; and that it comes to its end when the budget it counts against is used up.

use std::time::Duration;

use carrel_agent::{AgentLimits, Bell, Limit, ModelEndpoint};
use carrel_domain::budget::usd;
use carrel_domain::{AttemptLimits, Budget, EventBody, ResourceLimits, TaskId};
use carrel_store::StoreError;

use super::raise::Raise;
use super::{Halt, Scene};
use crate::budgets::{GIVE_A_PRICE, used_up};

/// The part of an attempt's time that is left for its last words, and its bounds: in less than that no model says any.
const FAREWELL_PART: u32 = 10;
const LONGEST_FAREWELL: Duration = Duration::from_mins(2);
const SHORTEST_FAREWELL: Duration = Duration::from_secs(5);

/// What an attempt may use, and what each part of that comes from.
#[derive(Clone, Copy)]
pub(super) struct Allowed<'a> {
    task: TaskId,
    asked: AttemptLimits,
    installation: AgentLimits,
    raise: Raise<'a>,
}

impl<'a> Allowed<'a> {
    pub(super) fn of(scene: &Scene<'a>, bounds: &'a ResourceLimits) -> Self {
        Self {
            task: scene.task(),
            asked: scene.attempt.limits,
            installation: scene.control.inner.limits.agent,
            raise: Raise { environment: scene.environment, limits: bounds },
        }
    }

    /// How long the attempt may take.
    pub(super) fn wall_clock(&self) -> Duration {
        self.wall_clock_of_others().min(seconds(self.asked.wall_clock_s).unwrap_or(Duration::MAX))
    }

    fn wall_clock_of_others(&self) -> Duration {
        self.installation.wall_clock.min(seconds(self.raise.limits.wall_clock_s).unwrap_or(Duration::MAX))
    }

    /// The agent's limits, with so much of the time left.
    pub(super) fn agent(&self, time_left: Duration) -> AgentLimits {
        let least = |asked: Option<u64>, most: Option<u64>| asked.into_iter().chain(most).min();
        let (asked, most) = (self.asked, self.installation);
        AgentLimits {
            steps: most.steps.min(asked.steps.unwrap_or(u32::MAX)),
            tokens: least(asked.tokens, most.tokens),
            cost_usd_micros: least(asked.cost_usd_micros, most.cost_usd_micros),
            wall_clock: time_left,
            farewell: farewell(self.wall_clock()),
            output_bytes: self.raise.limits.output_bytes,
            ..most
        }
    }

    /// Why an attempt ended that ran into a limit of its agent, with the way out.
    pub(super) fn halt(&self, limit: Limit) -> Halt {
        // The agent was given what was left; a person set the whole.
        let limit = match limit {
            Limit::WallClock { .. } => Limit::WallClock { wall_clock: self.wall_clock() },
            other => other,
        };
        let halt = Halt::failed(&limit);
        match self.way_out(limit.word()) {
            Some(way_out) => halt.with_way_out(&way_out),
            None => halt,
        }
    }

    /// What an event that tells of a limit is to say: with the way out behind it.
    pub(super) fn told(&self, body: EventBody) -> EventBody {
        match body {
            EventBody::LimitHit { limit, message } => match self.way_out(&limit) {
                Some(way_out) => EventBody::LimitHit { limit, message: format!("{message}; {way_out}") },
                None => self.raise.told(EventBody::LimitHit { limit, message }),
            },
            other => other,
        }
    }

    /// How a person raises a limit of the agent, by its name in events: where the least of it comes from.
    fn way_out(&self, limit: &str) -> Option<String> {
        let (asked, most) = (self.asked, self.installation);
        let (is_asked, flag, whole, variable) = match limit {
            "steps" => {
                let is_asked = asked.steps.is_some_and(|asked| asked < most.steps);
                (is_asked, "--max-steps N", format!("{} steps", most.steps), "CARREL_MAX_STEPS")
            }
            "tokens" => {
                let is_asked = is_less(asked.tokens, most.tokens);
                let whole = format!("{} tokens", most.tokens.unwrap_or_default());
                (is_asked, "--max-tokens N", whole, "CARREL_MAX_TOKENS")
            }
            "cost" => {
                let is_asked = is_less(asked.cost_usd_micros, most.cost_usd_micros);
                let whole = format!("{} USD", usd(most.cost_usd_micros.unwrap_or_default()));
                (is_asked, "--max-cost USD", whole, "CARREL_MAX_COST_USD")
            }
            "wall clock" => {
                let is_asked = seconds(asked.wall_clock_s).is_some_and(|asked| asked < self.wall_clock_of_others());
                if !is_asked {
                    return Some(self.raise.of_wall_clock(most.wall_clock));
                }
                (is_asked, "--max-time DURATION", String::new(), "")
            }
            "repetition" => {
                let task = self.task;
                return Some(format!(
                    "`carrel task retry {task} --resume` goes on from here; tell it what to do instead"
                ));
            }
            _ => return None,
        };
        Some(if is_asked {
            format!("to go on with more: carrel task retry {} --resume {flag}", self.task)
        } else {
            format!(
                "the service gives no attempt more than {whole}: an administrator raises it with {variable}; \
                 `carrel task retry {} --resume` goes on with as much again",
                self.task
            )
        })
    }
}

fn is_less(asked: Option<u64>, most: Option<u64>) -> bool {
    asked.is_some_and(|asked| most.is_none_or(|most| asked < most))
}

fn seconds(seconds: Option<u32>) -> Option<Duration> {
    seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

/// How long before the end of its time a model is asked to sum up.
fn farewell(wall_clock: Duration) -> Duration {
    let part = (wall_clock / FAREWELL_PART).min(LONGEST_FAREWELL);
    if part < SHORTEST_FAREWELL { Duration::ZERO } else { part }
}

/// Lets an attempt begin only when there is something left to be spent.
pub(super) async fn admit(scene: &Scene<'_>) -> Result<(), Halt> {
    used_up(&budgets(scene).await?).map_or(Ok(()), |reason| Err(Halt::failed(reason)))
}

/// Says that limits in money do not hold where the model has no price. Whoever asked for one with this turn was refused;
/// these come from others, or from an earlier turn.
pub(super) async fn warn_of_what_is_not_counted(
    scene: &Scene<'_>,
    endpoint: &ModelEndpoint,
    allowed: Allowed<'_>,
) -> Result<(), Halt> {
    if endpoint.price.is_some() {
        return Ok(());
    }
    let budgets = budgets(scene).await?;
    let of_months = budgets.iter().filter(|budget| budget.allowance.cost_usd_micros.is_some());
    let whose = of_months.map(|budget| format!("the budget of {}", budget.name));
    let of_attempt = allowed.asked.cost_usd_micros.or(allowed.installation.cost_usd_micros);
    let own = of_attempt.map(|most| format!("the limit of {} USD for an attempt", usd(most)));
    let uncounted: Vec<String> = own.into_iter().chain(whose).collect();
    if uncounted.is_empty() {
        return Ok(());
    }
    let (model, uncounted) = (&scene.attempt.model, uncounted.join(" and "));
    let message = format!("what the model `{model}` costs is not known: {uncounted} cannot be held; {GIVE_A_PRICE}");
    scene.tell(EventBody::Warning { message }).await
}

/// Asks the agent to come to its end when nothing is left to be spent.
pub(super) fn watch(budgets: &[Budget], bell: &Bell) {
    if let Some(reason) = used_up(budgets) {
        bell.close(reason);
    }
}

/// The budgets that the attempt counts against.
pub(super) async fn budgets(scene: &Scene<'_>) -> Result<Vec<Budget>, StoreError> {
    scene.store().budgets_of_attempt(scene.attempt.organization, scene.attempt.id).await
}

#[cfg(test)]
mod tests {
    use carrel_domain::Environment;

    use super::super::raise::tests::environment;
    use super::*;

    fn allowed<'a>(environment: &'a Environment, asked: AttemptLimits, installation: AgentLimits) -> Allowed<'a> {
        let raise = Raise { environment, limits: &environment.spec.limits };
        Allowed { task: TaskId::from_uuid(uuid::Uuid::nil()), asked, installation, raise }
    }

    #[test]
    fn an_attempt_gets_the_least_that_anybody_gives() {
        let environment = environment();
        let asked = AttemptLimits { steps: Some(9), tokens: Some(100), wall_clock_s: Some(60), cost_usd_micros: None };
        let installation =
            AgentLimits { steps: 5, tokens: Some(200), cost_usd_micros: Some(7), ..AgentLimits::default() };

        let allowed = allowed(&environment, asked, installation);
        let limits = allowed.agent(Duration::from_secs(50));

        assert_eq!((limits.steps, limits.tokens, limits.cost_usd_micros), (5, Some(100), Some(7)));
        assert_eq!((allowed.wall_clock(), limits.wall_clock), (Duration::from_mins(1), Duration::from_secs(50)));
        assert_eq!(limits.farewell, Duration::from_secs(6), "of the whole, not of what is left");
    }

    #[test]
    fn a_limit_is_raised_where_the_least_of_it_comes_from() {
        let environment = environment();
        let asked = AttemptLimits { steps: Some(3), wall_clock_s: Some(60), ..AttemptLimits::NONE };
        let own = allowed(&environment, asked, AgentLimits::default());
        let whole =
            allowed(&environment, AttemptLimits::NONE, AgentLimits { tokens: Some(5), ..AgentLimits::default() });
        let said = |allowed: &Allowed<'_>, limit| allowed.way_out(limit).expect("a way out");

        assert!(said(&own, "steps").ends_with("--resume --max-steps N"), "{}", said(&own, "steps"));
        assert!(said(&own, "wall clock").ends_with("--resume --max-time DURATION"));
        assert!(said(&whole, "steps").contains("200 steps") && said(&whole, "steps").contains("CARREL_MAX_STEPS"));
        assert!(said(&whole, "tokens").contains("CARREL_MAX_TOKENS"));
        assert!(said(&whole, "wall clock").contains("CARREL_MAX_ATTEMPT_SECONDS"));
        assert_eq!(whole.way_out("budget"), None, "it says the way out itself");
    }

    #[test]
    fn there_are_last_words_where_there_is_time_for_them() {
        let of = |seconds| farewell(Duration::from_secs(seconds)).as_secs();

        assert_eq!((of(10), of(49), of(50), of(600), of(7200)), (0, 0, 5, 60, 120));
    }
}
