//! `run`, `time` and `log`: the procedure's own progress, waiting, and words for people.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, select_all};

use super::{Function, PluginState, call::Timer};
use crate::engine::{
    LimitExceeded,
    bindings::{
        log::{self, Level},
        run::{self, Event},
        time,
        types::Error,
    },
};

/// Bytes of one note, title or question.
const MAX_TEXT: usize = 16 << 10;
/// Events of one `wait-any`.
const MAX_EVENTS: usize = 256;

fn bounded(text: &str) -> wasmtime::Result<()> {
    if text.len() > MAX_TEXT {
        let what = format!("a text of {} bytes, {MAX_TEXT} are allowed", text.len());
        return Err(LimitExceeded::new("text", what).into());
    }
    Ok(())
}

impl run::Host for PluginState {
    async fn step(&mut self, title: String) -> wasmtime::Result<()> {
        self.called = true;
        bounded(&title)?;
        self.spend(std::slice::from_ref(&title))?;
        let facts = self.lane.context().facts.clone();
        let say = async {
            facts.step(&title);
            Ok(())
        };
        self.lane.call::<_, (), _>(Function::RunStep, "", &title, say).await?.ok();
        Ok(())
    }

    // It waits for nothing, so its time is the plugin's own.
    async fn progress(&mut self, done: u32, total: u32) -> wasmtime::Result<()> {
        self.lane.context().facts.overall(done, total);
        Ok(())
    }

    async fn confirm(&mut self, question: String) -> wasmtime::Result<Result<bool, Error>> {
        self.called = true;
        bounded(&question)?;
        self.spend(std::slice::from_ref(&question))?;
        let person = self.lane.context().person;
        self.lane.ask(Function::RunConfirm, &question, person.ask(question.clone())).await
    }

    async fn point_of_no_return(&mut self, what: String) -> wasmtime::Result<()> {
        self.called = true;
        bounded(&what)?;
        self.spend(std::slice::from_ref(&what))?;
        let facts = self.lane.context().facts.clone();
        let say = async {
            facts.point_of_no_return(&what);
            Ok(())
        };
        self.lane.call::<_, (), _>(Function::RunPointOfNoReturn, "", &what, say).await?.ok();
        Ok(())
    }

    async fn wait_any(&mut self, events: Vec<Event>) -> wasmtime::Result<Result<u32, Error>> {
        self.called = true;
        if events.len() > MAX_EVENTS {
            let what = format!("{} events at once, {MAX_EVENTS} are allowed", events.len());
            return Err(LimitExceeded::new("events", what).into());
        }
        let clock = self.lane.context().world.clock;
        let mut names = Vec::with_capacity(events.len());
        let mut waiting: Vec<BoxFuture<'_, ()>> = Vec::with_capacity(events.len());
        let mut times = Vec::with_capacity(events.len());
        for event in &events {
            match event {
                Event::Migration(migration) => {
                    let task = self.table.get(migration)?.0.clone();
                    names.push(format!("migration of {}", task.vm()));
                    waiting.push(async move { drop(task.ended().await) }.boxed());
                }
                Event::Switchover(switchover) => {
                    let task = self.table.get(switchover)?.0.clone();
                    names.push(format!("switchover to {}", task.to()));
                    waiting.push(async move { drop(task.ended().await) }.boxed());
                }
                Event::After(ms) => {
                    let ms = *ms;
                    names.push(format!("after {ms} ms"));
                    times.push((waiting.len(), Duration::from_millis(ms)));
                    waiting.push(std::future::ready(()).boxed());
                }
            }
        }
        let longest = times.iter().map(|(_, time)| *time).max().unwrap_or_default();
        let first = times.iter().map(|(_, time)| *time).min();
        let only_times = times.len() == events.len();
        let timer = Timer { longest, rests: first.filter(|_| only_times && self.may_rest) };
        let wait = |passed: Duration| {
            for (at, time) in times {
                if let Some(event) = waiting.get_mut(at) {
                    let left = time.saturating_sub(passed);
                    *event = async move { clock.sleep(left).await }.boxed();
                }
            }
            async move {
                if waiting.is_empty() {
                    return Err(Error::Refused("there is nothing to wait for".into()));
                }
                let (_, first, _) = select_all(waiting).await;
                Ok(u32::try_from(first).unwrap_or(u32::MAX))
            }
        };
        self.lane.wait(Function::RunWaitAny, &names, timer, wait).await
    }
}

impl time::Host for PluginState {
    async fn sleep(&mut self, duration: u64) -> wasmtime::Result<()> {
        self.called = true;
        let clock = self.lane.context().world.clock;
        let time = Duration::from_millis(duration);
        let timer = Timer { longest: time, rests: self.may_rest.then_some(time) };
        let wait = |passed: Duration| async move {
            clock.sleep(time.saturating_sub(passed)).await;
            Ok(())
        };
        self.lane.wait::<_, (), _>(Function::TimeSleep, &duration, timer, wait).await?.ok();
        Ok(())
    }
}

impl log::Host for PluginState {
    async fn note(&mut self, level: Level, text: String) -> wasmtime::Result<()> {
        self.called = true;
        bounded(&text)?;
        self.spend(std::slice::from_ref(&text))?;
        let facts = self.lane.context().facts.clone();
        let say = async {
            facts.note(matches!(level, Level::Warning), &text);
            Ok(())
        };
        self.lane.call::<_, (), _>(Function::LogNote, "", &text, say).await?.ok();
        Ok(())
    }

    async fn panicked(&mut self, message: String) -> wasmtime::Result<()> {
        let mut message = message;
        message.truncate(message.floor_char_boundary(MAX_TEXT));
        message.shrink_to_fit();
        self.panic = Some(message);
        Ok(())
    }
}
