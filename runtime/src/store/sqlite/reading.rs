//! A store that cannot be written: on a file system that is mounted to be read, or somebody else's.
//!
//! SQLite wants to write even to read, where another process may be writing: its log has an index
//! in shared memory. So this looks whether there is a log that has to be read.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::SCHEMA_VERSION;

/// Open it without a wish to write.
///
/// # Errors
/// Why it cannot be read, where that is more than that it cannot be written.
pub(super) fn connect(path: &Path) -> Result<Connection, Option<String>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if let Some(connection) = usable(Connection::open_with_flags(path, flags))? {
        return Ok(connection);
    }
    let log = PathBuf::from(format!("{}-wal", path.display()));
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        let copy = "its log cannot be read without writing beside it: copy the folder to where you may write";
        return Err(Some(copy.to_owned()));
    }
    // Nobody writes it: there is no log.
    let name = format!("file:{}?immutable=1", escaped(path));
    usable(Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_URI))?.ok_or(None)
}

/// The connection, if something can be read with it.
fn usable(opened: rusqlite::Result<Connection>) -> Result<Option<Connection>, Option<String>> {
    let Ok(connection) = opened else { return Ok(None) };
    // Only a table makes SQLite look for the log.
    let read = connection.query_row("SELECT count(*) FROM lock", [], |row| row.get::<_, i64>(0));
    if read.is_err() {
        return Ok(None);
    }
    let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    match version {
        Ok(1..=SCHEMA_VERSION) => Ok(Some(connection)),
        Ok(other) => Err(Some(super::other_version(other))),
        Err(_) => Ok(None),
    }
}

/// As SQLite reads the path of a URI.
fn escaped(path: &Path) -> String {
    let mut escaped = String::new();
    for character in path.to_string_lossy().chars() {
        match character {
            '%' | '?' | '#' => escaped.push_str(&format!("%{:02X}", u32::from(character))),
            _ => escaped.push(character),
        }
    }
    escaped
}
