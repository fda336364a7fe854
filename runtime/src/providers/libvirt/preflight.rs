#![doc = include_str!("PREFLIGHT.md")]
//!
//! This module judges: pure, the answers of both machines in, a plan or a refusal out. `blockers`
//! and `owners` judge the definition alone, `fits` the destination, `reach` the addresses,
//! `storage` the disks.

use super::{
    arriving,
    connect::plain,
    domain_xml::{self, Cpu, Definition, Immovable, Link},
    fits,
    jobs::Snapshot,
    reach,
    storage::{self, NewVolume, Placement},
    survey::{Destination, Leftover, NetworkSeen, Source, Wanted},
};
use crate::{
    inventory::Machine,
    model::VmState,
    providers::{MigrationRequest, Preflight, Presence, ProviderError, Result},
};

/// A migration that nothing speaks against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub preflight: Preflight,
    /// The definition with the declared changes; `None` when there are none.
    pub destination_xml: Option<String>,
    /// The persistent definition with the declared changes; `None` for a transient VM.
    pub persistent_xml: Option<String>,
    pub autostart: bool,
    /// Made at the destination before the copy.
    pub volumes: Vec<NewVolume>,
    /// Disks that nobody writes: the destination has to have a file of the same size.
    pub read_only: Vec<ReadOnly>,
    /// By which libvirt tells the two machines apart.
    pub source_uuid: Option<String>,
    pub destination_uuid: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadOnly {
    pub element: String,
    pub pool: Option<String>,
    pub volume: String,
}

pub(super) fn refused(reason: impl Into<String>, hint: impl Into<String>) -> ProviderError {
    // Names of devices and networks are another machine's text.
    ProviderError::Refused { reason: plain(&reason.into()), hint: Some(hint.into()) }
}

fn immovable(immovable: &Immovable) -> ProviderError {
    refused(format!("{} cannot be moved", immovable.element), immovable.remedy.clone())
}

/// All at once, so that nobody mends one to meet the next; in full only the first ones.
fn all_immovable(found: &[Immovable]) -> Option<ProviderError> {
    const SHOWN: usize = 4;
    let (first, rest) = (found.first()?, found.len().saturating_sub(SHOWN));
    if found.len() == 1 {
        return Some(immovable(first));
    }
    let shown = &found[..found.len().min(SHOWN)];
    let mut elements: Vec<_> = shown.iter().map(|found| found.element.clone()).collect();
    if rest > 0 {
        elements.push(format!("{rest} more"));
    }
    let mut remedies: Vec<String> = Vec::new();
    for Immovable { element, remedy } in shown {
        remedies.push(format!("{}: {remedy}", plain(element)));
    }
    Some(refused(format!("{} cannot be moved", elements.join(", ")), remedies.join("; ")))
}

/// What the source alone can rule out, and what to ask the destination (`machine`) for.
pub(super) fn judge_source(source: &Source, machine: &Machine, uuid: &str) -> Result<(Definition, Wanted)> {
    let changes = &machine.arriving;
    let presence = source.presence.clone().unwrap_or_else(Presence::absent);
    let name = &source.domain;
    if presence.migrating {
        return Err(refused(
            format!("a migration of vm `{name}` is already under way"),
            "wait for its end; it is not started again",
        ));
    }
    // Before the state: a dump or a save may have paused it.
    if let Some(job) = &source.other_job {
        return Err(refused(
            format!("{job} is under way on vm `{name}`"),
            format!("wait for its end: `virsh domjobinfo {name}` and `virsh blockjob {name} DISK` show it"),
        ));
    }
    if presence.state != VmState::Running {
        return Err(refused(
            format!("vm `{name}` is {} at the source, not running", presence.state),
            "only a running vm is moved live",
        ));
    }
    if !source.snapshots.is_empty() {
        return Err(has_snapshots(name, &source.snapshots));
    }
    let definition = domain_xml::definition(&source.live_xml).map_err(super::survey::unreadable)?;
    if let Some(error) = all_immovable(&definition.immovable) {
        return Err(error);
    }
    // As it will be at the destination.
    let arriving = arriving::apply(&source.live_xml, changes)
        .and_then(|xml| domain_xml::definition(&xml))
        .map_err(super::survey::unreadable)?;
    let mut wanted = Wanted {
        domain: name.clone(),
        uuid: uuid.to_owned(),
        cpu: match definition.cpu {
            Cpu::Named(cpu) => Some(cpu),
            Cpu::Passthrough => source.own_cpu.clone(),
            Cpu::Unchecked => None,
        },
        arriving: arriving.clone(),
        ..Wanted::default()
    };
    for interface in &arriving.interfaces {
        match &interface.link {
            Link::Device(device) => wanted.devices.push(device.clone()),
            Link::Network(network) => wanted.networks.push(network.clone()),
            Link::Other => {}
        }
    }
    Ok((arriving, wanted))
}

fn has_snapshots(name: &str, snapshots: &[Snapshot]) -> ProviderError {
    const SHOWN: usize = 3;
    let mut named: Vec<_> = snapshots.iter().take(SHOWN).map(|one| format!("`{}`", one.name)).collect();
    if snapshots.len() > SHOWN {
        named.push(format!("{} more", snapshots.len() - SHOWN));
    }
    let external = snapshots.iter().any(|one| one.external);
    refused(
        format!("vm `{name}` has snapshots ({}), which libvirt cannot move", named.join(", ")),
        match external {
            true => format!(
                "merge the external ones (`virsh blockcommit {name} DISK --active --pivot`), then forget them: \
                 `virsh snapshot-delete {name} NAME --metadata`"
            ),
            false => format!("delete them: `virsh snapshot-delete {name} NAME`"),
        },
    )
}

/// Judge both machines' answers. `arriving` is the definition with the declared changes,
/// `machine` the destination.
pub(super) fn judge(
    request: &MigrationRequest,
    source: &Source,
    destination: &Destination,
    arriving: &Definition,
    machine: &Machine,
) -> Result<Plan> {
    let changes = &machine.arriving;
    let mut notes = Vec::new();
    judge_identity(request, source, destination, machine, &mut notes)?;
    notes.extend(reach::notes(request, machine, source, destination));
    let memory = source.presence.as_ref().map(|presence| presence.memory).unwrap_or_default();
    fits::judge_machine(request, source, destination, arriving, memory, &mut notes)?;
    notes.extend(arriving.notes.iter().cloned());
    if source.checkpoints > 0 {
        notes.push(format!(
            "its checkpoints ({}) are not moved: the next backup has to be a full one",
            source.checkpoints
        ));
    }
    judge_links(request, source, destination, arriving, machine, &mut notes)?;
    let (volumes, read_only) = judge_disks(request, source, destination, arriving, &mut notes)?;

    let unreadable = super::survey::unreadable;
    let live = arriving::apply(&source.live_xml, changes).map_err(unreadable)?;
    let shown = arriving::apply(&source.shown_xml, changes).map_err(unreadable)?;
    let persistent = source.inactive_xml.as_ref().map(|xml| arriving::apply(xml, changes));
    let persistent_xml = persistent.transpose().map_err(unreadable)?;
    if persistent_xml.is_none() {
        notes.push("the vm is transient at the source, and will be so at the destination".to_owned());
    }
    let preflight = Preflight {
        memory,
        storage: volumes.iter().fold(0, |sum, volume| sum.saturating_add(volume.capacity)),
        notes: notes.iter().map(|note| plain(note)).collect(),
        expected_pause: None,
        dirty_rate: None,
        definition_diff: arriving::diff(
            &source.shown_xml,
            &shown,
            &format!("{} at {}", source.domain, request.source),
            &format!("{} at {}", source.domain, request.destination),
        ),
    };
    Ok(Plan {
        preflight,
        destination_xml: (live != source.live_xml).then_some(live),
        persistent_xml,
        autostart: source.autostart,
        volumes,
        read_only,
        source_uuid: source.machine_uuid.clone(),
        destination_uuid: destination.machine_uuid.clone(),
    })
}

fn judge_identity(
    request: &MigrationRequest,
    source: &Source,
    destination: &Destination,
    machine: &Machine,
    notes: &mut Vec<String>,
) -> Result<()> {
    let name = &request.destination;
    if source.machine_uuid.is_some() && source.machine_uuid == destination.machine_uuid {
        return Err(refused(
            format!(
                "`{}` and `{name}` are the same machine: their hypervisors have the same uuid",
                request.source
            ),
            "if they are not, give each its own `host_uuid` in libvirtd.conf; libvirt itself refuses too",
        ));
    }
    let virsh = format!("virsh -c '{}'", machine.uri);
    let vm = &source.domain;
    let other = destination.namesake.as_ref().filter(|found| !same_uuid(&found.uuid, &request.uuid));
    if let Some(namesake) = other {
        let state = namesake.state;
        return Err(refused(
            format!("another vm named `{vm}` ({}, {state}) is on `{name}`", namesake.uuid),
            match state {
                VmState::ShutOff => format!(
                    "rename it (`{virsh} domrename {vm} NEW`) or remove its definition (`{virsh} undefine {vm}`)"
                ),
                _ => "it is in use: choose another destination, or stop and rename it there".to_owned(),
            },
        ));
    }
    if let Some(leftover) = &destination.leftover {
        judge_leftover(request, vm, leftover, &virsh)?;
    }
    match destination.presence.as_ref().map(|presence| presence.state) {
        None | Some(VmState::Absent) => {}
        Some(VmState::ShutOff) => notes.push(format!(
            "`{name}` has an inactive definition of the vm already; the migration replaces it (`{virsh} dumpxml \
             {vm}` shows it)"
        )),
        Some(state) => {
            return Err(refused(
                format!("the vm is {state} on `{name}` as well as running on `{}`", request.source),
                "find out which one is right before anything else",
            ));
        }
    }
    Ok(())
}

/// libvirt replaces an inactive definition of the very VM, but not what hangs on it.
fn judge_leftover(request: &MigrationRequest, vm: &str, leftover: &Leftover, virsh: &str) -> Result<()> {
    let (name, Leftover { name: old, managed_save, snapshots }) = (&request.destination, leftover);
    let whose = format!("`{name}` has an inactive definition of the vm");
    if old != vm {
        return Err(refused(
            format!("{whose} under another name, `{old}`, which libvirt does not replace"),
            format!("remove it: `{virsh} undefine {old}`"),
        ));
    }
    if *managed_save {
        return Err(refused(
            format!(
                "{whose} with saved memory, which a later start would bring back on disks that have gone on"
            ),
            format!("discard it: `{virsh} managedsave-remove {vm}`"),
        ));
    }
    if *snapshots > 0 {
        return Err(refused(
            format!("{whose} with {snapshots} snapshots of another time"),
            format!("forget them: `{virsh} undefine --snapshots-metadata {vm}`"),
        ));
    }
    Ok(())
}

pub(super) fn same_uuid(a: &str, b: &str) -> bool {
    let bare = |uuid: &str| uuid.replace('-', "").to_ascii_lowercase();
    bare(a) == bare(b)
}

fn judge_links(
    request: &MigrationRequest,
    source: &Source,
    destination: &Destination,
    arriving: &Definition,
    machine: &Machine,
    notes: &mut Vec<String>,
) -> Result<()> {
    let name = &request.destination;
    let missing = |element: &str, link: &str, mac: &str, there: &[String]| {
        let there = match there {
            [] => String::new(),
            _ => format!("; it has {}", listed(there)),
        };
        refused(
            format!("`{name}` has no active {element} `{link}` for the interface {mac}{there}"),
            format!("create it there, or declare its name there under `arriving:` of machine `{name}`"),
        )
    };
    for interface in &arriving.interfaces {
        let mac = &interface.mac;
        match &interface.link {
            Link::Network(network) => match destination.networks.get(network) {
                Some(NetworkSeen::Active(mode)) if mode == "hostdev" => {
                    return Err(refused(
                        format!(
                            "network `{network}` of `{name}` hands out SR-IOV functions (<forward mode='hostdev'>), and \
                             the interface {mac} is none"
                        ),
                        format!("declare another network under `arriving:` of machine `{name}`"),
                    ));
                }
                Some(NetworkSeen::Active(_)) => {}
                Some(NetworkSeen::Inactive) => {
                    return Err(refused(
                        format!("network `{network}` for the interface {mac} is not active on `{name}`"),
                        format!("start it: `virsh -c '{}' net-start {network}`", machine.uri),
                    ));
                }
                Some(NetworkSeen::Absent) | None => {
                    return Err(missing("network", network, mac, &destination.network_names));
                }
            },
            Link::Device(device) => match destination.devices.get(device).copied().flatten() {
                Some(true) => {}
                // A driver that does not know a device which surely exists (the VM is plugged
                // into it) is not to be believed about the destination's either.
                Some(false) if !source.known_devices.is_empty() => {
                    return Err(missing("bridge or device", device, mac, &destination.device_names));
                }
                _ => notes.push(format!(
                    "whether `{name}` has the bridge or device `{device}` cannot be asked; without it the migration \
                     fails and the vm stays"
                )),
            },
            Link::Other => {}
        }
    }
    Ok(())
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut listed: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        listed.push(format!("{} more", names.len() - SHOWN));
    }
    listed.join(", ")
}

fn judge_disks(
    request: &MigrationRequest,
    source: &Source,
    destination: &Destination,
    arriving: &Definition,
    notes: &mut Vec<String>,
) -> Result<(Vec<NewVolume>, Vec<ReadOnly>)> {
    let (mut volumes, mut read_only) = (Vec::new(), Vec::new());
    for disk in &arriving.disks {
        match storage::place(disk, &source.pools) {
            Placement::Nothing => {}
            Placement::Immovable(why) => return Err(immovable(&why)),
            Placement::Shared(why) => {
                notes.push(format!("disk `{}` is shared ({why}) and is not copied", disk.name));
                let safe = matches!(disk.cache.as_deref(), None | Some("none" | "directsync" | "default"));
                if !safe {
                    notes.push(format!(
                        "disk `{}` has cache mode `{}`: libvirt refuses to move it where that is unsafe",
                        disk.name,
                        disk.cache.as_deref().unwrap_or_default()
                    ));
                }
            }
            Placement::LocalReadOnly => read_only.push(ReadOnly {
                element: disk.element(),
                pool: storage::pool_of(disk, &destination.pools).map(|pool| pool.name.clone()),
                volume: storage::volume_name(disk).to_owned(),
            }),
            Placement::Local => {
                let size = source.sizes.get(&disk.name).copied().unwrap_or_default();
                let mut volume =
                    storage::volume_for(disk, size, &destination.pools).map_err(|why| immovable(&why))?;
                notes.push(format!(
                    "disk `{}` is local: {} MiB, of which {} are in use, are copied into pool `{}`, \
                     and the image at the source is left there",
                    disk.name,
                    size.capacity >> 20,
                    size.allocation >> 20,
                    volume.pool
                ));
                if source.backed_disks.contains(&disk.name) {
                    // Nobody counts what it uses of the images behind it.
                    volume.allocation = volume.capacity;
                    notes.push(format!(
                        "the image of disk `{}` has a backing image; its copy holds everything itself",
                        disk.name
                    ));
                }
                volumes.push(volume);
            }
        }
    }
    if let Some(lacking) = storage::too_small(&volumes, &destination.pools).first() {
        return Err(refused(
            format!("`{}` has no room for the local disks: {lacking}", request.destination),
            "make room there, or choose another destination",
        ));
    }
    Ok((volumes, read_only))
}
