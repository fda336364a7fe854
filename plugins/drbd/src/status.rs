//! What `drbdsetup status --json` says, and the role that follows from it.
//!
//! Source: `resource_status_json` and its neighbours in `user/v9/drbdsetup.c` of drbd-utils 9.22
//! and 9.34; the words of states are those of DRBD 9's kernel module. A field that one of the
//! versions lacks is optional; a word that is not known is no role.

use leapfrog_plugin::{clipped, types::Role};
use serde::Deserialize;

use crate::settings::Settings;

/// Characters of foreign text that are shown.
pub const SHOWN: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Resource {
    pub name: String,
    pub role: String,
    /// Input and output stand still, for whatever reason.
    pub suspended: bool,
    pub devices: Vec<Device>,
    pub connections: Vec<Connection>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Device {
    pub volume: i64,
    pub disk_state: String,
    /// Somebody has it open; `false` also where an older kernel module does not say.
    #[serde(default)]
    pub open: bool,
    pub quorum: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Connection {
    /// The peer's, as in `on NAME` of drbd.conf.
    pub name: String,
    pub connection_state: String,
    pub peer_role: String,
    #[serde(rename = "peer_devices")]
    pub peer_devices: Vec<PeerDevice>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PeerDevice {
    pub volume: i64,
    pub replication_state: String,
    pub peer_disk_state: String,
    /// It has no disk of its own, on purpose.
    #[serde(default)]
    pub peer_client: bool,
    pub resync_suspended: String,
    /// KiB.
    pub out_of_sync: u64,
}

/// All resources of a server.
///
/// # Errors
/// Why nothing can be told from it, for people.
pub fn read(text: &str) -> Result<Vec<Resource>, String> {
    if text.trim().is_empty() {
        return Err("drbdsetup printed nothing".into());
    }
    serde_json::from_str(text).map_err(|e| {
        format!("drbdsetup's status is not in a form that we know: {e}: {}", clipped(text, SHOWN))
    })
}

/// The resource of the settings.
///
/// # Errors
/// It is not there, or several times; with what is there instead.
pub fn ours<'a>(all: &'a [Resource], settings: &Settings) -> Result<&'a Resource, String> {
    let wanted = &settings.resource;
    let mut found = all.iter().filter(|resource| resource.name == *wanted);
    match (found.next(), found.next()) {
        (Some(resource), None) if resource.devices.is_empty() => Err(format!("{wanted} has no volume")),
        (Some(resource), None) => Ok(resource),
        (Some(_), Some(_)) => Err(format!("DRBD lists the resource {wanted} twice")),
        (None, _) => {
            let names: Vec<_> = all.iter().map(|resource| shown(&resource.name)).collect();
            let there = if names.is_empty() { "none".into() } else { names.join(", ") };
            Err(format!("DRBD has no resource {wanted} up; there is {there}"))
        }
    }
}

/// The role of the server that said `all`; `peers` are DRBD's names of the other members.
///
/// # Errors
/// Why it is unknown, for people.
pub fn role(all: &[Resource], settings: &Settings, peers: &[&str]) -> Result<Role, String> {
    let resource = ours(all, settings)?;
    let name = &resource.name;
    let role = known(resource)?;
    if resource.suspended {
        return Err(format!("{name} is suspended: its input and output stand still"));
    }
    if let Some(device) = resource.devices.iter().find(|device| !device.quorum) {
        return Err(format!("volume {} of {name} has no quorum", device.volume));
    }
    // What a switchover of this one does not move would be interrupted with the server.
    let mut others = all.iter().filter(|other| other.name != *name && !settings.ignore.contains(&other.name));
    if let Some(other) = others.find(|other| known(other) != Ok(role)) {
        return Err(format!(
            "{name} is {} here, and {} is {} (hint: `ignore`, if that may be interrupted)",
            resource.role,
            shown(&other.name),
            shown(&other.role)
        ));
    }
    if role == Role::Standby {
        ready(resource, peers)?;
    }
    Ok(role)
}

fn known(resource: &Resource) -> Result<Role, String> {
    match resource.role.as_str() {
        "Primary" => Ok(Role::Active),
        "Secondary" => Ok(Role::Standby),
        other => Err(format!("{} is {}", shown(&resource.name), shown(other))),
    }
}

/// A secondary is a standby if it could take over with all that the primary has written.
fn ready(resource: &Resource, peers: &[&str]) -> Result<(), String> {
    let name = &resource.name;
    if let Some(device) = resource.devices.iter().find(|device| device.disk_state != "UpToDate") {
        return Err(format!("volume {} of {name} is {}", device.volume, shown(&device.disk_state)));
    }
    for peer in peers {
        let mut to = resource.connections.iter().filter(|connection| connection.name == *peer);
        let (Some(connection), None) = (to.next(), to.next()) else {
            let names: Vec<_> =
                resource.connections.iter().map(|connection| shown(&connection.name)).collect();
            return Err(format!(
                "{name} has no connection, or several, to {peer}; it has {} (hint: `names`)",
                if names.is_empty() { "none".into() } else { names.join(", ") }
            ));
        };
        if connection.connection_state != "Connected" {
            return Err(format!(
                "{name} is not connected to {peer}: {}",
                shown(&connection.connection_state)
            ));
        }
        if !matches!(connection.peer_role.as_str(), "Primary" | "Secondary") {
            return Err(format!("the role of {peer} is {}", shown(&connection.peer_role)));
        }
        for device in &resource.devices {
            let mut there = connection.peer_devices.iter().filter(|peer| peer.volume == device.volume);
            let state = match (there.next(), there.next()) {
                (Some(peer), None) => &peer.replication_state,
                _ => return Err(format!("nothing is said of volume {} of {name} on {peer}", device.volume)),
            };
            if state != "Established" {
                return Err(format!("volume {} of {name} and {peer}: {}", device.volume, shown(state)));
            }
        }
    }
    Ok(())
}

/// What of the resource has not come to rest, on this server and as it sees its peers.
pub fn reasons(resource: &Resource) -> Vec<String> {
    let mut found = Vec::new();
    let name = &resource.name;
    if resource.suspended {
        found.push(format!("{name} is suspended"));
    }
    for device in &resource.devices {
        if device.disk_state != "UpToDate" {
            found.push(format!("volume {} of {name} is {}", device.volume, shown(&device.disk_state)));
        }
        if !device.quorum {
            found.push(format!("volume {} of {name} has no quorum", device.volume));
        }
    }
    if resource.connections.is_empty() {
        found.push(format!("{name} has no connection"));
    }
    for connection in &resource.connections {
        let peer = shown(&connection.name);
        if connection.connection_state != "Connected" {
            found.push(format!("{name} is not connected to {peer}: {}", shown(&connection.connection_state)));
            continue;
        }
        for there in &connection.peer_devices {
            let volume = format!("volume {} of {name} and {peer}", there.volume);
            if there.replication_state != "Established" {
                found.push(format!("{volume}: {}", shown(&there.replication_state)));
            }
            if there.peer_disk_state != "UpToDate" && !there.peer_client {
                found.push(format!("{volume}: it is {} there", shown(&there.peer_disk_state)));
            }
            if there.out_of_sync > 0 {
                found.push(format!("{volume}: {} KiB are out of sync", there.out_of_sync));
            }
            if there.resync_suspended != "no" {
                found.push(format!("{volume}: its synchronisation is suspended"));
            }
        }
    }
    found
}

fn shown(text: &str) -> String {
    clipped(text, SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Written, tests::of};

    const SECONDARY: &str = include_str!("../recordings/secondary.json");
    const PRIMARY: &str = include_str!("../recordings/primary.json");

    fn said(text: &str, peer: &str) -> Result<Role, String> {
        role(&read(text)?, &of("r0"), &[peer])
    }

    fn unknown(text: &str, peer: &str, word: &str) {
        let why = said(text, peer).expect_err(word);
        assert!(why.contains(word), "{why} should contain {word}");
    }

    #[test]
    fn a_pair_at_rest_is_understood() {
        assert_eq!(said(PRIMARY, "two"), Ok(Role::Active));
        assert_eq!(said(SECONDARY, "one"), Ok(Role::Standby));
        let standby = include_str!("../recordings/both-secondary.json");
        assert_eq!(said(standby, "two"), Ok(Role::Standby), "the other says the same, and nobody is active");
        for text in [PRIMARY, SECONDARY] {
            let all = read(text).expect("it is a listing");
            assert_eq!(reasons(&all[0]), Vec::<String>::new());
        }
    }

    #[test]
    fn a_secondary_that_could_not_take_over_is_no_standby() {
        unknown(include_str!("../recordings/secondary-synchronising.json"), "one", "Inconsistent");
        unknown(include_str!("../recordings/secondary-alone.json"), "one", "Outdated");
        unknown(SECONDARY, "three", "\"one\"");
        let changes = [
            ("\"disk-state\": \"UpToDate\"", "\"disk-state\": \"Consistent\"", "Consistent"),
            ("\"disk-state\": \"UpToDate\"", "\"disk-state\": \"Diskless\"", "Diskless"),
            ("\"connection-state\": \"Connected\"", "\"connection-state\": \"Connecting\"", "not connected"),
            ("\"connection-state\": \"Connected\"", "\"connection-state\": \"StandAlone\"", "not connected"),
            ("\"peer-role\": \"Primary\"", "\"peer-role\": \"Unknown\"", "role of one"),
            ("\"replication-state\": \"Established\"", "\"replication-state\": \"Ahead\"", "Ahead"),
            ("\"replication-state\": \"Established\"", "\"replication-state\": \"WFBitMapT\"", "WFBitMapT"),
            ("\"quorum\": true", "\"quorum\": false", "quorum"),
            ("\"suspended\": false", "\"suspended\": true", "suspended"),
            ("\"role\": \"Secondary\"", "\"role\": \"Unknown\"", "Unknown"),
            ("\"name\": \"r0\"", "\"name\": \"r1\"", "there is \"r1\""),
            ("          \"volume\": 0", "          \"volume\": 1", "nothing is said of volume 0"),
        ];
        for (is, other, word) in changes {
            assert!(SECONDARY.contains(is), "{is}");
            unknown(&SECONDARY.replacen(is, other, 1), "one", word);
        }
    }

    #[test]
    fn a_primary_whose_output_stands_still_is_not_active() {
        unknown(include_str!("../recordings/primary-suspended.json"), "two", "suspended");
        unknown(&PRIMARY.replace("\"quorum\": true", "\"quorum\": false"), "two", "quorum");
        // A primary that lost its peer goes on alone.
        let alone = PRIMARY.replace("\"Connected\"", "\"Connecting\"");
        assert_eq!(said(&alone, "two"), Ok(Role::Active));
        let all = read(&alone).expect("it is a listing");
        assert!(reasons(&all[0]).iter().any(|why| why.contains("not connected to \"two\"")));
    }

    #[test]
    fn a_server_has_one_role_for_all_that_it_carries() {
        let mixed = include_str!("../recordings/secondary-beside-a-primary.json");
        unknown(mixed, "one", "\"r1\" is \"Primary\"");
        let written = Written { resource: "r0".into(), ignore: vec!["r1".into()], ..Written::default() };
        let ignoring = Settings::new(written).expect("they are right");
        let all = read(mixed).expect("it is a listing");
        assert_eq!(role(&all, &ignoring, &["one"]), Ok(Role::Standby));
        let r1 = role(&all, &of("r1"), &["one"]);
        assert!(r1.is_err_and(|why| why.contains("r0")), "nor is it active for all");
    }

    #[test]
    fn what_is_not_whole_says_nothing() {
        let text = SECONDARY.trim_end();
        for end in 0..text.len() {
            assert!(said(&text[..end], "one").is_err(), "cut at {end}");
        }
        for text in ["", "[]", "{}", "null", "# No currently configured DRBD found.", "[{\"name\":\"r0\"}]"] {
            assert!(said(text, "one").is_err(), "{text}");
        }
        unknown(include_str!("../recordings/nothing-up.json"), "one", "there is none");
        let twice = format!("[{0},{0}]", text.trim_matches(['[', ']', '\n']));
        unknown(&twice, "one", "twice");
    }

    #[test]
    fn what_is_under_way_is_said() {
        let all = read(include_str!("../recordings/secondary-synchronising.json")).expect("it is a listing");
        let found = reasons(&all[0]);
        for word in ["Inconsistent", "SyncTarget", "524288 KiB"] {
            assert!(found.iter().any(|why| why.contains(word)), "{found:?} should contain {word}");
        }
        let client = SECONDARY
            .replace("\"peer-disk-state\": \"UpToDate\"", "\"peer-disk-state\": \"Diskless\"")
            .replace("\"peer-client\": false", "\"peer-client\": true");
        let all = read(&client).expect("it is a listing");
        assert_eq!(reasons(&all[0]), Vec::<String>::new(), "a tie breaker has no disk");
    }
}
