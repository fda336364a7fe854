//! Calling a function of a procedure.

use serde_json::Value as Json;
use wasmtime::component::{InstancePre, Resource, ResourceAny, Val};

use super::{
    Engine, LimitExceeded, Plugin, PluginError,
    arguments::{Arg, Grant, to_json},
    trap,
};
use crate::imports::{
    Limits, PluginState,
    call::{Lane, Parked},
    handles,
};

/// Bytes of what a procedure says at its end.
const MAX_MESSAGE: usize = 16 << 10;
/// Bytes of what it gives, about.
const MAX_OUTPUT: usize = 1 << 20;

/// How a call of a procedure's function ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// It did what it was asked; this is what it gave.
    Done(Json),
    /// `stop.refused`.
    Refused(String),
    /// `stop.needs-a-person`.
    NeedsPerson(String),
    /// `stop.failed`, or another error that it gave.
    Failed(String),
    /// It trapped or exceeded a limit.
    Trapped(String),
    /// It waits, and the run is left meanwhile.
    Waits(Parked),
}

impl Ended {
    /// With a message that a journal, a terminal and a page can take.
    fn shortened(mut self) -> Self {
        if let Self::Refused(text) | Self::NeedsPerson(text) | Self::Failed(text) | Self::Trapped(text) =
            &mut self
        {
            text.truncate(text.floor_char_boundary(MAX_MESSAGE));
        }
        self
    }
}

/// A procedure, compiled.
pub struct Procedure {
    engine: Engine,
    plugin: Plugin,
    pre: InstancePre<PluginState>,
}

impl std::fmt::Debug for Procedure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Procedure").field("plugin", &self.plugin).finish_non_exhaustive()
    }
}

impl Procedure {
    /// Compile on a thread for blocking work, unless the engine has compiled it before.
    pub async fn compile(engine: &Engine, plugin: Plugin) -> Result<Self, PluginError> {
        let pre = plugin.compile_aside(engine).await?;
        Ok(Self { engine: engine.clone(), plugin, pre })
    }

    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Make a fresh instance and throw it away: what a start costs.
    pub async fn start(&self, lane: &Lane) -> wasmtime::Result<()> {
        let mut store = self.engine.store(PluginState::new(lane.clone(), Limits::default()));
        self.pre.instantiate_async(&mut store).await?;
        Ok(())
    }

    /// Call `function` in a fresh instance, on `lane`.
    pub async fn call(&self, lane: &Lane, function: &str, args: &[Arg], limits: Limits) -> Ended {
        let mut store = self.engine.store(PluginState::new(lane.clone(), limits));
        store.data_mut().may_rest = true;
        let ended = match call(&mut store, &self.pre, function, args).await {
            Ok(result) => ended(result.first()).shortened(),
            Err(error) => match error.downcast_ref::<Parked>() {
                Some(parked) => Ended::Waits(parked.clone()),
                None => Ended::Trapped(trap(&error, store.data_mut())).shortened(),
            },
        };
        // Told now: what comes next, another attempt or an undo, has parts of its own.
        if !matches!(ended, Ended::Waits(_)) {
            lane.context().facts.steps_end(matches!(ended, Ended::Done(_)));
        }
        ended
    }
}

/// Call a function by name with handles minted for this store.
pub(super) async fn call(
    store: &mut wasmtime::Store<PluginState>,
    pre: &InstancePre<PluginState>,
    function: &str,
    args: &[Arg],
) -> wasmtime::Result<Vec<Val>> {
    let instance = pre.instantiate_async(&mut *store).await?;
    call_in(store, &instance, function, args).await
}

pub(super) async fn call_in(
    store: &mut wasmtime::Store<PluginState>,
    instance: &wasmtime::component::Instance,
    function: &str,
    args: &[Arg],
) -> wasmtime::Result<Vec<Val>> {
    let Some(func) = instance.get_func(&mut *store, function) else {
        wasmtime::bail!("the plugin has no function {function}");
    };
    let mut vals = Vec::with_capacity(args.len());
    for arg in args {
        vals.push(arg.lower(&mut |grant| mint(store, grant))?);
    }
    let mut results = vec![Val::Bool(false); func.ty(&*store).results().len()];
    func.call_async(&mut *store, &vals, &mut results).await?;
    Ok(results)
}

fn mint(store: &mut wasmtime::Store<PluginState>, grant: &Grant) -> wasmtime::Result<Val> {
    fn push<T: Send + 'static>(
        store: &mut wasmtime::Store<PluginState>,
        handle: T,
    ) -> wasmtime::Result<ResourceAny> {
        let resource: Resource<T> = store.data_mut().table.push(handle)?;
        ResourceAny::try_from_resource(resource, store)
    }
    Ok(Val::Resource(match grant {
        Grant::Machine(name) => push(store, handles::Machine(name.clone()))?,
        Grant::Vm(name) => push(store, handles::Vm(name.clone()))?,
        Grant::Server(name) => push(store, handles::Server(name.clone()))?,
        Grant::Pair(name) => push(store, handles::Pair(name.clone()))?,
    }))
}

fn ended(result: Option<&Val>) -> Ended {
    match result {
        Some(Val::Result(Err(error))) => match error.as_deref() {
            Some(Val::Variant(case, Some(text))) => {
                let text = match &**text {
                    Val::String(text) => text.clone(),
                    other => to_json(other).to_string(),
                };
                match case.as_str() {
                    "refused" => Ended::Refused(text),
                    "needs-a-person" => Ended::NeedsPerson(text),
                    "failed" => Ended::Failed(text),
                    other => Ended::Failed(format!("{other}: {text}")),
                }
            }
            Some(Val::String(text)) => Ended::Failed(text.clone()),
            Some(other) => Ended::Failed(to_json(other).to_string()),
            None => Ended::Failed("it gave an error without a word".into()),
        },
        Some(val) if weight(val) > MAX_OUTPUT => {
            let what = format!("it gave more than {MAX_OUTPUT} bytes");
            Ended::Trapped(LimitExceeded::new("output", what).to_string())
        }
        Some(val) => Ended::Done(to_json(val)),
        None => Ended::Done(Json::Null),
    }
}

/// About how many bytes it takes to write a value down.
fn weight(val: &Val) -> usize {
    let all = |vals: &[Val]| vals.iter().map(weight).sum::<usize>();
    let some = |val: &Option<Box<Val>>| val.as_deref().map_or(0, weight);
    let own = match val {
        Val::String(text) | Val::Enum(text) => text.len(),
        Val::List(vals) | Val::Tuple(vals) => all(vals),
        Val::Record(fields) => fields.iter().map(|(name, val)| name.len() + weight(val)).sum(),
        Val::Variant(case, val) => case.len() + some(val),
        Val::Option(val) | Val::Result(Ok(val) | Err(val)) => some(val),
        Val::Flags(flags) => flags.iter().map(|flag| flag.len() + 3).sum(),
        _ => 4,
    };
    own.saturating_add(4)
}
