//! What may be spent: by one attempt, as whoever asked for it says; and by a person or an organization in a calendar month
//! (UTC). Where the counting happens is `carrel-store`'s; what a count means is decided here.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use serde::{Deserialize, Serialize};

use crate::{BudgetId, OrganizationId, Usage, UserId};

/// From so many hundredths of a budget on, people are warned.
const NEAR_PERCENT: u128 = 80;

/// What one attempt may use at most, as whoever asked for it says. `None`: as much as its environment and the installation
/// give. An attempt that resumes another counts anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptLimits {
    /// Requests to the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Tokens sent and produced, together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Millionths of a US dollar, where prices are configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd_micros: Option<u64>,
    /// Seconds from the start of the attempt to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_clock_s: Option<u32>,
}

impl AttemptLimits {
    /// Whoever asked has said nothing.
    pub const NONE: Self = Self { steps: None, tokens: None, cost_usd_micros: None, wall_clock_s: None };

    /// These, and where they say nothing, those of before.
    #[must_use]
    pub fn over(self, before: Self) -> Self {
        Self {
            steps: self.steps.or(before.steps),
            tokens: self.tokens.or(before.tokens),
            cost_usd_micros: self.cost_usd_micros.or(before.cost_usd_micros),
            wall_clock_s: self.wall_clock_s.or(before.wall_clock_s),
        }
    }
}

/// A calendar month of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// The month that a time is in.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        let date = at.to_zoned(TimeZone::UTC).date();
        Self { year: date.year(), month: date.month() }
    }

    /// As a number that sorts: 202611.
    #[must_use]
    pub fn number(self) -> i64 {
        i64::from(self.year) * 100 + i64::from(self.month)
    }

    /// When the next one begins.
    #[must_use]
    pub fn ends_at(self) -> Timestamp {
        let (year, month) =
            if self.month == 12 { (self.year.saturating_add(1), 1) } else { (self.year, self.month + 1) };
        let next = civil::Date::new(year, month, 1).and_then(|date| date.to_zoned(TimeZone::UTC));
        next.map_or(Timestamp::MAX, |next| next.timestamp())
    }
}

impl fmt::Display for Month {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04}-{:02}", self.year, self.month)
    }
}

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetOwner {
    /// Everybody's in the organization, together.
    Organization(OrganizationId),
    /// What one person asks for in the organization.
    Person(UserId),
}

impl BudgetOwner {
    /// The id under which it is kept.
    #[must_use]
    pub const fn id(self) -> BudgetId {
        match self {
            Self::Organization(id) => BudgetId::from_uuid(id.as_uuid()),
            Self::Person(id) => BudgetId::from_uuid(id.as_uuid()),
        }
    }
}

/// What may be spent in a month, and what may run at once. `None`: any amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Tokens sent and produced, together.
    pub tokens: Option<u64>,
    /// Millionths of a US dollar, where prices are configured.
    pub cost_usd_micros: Option<u64>,
    /// Attempts that may run at once. `None`: as many as the installation gives everybody.
    pub attempts: Option<u32>,
}

/// What was spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spending {
    /// Tokens sent and produced, together.
    pub tokens: u64,
    /// Millionths of a US dollar.
    pub cost_usd_micros: u64,
}

impl From<Usage> for Spending {
    fn from(usage: Usage) -> Self {
        Self { tokens: usage.input_tokens.saturating_add(usage.output_tokens), cost_usd_micros: usage.cost_usd_micros }
    }
}

/// How much of a budget is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Enough, or there is no limit.
    Fine,
    /// At least 80 hundredths are used.
    Near,
    /// Nothing: attempts are refused, and those under way come to their end.
    Exhausted,
}

impl Level {
    /// How far this spending goes into this allowance.
    #[must_use]
    pub fn of(allowance: Allowance, spent: Spending) -> Self {
        let part = |most: Option<u64>, used: u64| match most {
            Some(most) if used >= most => Self::Exhausted,
            Some(most) if u128::from(used) * 100 >= u128::from(most) * NEAR_PERCENT => Self::Near,
            Some(_) | None => Self::Fine,
        };
        part(allowance.tokens, spent.tokens).max(part(allowance.cost_usd_micros, spent.cost_usd_micros))
    }
}

/// A budget as it stands in one month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Whose.
    pub owner: BudgetOwner,
    /// What the organization or the person is called.
    pub name: String,
    /// Which month.
    pub month: Month,
    /// What may be spent in it.
    pub allowance: Allowance,
    /// What was.
    pub spent: Spending,
}

impl Budget {
    /// How much is left.
    #[must_use]
    pub fn level(&self) -> Level {
        Level::of(self.allowance, self.spent)
    }

    /// How it stands and the way out, for people; nothing as long as there is enough.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        let how = match self.level() {
            Level::Fine => return None,
            Level::Near => "nearly used up",
            Level::Exhausted => "used up",
        };
        let (whose, flag) = match self.owner {
            BudgetOwner::Organization(_) => ("the organization's budget".to_owned(), String::new()),
            BudgetOwner::Person(id) => (format!("the budget of {}", self.name), format!(" --person {id}")),
        };
        let day = self.month.ends_at().strftime("%Y-%m-%d");
        Some(format!(
            "{whose} for {} is {how} ({}); it begins anew on {day} at 00:00 UTC, and an owner of the organization raises it \
             with `carrel budget set{flag}`",
            self.month,
            self.used()
        ))
    }

    /// `900 of 1000 tokens, 0.10 of 2.00 USD`: what was used of what is limited.
    fn used(&self) -> String {
        let tokens = self.allowance.tokens.map(|most| format!("{} of {most} tokens", self.spent.tokens));
        let cost = self
            .allowance
            .cost_usd_micros
            .map(|most| format!("{} of {} USD", usd(self.spent.cost_usd_micros), usd(most)));
        tokens.into_iter().chain(cost).collect::<Vec<_>>().join(", ")
    }
}

/// Money for a person: `2.50`; less than a cent is not shown as nothing.
#[must_use]
pub fn usd(micros: u64) -> String {
    let (dollars, rest) = (micros / 1_000_000, micros % 1_000_000);
    if rest % 10_000 == 0 { format!("{dollars}.{:02}", rest / 10_000) } else { format!("{dollars}.{:04}", rest / 100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Month {
        Month::of(text.parse().expect("a time"))
    }

    fn budget(tokens: u64, spent: u64) -> Budget {
        Budget {
            owner: BudgetOwner::Organization(OrganizationId::from_uuid(uuid::Uuid::nil())),
            name: "acme".to_owned(),
            month: at("2026-11-23T02:00:00Z"),
            allowance: Allowance { tokens: Some(tokens), ..Allowance::default() },
            spent: Spending { tokens: spent, cost_usd_micros: 7 },
        }
    }

    #[test]
    fn a_month_ends_when_the_next_begins_in_utc() {
        assert_eq!(at("2026-12-31T23:59:59Z"), at("2027-01-01T00:30:00+02:00"));
        assert_eq!(at("2026-12-31T23:59:59Z").ends_at(), "2027-01-01T00:00:00Z".parse().expect("a time"));
        assert_eq!(at("2026-02-01T00:00:00Z").ends_at(), "2026-03-01T00:00:00Z".parse().expect("a time"));
        assert!(at("2026-12-01T00:00:00Z").number() < at("2027-01-01T00:00:00Z").number());
    }

    #[test]
    fn a_budget_is_near_its_end_from_eighty_hundredths_on() {
        let levels = [(79, Level::Fine), (80, Level::Near), (99, Level::Near), (100, Level::Exhausted)];
        for (spent, level) in levels {
            assert_eq!(budget(100, spent).level(), level, "{spent}");
        }
        assert_eq!(budget(u64::MAX, u64::MAX - 1).level(), Level::Near);
        assert_eq!(budget(0, 0).level(), Level::Exhausted, "nothing may be spent");
    }

    #[test]
    fn money_ends_a_budget_as_tokens_do() {
        let allowance = Allowance { tokens: Some(1000), cost_usd_micros: Some(2_000_000), attempts: None };
        let spent = |cost_usd_micros| Spending { tokens: 1, cost_usd_micros };

        assert_eq!(Level::of(allowance, spent(1_600_000)), Level::Near);
        assert_eq!(Level::of(allowance, spent(2_000_000)), Level::Exhausted);
        assert_eq!(Level::of(Allowance::default(), spent(u64::MAX)), Level::Fine);
    }

    #[test]
    fn a_budget_that_is_used_up_says_how_much_until_when_and_who_raises_it() {
        let said = budget(100, 120).notice().expect("a notice");

        assert!(said.contains("for 2026-11 is used up (120 of 100 tokens)"), "{said}");
        assert!(said.contains("anew on 2026-12-01") && said.contains("`carrel budget set`"), "{said}");
        assert!(budget(100, 80).notice().expect("a notice").contains("nearly used up"));
        assert_eq!(budget(100, 79).notice(), None);
    }

    #[test]
    fn what_is_said_counts_over_what_was_said_before() {
        let before = AttemptLimits { steps: Some(5), tokens: Some(100), ..AttemptLimits::NONE };
        let now = AttemptLimits { steps: Some(9), wall_clock_s: Some(60), ..AttemptLimits::NONE };

        let both = now.over(before);

        assert_eq!((both.steps, both.tokens, both.wall_clock_s), (Some(9), Some(100), Some(60)));
        assert_eq!(serde_json::to_string(&AttemptLimits::NONE).expect("plain data"), "{}");
    }

    #[test]
    fn money_is_shown_to_the_cent_or_finer() {
        assert_eq!((usd(2_500_000).as_str(), usd(300).as_str(), usd(0).as_str()), ("2.50", "0.0003", "0.00"));
    }
}
