//! Under which addresses this machine can be reached.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// The most addresses that are put into an invite, which must stay small enough for a QR code.
const MOST: usize = 4;

/// The listening addresses, with the machine's own in place of "all", IPv4 first.
pub(super) fn reachable(listening: &[String]) -> Vec<String> {
    let mut reachable: Vec<SocketAddr> = Vec::new();
    for address in listening
        .iter()
        .filter_map(|text| text.parse::<SocketAddr>().ok())
    {
        if address.ip().is_unspecified() {
            let own = own_addresses()
                .into_iter()
                .filter(|ip| address.is_ipv6() || ip.is_ipv4());
            reachable.extend(own.map(|ip| SocketAddr::new(ip, address.port())));
        } else {
            reachable.push(address);
        }
    }
    reachable.sort_by_key(SocketAddr::is_ipv6);
    reachable.dedup();
    reachable.truncate(MOST);
    reachable.iter().map(ToString::to_string).collect()
}

/// The addresses of interfaces that are up, without loopback and without link-local ones, which
/// mean nothing on another machine.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter(|interface| {
            interface.flags.contains(InterfaceFlags::IFF_UP)
                && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        })
        .filter_map(|interface| {
            let address = interface.address?;
            if let Some(v4) = address.as_sockaddr_in() {
                return Some(IpAddr::from(v4.ip()));
            }
            let v6: Ipv6Addr = address.as_sockaddr_in6()?.ip();
            (!v6.is_unicast_link_local()).then_some(IpAddr::V6(v6))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_named_address_is_kept_and_all_becomes_this_machines_own() {
        assert_eq!(
            reachable(&["192.0.2.7:7575".to_owned()]),
            ["192.0.2.7:7575"]
        );
        for address in reachable(&["0.0.0.0:7575".to_owned(), "[::]:7575".to_owned()]) {
            assert!(address.ends_with(":7575"), "{address}");
            assert!(
                !address.starts_with("0.0.0.0") && !address.starts_with("[::]"),
                "{address}"
            );
        }
    }

    #[test]
    fn ipv4_comes_first() {
        let both = ["[2001:db8::1]:1".to_owned(), "192.0.2.7:1".to_owned()];
        assert_eq!(reachable(&both), ["192.0.2.7:1", "[2001:db8::1]:1"]);
    }
}
