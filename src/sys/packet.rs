//! Packet sockets with a receive ring (`packet(7)`, `linux/if_packet.h`,
//! `Documentation/networking/packet_mmap.rst`).
//!
//! The order of calls is that of the types: a socket that receives nothing yet, its filter, its
//! ring, and last the bind that makes packets arrive; so no packet ever passes unfiltered.

use std::ffi::c_int;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

/// One instruction of classic BPF (`struct sock_filter`, linux/filter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if a comparison holds.
    pub jt: u8,
    /// How many if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

const _: () = assert!(
    size_of::<Instruction>() == size_of::<libc::sock_filter>()
        && align_of::<Instruction>() == align_of::<libc::sock_filter>()
        && offset_of!(Instruction, jt) == offset_of!(libc::sock_filter, jt)
        && offset_of!(Instruction, jf) == offset_of!(libc::sock_filter, jf)
        && offset_of!(Instruction, k) == offset_of!(libc::sock_filter, k)
);

// A small constant that libc declares as a wider type.
#[allow(clippy::cast_possible_truncation)]
const AF_PACKET: libc::sa_family_t = libc::AF_PACKET as libc::sa_family_t;

/// `ETH_P_IP`, `linux/if_ether.h`.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// `ETH_P_IPV6`.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A multiple of every page size in use (4 to 64 KiB), as `tp_block_size` demands.
const BLOCK: usize = 64 * 1024;

/// The size of a ring. It is resident memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes for one packet, of which `OVERHEAD` go to the kernel's header: 256, 512 … 65536.
    pub frame_size: usize,
    /// Blocks of 64 KiB.
    pub blocks: usize,
}

impl Geometry {
    /// What the kernel puts before a packet without link header: its header, the address, and
    /// room for a link header (`tpacket_rcv`: `TPACKET_ALIGN(tp_hdrlen) + 16`).
    pub const OVERHEAD: usize = 80;

    fn is_valid(self) -> bool {
        self.frame_size.is_power_of_two()
            && (256..=BLOCK).contains(&self.frame_size)
            && (1..=1024).contains(&self.blocks)
    }

    fn bytes(self) -> usize {
        self.blocks * BLOCK
    }
}

/// A packet socket that receives nothing yet.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// A socket for packets without link header. EPERM without `CAP_NET_RAW`.
    pub fn new() -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sets the filter, or replaces it in one step while packets arrive (`socket(7)`,
    /// `SO_ATTACH_FILTER`). EINVAL for a faulty program, ENOMEM for one that is longer than
    /// `net.core.optmem_max` allows.
    pub fn set_filter(&self, program: &[Instruction]) -> io::Result<()> {
        let Ok(len) = u16::try_from(program.len()) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        let program = libc::sock_fprog {
            len,
            // The kernel only reads it.
            filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
        };
        // SAFETY: an `Instruction` is laid out as a `sock_filter` (asserted above), `program`
        // points to `len` of them, and the kernel copies them before it returns.
        unsafe {
            set_option(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                &program,
            )
        }
    }
}

/// A packet socket whose packets arrive in memory shared with the kernel (`TPACKET_V2`: version 3
/// holds packets back until a block is full or its timer runs out).
#[derive(Debug)]
pub struct Ring {
    /// Unmapped before the socket is closed.
    memory: Mapping,
    socket: PacketSocket,
    frame_size: usize,
    frames: usize,
    /// The frame that the kernel fills next, or has filled.
    next: usize,
}

impl Ring {
    /// Makes the ring. EPERM without `CAP_NET_RAW`, ENOMEM where memory is short.
    pub fn new(socket: PacketSocket, geometry: Geometry) -> io::Result<Self> {
        if !geometry.is_valid() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let frames = geometry.bytes() / geometry.frame_size;
        let narrow = |n: usize| u32::try_from(n).map_err(|_| io::ErrorKind::InvalidInput);
        let request = libc::tpacket_req {
            tp_block_size: narrow(BLOCK)?,
            tp_block_nr: narrow(geometry.blocks)?,
            tp_frame_size: narrow(geometry.frame_size)?,
            tp_frame_nr: narrow(frames)?,
        };
        let version = libc::tpacket_versions::TPACKET_V2 as c_int;
        let fd = socket.0.as_raw_fd();
        // SAFETY: PACKET_VERSION takes an int, PACKET_RX_RING a tpacket_req.
        unsafe {
            set_option(fd, libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
            set_option(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        }
        let memory = Mapping::new(socket.0.as_fd(), geometry.bytes())?;
        Ok(Self {
            memory,
            socket,
            frame_size: geometry.frame_size,
            frames,
            next: 0,
        })
    }

    /// From now on packets of this ethertype arrive, whatever interface they come in on.
    pub fn bind(&self, ethertype: u16) -> io::Result<()> {
        // SAFETY: all zeros is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = AF_PACKET;
        address.sll_protocol = ethertype.to_be();
        // SAFETY: the pointer and the length are those of `address`.
        check(unsafe {
            libc::bind(
                self.socket.0.as_raw_fd(),
                (&raw const address).cast(),
                length_of::<libc::sockaddr_ll>(),
            )
        })?;
        Ok(())
    }

    /// See [`PacketSocket::set_filter`].
    pub fn set_filter(&self, program: &[Instruction]) -> io::Result<()> {
        self.socket.set_filter(program)
    }

    /// The oldest packet that has not been released, if there is one. It is released, which gives
    /// its place back to the kernel, when the answer is dropped.
    pub fn next_packet(&mut self) -> Option<Packet<'_>> {
        self.filled(self.next)?;
        // Made only now: dropping it releases the frame.
        Some(Packet { ring: self })
    }

    /// What has arrived since the last call.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let mut stats = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut len = length_of::<libc::tpacket_stats>();
        // SAFETY: PACKET_STATISTICS writes at most `len` bytes to `stats`.
        check(unsafe {
            libc::getsockopt(
                self.socket.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut len,
            )
        })?;
        Ok(Statistics {
            packets: stats.tp_packets,
            drops: stats.tp_drops,
        })
    }

    /// The frame, if there is a packet in it. The kernel leaves it alone until it is released, which
    /// only the owner of the ring does.
    fn filled(&self, at: usize) -> Option<Filled<'_>> {
        let is_filled = self.status(at).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0;
        is_filled.then_some(Filled { ring: self, at })
    }

    /// The start of a frame.
    fn frame(&self, at: usize) -> NonNull<u8> {
        assert!(at < self.frames, "there is such a frame");
        // SAFETY: `at < frames`, and `frames * frame_size` is the length of the mapping.
        unsafe { self.memory.start.add(at * self.frame_size) }
    }

    fn header(&self, at: usize) -> NonNull<libc::tpacket2_hdr> {
        let header = self.frame(at).cast::<libc::tpacket2_hdr>();
        debug_assert!(header.is_aligned());
        header
    }

    fn status(&self, at: usize) -> &AtomicU32 {
        let field = self.header(at).as_ptr();
        // SAFETY: a frame starts with a tpacket2_hdr and is aligned to 256 bytes; the mapping
        // lives as long as `self`. The kernel writes this field too, which is why it is atomic.
        unsafe { AtomicU32::from_ptr(&raw mut (*field).tp_status) }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.0.as_fd()
    }
}

/// What the kernel counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Packets that passed the filter, those dropped included.
    pub packets: u32,
    /// Packets that found the ring full.
    pub drops: u32,
}

/// A frame with a packet. While it is borrowed from the ring the kernel does not write to it.
#[derive(Debug, Clone, Copy)]
struct Filled<'ring> {
    ring: &'ring Ring,
    at: usize,
}

impl<'ring> Filled<'ring> {
    fn header(self) -> libc::tpacket2_hdr {
        // SAFETY: the frame starts with this header. TP_STATUS_USER was read with acquire, so
        // what the kernel wrote before is visible, and it writes no more until we release.
        unsafe { self.ring.header(self.at).read() }
    }

    fn bytes(self) -> &'ring [u8] {
        let header = self.header();
        let start = usize::from(header.tp_net);
        let len = header.tp_snaplen as usize;
        // The kernel does not write outside the frame; this keeps a mistake there from spreading.
        let room = self.ring.frame_size.saturating_sub(start);
        let frame = self.ring.frame(self.at);
        // SAFETY: `start + min(len, room)` is at most `frame_size`, so this lies in the frame
        // (or is empty, at its end or, for a `start` beyond it, at its beginning); the kernel
        // does not write to it while the ring is borrowed.
        unsafe {
            let start = if room == 0 { 0 } else { start };
            std::slice::from_raw_parts(frame.add(start).as_ptr(), len.min(room))
        }
    }

    fn interface(self) -> u32 {
        const AT: usize = size_of::<libc::tpacket2_hdr>().next_multiple_of(16);
        let frame = self.ring.frame(self.at);
        // SAFETY: an aligned tpacket2_hdr is followed by a sockaddr_ll (packet_mmap.rst), well
        // within the smallest frame. As for `header`, the kernel writes no more.
        let address = unsafe { frame.add(AT).cast::<libc::sockaddr_ll>().as_ptr().read() };
        u32::try_from(address.sll_ifindex).unwrap_or(0)
    }
}

/// The oldest packet in the ring. While it lives the kernel leaves its frame alone.
#[derive(Debug)]
pub struct Packet<'ring> {
    ring: &'ring mut Ring,
}

impl Packet<'_> {
    fn frame(&self) -> Filled<'_> {
        Filled {
            ring: self.ring,
            at: self.ring.next,
        }
    }

    /// The packet from its IP header on, cut to the size of a frame.
    pub fn bytes(&self) -> &[u8] {
        self.frame().bytes()
    }

    /// The same of the packet that many places behind, if that has come in, too; in a ring of fewer
    /// frames, of one that is nearer.
    pub fn bytes_behind(&self, places: usize) -> Option<&[u8]> {
        let at = self.ring.next.wrapping_add(places) % self.ring.frames;
        Some(self.ring.filled(at)?.bytes())
    }

    /// When the kernel received it, in nanoseconds of `CLOCK_REALTIME`.
    pub fn received(&self) -> u64 {
        let header = self.frame().header();
        u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec)
    }

    /// The index of the interface it came in on.
    pub fn interface(&self) -> u32 {
        self.frame().interface()
    }
}

impl Drop for Packet<'_> {
    fn drop(&mut self) {
        // Release: our reads of the frame come before the kernel's next writes to it.
        self.ring
            .status(self.ring.next)
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.ring.next = (self.ring.next + 1) % self.ring.frames;
    }
}

/// Shared memory, unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to the process, not to a thread, and is only reached through the
// one owner of this value.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                access,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; no reference into it outlives its owner.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.len);
        }
    }
}

/// # Safety
/// The option must take a value of type `T`.
unsafe fn set_option<T>(fd: RawFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `value`.
    check(unsafe {
        libc::setsockopt(
            fd,
            level,
            option,
            ptr::from_ref(value).cast(),
            length_of::<T>(),
        )
    })?;
    Ok(())
}

/// The size of a type as system calls want it.
// No structure here is longer than a hundred bytes.
#[allow(clippy::cast_possible_truncation)]
const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

fn check(answer: c_int) -> io::Result<c_int> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}
