//! All behaviour in one binary, a folder for each part.

#![allow(clippy::unwrap_used)]

mod bad;
mod cli;
mod conformance;
mod hostile;
mod keepalived;
mod moving;
mod planning;
mod recordings;
mod rehearsing;
mod ssh;
mod support;
mod tidy;
