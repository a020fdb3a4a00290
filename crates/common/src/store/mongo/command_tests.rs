//! How commands are put: what they promise whatever the address says, and that none looks
//! through a whole collection.

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use secrecy::ExposeSecret as _;

use super::accounts::USERS;
use super::recording::{Recording, exercise};
use super::testing::Scratch;

/// The options of an address that asks for as little as it can.
const HOSTILE: &str = "&w=1&journal=false&wtimeoutMS=1&readConcernLevel=local&retryWrites=false\
    &retryReads=false&readPreference=secondaryPreferred&maxStalenessSeconds=120\
    &readPreferenceTags=dc:elsewhere&directConnection=true&serverSelectionTimeoutMS=1\
    &connectTimeoutMS=60000&maxPoolSize=7&appName=mine";

const READS: &[&str] = &["find", "aggregate", "distinct", "count"];
const WRITES: &[&str] = &["insert", "update", "delete", "findAndModify"];

fn name(command: &Document) -> &str {
    command.keys().next().map_or("", String::as_str)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_address_weakens_nothing() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let url = format!("{}{HOSTILE}", scratch.url().expose_secret());
    let url = url.replace("replicaSet=rs0&", "");
    let recording = Recording::default();
    let store = recording.open(&url).await;
    exercise(&store).await;
    let commands = recording.take();
    let (mut reads, mut writes, mut linearizable) = (0, 0, 0);
    for command in &commands {
        if let Ok(preference) = command.get_document("$readPreference") {
            assert_eq!(preference.get_str("mode").unwrap(), "primary", "{command}");
        }
        if READS.contains(&name(command)) {
            reads += 1;
            let by_key = command
                .get_document("filter")
                .is_ok_and(|filter| filter.contains_key("key"));
            let concern = command.get_document("readConcern").unwrap();
            let confirmed = by_key && *concern == doc! { "level": "linearizable" };
            linearizable += usize::from(confirmed);
            assert!(confirmed || *concern == doc! { "level": "majority" });
            assert!(command.contains_key("maxTimeMS"), "{command}");
        } else if WRITES.contains(&name(command)) {
            writes += 1;
            check_write(command);
        }
    }
    assert!(reads > 20 && writes > 20, "{reads} reads, {writes} writes");
    assert_eq!(linearizable, 1);
}

fn check_write(command: &Document) {
    let concern = command.get_document("writeConcern").unwrap();
    assert_eq!(concern.get_str("w").unwrap(), "majority", "{command}");
    assert!(concern.get_bool("j").unwrap(), "{command}");
    let patience = concern
        .get("wtimeout")
        .cloned()
        .map(|wait| wait.to_string());
    assert_eq!(patience.as_deref(), Some("4000"), "{command}");
    // Those of many documents cannot be retried by the driver, they are repeated by callers; a
    // claim leaves a mark that is read back.
    let again = |statement: &Bson| {
        let Some(statement) = statement.as_document() else {
            return false;
        };
        let all = statement
            .get("limit")
            .is_some_and(|limit| *limit == Bson::Int32(0));
        let many = statement.get_bool("multi").unwrap_or_default();
        let set = statement
            .get_document("u")
            .and_then(|update| update.get_document("$set"));
        all || many || set.is_ok_and(|set| set.contains_key("claim"))
    };
    let statements = |name: &str| command.get_array(name).cloned().unwrap_or_default();
    if !statements("updates").iter().any(again) && !statements("deletes").iter().any(again) {
        assert!(command.contains_key("txnNumber"), "not retried: {command}");
    }
}

/// The steps of a query's plan, also of what it looks up elsewhere.
async fn plan(database: &Database, command: &Document) -> String {
    let mut explained = command.clone();
    for field in [
        "lsid",
        "txnNumber",
        "$db",
        "$clusterTime",
        "$readPreference",
        "writeConcern",
        "readConcern",
        "maxTimeMS",
    ] {
        explained.remove(field);
    }
    let explain = doc! { "explain": explained, "verbosity": "executionStats" };
    let answer = database.run_command(explain).await;
    let answer = answer.unwrap_or_else(|error| panic!("{error}: {command}"));
    Bson::from(taken(answer)).to_string()
}

/// An explanation without the plans that were not taken, and without the command again.
fn taken(explanation: Document) -> Document {
    let kept = explanation
        .into_iter()
        .filter(|(name, _)| name != "rejectedPlans" && name != "command");
    kept.map(|(name, value)| (name, taken_in(value))).collect()
}

fn taken_in(value: Bson) -> Bson {
    match value {
        Bson::Document(part) => Bson::Document(taken(part)),
        Bson::Array(parts) => Bson::Array(parts.into_iter().map(taken_in).collect()),
        other => other,
    }
}

/// What is wrong with a plan.
fn fault(plan: &str) -> Option<&'static str> {
    let lookup = plan.split("\"collectionScans\": ").skip(1);
    let scanned = lookup.into_iter().any(|rest| !rest.starts_with('0'));
    if plan.contains("COLLSCAN") || scanned {
        Some("looks through a collection")
    } else if plan.contains("\"stage\": \"SORT\"") || plan.contains("\"$sort\"") {
        Some("sorts what it has read")
    } else {
        None
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_take_an_index() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let recording = Recording::default();
    let store = recording.open(scratch.url().expose_secret()).await;
    exercise(&store).await;
    let database = scratch.database().await;
    let mut checked = 0;
    for command in recording.take() {
        let name = name(&command);
        if name != "insert" && (READS.contains(&name) || WRITES.contains(&name)) {
            checked += 1;
            let plan = plan(&database, &command).await;
            assert_eq!(fault(&plan), None, "{command}\n{plan}");
        }
    }
    assert!(checked > 40, "{checked}");
    // What has no index is noticed.
    let elsewhere = doc! {
        "from": USERS, "localField": "key", "foreignField": "key", "as": "same",
    };
    for pipeline in [
        vec![doc! { "$match": { "display_name": "name" } }],
        vec![
            doc! { "$match": { "username": "ada" } },
            doc! { "$lookup": elsewhere },
        ],
        vec![
            doc! { "$match": { "username": { "$gt": "a" } } },
            doc! { "$sort": { "display_name": 1 } },
        ],
    ] {
        let command = doc! { "aggregate": USERS, "pipeline": pipeline, "cursor": {} };
        let plan = plan(&database, &command).await;
        assert!(fault(&plan).is_some(), "{command}\n{plan}");
    }
}
