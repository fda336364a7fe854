//! Servers and machines that cannot be reached, or are not what they were: the real providers.
//!
//! Before a login the program looks for the VMs, for which it needs a hypervisor. So the runs
//! with real logins go through the library, with a simulated hypervisor and SSH side by side.

use std::{fs, net::TcpListener, path::PathBuf, sync::Arc};

use leapfrog::{
    clock::Clock,
    engine::{Engine, Registry},
    imports::Person,
    inventory,
    providers::{World, sim::SimWorld, ssh::SshLogin},
    report::{Outcome, Report},
    run::{Request, check, execute},
    store::{Kind, MemoryStore, RunId, Store},
    ui::{ColorChoice, Form, Screen},
    workflow,
};

use crate::support::{
    program::plugins,
    repository,
    simulated::{Setup, Simulated},
    sshd::{Sshd, keygen},
};

/// The simulated pair, with `sip-1` behind SSH like this; `sip-2` has nothing to find fault with.
fn inventory_with(good: &Sshd, port: u16, key: PathBuf, known_hosts: PathBuf) -> String {
    let ssh = |port: u16, key: PathBuf, known_hosts: PathBuf| {
        format!(
            ", ssh: {{address: 127.0.0.1, port: {port}, user: root, key: \"{}\", known-hosts: \"{}\"}}}}",
            key.display(),
            known_hosts.display()
        )
    };
    let mut text = Setup::default().inventory();
    for (server, ssh) in [
        ("192.0.2.12:5060\"}", ssh(good.port, good.path("login"), good.ssh().known_hosts.unwrap())),
        ("192.0.2.11:5060\"}", ssh(port, key, known_hosts)),
    ] {
        assert!(text.contains(&format!("{server}}}")), "{text}");
        text = text.replace(&format!("{server}}}"), &format!("{server}{ssh}"));
    }
    text
}

/// Move the pair, with real logins and all else simulated.
async fn move_pair(inventory: &str) -> (Report, SimWorld, bool) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inventory.yaml");
    fs::write(&file, inventory).unwrap();
    let inventory = Arc::new(inventory::load(&[file]).unwrap_or_else(|found| panic!("{found}")));
    let clock = Clock::new(1.0);
    let sim = SimWorld::in_memory(&inventory, clock).unwrap();
    let world = World { login: Arc::new(SshLogin::from_inventory(&inventory)), ..sim.providers() };
    let workflow = workflow::load(&repository("workflows/pair-migration.yaml")).unwrap();
    let given = [("pair", "sip"), ("destination", "b")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let inputs = workflow::resolve_inputs(&workflow, &given, &inventory).unwrap();
    let registry = Registry::new(plugins().split(':').map(PathBuf::from).collect());
    let checked = check(&workflow, &inventory, &inputs, &registry).unwrap();
    let store = Arc::new(MemoryStore::default());
    let (_stop, cancel) = tokio::sync::watch::channel(false);
    let request = Request {
        workflow,
        inventory,
        inputs,
        checked,
        engine: Engine::new(None).unwrap(),
        world,
        store: store.clone(),
        owners: None,
        screen: Screen::to(Form::Plain, ColorChoice::Never, Box::new(std::io::sink())),
        person: Person::Absent,
        cancel,
        crash: None,
        plan: None,
        wait: None,
    };
    let report = execute(request).await.unwrap();
    let run = RunId::parse(&report.run).unwrap();
    let journal = store.journal(&run, 0, 10_000).await.unwrap();
    let has_intent = journal.iter().any(|record| record.kind == Kind::Intent);
    (report, sim, has_intent)
}

async fn refused(inventory: &str, says: &[&str]) {
    let (report, sim, has_intent) = move_pair(inventory).await;
    assert_eq!((report.outcome, report.outcome.exit_code()), (Outcome::Refused, Some(2)), "{report:#?}");
    let said =
        format!("{} {}", report.message.clone().unwrap_or_default(), report.hint.clone().unwrap_or_default());
    for part in says.iter().chain(&["sip-1"]) {
        assert!(said.contains(part), "{part:?} is not said: {said}");
    }
    assert!(!has_intent, "there is an intent in the journal");
    let counts = sim.counts().await.unwrap();
    assert_eq!((counts.migrations, counts.switchovers, counts.role_changes), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nobody_listens_for_is_refused_by_a_run_through_the_library() {
    let good = Sshd::start();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let inventory = inventory_with(&good, port, good.path("login"), good.ssh().known_hosts.unwrap());
    refused(&inventory, &["cannot be reached", "127.0.0.1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_by_a_run_through_the_library() {
    let (good, other) = (Sshd::start(), Sshd::start());
    keygen("ed25519", &other.path("stranger"), "");
    let inventory =
        inventory_with(&good, other.port, other.path("stranger"), other.ssh().known_hosts.unwrap());
    refused(&inventory, &["root"]).await;
    assert_eq!(other.logins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_the_server_does_not_want_is_refused_by_a_run_through_the_library() {
    let (good, other) = (Sshd::start(), Sshd::with(&["ed25519"], "AllowUsers nobody\n"));
    let inventory = inventory_with(&good, other.port, other.path("login"), other.ssh().known_hosts.unwrap());
    refused(&inventory, &["root"]).await;
    assert_eq!(other.logins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_key_is_refused_by_a_run_through_the_library() {
    let (good, other) = (Sshd::start(), Sshd::start());
    let inventory = inventory_with(&good, other.port, other.path("login"), other.path("absent"));
    refused(&inventory, &["not known", &other.fingerprint("ed25519"), "leapfrog trust sip-1"]).await;
    assert_eq!(other.logins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_host_key_is_refused_by_a_run_through_the_library() {
    let (good, mut other) = (Sshd::start(), Sshd::start());
    let old = other.fingerprint("ed25519");
    let known_hosts = other.ssh().known_hosts.unwrap();
    other.kill();
    other.set_host_keys(&["ed25519"], "");
    other.resume();
    let inventory = inventory_with(&good, other.port, other.path("login"), known_hosts);
    refused(&inventory, &["changed", "attack", &old, &other.fingerprint("ed25519"), "known_hosts:1"]).await;
    assert_eq!(other.logins(), 0);
}

#[test]
fn real_machines_that_do_not_answer_are_refused() {
    let machines = "machines:\n  a: {uri: \"qemu+tcp://127.0.0.1:1/system\", migrate-uri: \"tcp://127.0.0.1\"}\n  \
                    b: {uri: \"qemu+tcp://127.0.0.2:1/system\", migrate-uri: \"tcp://127.0.0.2\"}\nvms:\n  sip-1: {}\n";
    let sim = Simulated::with_inventory(machines);
    let workflow = repository("workflows/vm-migration.yaml");
    let args =
        ["run", workflow.to_str().unwrap(), "-I", "inventory.yaml", "-i", "vm=sip-1", "-i", "destination=b"];
    sim.verb(&args).exits(2).warns("cannot be reached");
    sim.verb(&["list"]).exits(0).says("no runs yet");
}
