//! A journalled effect: its intent durable before it, its result with the next intent. The
//! effect itself is immediate. Floor: append 4 KiB to a file on the same disk and fdatasync.
//!
//! Both take turns, so that another load on the disk meets both. Each round is a run of its own
//! in a store of its own, as short as real ones are, and gives a ratio of medians; the verdict is
//! the median of the rounds.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
};

use leapfrog::{
    engine::bindings::{login::Output, types::Error},
    imports::{Function, call::Lane},
};

use crate::{
    Bench, Outcome,
    measure::{Ratios, Samples},
    world,
};

const ROUNDS: usize = 11;
/// Effects of one round, and as many appends.
const EFFECTS: usize = 200;
const BLOCK: [u8; 4096] = [0x5a; 4096];
/// Times the floor.
const LIMIT: f64 = 1.2;

pub fn run(bench: &mut Bench) -> Outcome<Ratios> {
    let folder = bench.folder.path().join("effect");
    std::fs::create_dir_all(&folder)?;
    let [mut effects, mut appends, mut overwrites] = [(); 3].map(|()| Samples::default());
    let mut rounds = Vec::new();
    bench.runtime.block_on(async {
        let log = OpenOptions::new().create(true).append(true).open(folder.join("appended"))?;
        let ready = allocated(&folder.join("overwritten"))?;
        for round in 0..ROUNDS {
            let lane = Lane::new(world::context(&folder.join(round.to_string())).await?, "move".into());
            let (mut effect, mut floor) = (Samples::default(), Samples::default());
            for i in 0..EFFECTS {
                effect.time(switch(&lane)).await?;
                floor.time(async { append(&log) }).await?;
                overwrites.time(async { overwrite(&ready, i) }).await?;
            }
            rounds.push(effect.median() / floor.median());
            effects.extend(effect);
            appends.extend(floor);
        }
        Outcome::Ok(())
    })?;
    let ratios = Ratios::new(rounds, LIMIT);
    bench.rows.extend([
        effects.row("a journalled effect (`session.execute`)", None),
        appends.row("floor: append 4 KiB, fdatasync", None),
        overwrites.row("to compare: overwrite 4 KiB, fdatasync", None),
    ]);
    Ok(ratios)
}

/// What keepalived's driver does for a switchover, with an answer that is there at once.
pub async fn switch(lane: &Lane) -> Outcome {
    let args = ["/usr/bin/tee".to_owned(), "/etc/keepalived/switch".to_owned()];
    let answer =
        async { Ok::<_, Error>(Output { status: 0, stdout: "-60\n".into(), stderr: String::new() }) };
    lane.call(Function::SessionExecute, "sip-2", &(&args, 4), answer).await?.map_err(|e| e.to_string())?;
    Ok(())
}

fn append(mut log: &File) -> std::io::Result<()> {
    log.write_all(&BLOCK)?;
    log.sync_data()
}

fn overwrite(ready: &File, block: usize) -> std::io::Result<()> {
    ready.write_all_at(&BLOCK, (block * BLOCK.len()) as u64)?;
    ready.sync_data()
}

/// Appends of 4 KiB with fdatasync that this disk does in a second, one after another.
pub fn syncs_a_second(folder: &Path) -> Outcome<f64> {
    let log = OpenOptions::new().create(true).append(true).open(folder.join("syncs"))?;
    let began = std::time::Instant::now();
    for _ in 0..1_000 {
        append(&log)?;
    }
    Ok(1_000.0 / began.elapsed().as_secs_f64())
}

/// A file whose blocks are on the disk already.
fn allocated(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().create_new(true).write(true).open(path)?;
    file.write_all_at(&vec![0; BLOCK.len() * EFFECTS], 0)?;
    file.sync_all()?;
    Ok(file)
}
