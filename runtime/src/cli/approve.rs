//! `leapfrog approve`: the answer that a run waits for.

use std::path::PathBuf;

use clap::Args;
use tokio::sync::watch;

use super::{
    Global, Outcome, print, print_json,
    resume::one,
    run::{listen, tell},
    show::find,
};
use crate::{imports::Person, report::plain, run as runs};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leapfrog approve 20261201-021503-k7f2\n  leapfrog approve 20261201-021503-k7f2 --no\n  leapfrog approve 20261201-021503-k7f2 --later\n\nThe answer is written down, and the run goes on here and now. A run that waits takes neither memory nor a process."
)]
pub struct Approve {
    /// The run, or the beginning of its name
    run: String,
    /// The answer is no; the procedure decides what that means
    #[arg(long)]
    no: bool,
    /// Only write the answer down; `leapfrog resume` goes on with it, --all too
    #[arg(long)]
    later: bool,
    /// Write the report there when the run is over
    #[arg(long, value_name = "FILE", conflicts_with = "later")]
    html: Option<PathBuf>,
}

impl Approve {
    pub async fn go(self, global: &Global) -> Outcome {
        let store = global.open_store()?;
        let row = find(&store, Some(&self.run)).await?;
        let question = match runs::answer(store.clone(), &row.id, !self.no).await {
            Ok(question) => question,
            Err(refusal) => return tell(global, Err(refusal), None).await,
        };
        let word = if self.no { "no" } else { "yes" };
        if global.json {
            print_json(&serde_json::json!({ "run": row.id, "question": question, "answer": word }));
        } else {
            print(&format!("{}: {} {word}", row.id, plain(&question)));
        }
        if self.later {
            return Ok(0);
        }
        let (stop, cancel) = watch::channel(false);
        let signals = tokio::spawn(listen(stop));
        let outcome = one(global, &store, &row.id, Person::here(false), cancel).await?;
        signals.abort();
        tell(global, outcome, self.html.as_deref()).await
    }
}
