//! What legacy ip_tables has in its filter table, asked of the kernel itself
//! (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h): no process, no lock.

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_int, c_uint};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `XT_TABLE_MAXNAMELEN`, `NF_INET_NUMHOOKS`.
const NAME: usize = 32;
const HOOKS: usize = 5;
/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; those of ip6_tables are the same.
const GET_INFO: c_int = 64;
const GET_ENTRIES: c_int = 65;
/// Of a larger table only what `GET_INFO` says is looked at.
const LONGEST: usize = 1 << 20;

/// `struct ipt_getinfo`, which is `struct ip6t_getinfo`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    name: [u8; NAME],
    valid_hooks: c_uint,
    hook_entry: [c_uint; HOOKS],
    underflow: [c_uint; HOOKS],
    num_entries: c_uint,
    size: c_uint,
}

/// The head of `struct ipt_get_entries`; entries are aligned as their counters are.
#[repr(C)]
struct Entries {
    name: [u8; NAME],
    size: c_uint,
    table: [u64; 0],
}

/// Where the parts of an entry are.
struct Layout {
    family: AddressFamily,
    level: c_int,
    /// Of `next_offset`, the length of the entry, two bytes.
    next: usize,
    /// Of `comefrom`, which the kernel uses for itself, and of the counters after it; and their
    /// end.
    changing: (usize, usize),
}

/// `struct ipt_entry`: 84 bytes of addresses, four, two times two, four, two counters.
const V4: Layout = Layout {
    family: AddressFamily::Inet,
    level: libc::SOL_IP,
    next: 90,
    changing: (92, 112),
};

/// `struct ip6t_entry`: 136 bytes of addresses, and the same.
const V6: Layout = Layout {
    family: AddressFamily::Inet6,
    level: libc::SOL_IPV6,
    next: 142,
    changing: (144, 168),
};

/// Asks about the filter table of one family.
#[derive(Debug)]
pub struct Filter {
    socket: OwnedFd,
    is_v6: bool,
    buffer: Vec<u64>,
}

fn filter() -> [u8; NAME] {
    let mut name = [0; NAME];
    name[..6].copy_from_slice(b"filter");
    name
}

impl Filter {
    /// Opens a socket. Asking needs `CAP_NET_ADMIN`, and makes the table where there is none.
    pub fn open(is_v6: bool) -> io::Result<Self> {
        let family = if is_v6 { V6.family } else { V4.family };
        let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self {
            socket,
            is_v6,
            buffer: Vec::new(),
        })
    }

    /// A number that is another one when the rules are others, as good as certainly; counters do
    /// not matter. EAGAIN if they change at this moment.
    pub fn fingerprint(&mut self) -> io::Result<u64> {
        let layout = if self.is_v6 { V6 } else { V4 };
        let mut info = Info {
            name: filter(),
            valid_hooks: 0,
            hook_entry: [0; HOOKS],
            underflow: [0; HOOKS],
            num_entries: 0,
            size: 0,
        };
        let mut length = length(size_of::<Info>())?;
        // SAFETY: `info` is a `struct ipt_getinfo` of `length` bytes, all of them initialised and
        // numbers, so that the kernel may write whatever it likes.
        let answer = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                layout.level,
                GET_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        check(answer)?;
        let mut hash = Hash::new();
        let numbers = [info.valid_hooks, info.num_entries, info.size];
        for number in numbers
            .iter()
            .chain(&info.hook_entry)
            .chain(&info.underflow)
        {
            hash.add(&number.to_ne_bytes());
        }
        let size = info.size as usize;
        if size <= LONGEST {
            self.entries(&layout, info.size, &mut hash)?;
        }
        Ok(hash.0)
    }

    fn entries(&mut self, layout: &Layout, size: c_uint, hash: &mut Hash) -> io::Result<()> {
        let head = offset_of!(Entries, table);
        let whole = head + size as usize;
        self.buffer.clear();
        self.buffer.resize(whole.div_ceil(size_of::<u64>()), 0);
        let mut length = length(whole)?;
        let start: *mut Entries = self.buffer.as_mut_ptr().cast();
        // SAFETY: the buffer has room for the head and `size` bytes after it, all initialised, and
        // is aligned for the head. The kernel refuses a length that is not exactly that, and
        // writes no further; the buffer is not touched meanwhile.
        let answer = unsafe {
            (*start).name = filter();
            (*start).size = size;
            libc::getsockopt(
                self.socket.as_raw_fd(),
                layout.level,
                GET_ENTRIES,
                start.cast(),
                &raw mut length,
            )
        };
        check(answer)?;
        let bytes: Vec<u8> = self
            .buffer
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        add_entries(layout, &bytes[head..whole], hash);
        Ok(())
    }
}

/// Adds all that lasts of each entry.
fn add_entries(layout: &Layout, mut rest: &[u8], hash: &mut Hash) {
    let (from, to) = layout.changing;
    while rest.len() >= to {
        let next = u16::from_ne_bytes([rest[layout.next], rest[layout.next + 1]]);
        let next = usize::from(next);
        if next < to || next > rest.len() {
            break;
        }
        hash.add(&rest[..from]);
        hash.add(&rest[to..next]);
        rest = &rest[next..];
    }
    hash.add(rest);
}

/// FNV-1a: nobody who can write these rules has a reason to look for two with one number.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

fn length(bytes: usize) -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn check(answer: c_int) -> io::Result<()> {
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(first: u8, counter: u8, last: u8) -> Vec<u8> {
        let mut bytes = vec![first; 120];
        bytes[90..92].copy_from_slice(&120u16.to_ne_bytes());
        bytes[92..112].fill(counter);
        bytes[112..].fill(last);
        bytes
    }

    fn number(entries: &[Vec<u8>]) -> u64 {
        let mut hash = Hash::new();
        add_entries(&V4, &entries.concat(), &mut hash);
        hash.0
    }

    #[test]
    fn counters_do_not_matter_and_all_else_does() {
        let rules = number(&[entry(1, 0, 2), entry(3, 0, 4)]);
        assert_eq!(rules, number(&[entry(1, 7, 2), entry(3, 9, 4)]));
        assert_ne!(rules, number(&[entry(3, 0, 4), entry(1, 0, 2)]));
        assert_ne!(rules, number(&[entry(1, 0, 2), entry(3, 0, 5)]));
        assert_ne!(rules, number(&[entry(1, 0, 2)]));
    }

    #[test]
    fn entries_that_make_no_sense_end_the_walk() {
        for length in [0u16, 1, 111, 121, u16::MAX] {
            let mut bytes = entry(1, 0, 2);
            bytes[90..92].copy_from_slice(&length.to_ne_bytes());
            let _ = number(&[bytes.clone()]);
            let _ = number(&[bytes[..50].to_vec()]);
        }
    }
}
