//! What the compiler does not check: who may use whom, and the form of files. Pure functions
//! from text to violations; `tests/tidy.rs` reads the repository and feeds them.
//!
//! The rules are the tables in this file. A change that needs another arrow edits the table and
//! says why.

mod code;
mod links;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::Value;

pub use links::broken_links;

use code::Code;

const SERVERS: &[&str] = &["tidings-api", "tidings-ws-push", "tidings-worker"];
const ACTIX: &[&str] = &[
    "tidings-http",
    "tidings-api",
    "tidings-ws-push",
    "tidings-worker",
    "tidings",
];
const COMMON: &[&str] = &["tidings-common"];
const STANDALONE: &[&str] = &["tidings"];

/// Who may depend on a package directly, tests and build scripts included. Packages not named
/// here are free for all. `deny.toml` says the same of the whole dependency graph.
const DEPENDENTS: &[(&str, &[&str])] = &[
    ("tidings-http", ACTIX),
    ("tidings-api", STANDALONE),
    ("tidings-ws-push", STANDALONE),
    ("tidings-worker", STANDALONE),
    ("tidings", &[]),
    ("actix-cors", &["tidings-http"]),
    ("actix-web", ACTIX),
    ("actix-http", ACTIX),
    ("actix-ws", ACTIX),
    ("lapin", COMMON),
    ("mongodb", COMMON),
    ("deadpool-redis", COMMON),
    ("redis", COMMON),
    ("rusqlite", COMMON),
];

/// The packages of this workspace that a package may depend on, where that is a short list.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("tidings-common", &[]),
    ("tidings-http", COMMON),
    (SERVERS[0], &["tidings-common", "tidings-http"]),
    (SERVERS[1], &["tidings-common", "tidings-http"]),
    (SERVERS[2], &["tidings-common", "tidings-http"]),
];

/// What a module of `crates/common` may use of the rest of that crate. Every module has a row.
/// The clock is given to those whose rules depend on time, tasks to those who work unasked.
const ARROWS: &[(&str, Uses)] = &[
    ("domain", Uses::Only(&[])),
    ("clock", Uses::Only(&["domain"])),
    ("wire", Uses::Only(&["domain"])),
    ("store", Uses::Only(&["domain", "clock", "tasks"])),
    ("bus", Uses::Only(&["domain", "wire", "tasks"])),
    ("presence", Uses::Only(&["domain", "clock"])),
    (
        "log",
        Uses::Only(&[
            "domain",
            "store",
            "bus",
            "wire",
            "auth",
            "clock",
            "tasks",
            "telemetry",
        ]),
    ),
    // What catching up answers is made of deltas as clients see them.
    ("sync", Uses::Only(&["domain", "wire", "store", "log"])),
    (
        "measured",
        Uses::Only(&["domain", "store", "bus", "presence", "telemetry"]),
    ),
    ("tasks", Uses::Only(&[])),
    ("auth", Uses::Only(&["domain", "clock"])),
    ("config", Uses::Only(&["domain"])),
    ("telemetry", Uses::Only(&["domain", "config"])),
    ("backends", Uses::Anything),
];

enum Uses {
    Only(&'static [&'static str]),
    Anything,
}

/// What the code of a folder (or of the file of that name) may not mention.
struct Ban {
    folder: &'static str,
    words: &'static [&'static str],
    /// Modules, by the crate they belong to.
    modules: &'static [(&'static str, &'static [&'static str])],
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        folder: "crates/api/src/service",
        words: &[
            "actix_web",
            "actix_cors",
            "actix_http",
            "actix_ws",
            "actix_rt",
            "lapin",
            "mongodb",
            "deadpool_redis",
            "redis",
            "rusqlite",
        ],
        modules: &[
            ("tidings_common", &["wire"]),
            ("crate", &["router", "routes", "extract"]),
        ],
        why: "a service holds the rules; the edge and the drivers are not its business",
    },
    Ban {
        folder: "crates/api/src/routes",
        words: &[],
        modules: &[("tidings_common", &["store", "bus"])],
        why: "a route extracts, calls a service and responds",
    },
    Ban {
        folder: "crates/ws-push/src/hub",
        words: &["async", "await"],
        modules: &[],
        why: "the hub works under a lock and never waits",
    },
    Ban {
        folder: "crates",
        words: &[
            "unbounded_channel",
            "unbounded",
            "UnboundedSender",
            "UnboundedReceiver",
        ],
        modules: &[],
        why: "every queue is bounded",
    },
    Ban {
        folder: "tests",
        words: &[
            "unbounded_channel",
            "unbounded",
            "UnboundedSender",
            "UnboundedReceiver",
        ],
        modules: &[],
        why: "every queue is bounded",
    },
];

/// The longest a file outside tests may be. Most are far shorter; a file that grows beyond this
/// holds more than one idea.
const MAX_LINES: usize = 600;

/// Dependencies between packages that the layering does not allow. `metadata` is the output of
/// `cargo metadata --format-version 1 --no-deps`.
#[must_use]
pub fn forbidden_dependencies(metadata: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    for (package, dependency) in direct_dependencies(metadata) {
        let dependents = row(DEPENDENTS, dependency);
        let dependencies = row(DEPENDENCIES, package).filter(|_| dependency.starts_with("tidings"));
        let refused_by_dependency = dependents.is_some_and(|allowed| !allowed.contains(&package));
        let refused_by_package = dependencies.is_some_and(|allowed| !allowed.contains(&dependency));
        if refused_by_dependency || refused_by_package {
            violations.push(format!("{package} may not depend on {dependency}"));
        }
    }
    violations
}

fn direct_dependencies(metadata: &Value) -> BTreeSet<(&str, &str)> {
    let mut found = BTreeSet::new();
    for package in list(&metadata["packages"]) {
        for dependency in list(&package["dependencies"]) {
            found.extend(package["name"].as_str().zip(dependency["name"].as_str()));
        }
    }
    found
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn row<T: Copy>(table: &[(&str, T)], key: &str) -> Option<T> {
    table
        .iter()
        .find(|(name, _)| *name == key)
        .map(|(_, value)| *value)
}

/// Complains if a package's manifest does not take the workspace's lints.
#[must_use]
pub fn missing_lints(path: &str, manifest: &str) -> Vec<String> {
    let inherits = manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[lints]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.replace(' ', "") == "workspace=true");
    if inherits {
        Vec::new()
    } else {
        vec![format!("{path}: lacks `[lints] workspace = true`")]
    }
}

/// Everything a source file is held to. `path` is relative to the root of the repository and
/// has forward slashes.
#[must_use]
pub fn source_violations(path: &str, text: &str) -> Vec<String> {
    let mut violations = form(path, text);
    let whole = Code::parse(text);
    let code = if is_test(path) {
        Code::parse("")
    } else {
        whole.without_tests()
    };
    violations.extend(arrows(path, &code));
    for ban in BANS.iter().filter(|ban| is_in(path, ban.folder)) {
        violations.extend(ban.check(path, &code));
    }
    violations
}

/// Length and module documentation. A file of one line, such as `fn main() {}`, has nothing to
/// explain.
fn form(path: &str, text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    if is_test(path) {
        return violations;
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        violations.push(format!(
            "{path}: {lines} lines, more than {MAX_LINES}; split it"
        ));
    }
    let undocumented = lines > 1 && !text.starts_with("//!");
    if undocumented && path.starts_with("crates/") && path.contains("/src/") {
        violations.push(format!(
            "{path}: does not open with `//!`: what it owns and what it may not touch"
        ));
    }
    violations
}

/// Uses between the modules of `crates/common` that have no arrow.
fn arrows(path: &str, code: &Code) -> Vec<String> {
    let Some(modules) = path
        .strip_prefix("crates/common/src/")
        .and_then(module_path)
    else {
        return Vec::new();
    };
    let Some(module) = modules.first() else {
        return Vec::new();
    };
    let Some((_, uses)) = ARROWS.iter().find(|(name, _)| name == module) else {
        return vec![format!(
            "{path}: module `{module}` has no row in the table of arrows"
        )];
    };
    let Uses::Only(allowed) = uses else {
        return Vec::new();
    };
    let mut used = code.used_from("crate");
    used.extend(code.used_from_ancestor(modules.len()));
    used.iter()
        .filter(|name| ARROWS.iter().any(|(known, _)| known == *name))
        .filter(|name| *name != module && !allowed.contains(&name.as_str()))
        .map(|name| format!("{path}: `{module}` may not use `{name}`"))
        .collect()
}

/// `store/sqlite/mod.rs` is the module `store`, `sqlite`; the crate's roots are no module.
fn module_path(file: &str) -> Option<Vec<&str>> {
    let mut parts: Vec<&str> = file.strip_suffix(".rs")?.split('/').collect();
    if matches!(parts.last(), Some(&("mod" | "lib" | "main"))) {
        parts.pop();
    }
    Some(parts)
}

impl Ban {
    fn check(&self, path: &str, code: &Code) -> Vec<String> {
        let words = code.words();
        let mut found: Vec<String> = self
            .words
            .iter()
            .filter(|word| words.contains(**word))
            .map(|word| (*word).to_owned())
            .collect();
        for (root, modules) in self.modules {
            let used = code.used_from(root);
            found.extend(
                modules
                    .iter()
                    .filter(|name| used.contains(**name))
                    .map(|name| format!("{root}::{name}")),
            );
        }
        found
            .iter()
            .map(|what| format!("{path}: mentions `{what}`: {}", self.why))
            .collect()
    }
}

fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// Test code: `tests.rs`, `contract.rs`, and what lies in a folder of these names.
fn is_test(path: &str) -> bool {
    path.split('/')
        .any(|part| matches!(part, "tests" | "tests.rs" | "contract" | "contract.rs"))
}
