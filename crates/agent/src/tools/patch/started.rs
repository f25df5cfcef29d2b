//! Patches that are cut off: what becomes of which file is noted before the first is written, and whoever takes up the call
//! finds by that which ones are done, and does the others.

use std::collections::{BTreeMap, BTreeSet};

use carrel_domain::EventBody;
use carrel_domain::patch::{StartedFile, StartedPatch};
use sha2::{Digest, Sha256};

use super::applied;
use crate::AgentError;
use crate::patch::{Original, Planned, Section, plan};
use crate::tools::{Outcome, Pending, Tools};

/// What the model is told when it cannot be known what is done.
const UNCLEAR: &str = "The service restarted while this patch was being applied, and files it names were changed since. Look at them: either all of it has been applied, or some of it. Then apply what is missing.";

impl Tools {
    /// What was noted of a call that was cut off.
    pub(super) fn started(&self, pending: &Pending) -> Option<&StartedPatch> {
        let started = self.started_patch.as_ref().filter(|_| pending.is_resumed)?;
        (started.call == pending.position as u64).then_some(started)
    }

    /// Notes what becomes of which file, before it does.
    pub(super) async fn note(
        &self,
        pending: &Pending,
        planned: &Planned,
        originals: &BTreeMap<String, Original>,
    ) -> Result<(), AgentError> {
        let file = |(path, after): (&String, &Option<(String, Option<u32>)>)| StartedFile {
            path: path.clone(),
            before: originals.get(path).and_then(|original| hash_of(original).flatten()),
            after: after.as_ref().map(|(content, _)| hash(content)),
        };
        let files = planned.files.iter().map(file).collect();
        let changes = planned.changes.clone();
        let started = EventBody::PatchStarted(StartedPatch { call: pending.position as u64, files, changes });
        Ok(self.sessions.journal().record(vec![started]).await?)
    }

    /// Does what is left to be done of a patch.
    pub(super) async fn finish(&self, sections: Vec<Section>, started: &StartedPatch) -> Result<Outcome, AgentError> {
        let unclear = || Ok(Outcome::plain(UNCLEAR));
        let (mut originals, mut folders) = (BTreeMap::new(), BTreeMap::new());
        let mut open: BTreeSet<&str> = BTreeSet::new();
        for file in &started.files {
            let now = self.original(&file.path, &mut folders).await?;
            match hash_of(&now) {
                Some(hash) if hash == file.after => {}
                Some(hash) if hash == file.before => {
                    open.insert(&file.path);
                }
                _ => return unclear(),
            }
            originals.insert(file.path.clone(), now);
        }
        let rest: Vec<Section> =
            sections.into_iter().filter(|section| section.paths().any(|path| open.contains(path))).collect();
        let Ok(mut planned) = plan(&rest, &originals) else { return unclear() };
        let is_as_noted = |file: &StartedFile| match planned.files.get(&file.path) {
            Some(after) => after.as_ref().map(|(content, _)| hash(content)) == file.after,
            None => !open.contains(file.path.as_str()),
        };
        if !started.files.iter().all(is_as_noted) {
            return unclear();
        }
        planned.files.retain(|path, _| open.contains(path.as_str()));
        match self.write(&planned, &originals).await? {
            None => Ok(applied(started.changes.clone(), &[])),
            Some(_) => unclear(),
        }
    }
}

/// What a file hashes to, `None` in it where there is none; `None` for what no patch has written.
fn hash_of(original: &Original) -> Option<Option<String>> {
    match original {
        Original::Missing => Some(None),
        Original::Text { content, .. } => Some(Some(hash(content))),
        Original::Untouchable(_) => None,
    }
}

fn hash(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
