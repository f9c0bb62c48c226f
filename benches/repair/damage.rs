//! What somebody else does to our rules, and within which it is to be put back.

use std::time::Duration;

/// Within which what is damaged is to be whole again: where nf_tables tells, and where it has to be
/// looked for (iptables-legacy and ipset tell nobody).
pub(crate) const TOLD: Duration = Duration::from_secs(1);
pub(crate) const LOOKED_FOR: Duration = Duration::from_secs(2);

/// Who holds the gate: backend of the policy, and variant of iptables.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holder {
    Nftables,
    IptablesNft,
    IptablesLegacy,
}

use Holder::{IptablesLegacy, IptablesNft, Nftables};

impl Holder {
    pub(crate) fn backend(self) -> &'static str {
        match self {
            Nftables => "nftables",
            IptablesNft | IptablesLegacy => "iptables",
        }
    }

    pub(crate) fn variant(self) -> &'static str {
        match self {
            Nftables | IptablesNft => "nft",
            IptablesLegacy => "legacy",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Nftables => "nftables",
            IptablesNft => "iptables-nft",
            IptablesLegacy => "iptables-legacy",
        }
    }
}

/// Who holds the gate, within which it is to be put back, and what is done. `OTHERS` is the file of
/// a firewall that knows nothing of us.
pub(crate) type Damage = (Holder, Duration, &'static [&'static str]);

pub(crate) const DAMAGE: &[Damage] = &[
    (Nftables, TOLD, &["nft flush ruleset"]),
    (Nftables, TOLD, &["nft -f OTHERS"]),
    (Nftables, TOLD, &["nft delete table inet knockd"]),
    (Nftables, TOLD, &["nft flush chain inet knockd input"]),
    (Nftables, TOLD, &["nft flush chain inet knockd ssh_banned"]),
    (
        Nftables,
        TOLD,
        &["nft insert rule inet knockd input accept"],
    ),
    (Nftables, TOLD, &["nft flush set inet knockd ssh_trusted4"]),
    (Nftables, TOLD, &["nft flush set inet knockd ssh_banned4"]),
    (
        Nftables,
        TOLD,
        &["nft delete element inet knockd ssh_banned4 { 198.51.100.7 }"],
    ),
    (IptablesNft, TOLD, &["iptables-nft -F"]),
    (IptablesNft, TOLD, &["ip6tables-nft -F"]),
    (IptablesNft, TOLD, &["iptables-nft -F", "iptables-nft -X"]),
    (IptablesNft, TOLD, &["iptables-nft-restore OTHERS"]),
    (
        IptablesNft,
        TOLD,
        &["iptables-nft -D INPUT 1", "iptables-nft -D INPUT 1"],
    ),
    (IptablesNft, TOLD, &["iptables-nft -I INPUT -j ACCEPT"]),
    (IptablesNft, LOOKED_FOR, &["ipset flush"]),
    (
        IptablesNft,
        LOOKED_FOR,
        &[
            "iptables-nft -F",
            "iptables-nft -X",
            "ip6tables-nft -F",
            "ip6tables-nft -X",
            "ipset destroy",
        ],
    ),
    (IptablesLegacy, LOOKED_FOR, &["iptables-legacy -F"]),
    (IptablesLegacy, LOOKED_FOR, &["ip6tables-legacy -F"]),
    (
        IptablesLegacy,
        LOOKED_FOR,
        &["iptables-legacy -F", "iptables-legacy -X"],
    ),
    (
        IptablesLegacy,
        LOOKED_FOR,
        &["iptables-legacy-restore OTHERS"],
    ),
    (
        IptablesLegacy,
        LOOKED_FOR,
        &["iptables-legacy -D INPUT 1", "iptables-legacy -D INPUT 1"],
    ),
    (
        IptablesLegacy,
        LOOKED_FOR,
        &["iptables-legacy -I INPUT -j ACCEPT"],
    ),
    (IptablesLegacy, LOOKED_FOR, &["ipset flush"]),
    (
        IptablesLegacy,
        LOOKED_FOR,
        &["ipset del ssh_banned4 198.51.100.7"],
    ),
    (
        IptablesLegacy,
        LOOKED_FOR,
        &[
            "iptables-legacy -F",
            "iptables-legacy -X",
            "ip6tables-legacy -F",
            "ip6tables-legacy -X",
            "ipset destroy",
        ],
    ),
];

/// Whether it is IPv6 alone that stands open.
pub(crate) fn is_of_v6(commands: &[&str]) -> bool {
    commands
        .iter()
        .all(|command| command.starts_with("ip6tables"))
}

/// A reload of another firewall, as `nft` and as `iptables-restore` read it.
pub(crate) const OTHERS: [&str; 2] = [
    "flush ruleset\ntable inet other {\n chain input {\n  type filter hook input priority filter; \
     policy accept;\n  tcp dport 80 accept\n }\n}\n",
    "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
     -A INPUT -p tcp --dport 80 -j ACCEPT\nCOMMIT\n",
];
