//! What the requests of an agent inside have cost, and what those under way may cost yet. Room for a request is taken before
//! it is sent, by an estimate and under one lock, and settled once it is known what it cost: so requests that are made at the
//! same time pass no limit together that each of them alone would have kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use carrel_domain::Usage;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::{AgentLimits, Limit};

/// How many requests that only count tokens, and cost nothing, may be made for each step.
const COUNTS_A_STEP: u64 = 4;

/// Of what part of a limit it is said that the end is near: four fifths.
const NEAR: (u64, u64) = (4, 5);

/// The books of one attempt.
#[derive(Debug)]
pub(super) struct Books {
    limits: AgentLimits,
    state: Mutex<State>,
    /// Goes up whenever something is settled.
    settled: watch::Sender<u64>,
    /// The limit of which four fifths are used up.
    near: watch::Sender<Option<Limit>>,
}

#[derive(Debug, Default)]
struct State {
    spent: Usage,
    /// Requests that were refused or failed: they are no steps of the record, and are limited as if they were.
    failed: u64,
    /// Requests that only counted tokens.
    counts: u64,
    /// The estimates of those under way.
    held: Usage,
    /// How many requests are let through once the agent is to sum up.
    last_words: u32,
    is_closed: bool,
}

/// Why there is no room.
#[derive(Debug)]
pub(super) enum Denied {
    /// A limit is reached.
    Limit(Limit),
    /// The agent has ended.
    Ended,
    /// Those under way may use up what is left, and did not come to their end in time.
    Busy,
}

/// Room for one request. What is not settled when it is dropped counts as estimated.
#[derive(Debug)]
pub(super) struct Held {
    books: Arc<Books>,
    estimate: Usage,
    is_settled: bool,
}

impl Books {
    pub(super) fn new(limits: AgentLimits, spent: Usage) -> Arc<Self> {
        let state = Mutex::new(State { spent, ..State::default() });
        let (settled, near) = (watch::Sender::new(0), watch::Sender::new(None));
        let books = Self { limits, state, settled, near };
        books.look_ahead(&books.state());
        Arc::new(books)
    }

    pub(super) fn spent(&self) -> Usage {
        self.state().spent
    }

    /// Takes room for a request that may cost this much. Waits until then for requests under way, where these may use up
    /// what is left. `closing` says why the agent is to come to its end, if it is.
    pub(super) async fn take(
        self: &Arc<Self>,
        estimate: Usage,
        closing: impl Fn() -> Option<String>,
        deadline: Instant,
    ) -> Result<Held, Denied> {
        let mut settled = self.settled.subscribe();
        loop {
            settled.borrow_and_update();
            if self.try_take(estimate, closing())? {
                return Ok(Held { books: Arc::clone(self), estimate, is_settled: false });
            }
            // The sender is held by this very value.
            let _held = timeout_at(deadline, settled.changed()).await.map_err(|_| Denied::Busy)?;
        }
    }

    /// Whether there may be room at all.
    pub(super) fn look(&self, closing: Option<String>) -> Result<(), Denied> {
        self.look_at(&self.state(), closing)
    }

    fn look_at(&self, state: &State, closing: Option<String>) -> Result<(), Denied> {
        match self.reached(&state.spent, state.failed, (1, 1)) {
            _ if state.is_closed => Err(Denied::Ended),
            Some(limit) => Err(Denied::Limit(limit)),
            None => match closing.filter(|_| state.last_words == 0) {
                Some(reason) => Err(Denied::Limit(Limit::Budget { reason })),
                None => Ok(()),
            },
        }
    }

    /// Whether there is room now; when not, there may be once what is under way is settled.
    fn try_take(&self, estimate: Usage, closing: Option<String>) -> Result<bool, Denied> {
        let (mut state, is_closing) = (self.state(), closing.is_some());
        self.look_at(&state, closing)?;
        let mut all = state.spent;
        all += state.held;
        if state.held.requests > 0 && self.reached(&all, state.failed, (1, 1)).is_some() {
            return Ok(false);
        }
        state.held += estimate;
        if is_closing {
            state.last_words = state.last_words.saturating_sub(1);
        }
        Ok(true)
    }

    /// Whether one more request that only counts tokens may be made.
    pub(super) fn may_count(&self) -> bool {
        let mut state = self.state();
        state.counts += 1;
        !state.is_closed && state.counts <= COUNTS_A_STEP.saturating_mul(u64::from(self.limits.steps))
    }

    /// Takes note of a request that was refused, or failed.
    pub(super) fn failed(&self) {
        let mut state = self.state();
        state.failed += 1;
        self.look_ahead(&state);
    }

    /// Lets so many more requests through once the agent is to come to its end.
    pub(super) fn allow_last_words(&self, requests: u32) {
        self.state().last_words = requests;
    }

    /// Lets no further request through.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
    }

    /// Returns once nothing is under way.
    pub(super) async fn idle(&self) {
        let mut settled = self.settled.subscribe();
        // The sender is held by this very value.
        let _held = settled.wait_for(|_| self.state().held.requests == 0).await;
    }

    /// Returns once four fifths of a limit are used up.
    pub(super) async fn near(&self) -> Limit {
        let mut near = self.near.subscribe();
        let found = near.wait_for(Option::is_some).await.map(|limit| limit.clone());
        match found {
            Ok(Some(limit)) => limit,
            // The sender is held by this very value.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    fn look_ahead(&self, state: &State) {
        if let Some(limit) = self.reached(&state.spent, state.failed, NEAR) {
            self.near.send_if_modified(|near| near.is_none() && near.replace(limit).is_none());
        }
    }

    /// The limit of which such a part is used up.
    fn reached(&self, spent: &Usage, failed: u64, (part, whole): (u64, u64)) -> Option<Limit> {
        let is_reached = |used: u64, most: u64| used.saturating_mul(whole) >= most.saturating_mul(part);
        let AgentLimits { steps, tokens, cost_usd_micros, .. } = self.limits;
        if is_reached(spent.requests.saturating_add(failed), u64::from(steps)) {
            return Some(Limit::Steps { steps });
        }
        let used = spent.input_tokens.saturating_add(spent.output_tokens);
        if let Some(tokens) = tokens.filter(|most| is_reached(used, *most)) {
            return Some(Limit::Tokens { tokens });
        }
        let cost = cost_usd_micros.filter(|most| is_reached(spent.cost_usd_micros, *most));
        cost.map(|cost_usd_micros| Limit::Cost { cost_usd_micros })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Puts down what it has cost.
    pub(super) fn settle(mut self, usage: Usage) {
        self.give_back(|state| state.spent += usage);
    }

    /// Puts down that it came to nothing.
    pub(super) fn fail(mut self) {
        self.give_back(|state| state.failed += 1);
    }

    fn give_back(&mut self, put_down: impl FnOnce(&mut State)) {
        self.is_settled = true;
        {
            let mut state = self.books.state();
            let State { held, .. } = &mut *state;
            held.requests -= self.estimate.requests;
            held.input_tokens = held.input_tokens.saturating_sub(self.estimate.input_tokens);
            held.output_tokens = held.output_tokens.saturating_sub(self.estimate.output_tokens);
            held.cost_usd_micros = held.cost_usd_micros.saturating_sub(self.estimate.cost_usd_micros);
            put_down(&mut state);
            self.books.look_ahead(&state);
        }
        self.books.settled.send_modify(|count| *count += 1);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_settled {
            let estimate = self.estimate;
            self.give_back(|state| state.spent += estimate);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    fn books(steps: u32, tokens: Option<u64>) -> Arc<Books> {
        Books::new(AgentLimits { steps, tokens, ..AgentLimits::default() }, Usage::default())
    }

    fn usage(tokens: u64) -> Usage {
        Usage { requests: 1, input_tokens: tokens, ..Usage::default() }
    }

    /// What there is without waiting.
    fn now(books: &Arc<Books>, estimate: Usage) -> Result<Held, Denied> {
        let take = books.take(estimate, || None, Instant::now() + Duration::from_secs(60));
        take.now_or_never().unwrap_or(Err(Denied::Busy))
    }

    #[tokio::test]
    async fn requests_at_the_same_time_pass_no_limit_together() {
        let books = books(100, Some(1000));

        let first = now(&books, usage(600)).expect("there is room");
        let second = now(&books, usage(600)).expect("there may be room");
        assert!(matches!(now(&books, usage(1)), Err(Denied::Busy)), "those two may use up all there is");

        first.settle(usage(10));
        assert!(now(&books, usage(1)).is_ok(), "it was cheaper than it could have been");
        second.settle(usage(2000));
        assert!(matches!(now(&books, usage(1)), Err(Denied::Limit(Limit::Tokens { tokens: 1000 }))));
    }

    #[tokio::test]
    async fn a_request_under_way_is_a_step_and_so_is_one_that_failed() {
        let books = books(2, None);

        let first = now(&books, usage(1)).expect("there is room");
        let second = now(&books, usage(1)).expect("there is room");
        let waiting = tokio::spawn({
            let books = Arc::clone(&books);
            async move { books.take(usage(1), || None, Instant::now() + Duration::from_secs(60)).await.map(drop) }
        });
        first.fail();
        second.settle(usage(1));

        assert!(matches!(waiting.await, Ok(Err(Denied::Limit(Limit::Steps { steps: 2 })))));
    }

    #[tokio::test]
    async fn whoever_waits_for_others_does_so_until_its_deadline() {
        let books = books(1, None);
        let _first = now(&books, usage(1)).expect("there is room");

        let ended = books.take(usage(1), || None, Instant::now() + Duration::from_millis(20)).await;

        assert!(matches!(ended, Err(Denied::Busy)), "{ended:?}");
    }

    #[tokio::test]
    async fn what_is_never_settled_counts_as_estimated() {
        let books = books(10, None);

        drop(now(&books, usage(70)));

        assert_eq!((books.spent().input_tokens, books.spent().requests), (70, 1));
        assert!(books.idle().now_or_never().is_some());
    }

    #[tokio::test]
    async fn an_agent_that_is_to_sum_up_has_its_last_words_and_no_more() {
        let books = books(10, None);
        books.allow_last_words(1);
        let take = || books.take(usage(1), || Some("spent".to_owned()), Instant::now());

        let (first, second) = (take().await.map(drop), take().await.map(drop));

        assert!(first.is_ok() && matches!(second, Err(Denied::Limit(Limit::Budget { .. }))), "{first:?} {second:?}");
    }

    #[tokio::test]
    async fn it_is_said_once_that_four_fifths_are_used_up() {
        let books = books(5, None);

        for _ in 0..3 {
            now(&books, usage(1)).expect("there is room").settle(usage(1));
        }
        assert!(books.near().now_or_never().is_none());
        books.failed();

        assert_eq!(books.near().now_or_never(), Some(Limit::Steps { steps: 5 }));
    }

    #[test]
    fn requests_that_only_count_tokens_are_limited_as_well() {
        let books = books(2, None);

        let allowed = (0..20).filter(|_| books.may_count()).count();

        assert_eq!(allowed, 8);
    }
}
