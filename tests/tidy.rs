//! Holds this repository to the rules of `tidings_tests::tidy`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use tidings_tests::tidy;

#[test]
fn packages_depend_on_each_other_as_layered() -> anyhow::Result<()> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root())
        .output()
        .context("start cargo metadata")?;
    anyhow::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata = serde_json::from_slice(&output.stdout)?;
    assert_none(&tidy::forbidden_dependencies(&metadata));
    Ok(())
}

#[test]
fn packages_inherit_the_lints() -> anyhow::Result<()> {
    let mut violations = Vec::new();
    for path in files("toml")? {
        if path.ends_with("Cargo.toml") && path != Path::new("Cargo.toml") {
            violations.extend(tidy::missing_lints(&text(&path), &read(&path)?));
        }
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn sources_keep_to_their_layer_and_form() -> anyhow::Result<()> {
    let mut violations = Vec::new();
    for path in files("rs")? {
        violations.extend(tidy::source_violations(&text(&path), &read(&path)?));
    }
    assert_none(&violations);
    Ok(())
}

#[test]
fn links_between_documents_lead_somewhere() -> anyhow::Result<()> {
    let mut violations = Vec::new();
    for path in files("md")? {
        let exists = |target: &Path| root().join(target).exists();
        violations.extend(tidy::broken_links(&text(&path), &read(&path)?, exists));
    }
    assert_none(&violations);
    Ok(())
}

#[track_caller]
fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The files of the repository with this extension, relative to its root; at least one, so
/// that a check that looks at nothing does not pass.
fn files(extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let skipped = [".git", "target", "node_modules"]
                .iter()
                .any(|name| path.ends_with(name));
            if entry.file_type()?.is_dir() && !skipped {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    anyhow::ensure!(
        !found.is_empty(),
        "no *.{extension} under {}",
        root().display()
    );
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("read {}", path.display()))
}

/// The path with forward slashes, as the rules are written.
fn text(path: &Path) -> String {
    path.components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect::<Vec<_>>()
        .join("/")
}
