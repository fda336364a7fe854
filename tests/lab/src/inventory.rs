//! The inventory and the command line with which the real runner is called.

use std::{fs, path::Path};

use anyhow::Result;

use crate::{
    Place,
    guests::{GUESTS, KEEPALIVED_PID, KEEPALIVED_STATE, TRACK_FILE},
    lab::Lab,
    machines::{self, Machine, Uri},
    network::VIP,
    traffic::PROBE_INTERVAL_MS,
};

/// The longest pause that a copy of this lab's busy guests needs over its link.
pub const MAX_PAUSE_MS: u64 = 12_000;

/// Writes it to `path`, as seen from where the runner runs.
pub fn write(lab: &Lab, path: &Path) -> Result<()> {
    fs::write(path, text(lab))?;
    Ok(())
}

fn machine(lab: &Lab, machine: &Machine, here: Place) -> String {
    // A runner on the machine itself speaks to its own libvirt.
    let uri =
        if lab.options.from == here { "qemu:///system".to_owned() } else { machine.uri(lab.options.uri) };
    format!(
        "  {}:\n    uri: {uri}\n    peer-uri: {}\n    migrate-uri: {}\n    migration-tls: off\n",
        machine.name,
        machine.uri(lab.options.uri),
        machine.migrate_uri()
    )
}

fn text(lab: &Lab) -> String {
    let mut text = String::from("# Written by the lab.\nmachines:\n");
    text.push_str(&machine(lab, &lab.source, Place::Source));
    text.push_str(&machine(lab, &lab.destination, Place::Destination));
    text.push_str("vms:\n");
    for guest in &GUESTS {
        text.push_str(&format!(
            "  {}:\n    domain: {}\n    max-pause: {MAX_PAUSE_MS}ms\n",
            guest.name, guest.name
        ));
    }
    text.push_str("servers:\n");
    let key = lab.image.keys.private("login");
    let known_hosts = machines::known_hosts(&lab.folder);
    for guest in &GUESTS {
        text.push_str(&format!(
            "  {name}:
    vm: {name}
    ssh:
      address: {address}
      port: 22
      user: root
      key: {key}
      known-hosts: {known_hosts}
    service:
      sip: \"{address}:5060\"
",
            name = guest.name,
            address = guest.address,
            key = key.display(),
            known_hosts = known_hosts.display(),
        ));
    }
    text.push_str(&format!(
        "pairs:
  sip:
    members: [sip-1, sip-2]
    driver:
      uses: keepalived
      with:
        instance: VI_SIP
        pid-file: {KEEPALIVED_PID}
        state-file: {KEEPALIVED_STATE}
        track-file: {TRACK_FILE}
        json-signal: 36
    probe:
      service:
        sip: \"{VIP}:5060\"
      interval: {PROBE_INTERVAL_MS}ms
      gap-budget: 200ms
"
    ));
    text
}

/// What follows the runner's name.
pub fn arguments(lab: &Lab, inventory: &Path, store: &Path, html: &Path) -> Vec<String> {
    // A runner on one of the machines begins in another folder.
    let shown = |path: &Path| {
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
    };
    let mut words: Vec<String> = vec!["run".into(), shown(&lab.options.workflow)];
    words.extend(["--inventory".into(), shown(inventory), "--store".into(), shown(store)]);
    words.extend(["-i".into(), "pair=sip".into()]);
    words.extend(["-i".into(), format!("destination={}", lab.destination.name)]);
    if lab.options.switch_back {
        words.extend(["-i".into(), "switch-back=true".into()]);
    }
    words.extend(["--json".into(), "--html".into(), shown(html)]);
    words
}

/// How a person does by hand what the arms do, for `--keep`.
pub fn by_hand(lab: &Lab) -> String {
    let third = lab.network.name(crate::network::Space::Third);
    let key = lab.image.keys.private("login");
    let known = machines::known_hosts(&lab.folder);
    let login = format!(
        "ip netns exec {third} ssh -F none -i {} -o UserKnownHostsFile={} root@",
        key.display(),
        known.display()
    );
    let virsh = format!("ip netns exec {third} virsh -c {}", lab.source.uri(Uri::Tcp));
    let mut text = String::from("lab: it is up; Ctrl-C removes it\n");
    for address in ["10.77.0.101", "10.77.0.102", lab.source.address, lab.destination.address] {
        text.push_str(&format!("  log in:   {login}{address}\n"));
    }
    text.push_str(&format!(
        "  migrate:  {virsh} migrate --live --persistent --undefinesource sip-2 {} --migrateuri {}\n",
        lab.destination.uri(Uri::Tcp),
        lab.destination.migrate_uri()
    ));
    text
}
