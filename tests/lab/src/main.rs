//! A real lab on one machine: two libvirt hosts, an active/standby pair of real VMs, real SIP
//! calls, and the pair moved in different ways under them.
//!
//! ```text
//! lab ── arms ──┬─ guests    boot, roles, logins        machines  two libvirt hosts
//!               ├─ traffic   SIPp, probe, hold          network   namespaces, shaping
//!               ├─ runner    the real leapfrog          image     kernel and initramfs
//!               └─ result    table and result.json      cleanup   lock, removal
//! ```
//!
//! It touches nothing of the machine's own libvirt, sshd or network, and leaves nothing behind
//! but `target/lab`. See README.md beside it for what the figures mean.

mod arms;
mod cleanup;
mod crash;
mod guests;
mod hold;
mod image;
mod inventory;
mod lab;
mod machines;
mod memory;
mod network;
mod packages;
mod planning;
mod probe;
mod process;
mod record;
#[path = "../../recordings/recording.rs"]
mod recording;
#[path = "../../recordings/reduce.rs"]
mod reduce;
mod result;
mod runner;
mod storage;
mod traffic;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use arms::Kind;
use machines::Uri;
use result::{Arm, Report};

/// Moves a real pair of VMs under real SIP calls and measures what the callers notice.
#[derive(Debug, Clone, Parser)]
#[command(name = "leapfrog-lab", version)]
pub struct Options {
    /// Runs the script and leapfrog arms so often and reports the worst of each figure.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Ends with the roles as at the start.
    #[arg(long)]
    switch_back: bool,
    /// Where the runner runs.
    #[arg(long, value_enum, default_value_t = Place::Third)]
    from: Place,
    /// The state to start from: (a) both at the source, (b) the standby already moved, (c) roles
    /// already switched too.
    #[arg(long, value_enum, default_value_t = Start::A)]
    start: Start,
    /// Small idle guests, only the leapfrog arm: outcomes are asserted, figures only shown.
    #[arg(long)]
    smoke: bool,
    /// Lets things die in the middle, the runner first of all, and looks at what is left. Small
    /// idle guests over a slow link; needs a runner with debug assertions
    #[arg(long, conflicts_with_all = ["smoke", "arms", "repeat"])]
    crash: bool,
    /// With --crash: only the cases with this in their names
    #[arg(long, requires = "crash", value_name = "TEXT")]
    case: Option<String>,
    /// Plans on the real pair, swaps the roles in between, and follows the plan. Small idle guests
    #[arg(long, conflicts_with_all = ["smoke", "arms", "repeat", "crash"])]
    plan: bool,
    /// Guests with a local disk that they write; its content is verified after the move.
    #[arg(long)]
    disk: bool,
    /// Adds each run of the runner to the recordings in this folder, which the simulator is held
    /// against; runs of one case have to be alike
    #[arg(long, value_name = "FOLDER", conflicts_with = "plan")]
    record: Option<PathBuf>,
    /// How libvirt is reached.
    #[arg(long, value_enum, default_value_t = Uri::Tcp)]
    uri: Uri,
    /// Boots the pair, says how to use it, and waits for Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// What to compare.
    #[arg(long, value_enum, value_delimiter = ',')]
    arms: Vec<Kind>,
    /// The runner.
    #[arg(long, default_value = "target/debug/leapfrog")]
    leapfrog: PathBuf,
    #[arg(long, default_value = "workflows/pair-migration.yaml")]
    workflow: PathBuf,
    /// Where the image, the logs and the result go.
    #[arg(long, default_value = "target/lab")]
    output: PathBuf,
    /// What the migration link carries, in tc's words.
    #[arg(long, default_value = "400mbit")]
    rate: String,
    /// Fails where packages are missing instead of installing them.
    #[arg(long)]
    no_install: bool,
    #[command(subcommand)]
    helper: Option<Helper>,
}

impl Options {
    /// Whether outcomes are looked at, not figures: small guests that write nothing will do.
    fn small(&self) -> bool {
        self.smoke || self.crash || self.plan
    }
}

/// Where the runner runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    Source,
    Destination,
    Third,
}

/// The patent's figure 2, (a) to (c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Start {
    A,
    B,
    C,
}

#[derive(Debug, Clone, Subcommand)]
enum Helper {
    /// Installs the packages and ends.
    Packages,
    /// Removes what a killed lab left behind and ends.
    Clean,
    #[command(hide = true)]
    Probe { to: SocketAddr, interval_ms: u64 },
    #[command(hide = true)]
    Call { to: SocketAddr },
    #[command(hide = true)]
    WriteMemory { mebibytes: usize, megabytes_per_second: u64, while_exists: PathBuf },
    #[command(hide = true)]
    Hold { addresses: Vec<SocketAddr> },
}

fn main() -> ExitCode {
    let options = Options::parse();
    match start(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: Options) -> Result<()> {
    match &options.helper {
        Some(Helper::Probe { to, interval_ms }) => {
            return probe::main(*to, Duration::from_millis(*interval_ms));
        }
        Some(Helper::Call { to }) => return hold::call(*to),
        Some(Helper::Hold { addresses }) => return hold::connections(addresses),
        Some(Helper::WriteMemory { mebibytes, megabytes_per_second, while_exists }) => {
            return memory::write(*mebibytes, *megabytes_per_second, while_exists);
        }
        Some(Helper::Packages | Helper::Clean) | None => {}
    }
    process::stop_on_signals()?;
    let id = process::run(&mut process::command(&["id", "-u"]), Duration::from_secs(5))?;
    ensure!(id.trim() == "0", "namespaces and real VMs need root: run it with sudo");
    match &options.helper {
        Some(Helper::Clean) => return cleanup::remove_left(),
        Some(_) => return packages::ensure(!options.no_install),
        None => packages::ensure(!options.no_install)?,
    }
    run(options)
}

fn run(options: Options) -> Result<()> {
    let begin = Instant::now();
    let kinds = kinds(&options);
    let lab = lab::Lab::start(options)?;
    println!("lab: hosts up after {:.1} s", begin.elapsed().as_secs_f64());
    if lab.options.keep {
        arms::boot(&lab, "keep")?;
        println!("{}", inventory::by_hand(&lab));
        loop {
            process::pause(Duration::from_secs(3600))?;
        }
    }
    if lab.options.crash {
        return crash::run(&lab, lab.options.case.as_deref());
    }
    if lab.options.plan {
        return planning::run(&lab);
    }
    let mut report = Report::default();
    report.note("accelerator", if lab.shape.kvm { "kvm" } else { "tcg" });
    report.note("runner-from", format!("{:?}", lab.options.from).to_lowercase());
    report.note("start", format!("{:?}", lab.options.start).to_lowercase());
    report.note("uri", format!("{:?}", lab.options.uri).to_lowercase());
    let mut failed = Vec::new();
    for kind in kinds {
        let times = if matches!(kind, Kind::Script | Kind::Leapfrog) { lab.options.repeat } else { 1 };
        let mut runs = Vec::new();
        for number in 1..=times {
            println!("lab: {} {number}/{times}", kind.name());
            runs.push(arms::run(&lab, kind)?);
            if let (Some(folder), Kind::Leapfrog) = (&lab.options.record, kind) {
                let store = lab.output.join("logs").join(kind.name()).join("store");
                record::add(&lab, folder, &record::name(&lab), None, &store)?;
            }
        }
        let arm = Arm::worst(runs);
        if lab.options.smoke && arm.failed_calls > 0 {
            failed.push(format!("{}: {} calls failed", kind.name(), arm.failed_calls));
        }
        if arm.disk_verified == Some(false) {
            failed.push(format!("{}: a disk's content differs", kind.name()));
        }
        report.add(kind.name(), arm);
        // What has been measured stays, whatever comes next.
        report.write(&lab.output.join("result.json"))?;
    }
    println!("\n{}\n", report.table());
    println!(
        "lab: {} after {:.0} s",
        lab.output.join("result.json").display(),
        begin.elapsed().as_secs_f64()
    );
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

fn kinds(options: &Options) -> Vec<Kind> {
    if !options.arms.is_empty() {
        options.arms.clone()
    } else if options.smoke {
        vec![Kind::Leapfrog]
    } else {
        vec![Kind::Baseline, Kind::Naive, Kind::Leapfrog]
    }
}
