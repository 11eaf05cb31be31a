//! Secrets of repositories and sources, and warnings about files that other users can read.

use std::path::Path;
use std::sync::Arc;

use backup_control::exposed::{self, ExposedFile};
use backup_control::passphrase::PassphraseOrigin;
use backup_control::repositories::RepositorySpec;
use backup_control::sources::SourceSpec;
use backup_core::crypto::Passphrase;
use backup_core::event::WarningKind;
use backup_core::source::Source;

use crate::command_error::CommandResult;
use crate::session::{Session, lock};

impl Session {
    /// Fetches a pass phrase, and warns if others can read its file.
    pub(crate) async fn fetch(&self, origin: &PassphraseOrigin) -> CommandResult<Passphrase> {
        self.warn_of_exposed(exposed::file_of(origin));
        Ok(origin.fetch(&self.env).await?)
    }

    /// Connects a source, and warns if others can read the files with its secrets.
    pub(crate) async fn connect(&self, source: &SourceSpec) -> CommandResult<Arc<dyn Source>> {
        self.warn_of_exposed(source.secret_files());
        self.unless_cancelled(source.open(&self.env, &self.cx.events)).await
    }

    /// Warns about files with secrets that others can read, about each one once.
    pub(crate) fn warn_of_exposed<'a>(&self, files: impl IntoIterator<Item = &'a Path>) {
        for file in exposed::among(files) {
            if self.note_exposed(&file) {
                self.cx.events.warn(WarningKind::Other, "", file.warning());
            }
        }
    }

    /// Notes that a message has named an exposed file; returns `false` if one had done so before.
    pub(crate) fn note_exposed(&self, file: &ExposedFile) -> bool {
        lock(&self.exposed).insert(file.path().to_owned())
    }

    /// The exposed files of a repository, noted as named.
    pub(crate) fn exposed_files(&self, repository: &RepositorySpec) -> Vec<ExposedFile> {
        let origin = self.passphrase_origin(repository);
        let store = repository.config.iter().flat_map(exposed::files_of_store);
        let files = origin.iter().filter_map(exposed::file_of).chain(store);
        exposed::among(files).inspect(|file| _ = self.note_exposed(file)).collect()
    }
}
