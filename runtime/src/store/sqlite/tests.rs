//! What the store has acknowledged is there, fenced and locked, also after it was closed.

use super::*;

fn locks(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|k| (*k).to_owned()).collect()
}

fn record(seq: u64) -> Record {
    let at = Timestamp::now();
    Record {
        seq,
        lane: "a".into(),
        n: seq,
        kind: Kind::Intent,
        body: "{}".repeat(200),
        at,
        chain: String::new(),
    }
}

#[tokio::test]
async fn commits_do_not_make_the_log_of_a_run_longer() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(dir.path()).expect("opened");
    let length = || dir.path().join("leapfrog.db-wal").metadata().expect("a log").len();
    assert!(length() < 100_000, "opening a store must not cost what a run costs");

    let run = RunId::generate();
    store.create(&run, "w", &[], &[]).await.expect("created");
    let grown = length();
    assert!(grown > u64::from(LOG_BYTES) * 9 / 10, "{grown} bytes");
    for seq in 1..=300 {
        store.append(&run, 1, vec![record(seq)]).await.expect("appended");
    }
    assert!(length() <= grown + 200_000, "{} bytes", length());
    // What was taken back to make room must not be seen.
    let found = store.journal(&run, 0, 1_000).await.expect("read");
    assert_eq!(found.len(), 300);
    let tables = store.read(|c| {
        c.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'room'", [], |row| row.get::<_, i64>(0))
    });
    assert_eq!(tables.await.expect("read"), 0);
}

#[tokio::test]
async fn a_run_that_is_refused_leaves_no_trace() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(dir.path()).expect("opened");
    let (dead, other, late) = (RunId("dead".into()), RunId("other".into()), RunId("late".into()));
    store.create(&dead, "w", &locks(&["a"]), &[]).await.expect("created");
    store.create(&other, "w", &locks(&["c"]), &[]).await.expect("created");

    let refused = store.create(&late, "w", &locks(&["a", "b", "c"]), std::slice::from_ref(&dead)).await;
    assert!(matches!(refused, Err(StoreError::Locked { what, run }) if what == "c" && run == other));
    assert_eq!(store.run(&late).await.expect("read"), None);
    let state = store.run(&dead).await.expect("read").map(|r| r.state);
    assert_eq!(state, Some(RunState::Running));
    let holders = store.holders(&locks(&["a", "b", "c"])).await.expect("read");
    assert_eq!(holders, [("a".to_owned(), dead.clone()), ("c".to_owned(), other)]);

    let taken = store.create(&late, "w", &locks(&["a", "b"]), std::slice::from_ref(&dead)).await;
    taken.expect("created");
    let holders = store.holders(&locks(&["a", "b"])).await.expect("read");
    assert_eq!(holders, [("a".to_owned(), late.clone()), ("b".to_owned(), late)]);
    let fenced = store.append(&dead, 1, vec![record(1)]).await;
    assert!(matches!(fenced, Err(StoreError::Fenced(run)) if run == dead));
    assert_eq!(store.journal(&dead, 0, 10).await.expect("read").len(), 0);
}

#[tokio::test]
async fn a_store_that_was_deleted_takes_nothing_more() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(dir.path()).expect("opened");
    let (one, two) = (RunId::generate(), RunId::generate());
    store.create(&one, "w", &[], &[]).await.expect("created");
    std::fs::remove_file(dir.path().join("leapfrog.db")).expect("removed");
    let refused = store.create(&two, "w", &[], &[]).await;
    assert!(matches!(refused, Err(StoreError::Unusable { .. })), "{refused:?}");
    // Another one in its place is not the same.
    let _other = SqliteStore::open(dir.path()).expect("opened");
    let refused = store.create(&two, "w", &[], &[]).await;
    assert!(matches!(refused, Err(StoreError::Unusable { .. })), "{refused:?}");
}
