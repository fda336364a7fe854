//! `leapfrog run`: a workflow, from the first look to the report.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use tokio::sync::watch;

use super::{
    CANCELLED, Failure, Global, InventoryArgs, NEEDS_A_PERSON, Outcome, REFUSED, parse_input, print,
};
use crate::{
    clock::Clock,
    diagnostic::{Diagnostic, Diagnostics},
    imports::Person,
    inventory::Inventory,
    probe::NetProber,
    providers::{World, libvirt::Libvirt, sim, ssh::SshLogin},
    report,
    run::{self, Refusal, Request},
    store::Crash,
    ui::{Form, Screen},
    workflow::{self, resolve_inputs},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leapfrog run workflows/pair-migration.yaml -I inventory.yaml -i pair=sip -i destination=b\n  leapfrog run workflows/pair-migration.yaml -I inventory.yaml -i pair=sip -i destination=b -i switch-back=true --html report.html\n\nCtrl-C cancels safely: copies under way are aborted and the VMs stay where they are. A second Ctrl-C leaves at once, with exit code 3."
)]
pub struct Run {
    /// The workflow
    workflow: PathBuf,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// A value for one of the workflow's inputs
    #[arg(short, long = "input", value_name = "NAME=VALUE", value_parser = parse_input)]
    input: Vec<(String, String)>,
    /// Write the report there when the run is over
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Answer yes to what a procedure asks
    #[arg(long)]
    yes: bool,
    /// With a simulator: begin its world afresh
    #[arg(long)]
    new_world: bool,
}

impl Run {
    pub async fn go(self, global: &Global) -> Outcome {
        let workflow = workflow::load(&self.workflow)?;
        let inventory = self.inventory.load()?;
        let inputs = resolve_inputs(&workflow, &self.input, &inventory)?;
        let checked = run::check(&workflow, &inventory, &inputs, &global.registry())?;
        let folder = global.store_dir()?;
        let store = global.open_store()?;
        let inventory = Arc::new(inventory);
        let world = world(&inventory, &folder, self.new_world)?;
        let (stop, cancel) = watch::channel(false);
        let signals = tokio::spawn(listen(stop));
        let request = Request {
            workflow,
            inventory,
            inputs,
            checked,
            engine: global.engine()?,
            world,
            store,
            owners: Some(global.owners()?),
            screen: Screen::new(Form::choose(global.json), global.color),
            person: Person::here(self.yes),
            cancel,
            crash: Crash::of_the_process(),
        };
        let outcome = run::execute(request).await;
        signals.abort();
        tell(global, outcome, self.html.as_deref()).await
    }
}

/// Say how a run ended, and write its report.
pub(super) async fn tell(
    global: &Global,
    outcome: Result<report::Report, Refusal>,
    html: Option<&Path>,
) -> Outcome {
    let report = match outcome {
        Ok(report) => report,
        Err(Refusal::Found(diagnostics)) => return Err(diagnostics.into()),
        Err(Refusal::Store(error)) => return Err(error.into()),
        Err(cancelled @ Refusal::Cancelled) => {
            let diagnostics = Diagnostics(vec![Diagnostic::new(cancelled.to_string())]);
            return Err(Failure { diagnostics, code: CANCELLED });
        }
    };
    if !global.json {
        print(&format!("run: {}", report.run));
    }
    if let Some(file) = html {
        if let Err(mut failure) = write_report(file, &report).await {
            // The run is over: 2 would say that nothing was touched.
            let code = report.outcome.exit_code().filter(|code| *code != 0).unwrap_or(1);
            for diagnostic in &mut failure.diagnostics.0 {
                let run = &report.run;
                diagnostic.hint = Some(format!("the run is kept: leapfrog show {run} --html FILE"));
            }
            return Err(Failure { code, ..failure });
        }
        if !global.json {
            print(&format!("report: {}", file.display()));
        }
    }
    Ok(report.outcome.exit_code().unwrap_or(REFUSED))
}

pub(super) async fn write_report(file: &Path, report: &report::Report) -> Result<(), Failure> {
    let page = report::html(report);
    let failed = |e: std::io::Error| {
        Failure::from(Diagnostic::new(format!("the report {} cannot be written: {e}", file.display())))
    };
    if let Some(folder) = file.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    }
    tokio::fs::write(file, page).await.map_err(failed)
}

/// The world that the inventory describes. Must be called inside the runtime.
pub(super) fn world(inventory: &Inventory, folder: &Path, new_world: bool) -> Result<World, Failure> {
    if let Some(simulator) = &inventory.simulator {
        let file = folder.join("world.json");
        if new_world {
            match std::fs::remove_file(&file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    let message = format!("the simulated world {} cannot be removed: {e}", file.display());
                    return Err(Diagnostic::new(message).into());
                }
                _ => {}
            }
        }
        return Ok(sim::world(inventory, Clock::new(simulator.speed), Some(&file))?);
    }
    Ok(World {
        hypervisor: Arc::new(Libvirt::new(inventory.machines.clone(), inventory.vms.clone())),
        login: Arc::new(SshLogin::from_inventory(inventory)),
        prober: Arc::new(NetProber),
        clock: Clock::new(1.0),
        simulated: false,
    })
}

/// The first Ctrl-C (or SIGTERM, or a terminal that is closed) cancels the run, a second one
/// leaves at once.
pub(super) async fn listen(stop: watch::Sender<bool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return;
    };
    for left in [false, true] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        if left {
            // What the journal has is durable, and the run can be resumed. What was
            // under way was not seen to stop, so this is not what `cancelled` promises.
            let _ = writeln!(
                std::io::stderr(),
                "left at once: what was under way may go on; look at the VMs, then: leapfrog resume, or leapfrog cancel"
            );
            std::process::exit(NEEDS_A_PERSON.into());
        }
        stop.send_replace(true);
    }
}
