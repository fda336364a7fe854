//! What keepalived 2.2.7 says of itself, in the form that Debian 12's package really writes
//! (recorded in a network namespace: `kill -s 36`, then `/tmp/keepalived.json`).

use std::net::IpAddr;

use super::state::WorldState;
use crate::model::{Role, ServerName};

/// keepalived has no other way to say when; any fixed beginning keeps the world the same.
const EPOCH: f64 = 1_700_000_000.0;

/// 0 init, 1 backup, 2 master, 3 fault.
fn number(role: Role) -> u8 {
    match role {
        Role::Active => 2,
        Role::Standby => 1,
        Role::Witness => 0,
        Role::Unknown => 3,
    }
}

/// `/tmp/keepalived.json` with one VRRP instance, or with none for a server of no pair.
pub(super) fn json(state: &WorldState, name: &ServerName) -> String {
    let Some(server) = state.servers.get(name) else { return "[]".into() };
    let Some(pair) = server.pair.as_ref().and_then(|pair| state.pairs.get(pair)) else { return "[]".into() };
    let role = state.role(name);
    let holds = role == Role::Active;
    let set = if holds { " set" } else { "" };
    let vips: Vec<String> = pair
        .address
        .map(|address| format!("{address}/{} dev eth0 scope global{set}", prefix(address)))
        .into_iter()
        .collect();
    let master_priority = if holds { 0 } else { state.effective_priority(&pair.leader) };
    // As many adverts as a real one waits for. Its skew is left out.
    let interval = pair.dead_time as f64 / 3e6;
    let vips = serde_json::to_string(&vips).unwrap_or_default();
    let (instance, number) = (serde_json::json!(pair.instance), number(role));
    // Written out, keys in their order: rehearsals ask for it by the million.
    format!(
        concat!(
            r#"[{{"data":{{"accept":1,"adver_int":{:?},"auth_type":0,"base_priority":{},"dont_track_primary":0,"#,
            r#""effective_priority":{},"garp_delay":5,"garp_lower_prio_delay":5,"garp_lower_prio_rep":5,"#,
            r#""garp_refresh":0,"garp_refresh_rep":1,"garp_rep":5,"higher_prio_send_advert":0,"#,
            r#""ifp_ifname":"eth0","iname":{},"last_transition":{:?},"lower_prio_no_advert":0,"#,
            r#""master_adver_int":{:?},"master_priority":{},"nopreempt":false,"notify_deleted":false,"#,
            r#""preempt_delay":0,"promote_secondaries":false,"skip_check_adv_addr":0,"smtp_alert":false,"#,
            r#""state":{},"strict_mode":0,"version":2,"vips":{},"vipset":{},"vmac_ifname":"","vrid":51,"#,
            r#""wantstate":{}}},"stats":{{"addr_list_err":0,"advert_interval_err":0,"advert_rcvd":0,"#,
            r#""advert_sent":0,"auth_failure":0,"authtype_mismatch":0,"become_master":{},"#,
            r#""invalid_authtype":0,"invalid_type_rcvd":0,"ip_ttl_err":0,"packet_len_err":0,"#,
            r#""pri_zero_rcvd":0,"pri_zero_sent":0,"release_master":{}}}}}]"#,
            "\n"
        ),
        interval,
        server.priority,
        state.effective_priority(name),
        instance,
        EPOCH + server.changed as f64 / 1e6,
        interval,
        master_priority,
        number,
        vips,
        holds,
        number,
        server.became_active,
        server.released,
    )
}

/// `ip -o addr show`.
pub(super) fn addresses(state: &WorldState, name: &ServerName) -> String {
    const FOREVER: &str = "\\       valid_lft forever preferred_lft forever\n";
    let mut text = format!("1: lo    inet 127.0.0.1/8 scope host lo{FOREVER}");
    let Some(server) = state.servers.get(name) else { return text };
    let own = server.pid % 250 + 1;
    text.push_str(&format!("2: eth0    inet 198.51.100.{own}/24 scope global eth0{FOREVER}"));
    let pair = server.pair.as_ref().and_then(|pair| state.pairs.get(pair));
    let held = pair.and_then(|pair| pair.address).filter(|_| state.role(name) == Role::Active);
    match held {
        Some(IpAddr::V4(address)) => {
            text.push_str(&format!("2: eth0    inet {address}/24 scope global secondary eth0{FOREVER}"));
        }
        Some(IpAddr::V6(address)) => {
            text.push_str(&format!("2: eth0    inet6 {address}/64 scope global nodad {FOREVER}"));
        }
        None => {}
    }
    text
}

fn prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}
