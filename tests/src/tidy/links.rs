//! Links between the Markdown files of the repository.

use std::path::{Component, Path, PathBuf};

/// The link targets in a Markdown file that `exists` does not know. `path` and what `exists` is
/// asked for are relative to the root of the repository. Other sites and anchors within a file
/// are not looked at.
#[must_use]
pub fn broken_links(path: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    targets(text)
        .into_iter()
        .filter_map(|target| {
            let file = target.split(['#', '?']).next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if file.is_empty() || elsewhere {
                return None;
            }
            let found = normalized(&folder.join(file)).is_some_and(|file| exists(&file));
            (!found).then(|| format!("{path}: the link to `{target}` leads nowhere"))
        })
        .collect()
}

/// `[text](target "title")` and `[label]: target`, outside code.
fn targets(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with("```") || line.starts_with("~~~") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        if line.starts_with('[')
            && let Some((_, target)) = line.split_once("]: ")
        {
            found.extend(target.split_whitespace().next());
        }
        // Every second piece between backticks is code; a link may stand before or after it,
        // and its text may be code, but its target never is.
        for piece in line.split('`').step_by(2) {
            for rest in piece.split("](").skip(1) {
                let target = rest.split([')', ' ']).next();
                found.extend(target.map(|target| target.trim_matches(['<', '>'])));
            }
        }
    }
    found
}

/// The path without `.` and `..`; `None` if it is absolute or leaves the repository.
fn normalized(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir if clean.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}
