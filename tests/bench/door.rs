//! One call through the door without an effect, made by the runner itself and by a plugin.
//! Floor: wasmtime's own host call of the same shape, from the same plugin, in an engine that is
//! configured alike.
//!
//! Such calls are gathered and written together, a thousand at a time, when no effect comes: the
//! median is a call that is gathered, the mean has the writing in it.

use std::time::{Duration, Instant};

use leapfrog::{
    engine::{
        Ended, Engine, Procedure,
        arguments::Arg,
        bindings::{time, types::Error},
    },
    imports::{Function, Limits, call::Lane},
};
use wasmtime::{
    Config, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
    component::{Component, HasSelf, InstancePre, Linker, Val},
};

use crate::{Bench, Outcome, guest, measure::Samples, world};

const SAMPLES: usize = 1_000;
/// Calls of one sample: a single one is too short for the clock.
const CALLS: u32 = 200;
/// Microseconds.
const LIMIT: f64 = 2.0;

pub fn run(bench: &mut Bench) -> Outcome {
    let folder = bench.folder.path().join("door");
    std::fs::create_dir_all(&folder)?;
    let component = guest::caller()?;
    let caller = guest::plugin("caller", &component, &folder)?;
    let [mut native, mut plugin, mut floor] = [(); 3].map(|()| Samples::default());
    bench.runtime.block_on(async {
        let context = world::context(&folder).await?;
        // A lane has a limit of calls, so each sample takes its own.
        let lane = || Lane::new(context.clone(), "bench".into());
        let procedure = Procedure::compile(&Engine::new(None)?, caller).await?;
        let bare = Bare::new(&component)?;
        for _ in 0..SAMPLES {
            native.push(through_the_door(&lane()).await?);
            plugin.push(from_a_plugin(&procedure, &lane()).await?);
            floor.push(bare.call().await?);
        }
        Outcome::Ok(())
    })?;
    bench.rows.extend([
        native.row("call through the door, made by the runner (`server.answers`)", Some(LIMIT)),
        plugin.row("call through the door, made by a plugin (`time.sleep` of 0)", Some(LIMIT)),
        floor.row("floor: bare host call of the same shape", None),
    ]);
    Ok(())
}

/// The time of one call with an answer that is there at once.
async fn through_the_door(lane: &Lane) -> Outcome<Duration> {
    let began = Instant::now();
    for _ in 0..CALLS {
        let answer = async { Ok::<_, Error>(Some(1_u64)) };
        lane.call(Function::ServerAnswers, "sip-1", &2_000_u64, answer).await?.map_err(|e| e.to_string())?;
    }
    Ok(began.elapsed() / CALLS)
}

/// The same from inside a plugin; making the instance is in the time.
async fn from_a_plugin(procedure: &Procedure, lane: &Lane) -> Outcome<Duration> {
    let args = [Arg::Value(Val::U32(CALLS))];
    let began = Instant::now();
    let ended = procedure.call(lane, "sleep", &args, Limits::default()).await;
    let took = began.elapsed();
    match ended {
        Ended::Done(_) => Ok(took / CALLS),
        other => Err(format!("{other:?}").into()),
    }
}

/// The caller in an engine of its own, with nothing behind its imports.
struct Bare(InstancePre<Nothing>);

struct Nothing;

impl time::Host for Nothing {
    async fn sleep(&mut self, _: u64) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl Bare {
    fn new(component: &[u8]) -> Outcome<Self> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        config.cranelift_nan_canonicalization(true);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::new()));
        let engine = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        time::add_to_linker::<_, HasSelf<_>>(&mut linker, |s| s)?;
        Ok(Self(linker.instantiate_pre(&Component::new(&engine, component)?)?))
    }

    async fn call(&self) -> Outcome<Duration> {
        let began = Instant::now();
        let mut store = Store::new(self.0.engine(), Nothing);
        store.set_epoch_deadline(1);
        let instance = self.0.instantiate_async(&mut store).await?;
        let function = instance.get_typed_func::<(u32,), ()>(&mut store, "sleep")?;
        function.call_async(&mut store, (CALLS,)).await?;
        Ok(began.elapsed() / CALLS)
    }
}
