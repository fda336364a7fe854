//! What has not come to rest on one server, and what a pause may be, from what Redis and
//! Sentinel say of themselves.

use std::collections::BTreeMap;

use leapfrog_plugin::clipped;

use crate::{
    reply::{SHOWN, number},
    settings::{Address, Settings},
};

type Fields<'a> = BTreeMap<&'a str, &'a str>;

/// Milliseconds between two pings of Sentinel (`SENTINEL_PING_PERIOD` of its source).
const PING: u64 = 1_000;
/// Milliseconds by which a replica's lag is known: it acknowledges each second, and its age is
/// counted in whole seconds.
const LAG_STEP: u64 = 2_000;

/// What `INFO replication` of `server` still lacks.
pub fn replication(settings: &Settings, server: &str, info: &Fields<'_>) -> Vec<String> {
    let value = |key: &str| info.get(key).copied().unwrap_or("not told");
    let mut reasons = Vec::new();
    match info.get("role") {
        Some(&"master") => {
            // Not told by what is older than 6.2.
            let failover = info.get("master_failover_state").copied().unwrap_or("no-failover");
            if failover != "no-failover" {
                reasons.push(format!("a failover is under way: {}", clipped(failover, SHOWN)));
            }
            let offset = number(value("master_repl_offset"));
            for (name, address) in settings.others(server) {
                reasons.extend(replica(settings, name, address, info, offset));
            }
        }
        Some(&"slave") => {
            if value("master_link_status") != "up" {
                reasons.push(format!(
                    "its link to the master is {}",
                    clipped(value("master_link_status"), SHOWN)
                ));
            }
            if value("master_sync_in_progress") != "0" {
                reasons.push("it is copying the whole data set from the master".into());
            }
        }
        other => reasons.push(format!(
            "it says no role in INFO replication, but {}",
            clipped(other.copied().unwrap_or("nothing"), SHOWN)
        )),
    }
    reasons
}

/// What a master says of one replica: `slave0:ip=…,port=…,state=online,offset=…,lag=…`.
fn replica(
    settings: &Settings,
    name: &str,
    address: &Address,
    info: &Fields<'_>,
    offset: Option<i64>,
) -> Option<String> {
    let slaves = info.iter().filter(|(key, _)| is_numbered(key, "slave")).map(|(_, value)| pairs(value));
    let found = slaves.into_iter().find(|replica| {
        let port = replica.get("port").and_then(|port| port.parse().ok());
        replica.get("ip").zip(port).is_some_and(|(ip, port)| address.is(ip, port))
    });
    let Some(found) = found else {
        return Some(format!("no replica at {address} ({name}) is connected to it"));
    };
    let state = found.get("state").map_or("not told", String::as_str);
    if state != "online" {
        return Some(format!("its replica {name} is {}", clipped(state, SHOWN)));
    }
    let there = found.get("offset").and_then(|there| number(there));
    match offset.zip(there).map(|(here, there)| here.saturating_sub(there)) {
        Some(behind) if u64::try_from(behind).unwrap_or(0) <= settings.behind => None,
        Some(behind) => Some(format!("its replica {name} is {behind} bytes behind")),
        None => Some(format!("it does not say how far its replica {name} is")),
    }
}

/// What `INFO sentinel` still lacks for Sentinel to watch the pair: in its line
/// `master0:name=…,status=…,address=…,slaves=…,sentinels=…` one of `masters` has to be.
pub fn watched(info: &Fields<'_>, name: &str, masters: &[&Address]) -> Vec<String> {
    let mut reasons = Vec::new();
    if info.get("sentinel_tilt") != Some(&"0") {
        // For 30 s after its clock jumped, as after a pause, it does nothing.
        reasons.push("Sentinel is in TILT, or does not say that it is not".into());
    }
    let lines = info.iter().filter(|(key, _)| is_numbered(key, "master")).map(|(_, value)| pairs(value));
    let Some(watched) = lines.into_iter().find(|line| line.get("name").is_some_and(|is| is == name)) else {
        reasons.push(format!("Sentinel knows no master {name}"));
        return reasons;
    };
    let value = |key: &str| watched.get(key).map_or("not told", String::as_str);
    if value("status") != "ok" {
        reasons.push(format!("Sentinel says of the master: {}", clipped(value("status"), SHOWN)));
    }
    let at = value("address").rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    if !at.is_some_and(|(host, port)| masters.iter().any(|master| master.is(host, port))) {
        // Each Sentinel learns of a switchover by itself.
        reasons.push(format!("its Sentinel takes {} for the master", clipped(value("address"), SHOWN)));
    }
    reasons
}

/// `ip=…,port=…`
fn pairs(value: &str) -> BTreeMap<String, String> {
    let pairs = value.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// `slave0`, `slave1` …
fn is_numbered(key: &str, word: &str) -> bool {
    key.strip_prefix(word).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Milliseconds that a master may be paused before Sentinel takes it for down: it counts from a
/// ping without an answer. One interval of its pings is not counted, as it may have lost the
/// connection and count from the last answer.
pub fn borne_by_master(master: &Fields<'_>) -> Option<u64> {
    let after: u64 = master.get("down-after-milliseconds")?.parse().ok()?;
    // It pings more often when it has less time.
    let borne = after.saturating_sub(PING.min(after.div_ceil(2)));
    (borne > 0).then_some(borne)
}

/// Milliseconds that a replica may be paused before its master refuses writes. The outer `None`:
/// it is not told; the inner one: for ever.
pub fn borne_by_replica(config: &Fields<'_>) -> Option<Option<u64>> {
    let of = |key: &str| config.get(key).and_then(|value| value.parse::<u64>().ok());
    let (wanted, lag) = (of("min-replicas-to-write")?, of("min-replicas-max-lag")?);
    if wanted == 0 || lag == 0 {
        return Some(None);
    }
    Some(Some(lag.saturating_mul(1_000).saturating_sub(LAG_STEP).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        reply::{fields, info},
        settings::tests::plain,
    };

    const MASTER: &str = include_str!("../recordings/info-master.txt");
    const REPLICA: &str = include_str!("../recordings/info-replica.txt");
    const WATCHED: &str = include_str!("../recordings/sentinel-master.txt");
    const SENTINEL: &str = include_str!("../recordings/info-sentinel.txt");
    const CONFIG: &str = include_str!("../recordings/config-min-replicas.txt");

    fn reasons(server: &str, text: &str) -> Vec<String> {
        replication(&plain(), server, &info(text, "Replication").expect("it is a recording"))
    }

    #[test]
    fn a_pair_at_rest_lacks_nothing() {
        assert_eq!(reasons("one", MASTER), Vec::<String>::new());
        assert_eq!(reasons("two", REPLICA), Vec::<String>::new());
    }

    #[test]
    fn each_lack_is_told() {
        let lacks = |server: &str, text: &str, from: &str, to: &str, word: &str| {
            assert!(text.contains(from), "{from}");
            let found = reasons(server, &text.replace(from, to));
            assert!(found.len() == 1 && found[0].contains(word), "{found:?} should contain {word}");
        };
        lacks("one", MASTER, "no-failover", "waiting-for-sync", "under way");
        lacks("one", MASTER, "state=online", "state=wait_bgsave", "wait_bgsave");
        lacks("one", MASTER, "ip=10.99.0.2", "ip=10.99.0.22", "no replica at 10.99.0.2:6379 (two)");
        lacks("one", MASTER, "slave0:", "slave0x:", "no replica");
        lacks("one", MASTER, "master_repl_offset:", "master_repl_offset:99999999", "bytes behind");
        lacks("one", MASTER, "master_repl_offset:", "master_repl_offset:x", "how far");
        lacks("one", MASTER, "role:master", "role:", "no role");
        lacks("two", REPLICA, "master_link_status:up", "master_link_status:down", "\"down\"");
        lacks("two", REPLICA, "master_link_status:up", "", "not told");
        lacks("two", REPLICA, "master_sync_in_progress:0", "master_sync_in_progress:1", "copying");
    }

    #[test]
    fn sentinel_tells_whom_it_watches_and_how_long_it_waits() {
        let settings = plain();
        let (one, two) = (settings.address("one"), settings.address("two"));
        let (one, two) = (one.expect("it is there"), two.expect("it is there"));
        let lacks = |text: &str, name: &str, masters: &[&Address]| {
            watched(&info(text, "Sentinel").expect("it is as a recording"), name, masters)
        };
        assert_eq!(lacks(SENTINEL, "mymaster", &[one]), Vec::<String>::new());
        for (text, name, masters, word) in [
            (SENTINEL.to_owned(), "mymaster", &[two], "takes \"10.99.0.1:6379\""),
            (SENTINEL.to_owned(), "other", &[one], "no master other"),
            (SENTINEL.replace("tilt:0", "tilt:1"), "mymaster", &[one], "TILT"),
            (SENTINEL.replace("sentinel_tilt:0", ""), "mymaster", &[one], "TILT"),
            (SENTINEL.replace("status=ok", "status=odown"), "mymaster", &[one], "odown"),
            (SENTINEL.replace("address=", ""), "mymaster", &[one], "takes \"not told\""),
        ] {
            let found = lacks(&text, name, masters);
            assert!(found.len() == 1 && found[0].contains(word), "{found:?} should contain {word}");
        }
        let master = fields(WATCHED).expect("it is a recording");
        assert_eq!(borne_by_master(&master), Some(4_000));
        let after = |ms: &'static str| borne_by_master(&Fields::from([("down-after-milliseconds", ms)]));
        assert_eq!(
            (after("30000"), after("1000"), after("1"), after("x")),
            (Some(29_000), Some(500), None, None)
        );
        assert_eq!(borne_by_master(&Fields::new()), None);
    }

    #[test]
    fn a_replica_is_borne_for_ever_unless_the_master_needs_it() {
        let config = fields(CONFIG).expect("it is a recording");
        assert_eq!(borne_by_replica(&config), Some(None));
        let with = |wanted, lag| {
            borne_by_replica(&Fields::from([
                ("min-replicas-to-write", wanted),
                ("min-replicas-max-lag", lag),
            ]))
        };
        assert_eq!((with("1", "10"), with("1", "0")), (Some(Some(8_000)), Some(None)));
        assert_eq!((with("1", "1"), with("1", "x")), (Some(Some(1)), None));
        assert_eq!(borne_by_replica(&Fields::new()), None);
    }
}
