//! Addresses, before and after the machines were asked.

use super::{
    super::{
        reach::{check_addresses, judge_peer, notes, peer_to_ask},
        survey::{Destination, Source},
    },
    machine, request,
};
use crate::{inventory::Machine, model::MachineName, providers::MigrationRequest};

fn at(uri: &str, peer: Option<&str>, memory: Option<&str>) -> Machine {
    Machine { peer_uri: peer.map(str::to_owned), migrate_uri: memory.map(str::to_owned), ..machine(uri) }
}

fn check(a: &Machine, b: &Machine) -> Result<(), String> {
    check_addresses(&request(), a, b).map_err(|error| error.to_string())
}

#[test]
fn addresses_are_checked_before_anybody_is_asked() {
    let (a, b) = (machine("qemu+tcp://a/system"), machine("qemu+tcp://b/system"));
    assert_eq!(check(&a, &b), Ok(()));
    assert!(check(&a, &a).is_err_and(|text| text.contains("same machine")));
    // From the destination itself: the local address means nothing to the source.
    let local = machine("qemu:///system");
    assert!(check(&a, &local).is_err_and(|text| text.contains("`qemu:///system`")));
    assert_eq!(check(&a, &at("qemu:///system", Some("qemu+ssh://b/system"), None)), Ok(()));
    assert_eq!(check(&local, &b), Ok(()));
    assert!(check(&a, &machine("qemu+tcp://b\0/system")).is_err());
    let same = MigrationRequest { destination: MachineName::new("one"), ..request() };
    assert!(check_addresses(&same, &a, &b).is_err());
}

#[test]
fn an_address_that_means_the_source_itself_is_refused_where_nobody_chose_it() {
    let a = machine("qemu+tcp://a/system");
    for own in [
        "qemu+tcp://localhost:16510/system",
        "qemu+ssh://root@127.0.0.1:2222/system",
        "qemu+tcp://[::1]/system",
        "qemu+ssh://b.localhost/system?keyfile=/k",
        "qemu+tcp://LOCALHOST.localdomain/system",
    ] {
        // Good for the runner, through a tunnel; not for the source.
        assert!(check(&a, &machine(own)).is_err_and(|text| text.contains("cannot reach")), "{own}");
        assert_eq!(check(&a, &at(own, Some("qemu+tcp://b/system"), None)), Ok(()), "{own}");
        // Somebody wrote it down: a tunnel may begin at the source.
        let tunnel = at("qemu+tcp://b/system", Some(own), None);
        assert_eq!(check(&a, &tunnel), Ok(()), "{own}");
        let notes = notes(&request(), &tunnel, &Source::default(), &Destination::default());
        assert!(matches!(&notes[..], [note] if note.contains("`peer-uri` of `two`")), "{notes:?}");
        assert_eq!(peer_to_ask(&tunnel), None);
    }
    for other in
        ["qemu+ssh://localhost@b/system", "qemu+tcp://localhostess/system", "qemu+tcp://[fe80::1]/system"]
    {
        assert_eq!(check(&a, &machine(other)), Ok(()), "{other}");
    }
}

#[test]
fn memory_cannot_be_sent_nowhere() {
    let a = machine("qemu+tcp://a/system");
    for nowhere in ["tcp://0.0.0.0", "tcp://[::]:49152"] {
        let b = at("qemu+tcp://b/system", None, Some(nowhere));
        assert!(check(&a, &b).is_err_and(|text| text.contains(nowhere)), "{nowhere}");
    }
    assert_eq!(check(&a, &at("qemu+tcp://b/system", None, Some("tcp://192.0.2.1:49152"))), Ok(()));
}

#[test]
fn a_name_to_which_memory_cannot_be_sent_is_mentioned() {
    let said = |machine: &Machine, source: &str, destination: &str| {
        let source = Source { hostname: source.to_owned(), ..Source::default() };
        let destination = Destination { hostname: destination.to_owned(), ..Destination::default() };
        notes(&request(), machine, &source, &destination).join("\n")
    };
    let b = machine("qemu+tcp://b/system");
    assert!(said(&b, "a", "localhost.localdomain").contains("`two` calls itself `localhost.localdomain`"));
    assert!(said(&b, "debian", "debian").contains("both machines call themselves `debian`"));
    assert_eq!(said(&b, "a.example", "b.example"), "");
    assert_eq!(said(&b, "", ""), "");
    let addressed = at("qemu+tcp://b/system", None, Some("tcp://192.0.2.1"));
    assert_eq!(said(&addressed, "debian", "debian"), "");
}

#[test]
fn where_the_peer_address_leads_is_told_where_it_can_be() {
    let b = at("qemu+ssh://b/system", Some("qemu+tls://b.lan/system"), None);
    assert_eq!(peer_to_ask(&b), Some("qemu+tls://b.lan/system"));
    assert_eq!(peer_to_ask(&machine("qemu+ssh://b/system")), None);
    assert_eq!(peer_to_ask(&at("qemu+ssh://b/system", Some("qemu+ssh://b/system"), None)), None);

    let judge = |answered: Option<&str>| {
        judge_peer(&request(), "qemu+tls://b.lan/system", answered, Some("m-1"), Some("m-2"))
            .map_err(|error| error.to_string())
    };
    assert_eq!(judge(Some("m-2")), Ok(None));
    assert!(judge(Some("m-1")).is_err_and(|text| text.contains("leads to `one` itself")));
    assert!(judge(Some("m-3")).is_err_and(|text| text.contains("another machine (its uuid is m-3)")));
    assert!(
        judge(None).is_ok_and(|note| note.is_some_and(|note| note.contains("does not answer from here")))
    );
}
