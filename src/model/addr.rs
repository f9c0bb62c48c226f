use std::net::IpAddr;

use ipnet::IpNet;

/// The address as it is matched and shown: an IPv4-mapped IPv6 address is the IPv4 address
/// (RFC 4291, section 2.5.5.2).
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The network of one address: /32 or /128.
pub fn host_net(address: IpAddr) -> IpNet {
    IpNet::from(canonical(address))
}

/// The network with its host bits cleared; one inside ::ffff:0:0/96 becomes the IPv4 network.
pub fn canonical_net(net: IpNet) -> IpNet {
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => net_of_prefix(IpAddr::V4(v4), v6.prefix_len() - 96),
            None => net.trunc(),
        },
        _ => net.trunc(),
    }
}

/// The network of `prefix` bits that holds `address`; longer prefixes than the family has bits
/// mean the address alone.
pub fn net_of_prefix(address: IpAddr, prefix: u8) -> IpNet {
    let address = canonical(address);
    let bits = if address.is_ipv4() { 32 } else { 128 };
    IpNet::new_assert(address, prefix.min(bits)).trunc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        assert_eq!(
            canonical("::ffff:192.0.2.1".parse().unwrap()).to_string(),
            "192.0.2.1"
        );
        assert_eq!(
            canonical_net("::ffff:192.0.2.1/120".parse().unwrap()).to_string(),
            "192.0.2.0/24"
        );
        assert_eq!(
            canonical_net("192.0.2.9/24".parse().unwrap()).to_string(),
            "192.0.2.0/24"
        );
        assert_eq!(
            canonical_net("2001:db8::1/64".parse().unwrap()).to_string(),
            "2001:db8::/64"
        );
    }

    #[test]
    fn a_prefix_never_exceeds_the_family() {
        assert_eq!(
            net_of_prefix("192.0.2.1".parse().unwrap(), 64).to_string(),
            "192.0.2.1/32"
        );
        assert_eq!(
            net_of_prefix("2001:db8::1".parse().unwrap(), 64).to_string(),
            "2001:db8::/64"
        );
    }
}
