//! `leapfrog run`: a workflow, from the first look to the report.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
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
    plan::{self, About, Follower, Hand, Plan},
    probe::NetProber,
    providers::{World, libvirt::Libvirt, sim, ssh::SshLogin},
    report,
    run::{self, Refusal, Request},
    store::{Crash, Store},
    ui::{Form, Screen},
    workflow::{self, Workflow, resolve_inputs},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leapfrog run workflows/pair-migration.yaml -I inventory.yaml -i pair=sip -i destination=b\n  leapfrog run workflows/pair-migration.yaml -I inventory.yaml -i pair=sip -i destination=b -i switch-back=true --html report.html\n  leapfrog run workflows/pair-migration.yaml -I inventory.yaml -i pair=sip -i destination=b --plan plan.json\n\nCtrl-C cancels safely: copies under way are aborted and the VMs stay where they are. A second Ctrl-C leaves at once, with exit code 3."
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
    /// Do what this plan says (`leapfrog plan --save FILE`), and stop before anything else
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// How old the plan may be, as 2h or 30m
    #[arg(long, value_name = "TIME", default_value = "24h", requires = "plan", value_parser = parse_age)]
    max_age: Duration,
    /// Wait until other runs have let go of the VMs, for at most this long [1h when no time is given]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "1h", value_parser = parse_age)]
    wait: Option<Duration>,
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
        let plan = self.plan(&workflow, &inventory, &checked, &inputs)?;
        let folder = global.store_dir()?;
        let store = global.open_store()?;
        let inventory = Arc::new(inventory);
        if self.new_world {
            if let Some((_, run)) = store.locks().await?.first() {
                return Err(Diagnostic::new(format!("run {run} is not over: its world is not begun afresh"))
                    .hint(format!("stop it first: leapfrog cancel {run}"))
                    .into());
            }
            begin_afresh(&inventory, &folder)?;
        }
        let world = world(&inventory, &folder, false)?;
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
            plan,
            wait: self.wait,
        };
        let outcome = run::execute(request).await;
        signals.abort();
        tell(global, outcome, self.html.as_deref()).await
    }

    /// The plan to follow, if it was made for just this.
    fn plan(
        &self,
        workflow: &Workflow,
        inventory: &Inventory,
        checked: &run::Checked,
        inputs: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Option<Hand>, Failure> {
        let Some(file) = &self.plan else { return Ok(None) };
        let plan = Plan::load(file)?;
        let digest = plan::digest(workflow);
        let about = About {
            workflow: &workflow.name,
            workflow_digest: &digest,
            inventory_digest: &plan::inventory_digest(inventory),
            plugins: &checked.digests(),
            inputs,
            now: jiff::Timestamp::now(),
            max_age: self.max_age,
        };
        match plan::unfit(&plan, &about) {
            None => Ok(Some(Hand::Following(Arc::new(Follower::new(plan))))),
            Some(why) => Err(Diagnostic::new(why)
                .hint("make a new plan with `leapfrog plan … --save FILE`, and look at it")
                .into()),
        }
    }
}

/// Why nothing was begun, as the program's end.
pub(super) fn refused(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Found(diagnostics) => diagnostics.into(),
        Refusal::Store(error) => error.into(),
        cancelled @ Refusal::Cancelled => {
            let diagnostics = Diagnostics(vec![Diagnostic::new(cancelled.to_string())]);
            Failure { diagnostics, code: CANCELLED }
        }
    }
}

fn parse_age(text: &str) -> Result<Duration, String> {
    crate::yaml::parse_duration(text).map_err(|(wrong, hint)| match hint {
        Some(hint) => format!("{wrong}: {hint}"),
        None => wrong,
    })
}

/// Say how a run ended, and write its report.
pub(super) async fn tell(
    global: &Global,
    outcome: Result<report::Report, Refusal>,
    html: Option<&Path>,
) -> Outcome {
    let report = outcome.map_err(refused)?;
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
    write_page("report", file, report::html(report)).await
}

/// Write a page; `what` it is stands in the message when that fails.
pub(super) async fn write_page(what: &str, file: &Path, page: String) -> Result<(), Failure> {
    let failed = |e: std::io::Error| {
        Failure::from(Diagnostic::new(format!("the {what} {} cannot be written: {e}", file.display())))
    };
    if let Some(folder) = file.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    }
    tokio::fs::write(file, page).await.map_err(failed)
}

/// The file of the simulator's world.
fn world_file(folder: &Path) -> PathBuf {
    folder.join("world.json")
}

/// Remove the simulator's world, if there is a simulator and a world.
fn begin_afresh(inventory: &Inventory, folder: &Path) -> Result<(), Failure> {
    if inventory.simulator.is_none() {
        return Ok(());
    }
    let file = world_file(folder);
    match std::fs::remove_file(&file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("the simulated world {} cannot be removed: {e}", file.display());
            Err(Diagnostic::new(message).into())
        }
        _ => Ok(()),
    }
}

/// The world that the inventory describes. Must be called inside the runtime. Only to look at it:
/// a simulated one that nobody has begun yet is not begun either.
pub(super) fn world(inventory: &Inventory, folder: &Path, only_look: bool) -> Result<World, Failure> {
    if let Some(simulator) = &inventory.simulator {
        let file = world_file(folder);
        let file = (!only_look || file.exists()).then_some(file);
        return Ok(sim::world(inventory, Clock::new(simulator.speed), file.as_deref())?);
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
