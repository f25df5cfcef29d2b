//! Organizations, their members, and the hashes of what proves who is asking. The secrets themselves are
//! `carrel-identity`'s and never come here.

use carrel_domain::{OrganizationId, SessionId, TokenId, UserId};
use jiff::Timestamp;

use crate::database::{Row, Scope, StoreError, Transaction, maybe_time, time};
use crate::{Store, fresh};

/// Who is asking, and for which organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal {
    /// The organization whose rows may be seen.
    pub organization: OrganizationId,
    /// The person.
    pub user: UserId,
}

/// The organization and owner made at the first start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Who it is.
    pub principal: Principal,
    /// The organization's name.
    pub organization_name: String,
    /// The person's name.
    pub user_name: String,
}

impl Store {
    /// The installation's first organization and its owner, made with an environment `default` on the host's own
    /// root file system when there is none yet.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn ensure_owner(&self) -> Result<Owner, StoreError> {
        let transaction = self.write(Scope::Installation).await?;
        let now = time(self.now());
        // What nobody can use any more.
        transaction.run("delete from owner_link where used_at is not null or expires_at <= $1", [now.clone()]).await?;
        transaction.run("delete from web_session where expires_at <= $1", [now.clone()]).await?;
        if let Some(owner) = first_owner(&transaction).await? {
            transaction.commit().await?;
            return Ok(owner);
        }
        let (organization, account, environment) = (fresh(), fresh(), fresh());
        transaction
            .run(
                "insert into organization (id, name, created_at) values ($1, $2, $3)",
                [organization.into(), "My organization".into(), now.clone()],
            )
            .await?;
        transaction
            .run(
                "insert into account (id, name, created_at) values ($1, $2, $3)",
                [account.into(), "Owner".into(), now.clone()],
            )
            .await?;
        transaction
            .run(
                "insert into member (organization_id, account_id, role) values ($1, $2, 'owner')",
                [organization.into(), account.into()],
            )
            .await?;
        transaction
            .run(
                "insert into environment (id, organization_id, name, version) values ($1, $2, 'default', 1)",
                [environment.into(), organization.into()],
            )
            .await?;
        transaction
            .run(
                "insert into environment_version (environment_id, version, organization_id, image, created_at)
                 values ($1, 1, $2, 'host', $3)",
                [environment.into(), organization.into(), now],
            )
            .await?;
        let owner = first_owner(&transaction).await?.ok_or(StoreError::NotFound { noun: "owner" })?;
        transaction.commit().await?;
        Ok(owner)
    }

    /// The names of a principal's organization and person.
    ///
    /// # Errors
    /// When the person is no member, or the database refuses.
    pub async fn member(&self, principal: Principal) -> Result<Owner, StoreError> {
        let row = self
            .database
            .one(
                "select m.organization_id, m.account_id, o.name as organization_name, a.name as account_name
                 from member m join organization o on o.id = m.organization_id join account a on a.id = m.account_id
                 where m.organization_id = $1 and m.account_id = $2",
                [principal.organization.as_uuid().into(), principal.user.as_uuid().into()],
            )
            .await?;
        owner(&row.ok_or(StoreError::NotFound { noun: "member" })?)
    }

    /// Keeps the hash of a program's token. Earlier tokens of this name and person are revoked.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn keep_token(
        &self,
        principal: Principal,
        hash: &str,
        name: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<TokenId, StoreError> {
        let transaction = self.write(Scope::Organization(principal.organization)).await?;
        let id = fresh();
        transaction
            .run(
                "update api_token set revoked_at = $4
                 where organization_id = $1 and account_id = $2 and name = $3 and revoked_at is null",
                [
                    principal.organization.as_uuid().into(),
                    principal.user.as_uuid().into(),
                    name.into(),
                    time(self.now()),
                ],
            )
            .await?;
        transaction
            .run(
                "insert into api_token (id, organization_id, account_id, hash, name, created_at, expires_at)
                 values ($1, $2, $3, $4, $5, $6, $7)",
                [
                    id.into(),
                    principal.organization.as_uuid().into(),
                    principal.user.as_uuid().into(),
                    hash.into(),
                    name.into(),
                    time(self.now()),
                    maybe_time(expires_at),
                ],
            )
            .await?;
        transaction.commit().await?;
        Ok(TokenId::from_uuid(id))
    }

    /// Whose token has this hash, if one has and it is still good.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn token_holder(&self, hash: &str) -> Result<Option<Principal>, StoreError> {
        let row = self
            .database
            .one(
                "select organization_id, account_id from api_token
                 where hash = $1 and revoked_at is null and (expires_at is null or expires_at > $2)",
                [hash.into(), time(self.now())],
            )
            .await?;
        row.as_ref().map(principal).transpose()
    }

    /// Keeps the hash of a one-time owner link.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn keep_owner_link(
        &self,
        principal: Principal,
        hash: &str,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let transaction = self.write(Scope::OneStatement).await?.that_lasts();
        transaction
            .run(
                "insert into owner_link (hash, organization_id, account_id, expires_at) values ($1, $2, $3, $4)",
                [
                    hash.into(),
                    principal.organization.as_uuid().into(),
                    principal.user.as_uuid().into(),
                    time(expires_at),
                ],
            )
            .await?;
        transaction.commit().await
    }

    /// Trades an owner link for a session, once.
    ///
    /// # Errors
    /// When the database refuses. A link that is unknown, used or too old gives `None`.
    pub async fn redeem_owner_link(
        &self,
        link_hash: &str,
        session_hash: &str,
        expires_at: Timestamp,
    ) -> Result<Option<Principal>, StoreError> {
        let transaction = self.write(Scope::OneStatement).await?.that_lasts();
        let row = transaction
            .one(
                "update owner_link set used_at = $2 where hash = $1 and used_at is null and expires_at > $2
                 returning organization_id, account_id",
                [link_hash.into(), time(self.now())],
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let principal = principal(&row)?;
        transaction
            .run(
                "insert into web_session (id, organization_id, account_id, hash, created_at, expires_at)
                 values ($1, $2, $3, $4, $5, $6)",
                [
                    fresh().into(),
                    principal.organization.as_uuid().into(),
                    principal.user.as_uuid().into(),
                    session_hash.into(),
                    time(self.now()),
                    time(expires_at),
                ],
            )
            .await?;
        transaction.commit().await?;
        Ok(Some(principal))
    }

    /// Whose session has this hash, if one has and it is still good.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn session_holder(&self, hash: &str) -> Result<Option<(SessionId, Principal)>, StoreError> {
        let row = self
            .database
            .one(
                "select id, organization_id, account_id from web_session where hash = $1 and expires_at > $2",
                [hash.into(), time(self.now())],
            )
            .await?;
        row.as_ref().map(|row| Ok((row.id("id", SessionId::from_uuid)?, principal(row)?))).transpose()
    }

    /// Ends a session.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn end_session(&self, hash: &str) -> Result<(), StoreError> {
        let transaction = self.write(Scope::OneStatement).await?.that_lasts();
        transaction.run("delete from web_session where hash = $1", [hash.into()]).await?;
        transaction.commit().await
    }
}

async fn first_owner(transaction: &Transaction) -> Result<Option<Owner>, StoreError> {
    let row = transaction
        .one(
            "select m.organization_id, m.account_id, o.name as organization_name, a.name as account_name
             from member m join organization o on o.id = m.organization_id join account a on a.id = m.account_id
             where m.role = 'owner' order by o.created_at, o.id limit 1",
            [],
        )
        .await?;
    row.as_ref().map(owner).transpose()
}

fn owner(row: &Row) -> Result<Owner, StoreError> {
    Ok(Owner {
        principal: principal(row)?,
        organization_name: row.get("organization_name")?,
        user_name: row.get("account_name")?,
    })
}

fn principal(row: &Row) -> Result<Principal, StoreError> {
    Ok(Principal {
        organization: row.id("organization_id", OrganizationId::from_uuid)?,
        user: row.id("account_id", UserId::from_uuid)?,
    })
}
