//! What `redis-cli` prints, and what it means.
//!
//! Where its output is no terminal it prints values one a line, nested lists flattened, and an
//! error as its text; its exit status is 0 for an error of Redis. So a reply is only what has
//! the whole shape of one. Sources: recordings of Redis 7.0.15; the documentation of `ROLE`.

use std::collections::BTreeMap;

use leapfrog_plugin::clipped;

/// Characters of foreign text that are shown.
pub const SHOWN: usize = 200;

/// A reply to `ROLE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Master {
        /// Of its replication stream, in bytes.
        offset: i64,
        /// Host and port of each replica that is connected.
        replicas: Vec<(String, u16)>,
    },
    /// Connected to its master, whose host and port these are.
    Replica {
        host: String,
        port: u16,
        /// So much of its master's stream it has.
        offset: i64,
    },
}

/// # Errors
/// Why it is no role, for people.
pub fn role(text: &str) -> Result<Told, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(format!("its reply is cut: {}", clipped(text, SHOWN)));
    }
    let mut lines: Vec<&str> = text.lines().collect();
    // An empty list is an empty line, and so is what ends some replies.
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    let odd = || Err(format!("its reply is no role: {}", clipped(text, SHOWN)));
    match lines.as_slice() {
        [] => Err("it replied nothing".into()),
        // A damaged letter of a name would be another name.
        _ if text.contains(char::REPLACEMENT_CHARACTER) => odd(),
        ["master", offset, replicas @ ..] if replicas.len() % 3 == 0 => {
            let replica = |three: &[&str]| match three {
                [host, port, offset] if !host.is_empty() && number(offset).is_some() => {
                    Some(((*host).to_owned(), port.parse().ok()?))
                }
                _ => None,
            };
            let replicas = replicas.chunks(3).map(replica).collect::<Option<Vec<_>>>();
            match number(offset).zip(replicas) {
                Some((offset, replicas)) => Ok(Told::Master { offset, replicas }),
                None => odd(),
            }
        }
        ["slave", host, port, link, offset] => match (port.parse(), number(offset)) {
            (Ok(port), Some(offset)) if !host.is_empty() && *link == "connected" => {
                Ok(Told::Replica { host: (*host).to_owned(), port, offset })
            }
            (Ok(_), Some(_)) => Err(format!(
                "it is a replica whose link to {}:{port} is {}",
                clipped(host, SHOWN),
                clipped(link, SHOWN)
            )),
            _ => odd(),
        },
        ["sentinel", ..] => Err("it is a Sentinel, not a Redis (hint: `driver.with.cli`)".into()),
        [first, ..] if is_error(first) => Err(refused(first)),
        _ => odd(),
    }
}

/// The first words of the errors of Redis that are seen here: none of them is told after a
/// command has begun.
const ERRORS: [&str; 8] =
    ["ERR", "NOAUTH", "NOPERM", "WRONGPASS", "LOADING", "BUSY", "NOGOODSLAVE", "MISCONF"];

/// An error that says that a command was not run.
pub fn is_error(line: &str) -> bool {
    let word = line.split(' ').next().unwrap_or_default();
    ERRORS.contains(&word)
}

/// An error of Redis for people.
pub fn refused(line: &str) -> String {
    let hint = match line.split(' ').next() {
        Some("NOAUTH" | "WRONGPASS") => {
            " (hint: redis-cli takes the password from REDISCLI_AUTH in its environment there)"
        }
        Some("NOPERM") => " (hint: the driver's README has the ACL that it needs)",
        _ => "",
    };
    format!("Redis says {}{hint}", clipped(line, SHOWN))
}

/// `key:value` lines of `INFO`.
///
/// # Errors
/// It is none, for people.
pub fn info<'a>(text: &'a str, section: &str) -> Result<BTreeMap<&'a str, &'a str>, String> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    if head.strip_prefix("# ").is_none_or(|name| !name.eq_ignore_ascii_case(section)) {
        return Err(if is_error(head) {
            refused(head)
        } else {
            format!("its reply is no INFO: {}", clipped(text, SHOWN))
        });
    }
    Ok(lines.filter_map(|line| line.split_once(':')).collect())
}

/// A list of names and values, one a line, as `CONFIG GET` and `SENTINEL MASTER` give it.
///
/// # Errors
/// It is none, for people.
pub fn fields(text: &str) -> Result<BTreeMap<&str, &str>, String> {
    let lines: Vec<&str> = text.lines().collect();
    match lines.first() {
        None | Some(&"") => return Err("it replied nothing".into()),
        Some(first) if is_error(first) => return Err(refused(first)),
        Some(_) => {}
    }
    if !text.ends_with('\n') {
        return Err(format!("its reply is cut: {}", clipped(text, SHOWN)));
    }
    Ok(lines.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

pub fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = include_str!("../recordings/role-master.txt");
    const ALONE: &str = include_str!("../recordings/role-master-alone.txt");
    const REPLICA: &str = include_str!("../recordings/role-replica.txt");
    const CONNECTING: &str = include_str!("../recordings/role-replica-connecting.txt");
    const NOAUTH: &str = include_str!("../recordings/noauth.txt");
    const SENTINEL: &str = include_str!("../recordings/role-sentinel.txt");

    #[test]
    fn recordings_are_understood() {
        let replicas = vec![("10.99.0.2".into(), 6379)];
        assert_eq!(role(MASTER), Ok(Told::Master { offset: 50, replicas }));
        assert_eq!(role(ALONE), Ok(Told::Master { offset: 0, replicas: vec![] }));
        assert_eq!(role(REPLICA), Ok(Told::Replica { host: "10.99.0.1".into(), port: 6379, offset: 50 }));
        assert!(role(CONNECTING).is_err_and(|why| why.contains("whose link")));
        assert!(role(NOAUTH).is_err_and(|why| why.contains("REDISCLI_AUTH")));
        assert!(role(SENTINEL).is_err_and(|why| why.contains("Sentinel")));
    }

    #[test]
    fn no_cut_of_a_reply_changes_the_role() {
        for (text, master) in [(MASTER, true), (ALONE, true), (REPLICA, false), (CONNECTING, false)] {
            let whole = role(text);
            for end in 0..text.len() {
                match role(&text[..end]) {
                    Err(_) => {}
                    Ok(Told::Master { .. }) => assert!(master, "cut at {end}"),
                    told => assert_eq!(told, whole, "cut at {end}"),
                }
            }
        }
    }

    #[test]
    fn only_connected_is_standby() {
        for link in ["none", "connect", "connecting", "handshake", "sync", "unknown", "", "Connected"] {
            assert!(role(&REPLICA.replace("connected", link)).is_err(), "{link}");
        }
        for text in [
            "",
            "\n",
            "slave\n",
            "master\n",
            "master\nx\n",
            "Master\n1\n",
            "master\n1\nh\n1\n",
            "master\n1\nh\nx\n1\n",
            "slave\nh\n6379\nconnected\n",
            "slave\nh\nx\nconnected\n1\n",
            "slave\n\n6379\nconnected\n1\n",
            "slave\nh\n6379\nconnected\n1\n2\n",
            "OK\n",
            "1) \"master\"\n",
            "ERR unknown command 'ROLE'\n",
            " master\n1\n",
            "slave\n10.99.0.\u{fffd}\n6379\nconnected\n1\n",
        ] {
            assert!(role(text).is_err(), "{text:?}");
        }
        assert!(role("x\x1b[2J\n").is_err_and(|why| !why.contains('\x1b')));
    }

    #[test]
    fn errors_are_told_from_values() {
        assert!(is_error("NOAUTH Authentication required.") && is_error("ERR unknown command"));
        assert!(!is_error("OK") && !is_error("INPROG Failover already in progress") && !is_error("ERROR"));
        assert!(fields(NOAUTH).is_err() && fields("").is_err() && fields("a\n1").is_err());
        assert_eq!(fields("a\n1\nb\n\n").map(|f| (f.len(), f["a"], f["b"])), Ok((2, "1", "")));
        assert!(info(NOAUTH, "Replication").is_err() && info("", "Replication").is_err());
    }
}
