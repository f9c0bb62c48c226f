//! What others do is heard, what we do ourselves is not; and a table that cannot be ours alone.

use std::time::Duration;

use netlink_packet_netfilter::nftables::NfTablesMessage;
use portcullis::firewall::nftables::{Nftables, Restraints};
use portcullis::firewall::watch::{Changes, Watch};
use portcullis::firewall::{Backend, BackendKind, Change};
use portcullis::model::{Chain, Lifetime};

use crate::common::{desired, found, lines, member, secs};
use crate::meddle::{delete_elements, meddle, rules_of};

fn heard(watch: &mut Watch) -> Changes {
    let (changes, more) = watch.hear();
    assert!(!more);
    changes
}

pub(crate) fn others_are_heard_and_we_are_not(backend: &mut Nftables) {
    let mut watch = Watch::open(BackendKind::Nftables, backend.port()).unwrap();
    let accepted = member(Chain::Filter, "192.0.2.1", secs(60), "in");
    let banned = member(Chain::Banned, "192.0.2.2", Lifetime::Never, "out");
    let wanted = desired(vec![accepted.clone(), banned]);
    backend.install(&wanted).unwrap();
    backend.apply(&[Change::Put(accepted)]).unwrap();
    backend.install(&wanted).unwrap();
    assert_eq!(heard(&mut watch), Changes::default());

    delete_elements("ssh_filter4", &[[192, 0, 2, 1]]);
    let changes = heard(&mut watch);
    assert!(changes.members && !changes.rules, "{changes:?}");
    assert!(changes.removed["ssh_filter4"].contains(&vec![192, 0, 2, 1]));
    let lacking = backend.lacking(&wanted, &changes.removed).unwrap();
    assert_eq!(lacking, ["192.0.2.1 is not in ssh_filter"]);

    meddle(vec![(
        NfTablesMessage::DeleteRule(rules_of("ssh_banned")),
        0,
    )]);
    let changes = heard(&mut watch);
    assert!(changes.rules && !changes.members, "{changes:?}");
    assert!(!backend.verify().unwrap().is_empty());
    backend.install(&wanted).unwrap();
    assert_eq!(heard(&mut watch), Changes::default());
    assert!(backend.verify().unwrap().is_empty());
}

/// More than the socket keeps.
pub(crate) fn what_was_lost_is_everything(backend: &mut Nftables) {
    let banned = |n: u32| {
        let address = std::net::Ipv4Addr::from(0xc612_0000 + n).to_string();
        member(
            Chain::Banned,
            &address,
            Lifetime::Never,
            "a reason that takes its room",
        )
    };
    let mut watch = Watch::open(BackendKind::Nftables, None).unwrap();
    backend
        .install(&desired((0..20_000).map(banned).collect()))
        .unwrap();
    let mut changes = Changes::default();
    loop {
        let (later, more) = watch.hear();
        changes.and(later);
        if !more {
            break;
        }
    }
    assert!(changes.rules && changes.members && changes.removed.is_empty());
}

pub(crate) fn an_older_kernel_has_no_tables_for_us_alone(backend: &mut Nftables) {
    let wanted = desired(vec![member(Chain::Filter, "192.0.2.1", secs(60), "in")]);
    let mut old = Nftables::open_restrained(Restraints {
        no_owner: true,
        ..Restraints::default()
    })
    .unwrap();
    old.own(true);
    old.install(&wanted).unwrap();
    assert_eq!(old.complaints().len(), 1);
    assert!(old.verify().unwrap().is_empty());
    // It can be changed by others, and by a newer one made theirs alone.
    let before = lines(&found());
    backend.observe().unwrap();
    backend.own(true);
    backend.install(&wanted).unwrap();
    assert!(backend.complaints().is_empty());
    assert_eq!(lines(&found()), before);
    assert!(old.install(&wanted).is_err(), "it has an owner");
    backend.own(false);
    backend.install(&wanted).unwrap();
    assert_eq!(lines(&found()), before);
    old.install(&wanted).unwrap();
    let left = found()[0].remaining;
    assert!(left > Lifetime::For(Duration::from_secs(50)), "{left:?}");
}
