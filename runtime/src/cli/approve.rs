//! `leapfrog approve`: the answers that runs wait for.

use std::{
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use super::{
    CANCELLED, Failure, Global, Outcome, REFUSED, many,
    many::{Crowd, Jobs, Named},
    print, print_json,
    resume::{go_on, nobody, one},
    run::{listen, refused, tell},
    shared::Shared,
    show::find,
};
use crate::{
    diagnostic::Diagnostic,
    imports::Person,
    report::{clip, plain},
    run as runs,
    store::{RunId, RunRow, RunState, Select, SqliteStore, Store},
};

/// Runs that are read at once.
const PAGE: u32 = 1_000;
/// Answers that are written at once: they share the disk's syncs.
const AT_ONCE: usize = 64;
/// Questions that are shown before a person answers them all.
const SHOWN: usize = 5;

#[derive(Debug, Args)]
#[command(
    override_usage = "leapfrog approve [OPTIONS] <RUN>\n       leapfrog approve [OPTIONS] --all",
    after_help = "Examples:\n  leapfrog approve 20261201-021503-k7f2\n  leapfrog approve 20261201-021503-k7f2 --no\n  leapfrog approve 20261201-021503-k7f2 --later\n  leapfrog approve --all                             every run that waits, after asking you\n  leapfrog approve --all --workflow pair-migration --yes --jobs 32\n\nThe answer is written down, and the run goes on here and now. What it waits for, leapfrog list --state waiting says; a paused run is approved to have its step tried once more. A run that waits takes neither memory nor a process. With --all every answer is written down before the first run goes on, so leapfrog resume --all ends what a dead process has begun; the exit code is that of the run that a person has to look at first: 3 if one has it, else 1, 4, 2, 0."
)]
pub struct Approve {
    /// The run, or the beginning of its name
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    run: Option<String>,
    /// Every run that waits for an answer now
    #[arg(long)]
    all: bool,
    /// Only runs of the workflow of this name
    #[arg(long, value_name = "NAME", requires = "all")]
    workflow: Option<String>,
    /// The answer is no; the procedure decides what that means
    #[arg(long)]
    no: bool,
    /// Only write the answer down; `leapfrog resume` goes on with it, --all too
    #[arg(long)]
    later: bool,
    /// Do not ask whether all of them are meant
    #[arg(long, requires = "all")]
    yes: bool,
    #[command(flatten)]
    jobs: Jobs,
    /// Write the report there when the run is over
    #[arg(long, value_name = "FILE", conflicts_with_all = ["later", "all"])]
    html: Option<PathBuf>,
}

impl Approve {
    pub async fn go(self, global: &Global) -> Outcome {
        let store = global.open_store()?;
        let Some(name) = &self.run else { return self.all(global, &store).await };
        let row = find(&store, Some(name)).await?;
        let question = match runs::answer(store.clone(), &row.id, !self.no).await {
            Ok(question) => question,
            Err(refusal) => return tell(global, Err(refusal), None).await,
        };
        self.say(global, &row.id, &question);
        if self.later {
            return Ok(0);
        }
        let (stop, cancel) = watch::channel(false);
        let signals = tokio::spawn(listen(stop));
        let outcome = one(global, &store, &row.id, Person::here(false), cancel).await?;
        signals.abort();
        tell(global, outcome, self.html.as_deref()).await
    }

    fn word(&self) -> &'static str {
        if self.no { "no" } else { "yes" }
    }

    fn say(&self, global: &Global, id: &RunId, question: &str) {
        if global.json {
            print_json(&serde_json::json!({ "run": id, "question": question, "answer": self.word() }));
        } else {
            print(&format!("{id}: {} {}", plain(question), self.word()));
        }
    }

    async fn all(&self, global: &Global, store: &Arc<SqliteStore>) -> Outcome {
        let waiting = self.waiting(store).await?;
        if waiting.is_empty() {
            if !global.json {
                print("no run waits for an answer");
            }
            return Ok(0);
        }
        if !self.yes && !self.asked(&waiting).await? {
            return Err(Failure {
                diagnostics: Diagnostic::new("nothing was answered").into(),
                code: REFUSED,
            });
        }
        let (stop, cancel) = watch::channel(false);
        let signals = tokio::spawn(listen(stop));
        let code = self.answer(global, store, waiting, cancel).await;
        signals.abort();
        code
    }

    /// All that wait now; one that comes to wait later was not meant.
    async fn waiting(&self, store: &SqliteStore) -> Result<Vec<RunRow>, Failure> {
        let mut all: Vec<RunRow> = Vec::new();
        loop {
            let after = all.last().map_or_else(RunId::first, |row| row.id.clone());
            let select =
                Select { workflow: self.workflow.clone(), ..Select::page(RunState::Waiting, after, PAGE) };
            let page = store.select(&select).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Show how many there are and what they ask, and ask the person at the terminal.
    async fn asked(&self, waiting: &[RunRow]) -> Result<bool, Failure> {
        let many = waiting.len();
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return Err(Diagnostic::new(format!(
                "{many} runs wait for an answer, and nobody is here to ask"
            ))
            .hint("say --yes if all of them are meant; `leapfrog list --state waiting` shows them")
            .into());
        }
        let mut text = format!("{many} runs wait for an answer:\n");
        for row in waiting.iter().take(SHOWN) {
            let question = row.message.as_deref().unwrap_or_default();
            text += &format!("  {}  {}\n", row.id, clip(&plain(question), 100));
        }
        if many > SHOWN {
            text += &format!("  … and {} more (leapfrog list --state waiting)\n", many - SHOWN);
        }
        text += &format!("answer {} to all {many}? [y/N] ", self.word());
        let asked = tokio::task::spawn_blocking(move || {
            std::io::stderr().write_all(text.as_bytes()).ok()?;
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).ok()?;
            Some(matches!(line.trim(), "y" | "Y" | "yes" | "Yes"))
        });
        Ok(asked.await.ok().flatten().unwrap_or(false))
    }

    /// Write the answers down, all of them, and then go on with the runs.
    async fn answer(
        &self,
        global: &Global,
        store: &Arc<SqliteStore>,
        waiting: Vec<RunRow>,
        cancel: watch::Receiver<bool>,
    ) -> Outcome {
        let many = waiting.len();
        let stopped = cancel.clone();
        let mut answers = stream::iter(waiting)
            .take_while(|_| std::future::ready(!*stopped.borrow()))
            .map(|row| async {
                let answered = runs::answer_to(store.clone(), &row, !self.no).await;
                (row.id, answered)
            })
            .buffer_unordered(AT_ONCE);
        let (mut answered, mut worst) = (Vec::with_capacity(many), 0);
        while let Some((id, outcome)) = answers.next().await {
            match outcome {
                Ok(question) => {
                    if global.json {
                        self.say(global, &id, &question);
                    }
                    answered.push(id);
                }
                Err(refusal) => {
                    let failure = refused(refusal);
                    worst = many::worse(worst, failure.code);
                    super::report(global, &failure);
                }
            }
        }
        drop(answers);
        answered.sort();
        if !global.json {
            print(&format!("{} of {many} runs are answered: {}", answered.len(), self.word()));
        }
        if *cancel.borrow() {
            return Ok(CANCELLED);
        }
        if self.later {
            return Ok(worst);
        }
        let shared = Arc::new(Shared::new(global, store)?);
        let mut crowd = Crowd::new(global, self.jobs, cancel)?;
        for id in answered {
            if crowd.is_cancelled() {
                break;
            }
            let shared = shared.clone();
            let of = Named { id: id.clone(), line: None };
            crowd.start(of, |cancel| go_on(shared, id, nobody(false), cancel)).await;
        }
        let cancelled = crowd.is_cancelled();
        let worst = many::worse(worst, crowd.all_end().await);
        Ok(if cancelled { many::worse(worst, CANCELLED) } else { worst })
    }
}
