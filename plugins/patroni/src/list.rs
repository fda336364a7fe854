//! What `patronictl list -f json` says, and what it means.
//!
//! Source: `output_members` of Patroni's `ctl.py` and `cluster_as_json` of its `utils.py`, 3.0.2
//! to 4.1.4; recordings of 3.0.2. A column without a value is left out of a row.

use leapfrog_plugin::{clipped, types::Role};
use serde::Deserialize;
use serde_json::Value;

const LEADER: &str = "Leader";
const STANDBY_LEADER: &str = "Standby Leader";
const REPLICAS: [&str; 3] = ["Replica", "Sync Standby", "Quorum Standby"];
const RUNNING: &str = "running";
/// Said of a replica since 3.0.4, in the place of `running`.
const STREAMING: &str = "streaming";

/// Characters of a word of theirs that are shown.
const SHOWN: usize = 60;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    #[serde(rename = "Cluster")]
    cluster: String,
    #[serde(rename = "Member")]
    pub name: String,
    #[serde(rename = "Role")]
    pub role: String,
    #[serde(rename = "State", default)]
    state: String,
    #[serde(rename = "TL")]
    timeline: Option<u64>,
    /// A number, or `unknown`. Until 4.0.
    #[serde(rename = "Lag in MB")]
    lag: Option<Value>,
    /// Since 4.1; left out when unknown.
    #[serde(rename = "Receive Lag")]
    receive_lag: Option<Value>,
    #[serde(rename = "Replay Lag")]
    replay_lag: Option<Value>,
    /// Of a Citus cluster, which is many clusters in one.
    #[serde(rename = "Group")]
    group: Option<Value>,
    #[serde(rename = "Tags")]
    tags: Option<Value>,
}

impl Member {
    /// MiB behind the leader, where it says so. The larger one, of several.
    fn lag(&self) -> Option<u64> {
        [&self.lag, &self.receive_lag, &self.replay_lag]
            .into_iter()
            .filter_map(|lag| lag.as_ref().and_then(Value::as_u64))
            .max()
    }

    pub fn is_synchronous(&self) -> bool {
        self.role == REPLICAS[1] || self.role == REPLICAS[2]
    }

    /// It is excluded from becoming leader.
    pub fn never_leads(&self) -> bool {
        let of = |tag: &str| self.tags.as_ref().and_then(|tags| tags.get(tag)).cloned();
        let no_failover = of("nofailover").is_some_and(|value| value != Value::Bool(false));
        no_failover || of("failover_priority").is_some_and(|value| value.as_i64().is_some_and(|p| p <= 0))
    }
}

/// The rows of the one cluster.
///
/// # Errors
/// Why they are none that a role may be read from.
pub fn members(text: &str, cluster: &str) -> Result<Vec<Member>, String> {
    let found: Vec<Member> = serde_json::from_str(text).map_err(|e| {
        format!("patronictl's list is not in a form that we know: {e}: {}", clipped(text, SHOWN))
    })?;
    if found.is_empty() {
        return Err(format!("Patroni knows no member of a cluster {}", clipped(cluster, SHOWN)));
    }
    if let Some(other) = found.iter().find(|member| member.cluster != cluster) {
        return Err(format!(
            "patronictl lists the cluster {} too, not only {}",
            clipped(&other.cluster, SHOWN),
            clipped(cluster, SHOWN)
        ));
    }
    if found.iter().any(|member| member.group.is_some()) {
        return Err("this is a Citus cluster, which this driver does not know".into());
    }
    for (n, member) in found.iter().enumerate() {
        if found.iter().skip(n + 1).any(|other| other.name == member.name) {
            return Err(format!("Patroni lists the member {} twice", clipped(&member.name, SHOWN)));
        }
    }
    Ok(found)
}

fn named<'a>(members: &'a [Member], name: &str) -> Result<&'a Member, String> {
    members.iter().find(|member| member.name == name).ok_or_else(|| {
        let names: Vec<_> = members.iter().map(|member| clipped(&member.name, SHOWN)).collect();
        format!("Patroni lists no member {}; there is {}", clipped(name, SHOWN), names.join(", "))
    })
}

/// The role of `name`.
///
/// # Errors
/// Why it is unknown, for people.
pub fn role(members: &[Member], name: &str) -> Result<Role, String> {
    let member = named(members, name)?;
    if members.iter().any(|member| member.role == STANDBY_LEADER) {
        return Err("this is a standby cluster, which follows another one: its leader does not serve".into());
    }
    let mut leaders = members.iter().filter(|member| member.role == LEADER);
    let leader = match (leaders.next(), leaders.next()) {
        (Some(leader), None) => leader,
        (None, _) => return Err("the cluster has no leader".into()),
        (Some(_), Some(_)) => return Err("the cluster has two leaders".into()),
    };
    if member.role == LEADER {
        return match &*member.state {
            // It does not tell its timeline while it is taken down or up.
            RUNNING if member.timeline.is_none() => {
                Err("it is leader, but tells no timeline: it is on its way down or up".into())
            }
            RUNNING => Ok(Role::Active),
            other => Err(format!("it is leader, but {}", clipped(other, SHOWN))),
        };
    }
    if !REPLICAS.contains(&&*member.role) {
        return Err(format!("its role {} is none that we know", clipped(&member.role, SHOWN)));
    }
    // Whoever has not the leader key is called a replica, also one that is stopped.
    if ![RUNNING, STREAMING].contains(&&*member.state) {
        return Err(format!("it is no leader, but {}", clipped(&member.state, SHOWN)));
    }
    match (member.timeline, leader.timeline) {
        (Some(its), Some(leaders)) if its == leaders => {}
        (Some(its), Some(leaders)) => {
            return Err(format!("it is on timeline {its}, and the leader {} on {leaders}", leader.name));
        }
        _ => return Err("its timeline, or that of the leader, is not told".into()),
    }
    if member.lag().is_none() {
        return Err("it does not tell how far it has come".into());
    }
    Ok(Role::Standby)
}

/// What of `name` has not come to rest, but streaming, as the list tells it.
pub fn restless(members: &[Member], name: &str, max_lag: u64) -> Option<String> {
    match role(members, name) {
        Err(problem) => Some(problem),
        Ok(Role::Standby) => {
            let lag = named(members, name).ok().and_then(Member::lag)?;
            (lag > max_lag).then(|| format!("it is {lag} MiB behind the leader, and {max_lag} are allowed"))
        }
        Ok(_) => None,
    }
}

/// It has the leader key, in whatever state it is.
pub fn leads(members: &[Member], name: &str) -> bool {
    named(members, name).is_ok_and(|member| member.role == LEADER)
}

/// It is a replica of which the list says only that it runs.
pub fn runs_as_replica(members: &[Member], name: &str) -> bool {
    named(members, name).is_ok_and(|member| member.role != LEADER && member.state == RUNNING)
}

/// Whether `name` may become leader as far as the list tells.
///
/// # Errors
/// Why not.
pub fn candidate<'a>(members: &'a [Member], name: &str) -> Result<&'a Member, String> {
    match role(members, name) {
        Ok(Role::Standby) => named(members, name),
        Ok(_) => Err(format!("{name} is no replica any more")),
        Err(problem) => Err(format!("{name}: {problem}")),
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
