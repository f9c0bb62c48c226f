//! Whether addresses are rewritten here: what connection tracking does not see cannot be.

use std::fs;

use super::read::{self, Chain};
use super::{Foreign, INET, IPV4, IPV6, failed};
use crate::firewall::FirewallError;

impl Foreign {
    /// The first table found with a rule that rewrites addresses, `ip nat`; of legacy iptables,
    /// whose rules are not seen here, the table itself, if it is there.
    pub fn rewrites_addresses(&mut self) -> Result<Option<String>, FirewallError> {
        let chains: Vec<Chain> = self
            .netlink
            .dump(read::dump_chains(), |kind, payload, found| {
                found.extend(read::nat_chain(kind, payload));
            })
            .map_err(failed("list the chains of"))?;
        for chain in chains {
            let rules: Vec<read::Rule> = self
                .netlink
                .dump(read::dump_rules_of(&chain), |kind, payload, found| {
                    let rule = read::rule(kind, payload);
                    // One is enough.
                    found.extend(rule.filter(|rule| found.is_empty() && rule.chain == chain.name));
                })
                .map_err(failed("list the rules of"))?;
            if !rules.is_empty() {
                let (family, name) = &chain.table;
                let family = match *family {
                    INET => "inet",
                    IPV4 => "ip",
                    IPV6 => "ip6",
                    _ => "another",
                };
                return Ok(Some(format!("{family} {name}")));
            }
        }
        Ok(legacy())
    }
}

/// The nat table of legacy iptables. The files are there where the kernel has such tables.
fn legacy() -> Option<String> {
    let has_nat = |file: &&str| {
        let names = fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        names.is_ok_and(|names| names.lines().any(|name| name == "nat"))
    };
    let file = ["ip_tables_names", "ip6_tables_names"]
        .into_iter()
        .find(has_nat);
    file.map(|file| format!("{} nat (legacy)", &file[..file.len() - "_names".len()]))
}
