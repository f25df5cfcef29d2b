//! What the sandboxes of attempts are made of.

use carrel_domain::{Attempt, AttemptId, Image, OrganizationId, Recipe};

use crate::Store;
use crate::database::{Scope, StoreError, json};

/// How many recipes are looked through for a digest, the latest first: ids sort by age.
const LOOKED_THROUGH: i64 = 1000;

impl Store {
    /// Writes down what an attempt's sandbox is made of, in place of what was written before.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn pin_recipe(&self, attempt: &Attempt, recipe: &Recipe) -> Result<(), StoreError> {
        let transaction = self.write(Scope::OneStatement).await?;
        transaction
            .run(
                "insert into recipe (attempt_id, organization_id, body) values ($1, $2, $3)
                 on conflict (attempt_id) do update set body = excluded.body",
                [attempt.id.as_uuid().into(), attempt.organization.as_uuid().into(), json(recipe)],
            )
            .await?;
        transaction.commit().await
    }

    /// What an attempt's sandbox is made of; nothing when it never came so far.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn recipe(&self, organization: OrganizationId, id: AttemptId) -> Result<Option<Recipe>, StoreError> {
        let row = self
            .database
            .one(
                "select body from recipe where attempt_id = $1 and organization_id = $2",
                [id.as_uuid().into(), organization.as_uuid().into()],
            )
            .await?;
        row.map(|row| row.json("body")).transpose()
    }

    /// The digest that an image's reference stood for in the latest attempt of the organization on it. The latest attempts
    /// are looked through, whatever their environment.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn last_digest(&self, organization: OrganizationId, image: &Image) -> Result<Option<String>, StoreError> {
        let rows = self
            .database
            .all(
                "select body from recipe where organization_id = $1 order by attempt_id desc limit $2",
                [organization.as_uuid().into(), LOOKED_THROUGH.into()],
            )
            .await?;
        for row in &rows {
            let recipe: Recipe = row.json("body")?;
            if recipe.image == *image && recipe.digest.is_some() {
                return Ok(recipe.digest);
            }
        }
        Ok(None)
    }

    /// The digests of images that this worker's attempts under way, or snapshots, stand on, whosever they are.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn digests_in_use(&self) -> Result<Vec<String>, StoreError> {
        let recipes = self
            .database
            .all(
                "select r.body from recipe r join attempt a on a.id = r.attempt_id
                 where (a.worker_id = $1 or a.worker_id is null) and a.ended_at is null and a.started_at is not null",
                [self.worker().as_uuid().into()],
            )
            .await?;
        let mut digests = Vec::new();
        for row in &recipes {
            digests.extend(row.json::<Recipe>("body")?.digest);
        }
        let snapshots = self.all_snapshots().await?;
        digests.extend(snapshots.into_iter().filter_map(|snapshot| snapshot.image_digest));
        Ok(digests)
    }
}
