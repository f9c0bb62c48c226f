//! The tables (`filter`, `raw`) that iptables-nft makes where there are none: they stay when our
//! rules go, so those made for us are marked, and deleted when nothing is left in them.

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::names::Family;
use crate::firewall::FirewallError;
use crate::netlink::attr::{Attr, find};
use crate::netlink::{ACK, CREATE, Netlink, NetlinkError, REQUEST};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u8 = 10;
const NEWTABLE: u16 = 0;
const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
const GETGEN: u16 = 16;
const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
const GEN_ID: u16 = 1;

/// A comment as nft keeps it in the userdata of a table (libnftnl/udata.h): type 0, length, text.
const MARK: &[u8] = b"\x00\x14made for portcullis\0";

/// The tables of both families.
#[derive(Debug)]
pub(super) struct Tables {
    netlink: Netlink,
}

fn message(kind: u16, flags: u16, (family, table): (Family, &str), mark: bool) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    let kind = (u16::from(SUBSYSTEM) << 8) | kind;
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&[family as u8, 0, 0, 0]);
    let mut put = |kind: u16, value: &[u8]| {
        // Both are a few bytes.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    };
    put(TABLE_NAME, &[table.as_bytes(), b"\0"].concat());
    if mark {
        put(TABLE_USERDATA, MARK);
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

impl Tables {
    pub(super) fn open() -> Result<Self, FirewallError> {
        let netlink = Netlink::open(NETLINK_NETFILTER).map_err(failed("open"))?;
        Ok(Self { netlink })
    }

    /// Whether the table is marked; `None` if it does not exist.
    fn is_marked(&mut self, table: (Family, &str)) -> Result<Option<bool>, NetlinkError> {
        let read = |_, payload: &[u8]| {
            let data = payload.get(4..)?;
            find(data, TABLE_NAME)?;
            Some(find(data, TABLE_USERDATA).is_some_and(|mark| mark.value == MARK))
        };
        match self.netlink.ask(message(GETTABLE, ACK, table, false), read) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            found => found,
        }
    }

    /// Makes the table, marked, where there is none.
    pub(super) fn make(&mut self, table: (Family, &str)) -> Result<(), FirewallError> {
        if self.is_marked(table).map_err(failed("read"))?.is_some() {
            return Ok(());
        }
        let make = message(NEWTABLE, CREATE, table, true);
        self.netlink
            .batch(SUBSYSTEM, None, std::iter::once(make.as_slice()))
            .map_err(failed("create"))
    }

    /// The generation of the ruleset.
    pub(super) fn generation(&mut self) -> Result<u32, FirewallError> {
        let mut ask = message(GETGEN, ACK, (Family::V4, ""), false);
        ask.truncate(20);
        ask[..4].copy_from_slice(&20u32.to_ne_bytes());
        self.netlink
            .ask(ask, |_, payload| {
                find(payload.get(4..)?, GEN_ID).and_then(Attr::u32_be)
            })
            .and_then(|found| found.ok_or(NetlinkError::Lost))
            .map_err(failed("read"))
    }

    /// Deletes the table if it was made for us and nothing has changed since `generation`, when it
    /// was seen to be bare. Somebody else's change in between keeps it, which harms nobody.
    pub(super) fn delete(
        &mut self,
        table: (Family, &str),
        generation: u32,
    ) -> Result<(), FirewallError> {
        if self.is_marked(table).map_err(failed("read"))? != Some(true) {
            return Ok(());
        }
        let delete = message(DELTABLE, 0, table, false);
        let deleted = self.netlink.batch(
            SUBSYSTEM,
            Some(generation),
            std::iter::once(delete.as_slice()),
        );
        match deleted {
            Err(error) if error.errno() == Some(libc::ERESTART) => Ok(()),
            deleted => deleted.map_err(failed("delete")),
        }
    }
}

fn failed(operation: &'static str) -> impl FnOnce(NetlinkError) -> FirewallError {
    move |error| FirewallError::Kernel {
        operation,
        object: "a table of iptables-nft".to_owned(),
        source: error.into_io(),
        hint: "",
    }
}
