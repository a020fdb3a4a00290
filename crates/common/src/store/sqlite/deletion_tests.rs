//! What a deletion leaves in the file: nothing of the content.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::tests::Scratch;
use crate::store::contract::secret::{KEPT, SECRET, tell_and_delete};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_deleted_content_is_left_in_the_file() {
    let scratch = Scratch::new();
    let store = scratch.open();
    tell_and_delete(&store).await;
    drop(store);
    let path = scratch.database();
    let connection = Connection::open(&path).unwrap();
    let rows = rows(&connection);
    assert!(rows.contains(KEPT) && !rows.contains(SECRET), "{rows}");
    // Into the file with what is still in the log beside it.
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    connection.query_row(checkpoint, [], |_| Ok(())).unwrap();
    drop(connection);
    let bytes = bytes(path.parent().unwrap());
    assert!(holds(&bytes, KEPT));
    assert!(!holds(&bytes, SECRET), "deleted, but not overwritten");
}

/// Every value of every table.
fn rows(connection: &Connection) -> String {
    let mut statement = connection
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
        .unwrap();
    let tables = statement.query_map([], |row| row.get::<_, String>(0));
    let mut text = String::new();
    for table in tables.unwrap() {
        let sql = format!("SELECT * FROM {}", table.unwrap());
        let mut statement = connection.prepare(&sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                if let ValueRef::Text(value) | ValueRef::Blob(value) = row.get_ref(column).unwrap()
                {
                    text += &String::from_utf8_lossy(value);
                    text.push('\n');
                }
            }
        }
    }
    text
}

fn bytes(directory: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(directory).unwrap();
    let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    files.flatten().collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    let mut places = bytes.windows(text.len());
    places.any(|place| place == text.as_bytes())
}
