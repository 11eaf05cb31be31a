//! What a program remembers of its runs, so that another machine knows of them. Nothing needs it to
//! restore anything.

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::format::seal_json;
use crate::repository::{Repository, layout};
use crate::sink::{Key, SinkOps};

/// Notes of runs that could be read, and how many could not.
#[derive(Debug)]
pub struct RunNotes<T> {
    /// They, by their names.
    pub notes: Vec<T>,
    /// Those that are damaged.
    pub damaged: u64,
}

impl Repository {
    /// Keeps a note of the run called `name`, which sorts by time.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what cannot be a name; those of the sink.
    pub async fn note_run(&self, name: &str, note: &impl Serialize) -> Result<()> {
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_name {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{name:?} is not a valid run name"),
            ));
        }
        self.sink().put_bytes(&layout::run(name), seal_json(self.key(), note)?).await?;
        Ok(())
    }

    /// The notes of runs, in the order of their names.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn noted_runs<T: DeserializeOwned>(&self) -> Result<RunNotes<T>> {
        let concurrency = self.sink().capabilities().concurrency.max(1);
        let read = |key: Key| async move {
            match self.read_note::<T>(&key).await {
                Err(error) if error.kind() == ErrorKind::Damaged => Ok(Err(())),
                // One that went meanwhile is none.
                other => other.map(Ok),
            }
        };
        let named = futures::stream::iter(self.run_notes().await?).map(read).buffered(concurrency);
        let all: Vec<Result<Option<T>, ()>> = named.try_collect::<Vec<_>>().await?;
        let damaged = all.iter().filter(|note| note.is_err()).count() as u64;
        Ok(RunNotes { notes: all.into_iter().flatten().flatten().collect(), damaged })
    }

    /// Removes the notes of the oldest runs, but for the newest `most`. Returns how many. For those
    /// who may delete.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn thin_out_run_notes(&self, most: usize) -> Result<usize> {
        let keys = self.run_notes().await?;
        let old = &keys[..keys.len().saturating_sub(most)];
        for key in old {
            self.sink().delete_one(key).await?;
        }
        Ok(old.len())
    }

    async fn run_notes(&self) -> Result<Vec<Key>> {
        let named = self.sink().list_all(&layout::runs()).await?;
        let mut keys: Vec<Key> = named.into_iter().map(|meta| meta.key).collect();
        keys.sort();
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::context::Context;
    use crate::crypto::Passphrase;
    use crate::repository::InitOptions;
    use crate::testing::MemorySink;

    #[tokio::test]
    async fn notes_come_back_and_the_oldest_go() {
        let (sink, options) = (Arc::new(MemorySink::new()), InitOptions::default());
        let opened =
            Repository::init(sink, &Passphrase::new("x"), &options, &Context::silent()).await;
        let repository = opened.unwrap();
        for name in ["20260301-120000-b", "20260301-120000-a", "20260302-120000-c"] {
            repository.note_run(name, &name.to_owned()).await.unwrap();
        }
        let key = layout::run("20260301-110000-x");
        repository.sink().put_bytes(&key, b"damaged".to_vec()).await.unwrap();
        let found = repository.noted_runs::<String>().await.unwrap();
        assert_eq!(found.damaged, 1);
        assert_eq!(found.notes, ["20260301-120000-a", "20260301-120000-b", "20260302-120000-c"]);
        assert_eq!(repository.thin_out_run_notes(2).await.unwrap(), 2);
        assert_eq!(repository.noted_runs::<String>().await.unwrap().notes.len(), 2);
        for name in ["", "a/b", "../x"] {
            assert!(repository.note_run(name, &0).await.is_err(), "{name}");
        }
    }
}
