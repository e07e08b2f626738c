//! The network interfaces of the machine, for `/status`. Reads what the kernel says; runs on workers.

use serde_json::{Map, Value, json};
use std::ffi::CStr;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Flags in the order in which they are shown.
const FLAGS: [(libc::c_int, &str); 6] = [
    (libc::IFF_UP, "up"),
    (libc::IFF_BROADCAST, "broadcast"),
    (libc::IFF_LOOPBACK, "loopback"),
    (libc::IFF_POINTOPOINT, "pointtopoint"),
    (libc::IFF_MULTICAST, "multicast"),
    (libc::IFF_RUNNING, "running"),
];

/// Name -> flags, hardware address and addresses with the length of their prefix.
pub fn interfaces() -> Value {
    let mut found = Map::new();
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs writes one pointer, to a list that is ours until freeifaddrs.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Value::Object(found);
    }
    let mut at = list;
    // SAFETY: every node of the list is valid until the list is freed below, and the last one points to null.
    while let Some(entry) = unsafe { at.as_ref() } {
        add(&mut found, entry);
        at = entry.ifa_next;
    }
    // SAFETY: the list came from getifaddrs and nothing refers to it any more.
    unsafe { libc::freeifaddrs(list) };
    Value::Object(found)
}

fn add(found: &mut Map<String, Value>, entry: &libc::ifaddrs) {
    // SAFETY: the kernel's names end with a zero.
    let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
    let interface = found.entry(name.clone()).or_insert_with(|| {
        let hardware = std::fs::read_to_string(format!("/sys/class/net/{name}/address")).unwrap_or_default();
        let hardware = hardware.trim_end();
        let is_zero = hardware.chars().all(|c| matches!(c, '0' | ':'));
        json!({
            "addresses": null,
            "flags": flags(entry.ifa_flags),
            "hardware_address": if is_zero { "" } else { hardware },
        })
    });
    let Some(address) = address(entry) else { return };
    match &mut interface["addresses"] {
        Value::Array(addresses) => addresses.push(json!({"address": address})),
        none => *none = json!([{"address": address}]),
    }
}

fn flags(bits: libc::c_uint) -> String {
    let set: Vec<&str> =
        FLAGS.iter().filter(|(bit, _)| bits & (*bit as libc::c_uint) != 0).map(|(_, name)| *name).collect();
    set.join("|")
}

/// An address with the length of its network's prefix, such as `127.0.0.1/8`.
fn address(entry: &libc::ifaddrs) -> Option<String> {
    // SAFETY: an address that is not null has at least a family.
    let family = unsafe { entry.ifa_addr.as_ref() }?.sa_family;
    match libc::c_int::from(family) {
        libc::AF_INET => {
            let octets = |socket: *const libc::sockaddr| {
                // SAFETY: the kernel gives an IPv4 address, and a mask of the same kind, where the family says so.
                let socket = unsafe { socket.cast::<libc::sockaddr_in>().as_ref() }?;
                Some(u32::from_be(socket.sin_addr.s_addr))
            };
            let prefix = octets(entry.ifa_netmask).map_or(32, u32::count_ones);
            Some(format!("{}/{prefix}", Ipv4Addr::from(octets(entry.ifa_addr)?)))
        }
        libc::AF_INET6 => {
            let octets = |socket: *const libc::sockaddr| {
                // SAFETY: as above, for IPv6.
                let socket = unsafe { socket.cast::<libc::sockaddr_in6>().as_ref() }?;
                Some(u128::from_be_bytes(socket.sin6_addr.s6_addr))
            };
            let prefix = octets(entry.ifa_netmask).map_or(128, u128::count_ones);
            Some(format!("{}/{prefix}", Ipv6Addr::from(octets(entry.ifa_addr)?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn loopback_is_there() {
        let interfaces = super::interfaces();
        let lo = &interfaces["lo"];
        assert_eq!(lo["hardware_address"], "");
        assert!(lo["flags"].as_str().expect("a text").contains("loopback"), "{lo}");
        let addresses = lo["addresses"].as_array().expect("it has an address");
        assert!(addresses.iter().any(|a| a["address"] == "127.0.0.1/8"), "{lo}");
    }
}
