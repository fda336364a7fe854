//! A warm plugin start: instantiate a compiled plugin and drop it. Floor: an empty component.

use leapfrog::{
    engine::{Engine, Plugin, Procedure},
    imports::call::Lane,
};

use crate::{Bench, Outcome, guest, measure::Samples, root, world};

const SAMPLES: usize = 5_000;
/// Before the measurement, so that code and memory are warm.
const WARM: usize = 500;
/// Microseconds.
const LIMIT: f64 = 30.0;

pub fn run(bench: &mut Bench) -> Outcome {
    let folder = bench.folder.path().join("start");
    std::fs::create_dir_all(&folder)?;
    let path = root().join("target/plugins/pair-migration.wasm");
    let plugin = Plugin::read("pair-migration", &path)
        .map_err(|e| format!("{e} (hint: `make bench` builds the plugins first)"))?;
    let empty = guest::plugin("empty", &guest::EMPTY, &folder)?;
    let (mut starts, mut floor) = (Samples::default(), Samples::default());
    bench.runtime.block_on(async {
        let lane = Lane::new(world::context(&folder).await?, "bench".into());
        let engine = Engine::new(None)?;
        let plugin = Procedure::compile(&engine, plugin).await?;
        let empty = Procedure::compile(&engine, empty).await?;
        for _ in 0..WARM {
            plugin.start(&lane).await?;
            empty.start(&lane).await?;
        }
        for _ in 0..SAMPLES {
            starts.time(plugin.start(&lane)).await?;
            floor.time(empty.start(&lane)).await?;
        }
        Outcome::Ok(())
    })?;
    bench.rows.push(starts.row("warm start of `pair-migration`", Some(LIMIT)));
    bench.rows.push(floor.row("floor: warm start of an empty component", None));
    Ok(())
}
