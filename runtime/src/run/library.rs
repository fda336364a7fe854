//! What runs of one process were given alike: workflows and inventories, parsed once.
//!
//! Known by the digests of their texts, so that nobody gets what another one's file said. Only the
//! latest few are kept: a process that goes on with thousands of runs must not grow with them.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{Refusal, saved::File};
use crate::{
    inventory::{self, Inventory},
    store::Store,
    workflow::{self, Workflow},
};

/// As many are kept of each kind.
const KEPT: usize = 8;

/// Paths, which messages and relative names depend on, and digests.
type Key = Vec<(PathBuf, String)>;

/// Shared by the runs of a process.
#[derive(Debug, Default)]
pub struct Library {
    workflows: Recent<Key, Workflow>,
    inventories: Recent<Key, Inventory>,
}

impl Library {
    pub(super) async fn workflow(&self, store: &dyn Store, file: &File) -> Result<Arc<Workflow>, Refusal> {
        let key = key(std::slice::from_ref(file));
        if let Some(known) = self.workflows.get(&key) {
            return Ok(known);
        }
        let source = file.read(store).await?;
        let workflow = workflow::load_text(source.path(), source.text()).map_err(Refusal::Found)?;
        Ok(self.workflows.put(key, workflow.into()))
    }

    pub(super) async fn inventory(
        &self,
        store: &dyn Store,
        files: &[File],
    ) -> Result<Arc<Inventory>, Refusal> {
        let key = key(files);
        if let Some(known) = self.inventories.get(&key) {
            return Ok(known);
        }
        let mut sources = Vec::with_capacity(files.len());
        for file in files {
            sources.push(file.read(store).await?);
        }
        let inventory = inventory::load_sources(sources).map_err(Refusal::Found)?;
        Ok(self.inventories.put(key, inventory.into()))
    }
}

fn key(files: &[File]) -> Key {
    files.iter().map(|file| (file.path.clone(), file.digest.clone())).collect()
}

/// The latest few of something that costs more than to keep it.
#[derive(Debug)]
pub struct Recent<K, V>(Mutex<Vec<(K, Arc<V>)>>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq, V> Recent<K, V> {
    fn all(&self) -> MutexGuard<'_, Vec<(K, Arc<V>)>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        let mut all = self.all();
        let at = all.iter().position(|(known, _)| known == key)?;
        // The latest stands last.
        let found = all.remove(at);
        let value = found.1.clone();
        all.push(found);
        Some(value)
    }

    /// Keep it, unless another one was faster: then that one is given.
    pub fn put(&self, key: K, value: Arc<V>) -> Arc<V> {
        let mut all = self.all();
        if let Some((_, known)) = all.iter().find(|(known, _)| *known == key) {
            return known.clone();
        }
        if all.len() >= KEPT {
            all.remove(0);
        }
        all.push((key, value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_is_dropped_first() {
        let recent: Recent<usize, usize> = Recent::default();
        (0..KEPT).for_each(|n| drop(recent.put(n, n.into())));
        assert_eq!(recent.get(&0).as_deref(), Some(&0));
        recent.put(KEPT, KEPT.into());
        assert_eq!((recent.get(&0).as_deref(), recent.get(&1)), (Some(&0), None));
        assert_eq!(*recent.put(0, 7.into()), 0, "there is one already");
    }
}
