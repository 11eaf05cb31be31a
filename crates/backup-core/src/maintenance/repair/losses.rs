//! The entries that a mended snapshot lacks: their number, and the first of their names.

use crate::check::Problem;
use crate::source::EntryPath;

/// Paths that are named per snapshot.
const MAX_NAMED: usize = 50;

/// The path of a directory in its own losses. Odd names may be empty: the root would be the same as
/// an entry in it without a name.
pub(super) fn itself() -> EntryPath {
    EntryPath::root().join(ITSELF)
}

/// The name of a directory in its own losses.
const ITSELF: &[u8] = b".";

/// Entries of a directory or a snapshot that are not as they were backed up, by paths that begin
/// with [`itself`].
#[derive(Debug, Default, Clone)]
pub(super) struct Losses {
    pub(super) lost: Paths,
    /// Files whose blobs have another length than the file had.
    pub(super) resized: Paths,
}

impl Losses {
    pub(super) fn count(&self) -> u64 {
        self.lost.count.saturating_add(self.resized.count)
    }

    /// Number of names that are kept.
    pub(super) fn named(&self) -> usize {
        self.lost.named.len() + self.resized.named.len()
    }

    /// Adds the losses of a directory that lies at `path`.
    pub(super) fn add_below(&mut self, path: &EntryPath, inner: &Self) {
        self.lost.add_below(path, &inner.lost);
        self.resized.add_below(path, &inner.resized);
    }

    /// The same numbers without names.
    pub(super) fn nameless(&self) -> Self {
        let nameless = |paths: &Paths| Paths { named: Vec::new(), count: paths.count };
        Self { lost: nameless(&self.lost), resized: nameless(&self.resized) }
    }

    pub(super) fn problems(&self, object: &str) -> Vec<Problem> {
        let lost = self.lost.problem(object, "entries cannot be recovered");
        let resized = self
            .resized
            .problem(object, "files have other sizes than recorded; their stored content stays");
        lost.into_iter().chain(resized).collect()
    }
}

/// The number of some paths, and the first of them.
#[derive(Debug, Default, Clone)]
pub(super) struct Paths {
    named: Vec<EntryPath>,
    count: u64,
}

impl Paths {
    pub(super) fn push(&mut self, path: EntryPath) {
        self.count = self.count.saturating_add(1);
        if self.named.len() < MAX_NAMED {
            self.named.push(path);
        }
    }

    fn add_below(&mut self, path: &EntryPath, inner: &Self) {
        self.count = self.count.saturating_add(inner.count);
        let left = MAX_NAMED - self.named.len();
        let below = |inner: &EntryPath| {
            let segments = inner.as_bytes().split(|byte| *byte == b'/');
            // An empty one before the first slash, and the directory itself.
            segments.skip(2).fold(path.clone(), |path, segment| path.join(segment))
        };
        self.named.extend(inner.named.iter().take(left).map(below));
    }

    fn problem(&self, object: &str, what: &str) -> Option<Problem> {
        if self.count == 0 {
            return None;
        }
        let message = format!("{} of its {what}", self.count);
        let mut affects: Vec<String> =
            self.named.iter().map(|path| format!("{object}: {path}")).collect();
        let more = self.count - self.named.len() as u64;
        if more > 0 {
            affects.push(format!("{object}: {more} more"));
        }
        Some(Problem { object: object.to_owned(), message, affects })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    #[test]
    fn losses_below_a_directory_are_named_with_the_whole_path() {
        let (mut inner, mut outer) = (Losses::default(), Losses::default());
        inner.lost.push(itself());
        inner.lost.push(itself().join(b"x"));
        inner.lost.push(itself().join(b""));
        inner.resized.push(itself().join(b"y").join(b"z"));
        outer.add_below(&path("/a/b"), &inner);
        outer.add_below(&path("/c"), &inner.nameless());
        let problems = outer.problems("snapshot 1");
        let texts: Vec<_> = problems.iter().map(|one| (&*one.message, &one.affects[..])).collect();
        let named = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("snapshot 1: {name}")).collect()
        };
        assert_eq!(
            texts,
            [
                (
                    "6 of its entries cannot be recovered",
                    &named(&["/a/b", "/a/b/x", "/a/b/", "3 more"])[..]
                ),
                (
                    "2 of its files have other sizes than recorded; their stored content stays",
                    &named(&["/a/b/y/z", "1 more"])[..]
                ),
            ]
        );
        assert_eq!((outer.count(), outer.named()), (8, 4));
    }

    #[test]
    fn number_of_losses_is_exact_where_names_end() {
        let mut losses = Losses::default();
        for number in 0..70 {
            losses.lost.push(itself().join(number.to_string().as_bytes()));
        }
        let mut twice = losses.clone();
        twice.add_below(&path("/again"), &losses);
        assert_eq!((twice.count(), twice.named()), (140, MAX_NAMED));
        let problems = twice.problems("s");
        assert_eq!(problems[0].affects.len(), MAX_NAMED + 1);
        assert_eq!(problems[0].affects[MAX_NAMED], "s: 90 more");
    }
}
