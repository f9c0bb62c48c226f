//! The values of `replay`'s options.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::replay::Known;

/// TCP ports.
#[derive(Debug, Clone)]
pub(super) struct Ports(pub(super) Vec<u16>);

pub(super) fn ports(text: &str) -> Result<Ports, String> {
    if text == "none" {
        return Ok(Ports(Vec::new()));
    }
    let port = |part: &str| match part.trim().parse() {
        Ok(0) | Err(_) => Err(format!(
            "`{part}` is not a port: expected numbers from 1 to 65535, such as 80,443, or none"
        )),
        Ok(port) => Ok(port),
    };
    text.split(',')
        .map(port)
        .collect::<Result<_, _>>()
        .map(Ports)
}

/// An address of the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub(super) address: IpAddr,
    /// Where nobody is.
    pub(super) broadcast: Option<IpAddr>,
}

pub(super) fn address(text: &str) -> Result<Address, String> {
    let bad = || {
        format!(
            "`{text}` is no address: expected one such as 192.0.2.1, 192.0.2.1/24 or 2001:db8::1"
        )
    };
    if let Ok(address) = text.parse() {
        let broadcast = None;
        return Ok(Address { address, broadcast });
    }
    let net: IpNet = text.parse().map_err(|_| bad())?;
    // RFC 3021: networks of two have none, and IPv6 has none at all.
    let broadcast = match net {
        IpNet::V4(v4) if v4.prefix_len() < 31 => Some(v4.broadcast().into()),
        _ => None,
    };
    Ok(Address {
        address: net.addr(),
        broadcast,
    })
}

pub(super) fn known(text: &str) -> Result<Known, String> {
    let (name, index) = match text.split_once('=') {
        None => (text, None),
        Some((name, number)) => (name, Some(number)),
    };
    let index = index.map(str::parse).transpose();
    match index {
        Ok(index) if !name.is_empty() && index != Some(0) => Ok(Known {
            name: name.to_owned(),
            index,
        }),
        _ => Err(format!(
            "`{text}` names no interface: expected one such as eth0, or with its number eth0=2"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_say_which_network_it_is_in() {
        let broadcast = |text| address(text).unwrap().broadcast.map(|it| it.to_string());
        assert_eq!(broadcast("192.0.2.1"), None);
        assert_eq!(broadcast("192.0.2.1/24").as_deref(), Some("192.0.2.255"));
        assert_eq!(broadcast("192.0.2.1/31"), None);
        assert_eq!(broadcast("2001:db8::1/64"), None);
        assert_eq!(
            address("192.0.2.1/24").unwrap().address.to_string(),
            "192.0.2.1"
        );
        for bad in ["", "localhost", "192.0.2.1/33", "192.0.2.0/24/1"] {
            assert!(address(bad).unwrap_err().contains("is no address"), "{bad}");
        }
    }

    #[test]
    fn an_interface_is_known_by_its_name_and_number() {
        let of = |text| known(text).map(|it| (it.name, it.index));
        assert_eq!(of("eth0"), Ok(("eth0".to_owned(), None)));
        assert_eq!(of("eth0.7=12"), Ok(("eth0.7".to_owned(), Some(12))));
        for bad in ["", "=2", "eth0=", "eth0=0", "eth0=two"] {
            assert!(of(bad).unwrap_err().contains("names no interface"), "{bad}");
        }
    }

    #[test]
    fn ports_are_numbers_or_none() {
        assert_eq!(ports("80, 443").unwrap().0, [80, 443]);
        assert!(ports("none").unwrap().0.is_empty());
        for bad in ["", "0", "80,", "65536", "ssh", "80-90"] {
            assert!(ports(bad).unwrap_err().contains("is not a port"), "{bad}");
        }
    }
}
