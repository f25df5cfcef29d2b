//! What may be spent, as it is written on the command line: of one attempt, and in a month.

use carrel_wire::AttemptLimits;
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::environment::duration;

/// What each attempt may use.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct LimitArguments {
    /// Requests to the model that an attempt may make; before the last, the agent is asked to sum up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_steps: Option<u32>,
    /// Tokens that an attempt may use, sent and produced ones together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_tokens: Option<u64>,
    /// What an attempt may cost, where prices are configured: `2.50`
    #[arg(long, value_name = "USD", value_parser = usd_micros)]
    pub(crate) max_cost: Option<u64>,
    /// How long an attempt may take: `90s`, `30m`, `2h`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max_time: Option<u32>,
}

impl From<LimitArguments> for AttemptLimits {
    fn from(arguments: LimitArguments) -> Self {
        Self {
            steps: arguments.max_steps,
            tokens: arguments.max_tokens,
            cost_usd_micros: arguments.max_cost,
            wall_clock_s: arguments.max_time,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum BudgetCommand {
    /// Show what may be spent this month and run at once, and what was
    Show,
    /// Say what may be spent in a calendar month (UTC), and run at once; only owners of the organization may
    Set {
        /// A member of the organization, by id, instead of the organization as a whole; `me` is you
        #[arg(long, value_name = "ID")]
        person: Option<Person>,
        /// Tokens, sent and produced ones together; `none` for any number
        #[arg(long, value_name = "N", value_parser = tokens, required_unless_present_any = ["cost", "attempts"])]
        tokens: Option<Most>,
        /// US dollars, where prices are configured: `250.00`; `none` for any amount
        #[arg(long, value_name = "USD", value_parser = cost)]
        cost: Option<Most>,
        /// Attempts at once, further ones wait; `none` for as many as the installation gives everybody
        #[arg(long, value_name = "N", value_parser = attempts)]
        attempts: Option<AtOnce>,
    },
}

/// A number, or that there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Most(pub(crate) Option<u64>);

/// How many at once, or that nothing else is said than for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AtOnce(pub(crate) Option<u32>);

/// A member of the organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Person {
    Me,
    Id(Uuid),
}

impl std::str::FromStr for Person {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "me" {
            return Ok(Self::Me);
        }
        text.parse().map(Self::Id).map_err(|_| "neither `me` nor an id of `carrel budget show`".to_owned())
    }
}

fn tokens(text: &str) -> Result<Most, String> {
    if text == "none" {
        return Ok(Most(None));
    }
    text.parse().map(|number| Most(Some(number))).map_err(|_| "neither a whole number nor `none`".to_owned())
}

fn attempts(text: &str) -> Result<AtOnce, String> {
    if text == "none" {
        return Ok(AtOnce(None));
    }
    text.parse().map(|number| AtOnce(Some(number))).map_err(|_| "neither a whole number nor `none`".to_owned())
}

fn cost(text: &str) -> Result<Most, String> {
    if text == "none" { Ok(Most(None)) } else { micros(text).map(|micros| Most(Some(micros))) }
}

fn usd_micros(text: &str) -> Result<u64, String> {
    match micros(text)? {
        0 => Err("an attempt costs more than nothing".to_owned()),
        micros => Ok(micros),
    }
}

/// An amount of US dollars in millionths.
fn micros(text: &str) -> Result<u64, String> {
    let wrong = || "no amount of US dollars, such as 2.50".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || part.len() > 6 || !is_number(whole) || !is_number(part) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
    Ok(whole * 1_000_000 + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_to_the_millionth() {
        for (text, expected) in [("2.50", 2_500_000), ("3", 3_000_000), ("0.000001", 1), ("0", 0)] {
            assert_eq!(micros(text), Ok(expected), "{text}");
        }
        for text in ["", ".5", "-1", "1e3", "2,50", "0.0000001", "10000000000", "$2"] {
            assert!(micros(text).is_err(), "{text}");
        }
        assert!(usd_micros("0.0").is_err());
    }

    #[test]
    fn a_limit_can_be_taken_away() {
        assert_eq!((tokens("none"), cost("none")), (Ok(Most(None)), Ok(Most(None))));
        assert_eq!((tokens("0"), cost("1.5")), (Ok(Most(Some(0))), Ok(Most(Some(1_500_000)))));
        assert!(tokens("many").is_err() && "you".parse::<Person>().is_err());
    }
}
