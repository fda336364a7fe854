//! What a person types has to do what we would do: real shells read it.

use std::{path::PathBuf, process::Command as Process, time::Duration};

use super::*;
use crate::{
    inventory::{self, Jump},
    providers::{MigrateOptions, MigrationRequest, Preflight},
};

fn example() -> Inventory {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/libvirt/inventory.yaml");
    inventory::load(&[file]).expect("the example loads")
}

fn command(args: &[&str], stdin: &str) -> Command {
    Command {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        stdin: stdin.as_bytes().to_vec(),
        timeout: Duration::from_secs(1),
        output_limit: 1,
    }
}

/// What a program at the far end gets: the line is read by a shell here, where `ssh` is a function
/// that does as sshd does, and by a shell there.
fn arrives(line: &str) -> Vec<String> {
    let script = format!(
        "ssh() {{ for last; do :; done; sh -c \"sudo() {{ shift 2; \\\"\\$@\\\"; }}; show() {{ printf '%s\\\\0' \\\"\\$@\\\"; }}; $last\"; }}\n{line}"
    );
    let output = Process::new("sh").args(["-c", &script]).output().expect("there is a shell");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn arguments_arrive_at_a_server_as_they_were_given() {
    let nasty = ["a b", "it's", "$(reboot)", "`reboot`", "\\", "\"", "*", "~", "", "ü;|&", "line\nbreak"];
    for become_root in [false, true] {
        let ssh = Ssh { address: "192.0.2.1".into(), become_root, ..Ssh::default() };
        let args: Vec<String> = ["show"].into_iter().chain(nasty).map(str::to_owned).collect();
        let line = login(&ssh, &"sip-1".into(), &args);
        assert_eq!(arrives(&line), nasty, "{line}");
    }
}

#[test]
fn a_login_says_all_that_the_inventory_says() {
    let mut inventory = example();
    let server = ServerName::from("sip-1");
    let ssh = &mut inventory.servers.get_mut(&server).expect("it is there").ssh;
    ssh.port = 2222;
    ssh.key = Some("/k/id".into());
    ssh.become_root = true;
    ssh.user = "operator".into();
    ssh.address = "10.1.0.11".into();
    ssh.known_hosts = None;
    ssh.jump = vec![
        Jump { address: "10.0.0.1".into(), port: 22, user: "jump".into(), key: None },
        Jump { address: "10.0.0.2".into(), port: 2200, user: "root".into(), key: None },
    ];
    let line = on_server(&inventory, &server, &command(&["tee", "/etc/keepalived/switch"], "20\n"));
    assert_eq!(
        line,
        "printf '%s\\n' 20 | ssh -J jump@10.0.0.1,root@10.0.0.2:2200 -p 2222 -i /k/id operator@10.1.0.11 \
         'sudo -n -- tee /etc/keepalived/switch'"
    );
}

#[test]
fn input_that_is_no_plain_text_is_not_shown() {
    let line = on_server(&example(), &"sip-1".into(), &command(&["tee", "/x"], "\u{1b}[2Jsecret"));
    assert!(!line.contains("secret") && line.contains("10 bytes"), "{line}");
}

fn planned(inventory: &Inventory, storage: u64, definition_diff: &str) -> PlannedMove {
    let machines: Vec<_> = inventory.machines.keys().cloned().collect();
    PlannedMove {
        request: MigrationRequest {
            vm: "sip-1".into(),
            uuid: "u".into(),
            source: machines[0].clone(),
            destination: machines[1].clone(),
            options: MigrateOptions {
                max_pause: Some(Duration::from_millis(400)),
                bandwidth: Some((100 << 20) + 1),
                ..MigrateOptions::default()
            },
        },
        found: Preflight {
            memory: 1 << 30,
            storage,
            definition_diff: definition_diff.into(),
            ..Preflight::default()
        },
        bandwidth: Some((100 << 20) + 1),
    }
}

#[test]
fn a_migration_is_what_the_provider_asks_libvirt_for() {
    let mut inventory = example();
    let move_of = planned(&inventory, 0, "");
    let (from, to) = (move_of.request.source.clone(), move_of.request.destination.clone());
    inventory.machines.get_mut(&from).expect("there").uri = "qemu+ssh://root@a/system".into();
    let machine = inventory.machines.get_mut(&to).expect("there");
    machine.peer_uri = Some("qemu+tls://b/system".into());
    machine.migrate_uri = Some("tcp://10.9.0.2".into());
    machine.migration_tls = MigrationTls::Off;
    inventory.vms.get_mut("sip-1").expect("there").domain = "sip 1".into();
    let [pause, copy] = migrate(&inventory, &move_of).try_into().expect("two commands");
    assert_eq!(pause, "virsh -c qemu+ssh://root@a/system migrate-setmaxdowntime 'sip 1' 400");
    assert_eq!(
        copy,
        "virsh -c qemu+ssh://root@a/system migrate --live --p2p --persistent --undefinesource \
         --abort-on-error --verbose --bandwidth 101 --migrateuri tcp://10.9.0.2 'sip 1' qemu+tls://b/system"
    );
    inventory.machines.get_mut(&to).expect("there").migration_tls = MigrationTls::Required;
    let copy = migrate(&inventory, &planned(&inventory, 5, "-a\n+b")).pop().expect("a command");
    for part in [" --copy-storage-all ", " --tls ", " --xml 'sip 1.xml' --persistent-xml 'sip 1.xml' "] {
        assert!(copy.contains(part), "{part:?} is missing: {copy}");
    }
}
