//! Who builds which snapshot: one at a time for each key, so that attempts that need the same one build it once. One
//! process works on a data folder, and what it had begun when it died is swept away, so nothing of this is stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Mutex as Turn;

/// The builds under way.
#[derive(Default)]
pub(crate) struct Builds {
    turns: Mutex<HashMap<String, Weak<Turn<()>>>>,
}

impl Builds {
    /// Whose turn it is to build this one. Whoever has the lock builds; the others find what was built.
    pub(crate) fn of(&self, key: &str) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::new(()));
        turns.insert(key.to_owned(), Arc::downgrade(&turn));
        turn
    }
}
