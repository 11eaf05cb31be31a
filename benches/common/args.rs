//! Arguments of a bench.

use std::str::FromStr;

use crate::Result;

/// What is left of the command line: each question takes its answer out.
#[derive(Debug)]
pub struct Args(Vec<String>);

impl Args {
    /// This program's, without what cargo adds.
    #[must_use]
    pub fn new() -> Self {
        Self(std::env::args().skip(1).filter(|arg| arg != "--bench").collect())
    }

    /// Whether a flag is there.
    #[must_use]
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|arg| arg != name);
        self.0.len() < before
    }

    /// The value of an option.
    ///
    /// # Errors
    /// It has none, or another one than it may have.
    pub fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(at) = self.0.iter().position(|arg| arg == name) else { return Ok(None) };
        if at + 1 == self.0.len() {
            return Err(format!("{name} needs a value").into());
        }
        let text = self.0.remove(at + 1);
        self.0.remove(at);
        Ok(Some(text.parse().map_err(|_| format!("{name}: {text:?} is not a valid value"))?))
    }

    /// The same with a value for when the option is not there.
    ///
    /// # Errors
    /// Those of [`Self::value`].
    pub fn value_or<T: FromStr>(&mut self, name: &str, default: T) -> Result<T> {
        Ok(self.value(name)?.unwrap_or(default))
    }

    /// What is left: words, and no options.
    ///
    /// # Errors
    /// An option is left that nobody has asked for.
    pub fn words(self) -> Result<Vec<String>> {
        match self.0.iter().find(|arg| arg.starts_with('-')) {
            Some(unknown) => Err(format!("unknown argument {unknown}").into()),
            None => Ok(self.0),
        }
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// Something is.
    pub fn end(self) -> Result<()> {
        match self.0.first() {
            Some(unknown) => Err(format!("unknown argument {unknown}").into()),
            None => Ok(()),
        }
    }

    /// What follows a word that makes this program a process of another one's, if it is the first.
    #[must_use]
    pub fn child(&self, word: &str) -> Option<&[String]> {
        self.0.split_first().and_then(|(first, rest)| (first == word).then_some(rest))
    }
}

impl Default for Args {
    fn default() -> Self {
        Self::new()
    }
}
