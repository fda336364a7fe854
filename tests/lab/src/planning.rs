//! A plan on the real pair: it touches nothing, a run follows it, and roles that were swapped in
//! between stop that run before any effect.

use std::{fs, path::Path, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    arms,
    guests::{self, FIRST, GUESTS, Logins, Role},
    inventory,
    lab::Lab,
    machines::Uri,
    process::{self, Finished},
    runner,
};

const SOON: Duration = Duration::from_secs(20);
const DEADLINE: Duration = Duration::from_secs(300);

pub fn run(lab: &Lab) -> Result<()> {
    let done = planned(lab);
    guests::destroy(&lab.network, &[&lab.source, &lab.destination])?;
    done
}

fn planned(lab: &Lab) -> Result<()> {
    let folder = lab.arm_folder("plan")?;
    let logins = arms::boot(lab, "plan")?;
    let file = folder.join("inventory.yaml");
    inventory::write(lab, &file)?;
    let store = folder.join("store");
    fs::create_dir_all(&store)?;
    let saved = folder.join("plan.json");

    let before = look(lab, &logins)?;
    let plan = leapfrog(lab, &file, &store, "plan", &["--save", &saved.to_string_lossy()])?;
    ensure!(plan.status.success(), "plan ended with {}: {}{}", plan.status, plan.stdout, plan.stderr);
    println!("{}", plan.stdout.trim_end());
    let after = look(lab, &logins)?;
    ensure!(before == after, "the plan has changed something:\n{before}\n{after}");
    println!("lab: the plan touched nothing");

    // Somebody swaps the roles.
    arms::switch(&logins, &FIRST, true)?;
    let swapped = look(lab, &logins)?;
    let stopped = leapfrog(lab, &file, &store, "run", &["--plan", &saved.to_string_lossy()])?;
    ensure!(
        stopped.status.code() == Some(2),
        "a run of swapped roles: {}: {}",
        stopped.status,
        stopped.stdout
    );
    ensure!(swapped == look(lab, &logins)?, "it has changed something: {}", stopped.stdout);
    let why = stopped.stdout.lines().chain(stopped.stderr.lines()).find(|line| line.contains("plan"));
    println!("lab: roles swapped in between: exit 2: {}", why.unwrap_or_default().trim());

    arms::switch(&logins, &FIRST, false)?;
    let followed = leapfrog(lab, &file, &store, "run", &["--plan", &saved.to_string_lossy()])?;
    ensure!(followed.status.success(), "the run ended with {}: {}", followed.status, followed.stdout);
    for guest in &GUESTS {
        ensure!(guests::runs_on(&lab.network, &lab.destination, guest)?, "{} has not arrived", guest.name);
    }
    guests::settled(&logins, [Role::Standby, Role::Active])?;
    println!("lab: the run followed its plan: both are on {}", lab.destination.name);
    Ok(())
}

fn leapfrog(lab: &Lab, inventory: &Path, store: &Path, verb: &str, more: &[&str]) -> Result<Finished> {
    let mut command = runner::command(lab, [verb])?;
    command.arg(std::path::absolute(&lab.options.workflow)?).arg("--inventory").arg(inventory);
    command.arg("--store").arg(store).args(["-i", "pair=sip", "-i"]);
    command.arg(format!("destination={}", lab.destination.name)).args(more);
    process::attempt(&mut command, DEADLINE)
}

/// All that a plan must not change: definitions and states on both machines, who took over how
/// often, the track files.
fn look(lab: &Lab, logins: &Logins) -> Result<String> {
    let mut seen = String::new();
    for machine in [&lab.source, &lab.destination] {
        for words in [&["list", "--all", "--uuid"][..], &["list", "--name"], &["vol-list", "default"]] {
            let mut command = guests::virsh(&lab.network, machine, Uri::Tcp);
            seen.push_str(&process::run(command.args(words), SOON)?);
        }
    }
    for guest in &GUESTS {
        seen.push_str(&logins.run(guest, &format!("cat {} 2> /dev/null || true", guests::TRACK_FILE))?);
    }
    seen.push_str(&format!("takeovers {} roles {:?}", logins.takeovers()?, logins.roles()?));
    Ok(seen)
}
