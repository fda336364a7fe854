//! The network devices of a machine, as far as libvirt's drivers know them. Reads only.

use std::collections::BTreeSet;

use virt::{connect::Connect, error::ErrorNumber, sys};

use super::connect::Fault;

/// What a machine's interface and node device drivers list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Devices {
    /// From the interface driver.
    interfaces: BTreeSet<String>,
    /// From the node device driver, which writes `_` for whatever is no letter or digit.
    plain: BTreeSet<String>,
}

impl Devices {
    /// Two calls, however many devices there are. Blocks.
    pub fn of(connect: &Connect) -> Result<Self, Fault> {
        let interfaces = match connect.list_all_interfaces(0) {
            Ok(listed) => listed.iter().filter_map(|interface| interface.get_name().ok()).collect(),
            Err(error) if is_no_driver(error.code()) => BTreeSet::new(),
            Err(error) => return Err(error.into()),
        };
        let plain = match connect.list_all_node_devices(sys::VIR_CONNECT_LIST_NODE_DEVICES_CAP_NET) {
            Ok(listed) => listed.iter().filter_map(|node| device_of(&node.get_name().ok()?)).collect(),
            Err(error) if is_no_driver(error.code()) => BTreeSet::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { interfaces, plain })
    }

    pub fn has(&self, name: &str) -> bool {
        self.interfaces.contains(name) || self.plain.contains(&plain(name))
    }

    /// `None` when no driver knows anything, so that nothing follows from its silence.
    pub fn answer(&self, name: &str) -> Option<bool> {
        // Every machine has a loopback; a driver that shows only that one sees nothing.
        let sees = self.interfaces.iter().chain(&self.plain).any(|name| name != "lo");
        (sees || self.has(name)).then(|| self.has(name))
    }

    /// Those that a VM could be plugged into; for a hint.
    pub fn names(&self) -> Vec<String> {
        let known: BTreeSet<String> = self.interfaces.iter().map(|name| plain(name)).collect();
        let others = self.plain.iter().filter(|name| !known.contains(*name));
        let guests = ["vnet", "tap", "veth", "macvtap", "virbr0_nic"];
        let of_use = |name: &&String| *name != "lo" && !guests.iter().any(|guest| name.starts_with(guest));
        self.interfaces.iter().chain(others).filter(of_use).cloned().collect()
    }
}

fn is_no_driver(code: ErrorNumber) -> bool {
    matches!(code, ErrorNumber::NoSupport | ErrorNumber::OperationUnsupported | ErrorNumber::NoConnect)
}

/// `net_br0_52_54_00_00_00_01` is `br0`.
fn device_of(node: &str) -> Option<String> {
    let name = node.strip_prefix("net_")?;
    let mac = name.len().checked_sub(18).and_then(|at| name.split_at_checked(at));
    let is_mac = |text: &str| text.split('_').skip(1).all(|byte| byte.len() == 2) && text.starts_with('_');
    match mac {
        Some((device, mac)) if is_mac(mac) && !device.is_empty() => Some(device.to_owned()),
        _ => Some(name.to_owned()),
    }
}

fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(interfaces: &[&str], nodes: &[&str]) -> Devices {
        Devices {
            interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
            plain: nodes.iter().filter_map(|node| device_of(node)).collect(),
        }
    }

    #[test]
    fn either_driver_knows_a_device() {
        let devices = devices(&["br-lan"], &["net_br0_52_54_00_00_00_01", "net_bond0_10_52_54_00_00_00_02"]);
        for name in ["br-lan", "br0", "bond0.10"] {
            assert_eq!(devices.answer(name), Some(true), "{name}");
        }
        assert_eq!(devices.answer("br1"), Some(false));
        assert_eq!(devices.answer("52_54"), Some(false));
    }

    #[test]
    fn drivers_that_see_nothing_are_not_believed() {
        assert_eq!(devices(&[], &[]).answer("br0"), None);
        assert_eq!(devices(&["lo"], &["net_lo_00_00_00_00_00_00"]).answer("br0"), None);
    }

    #[test]
    fn only_what_a_vm_could_be_plugged_into_is_offered() {
        let all = devices(
            &["br-lan", "lo"],
            &["net_br_lan_52_54_00_00_00_01", "net_vnet3_fe_54_00_00_00_01", "net_eth0_52_54_00_00_00_03"],
        );
        assert_eq!(all.names(), ["br-lan", "eth0"]);
    }

    #[test]
    fn a_driver_that_is_there_answers() {
        let connect = Connect::open(Some("test:///default")).expect("libvirt's test driver");
        let devices = Devices::of(&connect).expect("an answer");
        assert_eq!(devices.answer("eth1"), Some(true));
        assert_eq!(devices.answer("nothing"), Some(false));
    }
}
