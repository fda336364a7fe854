//! Where runs are kept, when that is not possible.

use super::*;

#[test]
fn a_store_that_cannot_be_made_is_refused() {
    let sim = Simulated::pair();
    std::fs::write(sim.store(), "a file where the folder should be").unwrap();
    sim.verb(&["list"]).exits(2).warns("leapfrog.db");
    sim.move_pair(&[]).exits(2).warns("leapfrog.db");
}

#[test]
fn a_store_that_may_not_be_written_is_refused_before_anything_is_touched() {
    // Root may write everywhere but where the kernel lets nobody.
    let sim = Simulated::pair();
    let workflow = repository("workflows/pair-migration.yaml");
    let mut command = leapfrog();
    command.args(["--store", "/proc/leapfrog", "run"]).arg(workflow).current_dir(sim.path(""));
    command.args(["-I", "inventory.yaml", "-i", "pair=sip", "-i", "destination=b"]);
    run(&mut command).exits(2).warns("/proc/leapfrog");
}

#[test]
fn a_store_that_is_no_database_is_refused_and_left_alone() {
    let sim = Simulated::pair();
    std::fs::create_dir_all(sim.store()).unwrap();
    let file = sim.store().join("leapfrog.db");
    let text = "this is somebody's shopping list and no database at all".repeat(40);
    std::fs::write(&file, &text).unwrap();
    for ran in [sim.verb(&["list"]), sim.verb(&["show"]), sim.move_pair(&[])] {
        ran.exits(2).warns("leapfrog.db").warns("not a database");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(sim.effects(), (0, 0));
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() {
    let sim = Simulated::pair();
    sim.move_pair(&[]).exits(0);
    let database = rusqlite::Connection::open(sim.store().join("leapfrog.db")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let before = sim.counts();
    for ran in [sim.verb(&["list"]), sim.verb(&["show"]), sim.move_pair(&["-i", "destination=a"])] {
        ran.exits(2).warns("made by another version (schema 99, here 3)");
    }
    assert_eq!(sim.counts(), before);
}
