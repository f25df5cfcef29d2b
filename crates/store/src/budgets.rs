//! Budgets of organizations and persons, and what they have spent.
//!
//! A counter moves in the transaction that stores what a model's answer has cost, by just that: however often a worker
//! dies or stores again, what is in the log was counted once. It is one row a month, never a sum over attempts.

use std::collections::BTreeMap;

use carrel_domain::{
    Allowance, AttemptId, Budget, BudgetId, BudgetOwner, EventBody, Level, Month, NewEvent, OrganizationId, Spending,
    Usage, UserId,
};
use sea_orm::Value;

use crate::database::{Row, Scope, StoreError, Transaction, json, time};
use crate::{Change, Principal, Store};

/// What one answer counts for at most: the numbers are a server's word, and no sum of them may leave a column's range.
const MOST_COUNTED: u64 = 1_000_000_000_000;

/// The organization and its members with what each may spend and has, in a month, and what may run at once: `$1` the organization, `$2` the month.
const BUDGETS: &str = "select p.owner_id, p.is_person, p.name, b.tokens, b.cost_usd_micros, b.attempts,
        s.tokens as spent_tokens, s.cost_usd_micros as spent_cost
    from (select id as owner_id, cast(0 as bigint) as is_person, name from organization where id = $1
          union all
          select m.account_id, cast(1 as bigint), a.name from member m join account a on a.id = m.account_id
          where m.organization_id = $1) p
    left join budget b on b.organization_id = $1 and b.owner_id = p.owner_id
    left join spending s on s.organization_id = $1 and s.owner_id = p.owner_id and s.month = $2";

impl Store {
    /// The budgets of an organization and of all its members, as they stand this month; the organization's first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn budgets(&self, organization: OrganizationId) -> Result<Vec<Budget>, StoreError> {
        let month = Month::of(self.now());
        let sql = format!("{BUDGETS} order by p.is_person, p.name, p.owner_id");
        let rows = self.database.all(&sql, [organization.as_uuid().into(), month.number().into()]).await?;
        rows.iter().map(|row| budget(row, month)).collect()
    }

    /// The budgets that what a person asks for counts against: the organization's and the person's.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn budgets_of(&self, organization: OrganizationId, user: UserId) -> Result<Vec<Budget>, StoreError> {
        let month = Month::of(self.now());
        let sql = format!("{BUDGETS} where p.owner_id in ($1, $3) order by p.is_person");
        let values: [Value; 3] = [organization.as_uuid().into(), month.number().into(), user.as_uuid().into()];
        self.database.all(&sql, values).await?.iter().map(|row| budget(row, month)).collect()
    }

    /// The budgets that an attempt counts against: its organization's, and that of the person who asked for its turn.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn budgets_of_attempt(
        &self,
        organization: OrganizationId,
        attempt: AttemptId,
    ) -> Result<Vec<Budget>, StoreError> {
        let month = Month::of(self.now());
        let sql = format!(
            "{BUDGETS} where p.owner_id = $1 or p.owner_id = (select u.created_by from attempt a join turn u
                 on u.id = a.turn_id where a.id = $3 and a.organization_id = $1) order by p.is_person"
        );
        let values: [Value; 3] = [organization.as_uuid().into(), month.number().into(), attempt.as_uuid().into()];
        self.database.all(&sql, values).await?.iter().map(|row| budget(row, month)).collect()
    }

    /// Says what may be spent in a month, and how many attempts may run at once, by the organization or a member of it. What was
    /// spent stays, and what runs goes on.
    ///
    /// # Errors
    /// [`StoreError::OwnersOnly`] when the person is no owner of the organization; when it has no such member.
    pub async fn set_budget(&self, by: Principal, owner: BudgetId, allowance: Allowance) -> Result<Budget, StoreError> {
        let transaction = self.write(Scope::Organization(by.organization)).await?;
        let organization = by.organization.as_uuid();
        let role = transaction
            .one(
                "select role from member where organization_id = $1 and account_id = $2",
                [organization.into(), by.user.as_uuid().into()],
            )
            .await?;
        if role.map(|row| row.get::<String>("role")).transpose()?.as_deref() != Some("owner") {
            return Err(StoreError::OwnersOnly { what: "set budgets" });
        }
        let month = Month::of(self.now());
        let owner = owner.as_uuid();
        let known = || -> [Value; 3] { [organization.into(), month.number().into(), owner.into()] };
        let sql = format!("{BUDGETS} where p.owner_id = $3");
        transaction.one(&sql, known()).await?.ok_or(StoreError::NotFound { noun: "budget" })?;
        let most = |number: Option<u64>| -> Value { number.map(|most| i64::try_from(most).unwrap_or(i64::MAX)).into() };
        transaction
            .run(
                "insert into budget (organization_id, owner_id, tokens, cost_usd_micros, changed_by, changed_at, attempts)
                 values ($1, $2, $3, $4, $5, $6, $7) on conflict (organization_id, owner_id) do update set
                 tokens = excluded.tokens, cost_usd_micros = excluded.cost_usd_micros, attempts = excluded.attempts,
                 changed_by = excluded.changed_by, changed_at = excluded.changed_at",
                [
                    organization.into(),
                    owner.into(),
                    most(allowance.tokens),
                    most(allowance.cost_usd_micros),
                    by.user.as_uuid().into(),
                    time(self.now()),
                    allowance.attempts.map(i64::from).into(),
                ],
            )
            .await?;
        let row = transaction.one(&sql, known()).await?.ok_or(StoreError::NotFound { noun: "budget" })?;
        let set = budget(&row, month)?;
        transaction.commit().await?;
        // Somebody may begin now that could not.
        self.shared.changes.ring(Change::Job);
        Ok(set)
    }
}

/// What counting has led to.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// What is to be said of it, in the same log.
    pub(crate) warnings: Vec<NewEvent>,
    /// The budgets that were counted against, as they stand now.
    pub(crate) budgets: Vec<Budget>,
}

/// Counts what these events say that models' answers have cost: for the attempt, for the person who asked and for the
/// organization.
pub(crate) async fn count(
    store: &Store,
    transaction: &Transaction,
    organization: OrganizationId,
    events: &[NewEvent],
) -> Result<Counted, StoreError> {
    let mut costs: BTreeMap<AttemptId, Usage> = BTreeMap::new();
    for event in events {
        if let (Some(attempt), Some(cost)) = (event.attempt, event.body.cost()) {
            *costs.entry(attempt).or_default() += cost;
        }
    }
    let mut counted = Counted::default();
    for (attempt, cost) in costs {
        let person = count_attempt(transaction, organization, attempt, cost).await?;
        let (budgets, notices) = count_owners(store, transaction, organization, person, cost.into()).await?;
        let warnings = notices.into_iter().map(|message| EventBody::Warning { message });
        counted.warnings.extend(warnings.map(|body| NewEvent { attempt: Some(attempt), body }));
        counted.budgets.extend(budgets);
    }
    Ok(counted)
}

/// Adds to what an attempt has used, and says who asked for it.
async fn count_attempt(
    transaction: &Transaction,
    organization: OrganizationId,
    attempt: AttemptId,
    cost: Usage,
) -> Result<UserId, StoreError> {
    let scope = || -> [Value; 2] { [attempt.as_uuid().into(), organization.as_uuid().into()] };
    let row = transaction
        .one(
            "select a.token_usage, u.created_by from attempt a join turn u on u.id = a.turn_id
             where a.id = $1 and a.organization_id = $2",
            scope(),
        )
        .await?;
    let row = row.ok_or(StoreError::NotFound { noun: "attempt" })?;
    let mut usage: Usage = row.json("token_usage")?;
    usage += cost;
    let values: Vec<Value> = scope().into_iter().chain([json(&usage)]).collect();
    transaction.run("update attempt set token_usage = $3 where id = $1 and organization_id = $2", values).await?;
    row.id("created_by", UserId::from_uuid)
}

/// Adds to what an organization and a person of it have spent this month. Gives their budgets, and what is to be said of
/// those of which much is used up now, or all.
async fn count_owners(
    store: &Store,
    transaction: &Transaction,
    organization: OrganizationId,
    person: UserId,
    cost: Spending,
) -> Result<(Vec<Budget>, Vec<String>), StoreError> {
    let month = Month::of(store.now());
    let counted = |number: u64| i64::try_from(number.min(MOST_COUNTED)).unwrap_or(i64::MAX);
    let cost = (counted(cost.tokens), counted(cost.cost_usd_micros));
    let scope = || -> [Value; 3] { [organization.as_uuid().into(), month.number().into(), person.as_uuid().into()] };
    let values: Vec<Value> = scope().into_iter().chain([cost.0.into(), cost.1.into()]).collect();
    transaction
        .run(
            "insert into spending (organization_id, owner_id, month, tokens, cost_usd_micros)
             values ($1, $1, $2, $4, $5), ($1, $3, $2, $4, $5)
             on conflict (organization_id, owner_id, month) do update set
             tokens = spending.tokens + excluded.tokens,
             cost_usd_micros = spending.cost_usd_micros + excluded.cost_usd_micros",
            values,
        )
        .await?;
    let sql = format!("{BUDGETS} where p.owner_id in ($1, $3) order by p.is_person");
    let (mut budgets, mut notices) = (Vec::new(), Vec::new());
    // A person who is a member no more has no budget of their own.
    for row in transaction.all(&sql, scope()).await? {
        let after = budget(&row, month)?;
        let before = Spending {
            tokens: after.spent.tokens.saturating_sub(cost.0.unsigned_abs()),
            cost_usd_micros: after.spent.cost_usd_micros.saturating_sub(cost.1.unsigned_abs()),
        };
        if after.level() > Level::of(after.allowance, before) {
            notices.extend(after.notice());
        }
        budgets.push(after);
    }
    Ok((budgets, notices))
}

fn budget(row: &Row, month: Month) -> Result<Budget, StoreError> {
    let number = |column| Ok::<_, StoreError>(row.get::<Option<i64>>(column)?.map(i64::unsigned_abs));
    let owner = if row.get::<i64>("is_person")? == 0 {
        BudgetOwner::Organization(row.id("owner_id", OrganizationId::from_uuid)?)
    } else {
        BudgetOwner::Person(row.id("owner_id", UserId::from_uuid)?)
    };
    Ok(Budget {
        owner,
        name: row.get("name")?,
        month,
        allowance: Allowance {
            tokens: number("tokens")?,
            cost_usd_micros: number("cost_usd_micros")?,
            attempts: number("attempts")?.map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
        },
        spent: Spending {
            tokens: number("spent_tokens")?.unwrap_or_default(),
            cost_usd_micros: number("spent_cost")?.unwrap_or_default(),
        },
    })
}
