//! Many simulated pairs: sites of so many pairs, an inventory each, a world for each pair.

use std::{
    fs,
    path::{Path, PathBuf},
};

use leapfrog::{
    clock::Clock,
    inventory::{self, Inventory},
    model::PairName,
    providers::sim::{Counts, SimWorld},
};

/// Pairs of one site.
const SITE: usize = 100;

/// Where the fleet's files are.
#[derive(Debug)]
pub struct Fleet {
    folder: PathBuf,
    pairs: usize,
    tokio: tokio::runtime::Runtime,
}

/// What happened to the pairs, by their own worlds' count.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Pairs that have a world.
    pub begun: usize,
    /// One copy, no switchover: where a run asks whether to go on.
    pub half: usize,
    /// Two copies and one switchover, no more, and both members at the destination.
    pub whole: usize,
    /// Those of which something was done more often than that: names.
    pub too_often: Vec<String>,
}

impl Fleet {
    /// Write the inventories of so many pairs into `folder`, and a file of inputs beside each. The
    /// worlds' time is `speed` times the wall's; what a busy machine takes for itself counts too.
    pub fn new(folder: &Path, pairs: usize, speed: u32) -> std::io::Result<Self> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let fleet = Self { folder: folder.to_owned(), pairs, tokio };
        for site in 0..fleet.sites() {
            fs::write(fleet.inventory(site), inventory(fleet.of(site), speed))?;
            let lines: String = fleet.of(site).map(|pair| format!("{{\"pair\": \"p{pair}\"}}\n")).collect();
            fs::write(fleet.each(site), lines)?;
        }
        Ok(fleet)
    }

    pub fn sites(&self) -> usize {
        self.pairs.div_ceil(SITE)
    }

    fn of(&self, site: usize) -> std::ops::Range<usize> {
        site * SITE..((site + 1) * SITE).min(self.pairs)
    }

    pub fn inventory(&self, site: usize) -> PathBuf {
        self.folder.join(format!("site-{site}.yaml"))
    }

    /// For `leapfrog run --each`.
    pub fn each(&self, site: usize) -> PathBuf {
        self.folder.join(format!("site-{site}.jsonl"))
    }

    /// What the worlds in this store say, as they are now.
    pub fn moved(&self, store: &Path) -> Moved {
        let mut moved = Moved::default();
        for site in 0..self.sites() {
            let path = self.inventory(site);
            let inventory = inventory::load(&[path]).unwrap_or_else(|found| panic!("{found}"));
            for pair in self.of(site) {
                let file = store.join("worlds").join(format!("p{pair}.json"));
                if file.exists() {
                    self.tokio.block_on(look(&inventory, &format!("p{pair}"), &file, &mut moved));
                }
            }
        }
        moved
    }
}

async fn look(inventory: &Inventory, pair: &str, file: &Path, moved: &mut Moved) {
    let only = inventory.only(&PairName::new(pair)).expect("a pair of the site");
    let world = SimWorld::open(file, &only, Clock::new(1.0)).expect("a simulated pair");
    let world = world.snapshot().await.expect("it can be read");
    moved.begun += 1;
    let Counts { migrations, switchovers, .. } = world.counts;
    let there = world.vms.values().all(|vm| vm.machine.as_str() == "b");
    match (migrations, switchovers) {
        (1, 0) => moved.half += 1,
        (2, 1) if there => moved.whole += 1,
        (0..=2, 0..=1) => {}
        _ => moved.too_often.push(pair.to_owned()),
    }
}

/// Pairs on machine `a`, the first member of each active. What a copy and a switchover take is a
/// moment, so that what is measured is the runner.
fn inventory(pairs: std::ops::Range<usize>, speed: u32) -> String {
    let each = |line: &dyn Fn(usize) -> String| pairs.clone().map(line).collect::<String>();
    let members = |line: &dyn Fn(String, usize) -> String| {
        each(&|pair| (1..=2).map(|member| line(format!("p{pair}-{member}"), member)).collect())
    };
    let service = |pair: usize, last: usize| format!("192.0.2.{last}:{}", 5000 + pair % SITE);
    let vms = members(&|vm, _| format!("  {vm}: {{max-pause: 2s}}\n"));
    let servers = each(&|pair| {
        (1..=2)
            .map(|member| {
                let sip = service(pair, 10 + member);
                format!("  p{pair}-{member}: {{vm: p{pair}-{member}, service: {{sip: \"{sip}\"}}}}\n")
            })
            .collect()
    });
    let declared = each(&|pair| {
        let sip = service(pair, 10);
        format!(
            "  p{pair}:\n    members: [p{pair}-1, p{pair}-2]\n    driver: {{uses: keepalived, with: \
             {{instance: VI, track-file: /etc/keepalived/switch}}}}\n    probe: {{service: {{sip: \
             \"{sip}\"}}, interval: 100ms, gap-budget: 60s}}\n"
        )
    });
    let simulated_vms = members(&|vm, _| {
        format!(
            "    {vm}: {{machine: a, memory: 16MiB, working-set: 1MiB, dirty-rate-active: 1MiB/s, \
             dirty-rate-standby: 64KiB/s}}\n"
        )
    });
    let simulated_pairs = each(&|pair| {
        format!("    p{pair}: {{active: p{pair}-1, switchover: 300ms, overlap: 20ms, dead-time: 120s}}\n")
    });
    format!(
        "machines:\n  a: {{uri: sim://a}}\n  b: {{uri: sim://b}}\nvms:\n{vms}servers:\n{servers}pairs:\n{declared}\
         simulator:\n  speed: {speed}\n  link: 400MiB/s\n  world-per-pair: true\n  vms:\n{simulated_vms}  \
         pairs:\n{simulated_pairs}"
    )
}
