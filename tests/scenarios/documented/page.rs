//! Code blocks of a Markdown page.

use std::path::PathBuf;

use crate::support::cli::workspace;

/// A fenced code block.
pub(super) struct Block {
    /// Line of the opening fence in the page, from 1.
    pub(super) line: usize,
    /// Language after the opening fence.
    pub(super) language: String,
    /// Lines between the fences, without the indentation of the fence.
    pub(super) text: String,
    /// The line before the block is a comment `<!-- console: reason -->`.
    pub(super) has_reason: bool,
}

/// All code blocks of the page `name`, a path below the workspace, in their order.
pub(super) fn blocks(name: &str) -> Vec<Block> {
    let page = std::fs::read_to_string(workspace().join(name)).unwrap();
    let (mut blocks, mut open): (Vec<Block>, Option<(usize, Block)>) = (Vec::new(), None);
    let mut before = "";
    for (index, line) in page.lines().enumerate() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(language) = text.strip_prefix("```") {
            match open.take() {
                Some((_, block)) => blocks.push(block),
                None => {
                    let has_reason = before.trim_start().starts_with("<!-- console: ");
                    let language = language.to_owned();
                    let block =
                        Block { line: index + 1, language, text: String::new(), has_reason };
                    open = Some((indent, block));
                }
            }
        } else if let Some((indent, block)) = &mut open {
            block.text.push_str(line.get(*indent..).unwrap_or_default());
            block.text.push('\n');
        }
        before = line;
    }
    assert!(open.is_none(), "{name}: a code block is not closed");
    blocks
}

/// README and every page below `docs/`, as paths below the workspace.
pub(super) fn names() -> Vec<String> {
    let mut names = vec!["README.md".to_owned()];
    let mut directories = vec![PathBuf::from("docs")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(workspace().join(&directory)).unwrap().map(Result::unwrap) {
            let path = directory.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                names.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}
