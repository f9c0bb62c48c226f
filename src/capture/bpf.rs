//! The instructions of classic BPF that the filter uses (`linux/filter.h`,
//! `linux/bpf_common.h`; `Documentation/networking/filter.rst`), by their names in `bpf_asm`.

use crate::sys::packet::Instruction;

/// `A = byte of the packet`
pub(super) const LDB_ABS: u16 = 0x30;
/// `A = two bytes of the packet`
pub(super) const LDH_ABS: u16 = 0x28;
/// `A = four bytes of the packet`, or a kernel value, see `ANCILLARY`
pub(super) const LD_ABS: u16 = 0x20;
/// `A = byte of the packet at X + k`
pub(super) const LDB_IND: u16 = 0x50;
/// `A = two bytes of the packet at X + k`
pub(super) const LDH_IND: u16 = 0x48;
/// `A = k`
pub(super) const LD_IMM: u16 = 0x00;
/// `X = 4 × (byte & 15)`: the length of an IPv4 header
pub(super) const LDX_MSH: u16 = 0xb1;
/// `A &= k`
pub(super) const AND: u16 = 0x54;
/// `A >>= X`
pub(super) const RSH_X: u16 = 0x7c;
/// `X = A`
pub(super) const TAX: u16 = 0x07;
/// Jump by `k`
pub(super) const JA: u16 = 0x05;
/// Jump on `A == k`
pub(super) const JEQ: u16 = 0x15;
/// Jump on `A > k`
pub(super) const JGT: u16 = 0x25;
/// Jump on `A >= k`
pub(super) const JGE: u16 = 0x35;
/// Jump on `A & k`
pub(super) const JSET: u16 = 0x45;
/// End with `k`: the number of bytes to take, 0 for none of it
pub(super) const RET: u16 = 0x06;

/// `SKF_AD_OFF`: from here on `LD_ABS` reads what the kernel knows about the packet.
const ANCILLARY: u32 = 0xffff_f000;
/// `SKF_AD_PKTTYPE`, to be compared with `PACKET_HOST`.
pub(super) const PACKET_TYPE: u32 = ANCILLARY + 4;
/// `SKF_AD_IFINDEX`
pub(super) const INTERFACE: u32 = ANCILLARY + 8;
/// `PACKET_HOST`: addressed to this machine on the link (`linux/if_packet.h`).
pub(super) const PACKET_HOST: u32 = 0;

/// The whole packet, as far as there is room for it.
const TAKE: u32 = 0xffff;

pub(super) const fn op(code: u16, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

pub(super) const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

pub(super) const fn take() -> Instruction {
    op(RET, TAKE)
}

pub(super) const fn refuse() -> Instruction {
    op(RET, 0)
}
