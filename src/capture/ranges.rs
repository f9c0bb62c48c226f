//! Sets of numbers as sorted ranges, and the code that tells whether a number is in one.

use super::bpf::{JA, JEQ, JGE, JGT, jump, op, refuse};
use crate::sys::packet::Instruction;

/// Sorted, neither overlapping nor adjacent; bounds inclusive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ranges(Vec<(u32, u32)>);

/// So few that looking through them in turn beats dividing them.
const LEAF: usize = 8;

/// `k` of a jump whose target, the end of the search, is not known yet.
const TO_END: u32 = u32::MAX;

impl Ranges {
    pub(super) fn new(numbers: impl IntoIterator<Item = u32>) -> Self {
        let mut numbers: Vec<u32> = numbers.into_iter().collect();
        numbers.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for n in numbers {
            match ranges.last_mut() {
                Some((_, last)) if n <= last.saturating_add(1) => *last = n,
                _ => ranges.push((n, n)),
            }
        }
        Self(ranges)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most `most` ranges that contain all that these do, closing the narrowest gaps first.
    pub(super) fn coarsen(&mut self, most: usize) {
        let most = most.max(1);
        if self.0.len() <= most {
            return;
        }
        let gap = |at: usize| self.0[at].0 - self.0[at - 1].1;
        let mut kept: Vec<usize> = (1..self.0.len()).collect();
        kept.sort_by_key(|&at| std::cmp::Reverse(gap(at)));
        kept.truncate(most - 1);
        kept.sort_unstable();
        let starts = std::iter::once(0).chain(kept.iter().copied());
        let ends = kept.iter().copied().chain([self.0.len()]);
        self.0 = starts
            .zip(ends)
            .map(|(start, end)| (self.0[start].0, self.0[end - 1].1))
            .collect();
    }

    /// Code that goes on behind itself if A is in the ranges, and else refuses the packet. Takes
    /// a number of steps that grows with the logarithm of the number of ranges.
    pub(super) fn search(&self) -> Vec<Instruction> {
        let mut code = tree(&self.0);
        let end = code.len();
        for (at, instruction) in code.iter_mut().enumerate() {
            if instruction.code == JA && instruction.k == TO_END {
                // A program has at most 4096 instructions; what exceeds that is never attached.
                instruction.k = u32::try_from(end - at - 1).unwrap_or(TO_END);
            }
        }
        code
    }
}

fn tree(ranges: &[(u32, u32)]) -> Vec<Instruction> {
    if ranges.len() <= LEAF {
        return leaf(ranges);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let below = tree(low);
    let bound = high[0].0;
    let mut code = match u8::try_from(below.len()) {
        Ok(distance) => vec![jump(JGE, bound, distance, 0)],
        // Too far for a conditional jump.
        Err(_) => vec![
            jump(JGE, bound, 0, 1),
            op(JA, u32::try_from(below.len()).unwrap_or(TO_END)),
        ],
    };
    code.extend(below);
    code.extend(tree(high));
    code
}

fn leaf(ranges: &[(u32, u32)]) -> Vec<Instruction> {
    let width = |&(first, last): &(u32, u32)| if first == last { 1 } else { 2 };
    let mut left: u8 = ranges.iter().map(width).sum();
    let mut code = Vec::with_capacity(usize::from(left) + 2);
    for range in ranges {
        left -= width(range);
        // Over the rest of the comparisons and the refusal.
        let hit = left + 1;
        let &(first, last) = range;
        if first == last {
            code.push(jump(JEQ, first, hit, 0));
        } else {
            code.push(jump(JGE, first, 0, 1));
            code.push(jump(JGT, last, 0, hit));
        }
    }
    code.push(refuse());
    code.push(op(JA, TO_END));
    code
}
