//! Who is next: of those that wait, whoever has the fewest attempts running, first among organizations, then among the people
//! of one, then by the task's priority and age. Nobody gets more at once than is allowed.
//!
//! No question grows with the length of the queue. Who waits is read off the beginning of an index, one step for each person;
//! what runs is as much as all workers can hold. A job counts as running from its first claim until it is done, also while
//! it rests or its worker is away: its place is kept, and what was begun is gone on with before anything new.

use jiff::Timestamp;
use sea_orm::Value;

use crate::database::{Row, Scope, StoreError, time};
use crate::jobs::until;
use crate::{Lease, Queue, Store};

/// How far a step of priority moves a job before, or behind, others of the same person. Whatever waits for longer than that
/// is before everything of the next step that was asked for since: nothing waits for ever.
pub(crate) const STEP_MS: i64 = 24 * 60 * 60 * 1000;

/// How many attempts may run at once where nothing else is said of an organization or a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtOnce {
    /// Of one person. `None`: any number.
    pub person: Option<u32>,
    /// Of one organization. `None`: any number.
    pub organization: Option<u32>,
}

impl AtOnce {
    /// The most as `[person, organization]`, as the database compares them.
    pub(crate) fn values(self) -> [Value; 2] {
        let most = |limit: Option<u32>| limit.map_or(i64::MAX, i64::from).into();
        [most(self.person), most(self.organization)]
    }
}

/// Jobs that nobody holds now: `$3` the time. The sum keeps the databases from going through all jobs by their time.
const FREE: &str = "a.run_at + 0 <= $3 and (a.lease_until is null or a.lease_until <= $3)";

/// How many attempts run, of whom: with what each may have at most; `$7` and `$8` where nothing else is said.
pub(crate) const RUNNING: &str = "running(organization_id, account_id, attempts) as (
        select r.organization_id, r.account_id, count(*) from job r
        where r.kind = 'attempt' and r.begun_at is not null group by r.organization_id, r.account_id),
    running_all(organization_id, attempts) as (
        select organization_id, cast(sum(attempts) as bigint) from running group by organization_id)";

/// The workers that jobs are left to and that are gone: not this one, `$5`, and not seen since `$6`.
const GONE: &str = "home(id) as (
        select (select j.worker_id from job j where j.worker_id is not null order by j.worker_id limit 1)
        union all
        select (select j.worker_id from job j where j.worker_id > h.id order by j.worker_id limit 1)
        from home h where h.id is not null),
    gone(id) as (select h.id from home h where h.id is not null and h.id <> $5 and not exists
        (select 1 from worker w where w.id = h.id and w.role <> 'api' and (w.seen_at > $6 or w.returns_by > $3)))";

/// Who waits: one job of each person, for its organization and its person. From one the next is found in two questions: where
/// both columns are compared as one, SQLite goes through all that are equal.
const HEADS: &str = "head(id) as (
        select (select j.id from job j where j.kind = 'attempt' and j.begun_at is null
            order by j.organization_id, j.account_id limit 1)
        union all
        select coalesce(
            (select n.id from job n where n.kind = 'attempt' and n.begun_at is null
                and n.organization_id = c.organization_id and n.account_id > c.account_id
                order by n.account_id limit 1),
            (select n.id from job n where n.kind = 'attempt' and n.begun_at is null
                and n.organization_id > c.organization_id order by n.organization_id, n.account_id limit 1))
        from head h join job c on c.id = h.id)";

/// The first job that was begun and that nobody has: of this worker, of nobody, or of one that is gone.
fn begun() -> String {
    let first = |home: &str| {
        format!(
            "(select a.id from job a where a.kind = 'attempt' and a.begun_at is not null and a.worker_id {home}
              and {FREE} order by a.run_at + 0, a.id limit 1)"
        )
    };
    let (nobodys, own, lost) = (first("is null"), first("= $5"), first("= g.id"));
    format!(
        "(select b.id from (select {nobodys} as id union all select {own} union all select {lost} from gone g) f
            join job b on b.id = f.id order by b.run_at, b.id limit 1)"
    )
}

/// The first job of a person who waits, `w`: of nobody's, of this worker's and of those of each worker that is gone.
fn first_of_person() -> String {
    // In the order of the index, for PostgreSQL does not see that where all are null they are the same.
    let first = |home: &str| {
        format!(
            "(select a.id from job a where a.kind = 'attempt' and a.begun_at is null
              and a.organization_id = w.organization_id and a.account_id = w.account_id and a.worker_id {home}
              and {FREE} order by a.worker_id, a.rank_at, a.id limit 1)"
        )
    };
    let (nobodys, own, lost) = (first("is null"), first("= $5"), first("= g.id"));
    format!(
        "(select b.id from (select {nobodys} as id union all select {own} union all select {lost} from gone g) f
            join job b on b.id = f.id order by b.rank_at, b.id limit 1)"
    )
}

/// The first job of those that wait, of whoever is next.
const FRESH: &str = "(select p.id from next p where p.id is not null
        order by p.of_organization, p.of_person, (select n.rank_at from job n where n.id = p.id), p.id limit 1)";

/// The statement that claims an attempt.
fn statement() -> String {
    let (begun, first) = (begun(), first_of_person());
    format!(
        "with recursive {HEADS}, {GONE}, {RUNNING},
            waiting as (
                select c.organization_id, c.account_id,
                    coalesce(o.attempts, 0) as of_organization, coalesce(p.attempts, 0) as of_person,
                    coalesce(bo.attempts, $8) as most_of_organization, coalesce(bp.attempts, $7) as most_of_person
                from head h join job c on c.id = h.id
                left join running_all o on o.organization_id = c.organization_id
                left join running p on p.organization_id = c.organization_id and p.account_id = c.account_id
                left join budget bo on bo.organization_id = c.organization_id and bo.owner_id = c.organization_id
                left join budget bp on bp.organization_id = c.organization_id and bp.owner_id = c.account_id),
            next as materialized (
                select w.of_organization, w.of_person, {first} as id from waiting w
                where w.of_organization < w.most_of_organization and w.of_person < w.most_of_person)
         update job set lease_owner = $1, lease_until = $2, tries = tries + 1, worker_id = $5,
            begun_at = coalesce(begun_at, $4)
         where id = coalesce({begun}, {FRESH}) and (lease_until is null or lease_until <= $3)
         returning id, organization_id, kind, subject_id, tries,
            (select a.worker_id from attempt a where a.id = subject_id) as home"
    )
}

impl Store {
    /// The same store, where people and organizations may have so many attempts at once.
    #[must_use]
    pub fn with_at_once(self, at_once: AtOnce) -> Self {
        Self { at_once, ..self }
    }

    /// Claims the attempt that is next, if one is. One worker at a time looks: what another has just begun is counted.
    pub(crate) async fn claim_attempt(&self, lease: &Lease, gone_before: Timestamp) -> Result<Option<Row>, StoreError> {
        let now = self.shared_now();
        let transaction = self.write(Scope::Queue).await?;
        let [person, organization] = self.at_once.values();
        let values: [Value; 8] = [
            lease.owner.as_str().into(),
            time(until(now, lease)),
            time(now),
            time(now),
            self.worker().as_uuid().into(),
            time(gone_before),
            person,
            organization,
        ];
        let row = transaction.one(&statement(), values).await?;
        transaction.commit().await?;
        Ok(row)
    }
}

/// Which jobs are shared out.
pub(crate) const fn are_shared_out(queue: Queue) -> bool {
    matches!(queue, Queue::Attempts)
}
