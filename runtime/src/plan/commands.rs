//! What a person would type: virsh for the machines, ssh for the servers. Pure.
//!
//! Every line is for a POSIX shell, each argument quoted where it has to be.

use crate::{
    inventory::{Inventory, Machine, MigrationTls, Ssh},
    model::{MachineName, ServerName, VmName},
    providers::Command,
};

use super::PlannedMove;

/// Input that is longer or not plain text is named, not shown.
const SHOWN_INPUT: usize = 400;

/// An argument as a POSIX shell has to read it: bare where that is safe.
pub fn quote(argument: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !argument.is_empty() && argument.chars().all(bare) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

fn line<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> String {
    args.into_iter().map(|arg| quote(arg.as_ref())).collect::<Vec<_>>().join(" ")
}

/// A domain's name, as virsh takes it.
fn domain<'a>(inventory: &'a Inventory, vm: &'a VmName) -> &'a str {
    inventory.vms.get(vm).map(|vm| vm.domain.as_str()).filter(|name| !name.is_empty()).unwrap_or(vm.as_str())
}

fn uri<'a>(inventory: &'a Inventory, machine: &'a MachineName) -> &'a str {
    inventory.machines.get(machine).map_or(machine.as_str(), |m| m.uri.as_str())
}

/// Ask a machine for the state of a VM.
pub fn look(inventory: &Inventory, machine: &MachineName, vm: &VmName) -> String {
    line(["virsh", "-c", uri(inventory, machine), "domstate", domain(inventory, vm), "--reason"])
}

/// Ask a machine how far a copy is.
pub fn progress(inventory: &Inventory, machine: &MachineName, vm: &VmName) -> String {
    line(["virsh", "-c", uri(inventory, machine), "domjobinfo", domain(inventory, vm)])
}

/// Stop a copy; the VM goes on at its source.
pub fn abort(inventory: &Inventory, machine: &MachineName, vm: &VmName) -> String {
    line(["virsh", "-c", uri(inventory, machine), "domjobabort", domain(inventory, vm)])
}

/// The commands of a live migration, in their order.
pub fn migrate(inventory: &Inventory, planned: &PlannedMove) -> Vec<String> {
    let request = &planned.request;
    let (from, name) = (uri(inventory, &request.source), domain(inventory, &request.vm));
    let mut commands = Vec::new();
    if let Some(pause) = request.options.max_pause {
        let ms = pause.as_millis().max(1).to_string();
        commands.push(line(["virsh", "-c", from, "migrate-setmaxdowntime", name, &ms]));
    }
    let mut args: Vec<String> = ["virsh", "-c", from, "migrate", "--live", "--p2p", "--persistent"]
        .into_iter()
        .chain(["--undefinesource", "--abort-on-error", "--verbose"])
        .map(str::to_owned)
        .collect();
    if request.options.auto_converge {
        args.push("--auto-converge".into());
    }
    if planned.found.storage > 0 {
        args.push("--copy-storage-all".into());
    }
    let machine = inventory.machines.get(&request.destination);
    if machine.is_some_and(|m| m.migration_tls == MigrationTls::Required) {
        args.push("--tls".into());
    }
    if let Some(bytes) = request.options.bandwidth {
        // MiB/s, as libvirt counts it.
        args.extend(["--bandwidth".into(), bytes.div_ceil(1 << 20).max(1).to_string()]);
    }
    if !planned.found.definition_diff.is_empty() {
        let file = format!("{name}.xml");
        args.extend(["--xml".into(), file.clone(), "--persistent-xml".into(), file]);
    }
    if let Some(uri) = machine.and_then(|m| m.migrate_uri.clone()) {
        args.extend(["--migrateuri".into(), uri]);
    }
    let peer = |m: &Machine| m.peer_uri.clone().unwrap_or_else(|| m.uri.clone());
    args.extend([name.to_owned(), machine.map_or(request.destination.to_string(), peer)]);
    commands.push(line(args));
    commands
}

/// A command on a server, with its input in front where there is some.
pub fn on_server(inventory: &Inventory, server: &ServerName, command: &Command) -> String {
    let ssh = inventory.servers.get(server).map(|s| s.ssh.clone()).unwrap_or_default();
    let login = login(&ssh, server, &command.args);
    if command.stdin.is_empty() {
        return login;
    }
    match std::str::from_utf8(&command.stdin) {
        Ok(text) if text.len() <= SHOWN_INPUT && !text.chars().any(|c| c.is_control() && c != '\n') => {
            match text.strip_suffix('\n') {
                Some(lines) => {
                    format!("printf '%s\\n' {} | {login}", line(lines.split('\n')))
                }
                None => format!("printf %s {} | {login}", quote(text)),
            }
        }
        _ => format!("{login} < FILE   # FILE: {} bytes of input", command.stdin.len()),
    }
}

fn login(ssh: &Ssh, server: &ServerName, args: &[String]) -> String {
    let mut words = vec!["ssh".to_owned()];
    let jumps: Vec<String> =
        ssh.jump.iter().map(|hop| address(&hop.user, &hop.address, hop.port, true)).collect();
    if !jumps.is_empty() {
        words.extend(["-J".into(), jumps.join(",")]);
    }
    if !matches!(ssh.port, 0 | 22) {
        words.extend(["-p".into(), ssh.port.to_string()]);
    }
    if let Some(key) = &ssh.key {
        words.extend(["-i".into(), key.display().to_string()]);
    }
    if let Some(file) = &ssh.known_hosts {
        words.extend(["-o".into(), format!("UserKnownHostsFile={}", file.display())]);
    }
    // In a simulator servers have no address.
    let to = if ssh.address.is_empty() { server.as_str() } else { &ssh.address };
    words.push(address(&ssh.user, to, 22, false));
    let mut remote: Vec<&str> = if ssh.become_root { vec!["sudo", "-n", "--"] } else { Vec::new() };
    remote.extend(args.iter().map(String::as_str));
    // Quoted twice: once for the shell here, once for the one there.
    let remote = line(remote);
    words.push(remote);
    line(words)
}

fn address(user: &str, address: &str, port: u16, with_port: bool) -> String {
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    match (with_port, port) {
        (true, port) if !matches!(port, 0 | 22) && address.contains(':') => {
            format!("{user}[{address}]:{port}")
        }
        (true, port) if !matches!(port, 0 | 22) => format!("{user}{address}:{port}"),
        _ => format!("{user}{address}"),
    }
}

#[cfg(test)]
#[path = "commands_tests.rs"]
mod tests;
