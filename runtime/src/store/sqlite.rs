//! Runs in one SQLite file.
//!
//! One thread owns the writing connection and commits what many runs append in one
//! transaction (group commit), with `synchronous=FULL`: an acknowledged append is on the disk.
//! SQLite's write-ahead log is grown ahead when a run begins, because a commit that makes a file
//! longer costs the disk twice as much as one into blocks that are there.
//! Readers use a connection of their own on blocking threads. Operators can open the file with
//! the `sqlite3` shell while it is in use.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::{mpsc, oneshot};

use super::{Kind, Record, Rest, Result, RunId, RunRow, RunState, Store, StoreError};

/// Appends that wait for the writer; a sender waits when it is full.
const QUEUE: usize = 256;
/// Appends that share one transaction at the most.
const GROUP: usize = 128;
const SCHEMA_VERSION: i64 = 2;
/// Pages (of 4 KiB) of the write-ahead log. When so many are in use they are copied into the
/// database, and the log is written from its beginning again.
const LOG_PAGES: u32 = 512;
const LOG_BYTES: u32 = LOG_PAGES * 4096;

const SCHEMA: &str = "
CREATE TABLE run (
    run_id   TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    state    TEXT NOT NULL,
    epoch    INTEGER NOT NULL,
    head     INTEGER NOT NULL,
    started  TEXT NOT NULL,
    ended    TEXT,
    message  TEXT,
    parked   TEXT,
    wake     TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE journal (
    run_id TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    epoch  INTEGER NOT NULL,
    lane   TEXT NOT NULL,
    n      INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    body   TEXT NOT NULL,
    at     TEXT NOT NULL,
    chain  TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE lock (
    key    TEXT PRIMARY KEY,
    run_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// What a store of version 1 lacks.
const TO_VERSION_2: &str = "ALTER TABLE run ADD COLUMN parked TEXT; ALTER TABLE run ADD COLUMN wake TEXT;";

/// How a runner leaves a run.
enum Leaves {
    Over(RunState, String),
    Resting(Rest),
}

/// One request to the writer.
enum Write {
    Create { id: RunId, workflow: String, locks: Vec<String>, take_over: Vec<RunId> },
    Append { id: RunId, epoch: u64, records: Vec<Record>, end: Option<Leaves> },
    Reopen { id: RunId, epoch: u64 },
}

type Job = (Write, oneshot::Sender<Result<()>>);

pub struct SqliteStore {
    path: PathBuf,
    writer: mpsc::Sender<Job>,
    reader: Arc<Mutex<Connection>>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Open the store in `dir`, making both if they are missing. Blocks; call it before there
    /// is anything to keep waiting.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("leapfrog.db");
        let unusable = |reason: &dyn std::fmt::Display| StoreError::Unusable {
            place: path.display().to_string(),
            reason: reason.to_string(),
        };
        std::fs::create_dir_all(dir).map_err(|e| unusable(&e))?;
        let mut writing = connect(&path).map_err(|e| unusable(&e))?;
        prepare(&mut writing).map_err(|e| unusable(&e))?;
        let reading = connect(&path).map_err(|e| unusable(&e))?;
        let file = OpenFile::new(&path).map_err(|e| unusable(&e))?;
        let (writer, jobs) = mpsc::channel(QUEUE);
        let log = dir.join("leapfrog.db-wal");
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_all(writing, &log, &file, jobs))
            .map_err(|e| unusable(&e))?;
        Ok(Self { path, writer, reader: Arc::new(Mutex::new(reading)) })
    }

    async fn write(&self, write: Write) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.writer.send((write, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let reader = self.reader.clone();
        let result =
            tokio::task::spawn_blocking(move || f(&reader.lock().unwrap_or_else(|e| e.into_inner())))
                .await
                .map_err(|_| StoreError::Closed)?;
        result.map_err(|e| StoreError::Unusable {
            place: self.path.display().to_string(),
            reason: e.to_string(),
        })
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    Ok(connection)
}

/// Give the log the length that it will need, with a transaction that is taken back: what its
/// small cache cannot hold goes into the log, and the commits after it overwrite that.
fn grow_log(connection: &mut Connection) -> rusqlite::Result<()> {
    let cache: i64 = connection.pragma_query_value(None, "cache_size", |row| row.get(0))?;
    connection.pragma_update(None, "cache_size", 8)?;
    let grown = fill_and_take_back(connection);
    connection.pragma_update(None, "cache_size", cache)?;
    grown
}

fn fill_and_take_back(connection: &mut Connection) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    tx.execute_batch("CREATE TABLE room (bytes BLOB)")?;
    tx.execute("INSERT INTO room VALUES (zeroblob(?1))", [LOG_BYTES])?;
    tx.rollback()
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => {
            tx.execute_batch(SCHEMA)?;
            tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        SCHEMA_VERSION => {}
        1 => {
            tx.execute_batch(TO_VERSION_2)?;
            tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        other => {
            return Err(rusqlite::Error::ToSqlConversionFailure(
                format!("it was made by another version (schema {other}, here {SCHEMA_VERSION})").into(),
            ));
        }
    }
    tx.commit()
}

/// The database's file as it was opened: SQLite itself goes on writing into one that was deleted.
struct OpenFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl OpenFile {
    fn new(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }

    fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|now| now == self.identity)
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// The writer: takes what is waiting, commits it together, answers.
fn write_all(mut connection: Connection, log: &Path, file: &OpenFile, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    while let Some(job) = jobs.blocking_recv() {
        group.push(job);
        while group.len() < GROUP {
            match jobs.try_recv() {
                Ok(job) => group.push(job),
                Err(_) => break,
            }
        }
        let begins = group.iter().any(|(write, _)| matches!(write, Write::Create { .. }));
        let short = |log: std::fs::Metadata| log.len() < u64::from(LOG_BYTES) / 2;
        if begins && log.metadata().is_ok_and(short) {
            // Only speed is lost without it.
            if let Err(error) = grow_log(&mut connection) {
                tracing::debug!(%error, "the store's log was not grown ahead");
            }
        }
        let outcome = match file.is_there() {
            true => write_group(&mut connection, &group).map_err(|e| e.to_string()),
            false => Err("its file was deleted or replaced meanwhile".to_owned()),
        };
        match outcome {
            Ok(results) => {
                for ((_, reply), result) in group.drain(..).zip(results) {
                    let _ = reply.send(result);
                }
            }
            // The transaction did not commit: nothing of the group was written.
            Err(reason) => {
                for (_, reply) in group.drain(..) {
                    let _ = reply.send(Err(StoreError::Unusable {
                        place: file.path.display().to_string(),
                        reason: reason.clone(),
                    }));
                }
            }
        }
    }
}

/// One transaction for the group. A refused request has written nothing by then: each looks
/// before it writes.
fn write_group(connection: &mut Connection, group: &[Job]) -> rusqlite::Result<Vec<Result<()>>> {
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let results = group
        .iter()
        .map(|(write, _)| match write {
            Write::Create { id, workflow, locks, take_over } => create(&tx, id, workflow, locks, take_over),
            Write::Append { id, epoch, records, end } => append(&tx, id, *epoch, records, end.as_ref()),
            Write::Reopen { id, epoch } => reopen(&tx, id, *epoch),
        })
        .collect::<rusqlite::Result<_>>()?;
    tx.commit()?;
    Ok(results)
}

fn create(
    tx: &Connection,
    id: &RunId,
    workflow: &str,
    locks: &[String],
    take_over: &[RunId],
) -> rusqlite::Result<Result<()>> {
    for key in locks {
        let holder: Option<String> = tx
            .prepare_cached("SELECT run_id FROM lock WHERE key = ?1")?
            .query_row([key], |row| row.get(0))
            .optional()?;
        if let Some(run) = holder.map(RunId).filter(|run| !take_over.contains(run)) {
            return Ok(Err(StoreError::Locked { what: key.clone(), run }));
        }
    }
    let now = Timestamp::now().to_string();
    for old in take_over {
        tx.execute(
            "UPDATE run SET state = ?2, epoch = epoch + 1, ended = ?3,
                 message = 'its runner died; run ' || ?4 || ' has taken over'
             WHERE run_id = ?1 AND state = 'running'",
            params![old.as_str(), RunState::Interrupted.as_str(), now, id.as_str()],
        )?;
        tx.execute("DELETE FROM lock WHERE run_id = ?1", [old.as_str()])?;
    }
    for key in locks {
        tx.execute("INSERT OR IGNORE INTO lock (key, run_id) VALUES (?1, ?2)", [key, id.as_str()])?;
    }
    tx.execute(
        "INSERT INTO run (run_id, workflow, state, epoch, head, started) VALUES (?1, ?2, ?3, 1, 0, ?4)",
        params![id.as_str(), workflow, RunState::Running.as_str(), now],
    )?;
    Ok(Ok(()))
}

fn append(
    tx: &Connection,
    id: &RunId,
    epoch: u64,
    records: &[Record],
    end: Option<&Leaves>,
) -> rusqlite::Result<Result<()>> {
    let first = records.first().map(|r| r.seq);
    let expected_head = first.map(|seq| seq.saturating_sub(1));
    let updated = tx
        .prepare_cached(
            "UPDATE run SET head = head + ?4
             WHERE run_id = ?1 AND epoch = ?2 AND state = 'running' AND (?3 IS NULL OR head = ?3)",
        )?
        .execute(params![id.as_str(), epoch, expected_head, records.len() as u64])?;
    if updated != 1 {
        return Ok(Err(StoreError::Fenced(id.clone())));
    }
    let mut insert = tx.prepare_cached(
        "INSERT INTO journal (run_id, seq, epoch, lane, n, kind, body, at, chain)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for r in records {
        insert.execute(params![
            id.as_str(),
            r.seq,
            epoch,
            r.lane,
            r.n,
            r.kind.as_str(),
            r.body,
            r.at.to_string(),
            r.chain
        ])?;
    }
    let now = || Timestamp::now().to_string();
    match end {
        None => {}
        Some(Leaves::Resting(Rest { state, message, wake })) => {
            let wake = wake.map(|wake| wake.to_string());
            tx.execute(
                "UPDATE run SET state = ?2, message = ?3, parked = ?4, wake = ?5 WHERE run_id = ?1",
                params![id.as_str(), state.as_str(), message, now(), wake],
            )?;
        }
        Some(Leaves::Over(state, message)) => {
            tx.execute(
                "UPDATE run SET state = ?2, ended = ?3, message = ?4 WHERE run_id = ?1",
                params![id.as_str(), state.as_str(), now(), message],
            )?;
            tx.execute("DELETE FROM lock WHERE run_id = ?1", [id.as_str()])?;
        }
    }
    Ok(Ok(()))
}

fn reopen(tx: &Connection, id: &RunId, epoch: u64) -> rusqlite::Result<Result<()>> {
    let updated = tx.execute(
        "UPDATE run SET epoch = epoch + 1, state = 'running', message = NULL, parked = NULL, wake = NULL
         WHERE run_id = ?1 AND epoch = ?2 AND state IN ('running', 'waiting', 'paused')",
        params![id.as_str(), epoch],
    )?;
    Ok(if updated == 1 { Ok(()) } else { Err(StoreError::Fenced(id.clone())) })
}

fn bad(column: usize, what: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, what.into())
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let text: String = row.get(column)?;
    text.parse().map_err(|e: jiff::Error| bad(column, e.to_string()))
}

const RUN_COLUMNS: &str = "run_id, workflow, state, epoch, head, started, ended, message, parked, wake";

fn run_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let state: String = row.get(2)?;
    let maybe = |column: usize| -> rusqlite::Result<Option<Timestamp>> {
        let text: Option<String> = row.get(column)?;
        text.map(|_| time(row, column)).transpose()
    };
    Ok(RunRow {
        id: RunId(row.get(0)?),
        workflow: row.get(1)?,
        state: RunState::parse(&state).ok_or_else(|| bad(2, format!("state `{state}`")))?,
        epoch: row.get(3)?,
        head: row.get(4)?,
        started: time(row, 5)?,
        ended: maybe(6)?,
        message: row.get(7)?,
        parked: maybe(8)?,
        wake: maybe(9)?,
    })
}

#[async_trait]
impl Store for SqliteStore {
    async fn create(&self, id: &RunId, workflow: &str, locks: &[String], take_over: &[RunId]) -> Result<()> {
        self.write(Write::Create {
            id: id.clone(),
            workflow: workflow.to_owned(),
            locks: locks.to_vec(),
            take_over: take_over.to_vec(),
        })
        .await
    }

    async fn append(&self, id: &RunId, epoch: u64, records: Vec<Record>) -> Result<()> {
        self.write(Write::Append { id: id.clone(), epoch, records, end: None }).await
    }

    async fn finish(
        &self,
        id: &RunId,
        epoch: u64,
        records: Vec<Record>,
        state: RunState,
        message: &str,
    ) -> Result<()> {
        let end = Some(Leaves::Over(state, message.to_owned()));
        self.write(Write::Append { id: id.clone(), epoch, records, end }).await
    }

    async fn park(&self, id: &RunId, epoch: u64, records: Vec<Record>, rest: &Rest) -> Result<()> {
        let end = Some(Leaves::Resting(rest.clone()));
        self.write(Write::Append { id: id.clone(), epoch, records, end }).await
    }

    async fn reopen(&self, id: &RunId, epoch: u64) -> Result<u64> {
        self.write(Write::Reopen { id: id.clone(), epoch }).await?;
        Ok(epoch + 1)
    }

    async fn runs(&self, limit: u32) -> Result<Vec<RunRow>> {
        self.read(move |c| {
            c.prepare(&format!("SELECT {RUN_COLUMNS} FROM run ORDER BY run_id DESC LIMIT ?1"))?
                .query_map([limit], run_row)?
                .collect()
        })
        .await
    }

    async fn run(&self, id: &RunId) -> Result<Option<RunRow>> {
        let id = id.clone();
        self.read(move |c| {
            c.prepare(&format!("SELECT {RUN_COLUMNS} FROM run WHERE run_id = ?1"))?
                .query_row([id.as_str()], run_row)
                .optional()
        })
        .await
    }

    async fn journal(&self, id: &RunId, after: u64, limit: u32) -> Result<Vec<Record>> {
        let id = id.clone();
        self.read(move |c| {
            c.prepare(
                "SELECT seq, lane, n, kind, body, at, chain FROM journal
                 WHERE run_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
            )?
            .query_map(params![id.as_str(), after, limit], |row| {
                let kind: String = row.get(3)?;
                Ok(Record {
                    seq: row.get(0)?,
                    lane: row.get(1)?,
                    n: row.get(2)?,
                    kind: Kind::parse(&kind).ok_or_else(|| bad(3, format!("kind `{kind}`")))?,
                    body: row.get(4)?,
                    at: time(row, 5)?,
                    chain: row.get(6)?,
                })
            })?
            .collect()
        })
        .await
    }

    async fn locks(&self) -> Result<Vec<(String, RunId)>> {
        self.read(|c| {
            c.prepare("SELECT key, run_id FROM lock ORDER BY run_id, key")?
                .query_map([], |row| Ok((row.get(0)?, RunId(row.get(1)?))))?
                .collect()
        })
        .await
    }

    async fn holders(&self, locks: &[String]) -> Result<Vec<(String, RunId)>> {
        let locks = locks.to_vec();
        self.read(move |c| {
            let mut statement = c.prepare("SELECT run_id FROM lock WHERE key = ?1")?;
            let mut found = Vec::new();
            for key in locks {
                if let Some(run) = statement.query_row([&key], |row| row.get(0)).optional()? {
                    found.push((key, RunId(run)));
                }
            }
            Ok(found)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
