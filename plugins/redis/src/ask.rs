//! The commands. Each is a list of arguments; none needs a shell.

use leapfrog_plugin::{clipped, driver::*};

use crate::{
    reply::{self, SHOWN, Told},
    settings::{Sentinel, Settings},
};

/// Standard output of a question; the inner error says why there is none to go by.
pub type Reply = Result<Result<String, String>, Error>;

pub fn role(session: &Session, settings: &Settings) -> Result<Result<Told, String>, Error> {
    Ok(redis(session, settings, &["ROLE"])?.and_then(|text| reply::role(&text)))
}

/// Ask the Redis of a server.
pub fn redis(session: &Session, settings: &Settings, command: &[&str]) -> Reply {
    query(session, &settings.cli, command)
}

/// Ask the Sentinel of a server.
pub fn sentinel(session: &Session, sentinel: &Sentinel, command: &[&str]) -> Reply {
    query(session, &sentinel.cli, command)
}

/// What to run for a command of Redis.
pub fn args(cli: &[String], command: &[&str]) -> Vec<String> {
    cli.iter().cloned().chain(command.iter().map(|word| (*word).to_owned())).collect()
}

fn query(session: &Session, cli: &[String], command: &[&str]) -> Reply {
    let args = args(cli, command);
    let output = session.query(&args).doing(format_args!("asking Redis on {}", session.server()))?;
    if output.status == 0 {
        return Ok(Ok(output.stdout));
    }
    let said = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
    Ok(Err(format!("redis-cli ended with status {}: {}", output.status, clipped(said, SHOWN))))
}
