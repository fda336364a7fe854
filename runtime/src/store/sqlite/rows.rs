//! Rows as they are read. What cannot be read is told as such and hides nothing else.

use jiff::Timestamp;
use rusqlite::{Row, types::ValueRef};

use crate::store::{Kind, Record, RunId, RunRow, RunState};

fn bad(column: usize, what: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, what.into())
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let text: String = row.get(column)?;
    text.parse().map_err(|e: jiff::Error| bad(column, e.to_string()))
}

pub(super) const RUN_COLUMNS: &str =
    "run_id, workflow, state, epoch, head, started, ended, message, parked, wake";

/// A row of `run`. One that cannot be read is damaged, and no reason to read no other one.
pub(super) fn run_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    Ok(whole_row(row).unwrap_or_else(|error| damaged(row, &error)))
}

fn whole_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let state: String = row.get(2)?;
    let maybe = |column: usize| -> rusqlite::Result<Option<Timestamp>> {
        let text: Option<String> = row.get(column)?;
        text.map(|_| time(row, column)).transpose()
    };
    Ok(RunRow {
        id: RunId(row.get(0)?),
        workflow: row.get(1)?,
        state: RunState::parse(&state).ok_or_else(|| bad(2, format!("`{state}` is no state")))?,
        epoch: row.get(3)?,
        head: row.get(4)?,
        started: time(row, 5)?,
        ended: maybe(6)?,
        message: row.get(7)?,
        parked: maybe(8)?,
        wake: maybe(9)?,
    })
}

/// What can be told of a row that cannot be read.
fn damaged(row: &Row<'_>, error: &rusqlite::Error) -> RunRow {
    let text = |column: usize| match row.get_ref(column) {
        Ok(ValueRef::Text(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    RunRow {
        id: RunId(text(0)),
        workflow: text(1),
        state: RunState::Damaged,
        epoch: 0,
        head: 0,
        started: time(row, 5).unwrap_or(Timestamp::UNIX_EPOCH),
        ended: None,
        message: Some(format!("its row in the store cannot be read: {}", unread(RUN_COLUMNS, error))),
        parked: None,
        wake: None,
    }
}

/// Which of the columns is not what it should be, and why.
pub(super) fn unread(columns: &str, error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::FromSqlConversionFailure(column, _, why) => {
            format!("{}: {why}", columns.split(", ").nth(*column).unwrap_or("?"))
        }
        other => other.to_string(),
    }
}

pub(super) const RECORD_COLUMNS: &str = "seq, lane, n, kind, body, at, chain";

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let kind: String = row.get(3)?;
    Ok(Record {
        seq: row.get(0)?,
        lane: row.get(1)?,
        n: row.get(2)?,
        kind: Kind::parse(&kind).ok_or_else(|| bad(3, format!("`{kind}` is no kind")))?,
        body: row.get(4)?,
        at: time(row, 5)?,
        chain: row.get(6)?,
    })
}
