//! Collecting the bytes that no row names: of attachments that nobody took, of patches that were replaced, and of processes
//! that died between the bytes and the row.
//!
//! Any number of processes collect, write and read the same bytes. Three things keep what somebody needs: bytes younger
//! than an hour stay, and putting them again makes them young; whether a row names them is asked in a transaction that
//! nobody else writes beside; and whoever writes a row for bytes that were there before looks, in the transaction of that
//! row, that they still are.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::Store;
use crate::database::{Scope, StoreError, time};
use crate::objects::Found;

/// Bytes that were put less than this ago may be about to get a row.
const YOUNG: Duration = Duration::from_hours(1);

/// Between looking and removing no more may pass. A process that was stopped in between may have lost its transaction, and
/// somebody may have put the bytes again.
const AT_ONCE: Duration = Duration::from_secs(2);

/// How long whoever keeps the bytes may take for an answer while everybody waits for this transaction.
const ANSWER: Duration = Duration::from_secs(5);

/// Names begin with one of so many pairs of digits.
const SHELVES: u32 = 256;

/// What is looked at of one pair. With more, the rest has its turn once these are gone.
const MOST: usize = 100_000;

/// Where the round over all artifacts is.
pub(crate) struct Collection {
    next: AtomicU32,
}

impl Default for Collection {
    fn default() -> Self {
        // Processes that were started together begin at different places.
        Self { next: AtomicU32::new(u32::from(crate::fresh().as_bytes()[15])) }
    }
}

impl Store {
    /// Collects what nobody needs of the next part, a 256th, of all artifacts, and says how many objects that were. To be
    /// called again and again.
    ///
    /// # Errors
    /// When the database or whoever keeps the bytes does not answer. Nothing that is needed was removed.
    pub async fn collect_artifacts(&self) -> Result<usize, StoreError> {
        let shelf = self.shared.collection.next.fetch_add(1, Ordering::Relaxed) % SHELVES;
        self.collect_shelf(&format!("{shelf:02x}")).await
    }

    /// The same for all of them.
    ///
    /// # Errors
    /// The same.
    pub async fn collect_all_artifacts(&self) -> Result<usize, StoreError> {
        let mut collected = 0;
        for shelf in 0..SHELVES {
            collected += self.collect_shelf(&format!("{shelf:02x}")).await?;
        }
        Ok(collected)
    }

    async fn collect_shelf(&self, digits: &str) -> Result<usize, StoreError> {
        let mut collected = 0;
        for (sha256, found) in self.shared.objects.shelf(digits, MOST).await? {
            if found.age > YOUNG && self.collect_artifact(&sha256).await? {
                collected += 1;
            }
        }
        Ok(collected)
    }

    /// Removes the bytes of this name, if they are old and no row names them. Says whether it did.
    pub(crate) async fn collect_artifact(&self, sha256: &str) -> Result<bool, StoreError> {
        // Most are needed: that is seen without a transaction that keeps everybody waiting.
        if self.database.one(NAMED, self.named(sha256)).await?.is_some() {
            return Ok(false);
        }
        // So is whether anybody answers who keeps them.
        if self.old(sha256).await?.is_none() {
            return Ok(false);
        }
        let transaction = self.write(Scope::Installation).await?;
        if transaction.one(NAMED, self.named(sha256)).await?.is_some() {
            return Ok(false);
        }
        let looked = Instant::now();
        let is_old = self.old(sha256).await?.is_some();
        // The transaction still is ours: its connection answers.
        let is_named = transaction.one(NAMED, self.named(sha256)).await?.is_some();
        if !is_old || is_named || looked.elapsed() > AT_ONCE {
            return Ok(false);
        }
        let removed = tokio::time::timeout(ANSWER, self.shared.objects.remove(sha256)).await;
        removed.map_err(|_| self.no_answer())??;
        transaction.commit().await?;
        Ok(true)
    }

    fn named(&self, sha256: &str) -> [sea_orm::Value; 2] {
        [sha256.into(), time(self.now())]
    }

    /// The bytes of this name, if they are there and no longer young.
    async fn old(&self, sha256: &str) -> Result<Option<Found>, StoreError> {
        let answer = tokio::time::timeout(ANSWER, self.shared.objects.find(sha256)).await;
        Ok(answer.map_err(|_| self.no_answer())??.filter(|found| found.age > YOUNG))
    }

    fn no_answer(&self) -> StoreError {
        let problem = format!("does not answer within {} s", ANSWER.as_secs());
        StoreError::Artifacts { place: self.shared.objects.words(), problem }
    }
}

/// What is packed is needed for as long as its snapshot is reused.
const NAMED: &str = "select 1 as there from attachment where sha256 = $1
                     union all select 1 as there from artifact where sha256 = $1
                     union all select 1 as there from snapshot where packed_sha256 = $1 and expires_at > $2 limit 1";
