//! Whether a machine can be the home of a VM: memory, pages, CPU, firmware of devices, secrets.
//! Pure: what the destination said in, a refusal or notes out.

use super::{
    capabilities,
    cpu::Fit,
    domain_xml::{self, Cpu, Definition, Secret},
    preflight::refused,
    survey::{Destination, Offer, Source},
};
use crate::providers::{MigrationRequest, Result};

/// Judge the destination's answers. `arriving` is the definition with the declared changes.
pub(super) fn judge_machine(
    request: &MigrationRequest,
    source: &Source,
    destination: &Destination,
    arriving: &Definition,
    memory: u64,
    notes: &mut Vec<String>,
) -> Result<()> {
    let name = &request.destination;
    capabilities::supports(&destination.capabilities, arriving).map_err(|lacks| {
        refused(
            format!("`{name}` cannot run the vm: {lacks}"),
            "choose another destination, or install what it lacks",
        )
    })?;
    judge_memory(request, destination, memory)?;
    judge_pages(request, destination, arriving, memory, notes)?;
    judge_cpu(request, destination, arriving, notes)?;
    judge_sets(request, destination, arriving)?;
    judge_devices(request, destination, arriving, notes)?;
    let version =
        |version: u32| format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000);
    if destination.version != 0 && destination.version < source.version {
        notes.push(format!(
            "the hypervisor of `{name}` ({}) is older than that of `{}` ({}): what the newer one has begun to use \
             may make the copy fail, and the vm then stays",
            version(destination.version),
            request.source,
            version(source.version)
        ));
    }
    Ok(())
}

fn judge_memory(request: &MigrationRequest, destination: &Destination, memory: u64) -> Result<()> {
    let name = &request.destination;
    let free = destination.memory.saturating_sub(destination.memory_given);
    let needed = memory.saturating_add(request.options.beside);
    if needed <= free {
        return Ok(());
    }
    let others = match request.options.beside {
        0 => String::new(),
        beside => format!(", and {} MiB are needed for others of this run", beside >> 20),
    };
    Err(refused(
        format!(
            "`{name}` has {} MiB for vms that are not given yet, and the vm needs {} MiB{others}",
            free >> 20,
            memory >> 20
        ),
        "stop or move other vms there, or choose another destination",
    ))
}

fn judge_pages(
    request: &MigrationRequest,
    destination: &Destination,
    arriving: &Definition,
    memory: u64,
    notes: &mut Vec<String>,
) -> Result<()> {
    let Some(wanted) = &arriving.hugepages else { return Ok(()) };
    let name = &request.destination;
    if destination.free_pages.is_empty() {
        notes.push(format!("the vm uses huge pages, and `{name}` does not tell how many it has free"));
        return Ok(());
    }
    let bytes = |(size, count): (&u64, &u64)| size.saturating_mul(1024).saturating_mul(*count);
    let (free, which) = if wanted.sizes.is_empty() {
        // The machine's own default size, which libvirt does not tell: one of the large ones.
        let large = destination.free_pages.iter().filter(|(size, _)| **size >= 1024);
        (large.map(bytes).max().unwrap_or(0), "of its default size".to_owned())
    } else {
        let listed = destination.free_pages.iter().filter(|(size, _)| wanted.sizes.contains(size));
        let sizes: Vec<_> = wanted.sizes.iter().map(|size| format!("{size} KiB")).collect();
        (listed.map(bytes).fold(0, u64::saturating_add), format!("of {}", sizes.join(" and ")))
    };
    if free >= memory {
        return Ok(());
    }
    Err(refused(
        format!(
            "<memoryBacking><hugepages>: `{name}` has {} MiB of huge pages {which} free, and the vm needs {} MiB",
            free >> 20,
            memory >> 20
        ),
        "reserve more there (`virsh allocpages`, or vm.nr_hugepages), or choose another destination",
    ))
}

fn judge_cpu(
    request: &MigrationRequest,
    destination: &Destination,
    arriving: &Definition,
    notes: &mut Vec<String>,
) -> Result<()> {
    let name = &request.destination;
    let passthrough = arriving.cpu == Cpu::Passthrough;
    let element = if passthrough { "<cpu mode='host-passthrough'>" } else { "<cpu>" };
    match &destination.cpu_fits {
        Some(Fit::Lacks(what)) => {
            return Err(refused(
                format!("{element}: the CPU of `{name}` lacks something that the vm uses: {what}"),
                "choose another destination, or give the vm a CPU model that both machines have (`virsh \
                 hypervisor-cpu-baseline`) and restart it",
            ));
        }
        Some(Fit::More) if passthrough => notes.push(format!(
            "{element}: `{name}` has a CPU with more features; once the vm is restarted there, it cannot come back"
        )),
        Some(Fit::Unknown(why)) => {
            notes.push(format!("the vm's CPU could not be compared with that of `{name}`: {why}"));
        }
        None if passthrough => notes.push(format!(
            "{element}: the source does not describe its CPU, so it was not compared with that of `{name}`"
        )),
        None | Some(Fit::Same | Fit::More) => {}
    }
    let Some(frequency) = arriving.tsc_frequency else { return Ok(()) };
    match capabilities::tsc(&destination.capabilities) {
        Some(tsc) if !tsc.gives(frequency) => Err(refused(
            format!(
                "<timer name='tsc' frequency='{frequency}'>: the clock register of `{name}` runs at {} Hz and \
                 cannot be scaled",
                tsc.frequency
            ),
            "choose a destination with the same CPU, or drop the frequency and the feature invtsc",
        )),
        _ => Ok(()),
    }
}

fn judge_sets(request: &MigrationRequest, destination: &Destination, arriving: &Definition) -> Result<()> {
    let name = &request.destination;
    for (element, set) in &arriving.cpu_sets {
        if let Some(highest) = domain_xml::highest_cpu(set).filter(|highest| *highest >= destination.cpus) {
            return Err(refused(
                format!("{element} names CPU {highest}, and `{name}` has {} CPUs", destination.cpus),
                format!("declare the pinning under `arriving:` of machine `{name}`"),
            ));
        }
    }
    let nodes = capabilities::nodes(&destination.capabilities);
    for (element, set) in &arriving.node_sets {
        let highest = domain_xml::highest_cpu(set).filter(|highest| !nodes.contains(highest));
        if let Some(highest) = highest.filter(|_| !nodes.is_empty()) {
            return Err(refused(
                format!("{element} names NUMA node {highest}, which `{name}` does not have"),
                "change it with `virsh numatune` and `virsh edit`, or choose a destination with that node",
            ));
        }
    }
    Ok(())
}

fn judge_devices(
    request: &MigrationRequest,
    destination: &Destination,
    arriving: &Definition,
    notes: &mut Vec<String>,
) -> Result<()> {
    let name = &request.destination;
    match &destination.domain_capabilities {
        Offer::Nothing(why) => {
            return Err(refused(
                format!("<emulator> {}: `{name}` cannot run the vm: {why}", arriving.emulator),
                "choose another destination, or install what it lacks",
            ));
        }
        Offer::Told(told) if arriving.emulated_tpm && capabilities::emulates_tpm(told) == Some(false) => {
            return Err(refused(
                format!("<tpm> emulator cannot be moved: `{name}` offers no emulated TPM"),
                "install swtpm there, or choose another destination",
            ));
        }
        Offer::Told(_) | Offer::Unknown => {}
    }
    if let Some((element, secret)) = destination.missing_secrets.first() {
        let secret = match secret {
            Secret::Uuid(uuid) => uuid.clone(),
            Secret::Usage(kind, usage) => format!("of type {kind} for `{usage}`"),
        };
        return Err(refused(
            format!("{element} needs the secret {secret}, and libvirt on `{name}` does not have it"),
            "define it there with the same uuid (`virsh secret-define`, `virsh secret-set-value`)",
        ));
    }
    let known = capabilities::label_models(&destination.capabilities);
    for model in arriving.label_models.iter().filter(|model| !known.is_empty() && !known.contains(model)) {
        notes.push(format!(
            "<seclabel model='{model}'>: `{name}` has no such security model; libvirt may refuse it there, and the vm \
             then stays"
        ));
    }
    Ok(())
}
