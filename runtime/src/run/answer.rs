//! A person's answer to the question that a run waits with.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value as Json;

use super::{Refusal, saved};
use crate::{
    diagnostic::Diagnostic,
    imports::call,
    store::{Journal, Kind, Record, Rest, RunId, RunRow, RunState, Store, StoreError},
};

/// Write down a person's answer to the question that a run waits with. The run has then to be
/// resumed.
///
/// # Errors
/// When it does not wait.
pub async fn answer(store: Arc<dyn Store>, id: &RunId, yes: bool) -> Result<String, Refusal> {
    let row = store.run(id).await?.ok_or_else(|| StoreError::NoSuchRun(id.to_string()))?;
    answer_to(store, &row, yes).await
}

/// As [`answer`], as long as the run is still as it was when `row` was read.
///
/// # Errors
/// When it does not wait, or waits for something else by now.
pub async fn answer_to(store: Arc<dyn Store>, row: &RunRow, yes: bool) -> Result<String, Refusal> {
    let id = &row.id;
    let records = saved::records(store.as_ref(), id).await?;
    let asked = records.iter().rev().find(|record| record.kind == Kind::Begin);
    let question = asked.and_then(|record| {
        let its_answer = |other: &&Record| {
            other.kind == Kind::Result && (&other.lane, other.n) == (&record.lane, record.n)
        };
        if records.iter().rev().take_while(|other| other.seq > record.seq).any(|other| its_answer(&other)) {
            return None;
        }
        let body: Json = serde_json::from_str(&record.body).ok()?;
        let asks = body.get("call")?.as_str()? == crate::imports::Function::RunConfirm.name();
        asks.then(|| body.get("with")?.as_str().map(str::to_owned)).flatten().map(|text| (record, text))
    });
    let (Some((asked, question)), RunState::Waiting | RunState::Paused) = (question, row.state) else {
        return Err(not_asked(id, row));
    };
    // In one step: whoever goes on with the run from here on finds the answer in it.
    let journal = Journal::reopened(store, id.clone(), row.epoch, &records)?;
    journal.note(&asked.lane, asked.n, Kind::Result, call::answer(&question, yes)).await?;
    match journal.take_over().await {
        Ok(()) => {}
        Err(StoreError::Fenced(_)) => {
            return Err(Diagnostic::new(format!(
                "somebody else was first with run {id}: this answer does not count"
            ))
            .hint(format!("look at it: leapfrog show {id}"))
            .into());
        }
        Err(error) => return Err(error.into()),
    }
    let answer = if yes { "yes" } else { "no" };
    let rest = Rest {
        state: RunState::Waiting,
        message: format!("a person has said {answer}, and nobody has gone on with it yet"),
        wake: Some(Timestamp::now()),
    };
    match journal.park(&rest).await {
        // Somebody goes on with it already.
        Ok(()) | Err(StoreError::Fenced(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(question)
}

/// An answer to a run that has asked nothing, or has had its answer.
fn not_asked(id: &RunId, row: &RunRow) -> Refusal {
    let how = match (&row.message, row.state) {
        (Some(message), RunState::Waiting) => message.clone(),
        _ => format!("it is {}", row.state),
    };
    let hint = match row.state {
        RunState::Waiting => format!("leapfrog resume {id} goes on with it"),
        _ => format!("look at it: leapfrog show {id}"),
    };
    Diagnostic::new(format!("run {id} does not wait for an answer: {how}")).hint(hint).into()
}
