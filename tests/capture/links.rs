//! Interfaces and addresses that come and go.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use portcullis::links::Links;

use crate::net::{self, Veth};
use crate::support::{in_ten_seconds, wait_for};

/// Takes changes in until something holds; panics after ten seconds.
pub(crate) fn update_until(links: &mut Links, what: &str, mut holds: impl FnMut(&Links) -> bool) {
    let until = in_ten_seconds();
    while !holds(links) {
        assert!(Instant::now() < until, "waited in vain: {what}");
        wait_for(&[links.fd().as_fd()], until);
        let _ = links.update().unwrap();
    }
}

pub(crate) fn addresses_are_followed() {
    let veth = Veth::new("addr");
    let mut links = Links::open().unwrap();
    for (address, prefix) in [("192.0.2.1", 24), ("2001:db8::1", 64)] {
        let address: IpAddr = address.parse().unwrap();
        assert!(!links.is_own(address));
        net::set_address(veth.name(), address, prefix, true);
        update_until(&mut links, "the address appears", |l| l.is_own(address));
        assert!(links.own_addresses().contains(&address));
        assert!(Links::open().unwrap().is_own(address), "listed as well");
        net::set_address(veth.name(), address, prefix, false);
        update_until(&mut links, "the address goes", |l| !l.is_own(address));
        net::set_address(veth.name(), address, prefix, true);
    }
    let addresses = ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"].map(|a| a.parse().unwrap());
    update_until(&mut links, "both", |l| {
        addresses.iter().all(|a| l.is_own(*a))
    });
    veth.remove();
    update_until(&mut links, "none is left", |l| {
        !addresses.iter().any(|a| l.is_own(*a))
    });
}

pub(crate) fn interfaces_are_followed() {
    let mut links = Links::open().unwrap();
    assert!(
        links
            .interfaces()
            .any(|i| i.index == 1 && i.name == "lo" && i.loopback)
    );
    let names = ["links".to_owned(), "renamed:1".to_owned()];
    assert_eq!(links.find(&names).missing, names);
    let veth = Veth::new("links");
    let index = veth.index();
    update_until(&mut links, "it appears", |l| {
        l.find(&names).indexes == [index]
    });
    assert_eq!(links.find(&names).missing, ["renamed:1"]);
    let up = |l: &Links| l.interfaces().any(|i| i.index == index && i.up);
    update_until(&mut links, "it is up", up);
    net::set_up("links", false);
    update_until(&mut links, "it is down", |l| !up(l));
    net::rename("links", "renamed");
    update_until(&mut links, "it is renamed", |l| {
        l.find(&names).missing == ["links"]
    });
    assert_eq!(links.find(&names).indexes, [index]);
    drop(veth);
    net::remove(index);
    update_until(&mut links, "it is gone", |l| {
        l.find(&names).indexes.is_empty()
    });
    assert!(!links.interfaces().any(|i| i.index == index));
}

/// More changes than the socket's buffer holds, while nobody reads.
pub(crate) fn lost_notifications_are_made_up_for() {
    let veth = Veth::new("lost");
    let mut links = Links::open().unwrap();
    let address = |n: u8| IpAddr::from([198, 51, 100, n]);
    for round in 0..40 {
        for n in 1..=20 {
            net::set_address(veth.name(), address(n), 32, round % 2 == 0);
        }
    }
    net::set_address(veth.name(), address(77), 32, true);
    // One call is enough, whatever was lost.
    let change = links.update().unwrap();
    assert!(change.addresses);
    let own: Vec<_> = links
        .own_addresses()
        .iter()
        .filter(|a| a.is_ipv4())
        .collect();
    assert_eq!(own, [&address(77)]);
    assert_eq!(
        links.own_addresses(),
        Links::open().unwrap().own_addresses()
    );
}
