//! Who has to reach whom, as far as it can be known without running a command on a machine.
//!
//! Three addresses lead to a destination: `uri` (from the runner, which we use and so know),
//! `peer-uri` (from the source's daemon) and `migrate-uri` (from the source's QEMU). libvirt has
//! no question for the last two, so what is judged here is what they say, and where `peer-uri`
//! leads when it is asked from the runner. Whether the source may log in there is first known
//! when the migration begins; it fails cleanly, and the VM stays.

use std::net::IpAddr;

use super::{
    connect::plain,
    preflight::refused,
    survey::{Destination, Source},
};
use crate::{
    inventory::Machine,
    providers::{MigrationRequest, Result},
};

/// What needs no machine at all.
pub(super) fn check_addresses(
    request: &MigrationRequest,
    source: &Machine,
    destination: &Machine,
) -> Result<()> {
    let name = &request.destination;
    if request.source == request.destination || source.uri == destination.uri {
        return Err(refused(
            format!("`{}` and `{name}` are the same machine", request.source),
            "name another destination",
        ));
    }
    let peer = peer_uri(destination);
    let memory = destination.migrate_uri.as_deref().unwrap_or_default();
    if [peer, memory].iter().any(|uri| uri.contains('\0')) {
        return Err(refused("an address with a zero byte in it", "correct it in the inventory"));
    }
    let own = destination.peer_uri.is_none() && means_oneself(host(peer));
    if host(peer).is_empty() || own {
        return Err(refused(
            format!("the source's hypervisor cannot reach machine `{name}` at `{peer}`"),
            format!("give machine `{name}` a `peer-uri` with its address as the source sees it"),
        ));
    }
    if address(host(memory)).is_some_and(|address| address.is_unspecified()) {
        return Err(refused(
            format!(
                "the `migrate-uri` of machine `{name}`, `{memory}`, is no address that memory can be sent to"
            ),
            "write the address at which the source reaches it, or leave it away",
        ));
    }
    Ok(())
}

pub(super) fn peer_uri(destination: &Machine) -> &str {
    destination.peer_uri.as_deref().unwrap_or(&destination.uri)
}

/// Whether the runner can ask where `peer-uri` leads, and would learn something by it.
pub(super) fn peer_to_ask(destination: &Machine) -> Option<&str> {
    let peer = destination.peer_uri.as_deref().filter(|peer| *peer != destination.uri)?;
    (!means_oneself(host(peer))).then_some(peer)
}

/// What is said about addresses that are valid but may not mean what was meant.
pub(super) fn notes(
    request: &MigrationRequest,
    machine: &Machine,
    source: &Source,
    destination: &Destination,
) -> Vec<String> {
    let name = &request.destination;
    let mut notes = Vec::new();
    for (key, uri) in [("peer-uri", &machine.peer_uri), ("migrate-uri", &machine.migrate_uri)] {
        if let Some(uri) = uri.as_ref().filter(|uri| means_oneself(host(uri))) {
            notes.push(format!(
                "`{key}` of `{name}` is `{uri}`: that is the source itself, unless a tunnel begins there"
            ));
        }
    }
    let hostname = destination.hostname.as_str();
    if machine.migrate_uri.is_none() {
        let advice = format!("without a `migration_host` in its qemu.conf, give `{name}` a `migrate-uri`");
        if means_oneself(hostname) {
            notes.push(format!(
                "`{name}` calls itself `{hostname}`, where the source cannot send memory to: {advice}"
            ));
        } else if !hostname.is_empty() && hostname == source.hostname {
            notes.push(format!(
                "both machines call themselves `{hostname}`, so the source may send the memory to \
                 itself: {advice}"
            ));
        }
    }
    notes
}

/// Where `peer-uri` leads, asked from the runner: the machine's UUID, `None` without an answer.
/// Gives a sentence when that proves nothing.
///
/// # Errors
/// `Refused` when another machine answers there.
pub(super) fn judge_peer(
    request: &MigrationRequest,
    peer: &str,
    answered: Option<&str>,
    source: Option<&str>,
    destination: Option<&str>,
) -> Result<Option<String>> {
    let name = &request.destination;
    let Some(answered) = answered else {
        return Ok(Some(format!(
            "`peer-uri` of `{name}` (`{peer}`) does not answer from here; whether it does from `{}` is not known",
            request.source
        )));
    };
    let wrong = |whose: String| {
        refused(
            format!("`peer-uri` of machine `{name}`, `{peer}`, leads to {whose}"),
            format!("write the address of `{name}` as the source sees it"),
        )
    };
    match (source, destination) {
        (Some(source), _) if source == answered => Err(wrong(format!("`{}` itself", request.source))),
        (_, Some(destination)) if destination != answered => {
            Err(wrong(format!("another machine (its uuid is {})", plain(answered))))
        }
        _ => Ok(None),
    }
}

/// The host of a URI, without brackets.
fn host(uri: &str) -> &str {
    let rest = uri.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}

fn means_oneself(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.starts_with("localhost.")
        || name.ends_with(".localhost")
        || address(host).is_some_and(|address| address.is_loopback())
}
